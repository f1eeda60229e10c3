"""What people do to a running workflow: cancel, pause, approve, lock, do again."""

from dataclasses import replace
from typing import Any

import pytest

from openaperture.domain import events as e
from openaperture.domain.commands import AskLocks, FreeLocks, KeepLocks
from openaperture.domain.decide import decide, objection_to
from openaperture.domain.decide.approvals import digest_of_inputs
from openaperture.domain.errors import WrongState
from openaperture.domain.lineage import Repeat, successor_of
from openaperture.domain.releases import WhenLocked
from openaperture.domain.workflow import State, Workflow
from tests.unit.domain.machine import KINDS, NOW, Machine

PROD = "environment:prod"


# ------------------------------------------------------------------------------------------ cancel


def test_a_forced_cancel_waits_for_no_worker_and_works_in_every_state() -> None:
    running, cancelling, held, paused = (Machine("deploy", "build") for _ in range(4))
    for run in (running, cancelling, held):
        run.claim("deploy")
    cancelling.tell(e.CancelRequested(by="eve"))
    held.lose("deploy")
    paused.tell(e.PauseRequested(by="eve"))
    paused.complete("deploy")
    waiting = Machine("approval")
    assert [run.state for run in (running, cancelling, held, paused, waiting)] == [
        State.RUNNING,
        State.CANCELLING,
        State.HELD,
        State.PAUSED,
        State.WAITING,
    ]
    for run in (running, cancelling, held, paused, waiting):
        run.tell(e.CancelRequested(by="eve", force=True))
        assert run.state is State.CANCELLED


def test_a_worker_that_asks_again_for_what_it_was_told_to_stop_does_not_begin() -> None:
    run = Machine(("build", "test"))
    run.claim("build", "test")
    run.tell(e.CancelRequested(by="eve"))
    run.workflow = replace(run.workflow, state=State.RUNNING)
    again = e.Claimed(key=run.attempt("build").key, worker="worker-build", reply_to="build.answers")
    assert [answer.verdict for answer in run.tell(again).answers] == ["cancel"]


def test_a_cancel_is_over_when_the_worker_stays_silent() -> None:
    run = Machine("deploy")
    run.claim("deploy")
    run.tell(e.CancelRequested(by="eve"))
    run.wait(31)
    assert run.state is State.CANCELLED
    late = run.tell(e.MilestoneCompleted(key=run.workflow.closing[0].key, worker="worker-deploy"))
    assert run.told == ["callback.late"]
    assert late.workflow.state is State.CANCELLED


# ------------------------------------------------------------------------------- a restored database


@pytest.mark.fault("F46")
@pytest.mark.parametrize("told", ["completed", "failed", "alive"])
def test_an_answer_to_what_the_database_has_forgotten_holds_the_workflow(told: str) -> None:
    run = Machine("build", "deploy")
    before_the_loss = run.workflow
    run.complete("build")
    run.claim("deploy")
    key, worker = run.attempt("deploy").key, "worker-deploy"
    answers: dict[str, e.Event] = {
        "completed": e.MilestoneCompleted(key=key, worker=worker),
        "failed": e.MilestoneFailed(key=key, worker=worker, message="no"),
        "alive": e.HeartbeatSeen(key=key, worker=worker, reply_to="deploy.answers"),
    }
    run.workflow = before_the_loss
    decision = run.tell(answers[told])
    assert (run.state, run.told, decision.answers) == (State.HELD, ["workflow.held"], ())
    assert "restored without its last commits" in run.workflow.reason
    run.tell(e.Resolved(resolution=e.Resolution.WORKED, by="eve"))
    assert run.asked == ["deploy"]


# ------------------------------------------------------------------------------------------- pause


def test_a_pause_lets_the_milestone_end_and_stops_before_the_next() -> None:
    run = Machine("build", "deploy")
    run.claim("build")
    run.tell(e.PauseRequested(by="eve", reason="freeze"))
    assert run.state is State.RUNNING
    run.complete("build")
    assert (run.state, run.asked, run.workflow.wake_at) == (State.PAUSED, [], None)
    assert run.workflow.reason == "paused by eve: freeze"
    run.tell(e.ResumeRequested(by="eve"))
    assert (run.state, run.asked) == (State.RUNNING, ["deploy"])


def test_a_pause_also_keeps_a_lost_milestone_from_being_tried_again() -> None:
    run = Machine("build")
    run.claim("build")
    run.lose("build")
    run.tell(e.PauseRequested(by="eve"))
    run.wait(60)
    assert (run.state, run.asked) == (State.PAUSED, [])
    run.tell(e.ResumeRequested(by="eve"))
    assert run.asked == ["build"]


# ---------------------------------------------------------------------------------------- approval


def test_an_approval_waits_for_people_and_no_worker() -> None:
    run = Machine("build", "approval", "deploy")
    run.complete("build")
    assert (run.state, run.asked) == (State.WAITING, [])
    run.vote("eve", reason="looks good")
    assert run.asked == ["deploy"]
    assert run.workflow.outputs["approval"]["approved_by"] == "eve"


def test_one_rejection_ends_it() -> None:
    run = Machine("approval", "deploy", on_failure=("clean",))
    run.vote("eve", approves=False, reason="not on Friday")
    assert run.asked == ["clean"]
    run.complete("clean")
    assert run.workflow.reason == "milestone approval failed: rejected by eve: not on Friday"


def test_two_have_to_approve_where_two_are_asked_for() -> None:
    run = Machine("two", "deploy")
    run.vote("eve", group="leads")
    assert run.state is State.WAITING
    run.vote("eve", group="leads")
    assert run.state is State.WAITING, "one person counts once"
    run.vote("kim", group="leads")
    assert run.asked == ["deploy"]


@pytest.mark.parametrize(
    ("by", "group", "why"),
    [
        ("eve", "approver", 'not of the group "leads"'),
        ("ann", "leads", "somebody else has to approve it"),
    ],
)
def test_who_has_no_say_changes_nothing_and_is_told_why(by: str, group: str, why: str) -> None:
    run = Machine("two", created_by="ann")
    before = run.workflow
    assert why in objection_to(run.workflow, e.Voted(approves=True, by=by, groups=frozenset({group})), KINDS)
    run.vote(by, group=group)
    assert run.workflow == before


def test_whoever_may_do_everything_has_a_say() -> None:
    run = Machine("two", created_by="ann")
    assert objection_to(run.workflow, e.Voted(approves=True, by="root", groups=frozenset({"*"})), KINDS) == ""


def test_an_approval_of_what_has_changed_since_does_not_count() -> None:
    run = Machine(("test", "two"), "deploy")
    seen = digest_of_inputs(run.workflow)
    run.vote("eve", group="leads")
    run.complete("test", report="other")
    assert "approval.voided" in run.told
    assert run.step("two").votes == ()
    run.vote("kim", group="leads", inputs=seen)
    assert run.step("two").votes == (), "kim has seen something else"
    run.vote("kim", group="leads", inputs=digest_of_inputs(run.workflow))
    run.vote("eve", group="leads")
    assert run.asked == ["deploy"]


def test_an_approval_that_nobody_decides_counts_as_rejected() -> None:
    run = Machine("approval", "deploy")
    run.wait(7 * 86_400)
    assert run.state is State.FAILED
    assert "nobody" in run.workflow.reason


# -------------------------------------------------------------------------------------------- locks


def locked(*milestones: str, **fields: Any) -> Machine:
    return Machine(*milestones, locks=(PROD,), **fields)


def test_nothing_is_asked_for_before_the_lock_is_there() -> None:
    run = locked("deploy")
    assert (run.state, run.asked) == (State.WAITING, [])
    assert run.decision.locks == (AskLocks(names=(PROD,), when_locked=WhenLocked.WAIT),)
    decision = run.tell(e.LocksGranted(tokens={PROD: 7}))
    assert decision.locks == (KeepLocks(names=(PROD,)),)
    assert (run.asked, run.workflow.lock_tokens) == (["deploy"], {PROD: 7})
    assert run.complete("deploy").locks == (FreeLocks(names=(PROD,)),)


def test_a_lock_is_taken_before_the_milestone_that_needs_it() -> None:
    run = locked("build", "deploy", locks_from="deploy")
    assert run.asked == ["build"]
    run.complete("build")
    assert (run.state, run.decision.locks[0]) == (
        State.WAITING,
        AskLocks(names=(PROD,), when_locked=WhenLocked.WAIT),
    )


def test_a_lock_is_kept_for_what_follows_a_failure() -> None:
    run = locked("deploy", on_failure=("rollback",))
    run.tell(e.LocksGranted(tokens={PROD: 1}))
    run.fail("deploy")
    assert (run.asked, run.decision.locks) == (["rollback"], ())
    assert run.complete("rollback").locks == (FreeLocks(names=(PROD,)),)


def test_what_follows_a_failure_needs_the_lock_where_it_may_do_harm() -> None:
    run = locked("build", "deploy", locks_from="deploy", on_failure=("clean", "deploy_oa"))
    run.fail("build")
    assert run.asked == ["clean"]
    run.complete("clean")
    assert (run.state, run.asked) == (State.WAITING, [])
    run.tell(e.LocksGranted(tokens={PROD: 1}))
    assert run.asked == ["deploy_oa"]


def test_a_failed_workflow_that_gets_no_lock_ends_as_failed() -> None:
    run = locked("build", "deploy", locks_from="deploy", on_failure=("deploy_oa",))
    run.fail("build")
    run.tell(e.LockDenied(name=PROD, code="superseded", by="other"))
    assert (run.state, run.workflow.reason) == (State.FAILED, "milestone build failed: no")


@pytest.mark.parametrize(("code", "state"), [("refused", State.FAILED), ("superseded", State.CANCELLED)])
def test_who_does_not_get_the_lock_ends(code: str, state: State) -> None:
    run = locked("deploy")
    decision = run.tell(e.LockDenied(name=PROD, code=code, by="other"))
    assert run.state is state
    assert "workflow other" in run.workflow.reason
    assert decision.locks == (FreeLocks(names=(PROD,)),)


def test_a_deploy_of_unknown_outcome_keeps_the_lock() -> None:
    run = locked("deploy")
    run.tell(e.LocksGranted(tokens={PROD: 1}))
    run.claim("deploy")
    assert run.lose("deploy").locks == ()
    assert run.state is State.HELD


def test_a_cancelled_deploy_whose_worker_stays_silent_keeps_the_lock_until_it_answers() -> None:
    run = locked("deploy")
    run.tell(e.LocksGranted(tokens={PROD: 1}))
    run.claim("deploy")
    run.tell(e.CancelRequested(by="eve"))
    decision = run.wait(31)
    assert run.state is State.CANCELLED
    [kept] = decision.locks
    assert isinstance(kept, KeepLocks)
    assert kept.why
    late = e.MilestoneFailed(key=run.workflow.closing[0].key, worker="worker-deploy", message="stopped")
    assert run.tell(late).locks == (FreeLocks(names=(PROD,)),)
    assert (run.state, run.workflow.keeps_locks) == (State.CANCELLED, "")


def test_a_cancelled_build_whose_worker_stays_silent_does_not() -> None:
    run = locked("build")
    run.tell(e.LocksGranted(tokens={PROD: 1}))
    run.claim("build")
    run.tell(e.CancelRequested(by="eve"))
    assert run.wait(31).locks == (FreeLocks(names=(PROD,)),)


def test_a_person_takes_a_lock_away_and_the_workflow_goes_on() -> None:
    run = locked("deploy")
    run.tell(e.LocksGranted(tokens={PROD: 1}))
    decision = run.tell(e.LockForced(name=PROD, by="eve", reason="it hangs", force=True))
    assert decision.locks == (FreeLocks(names=(PROD,)),)
    assert (run.state, run.asked) == (State.RUNNING, ["deploy"])
    assert run.complete("deploy").locks == ()


# ------------------------------------------------------------------------------------------- again


def ended(**fields: Any) -> Machine:
    """A workflow whose build left something and whose deploy failed."""
    run = Machine("build", ("test", "scan"), "deploy", **fields)
    run.tell(
        e.MilestoneCompleted(
            key=run.attempt("build").key, worker="worker-build", outputs={"wheel": "a"}, source_commit_hash="41f"
        )
    )
    return run


def begun(successor: Workflow) -> Workflow:
    return decide(successor, e.StartRequested(by="eve"), NOW, KINDS).workflow


def test_a_retry_begins_at_the_milestone_that_failed_with_the_same_inputs() -> None:
    run = ended()
    run.complete("test", report="ok")
    run.fail("scan")
    again = successor_of(run.workflow, Repeat.RETRY, "new", "eve")
    assert (again.id, again.position, again.source_commit_hash) == ("new", 1, "41f")
    assert again.outputs == {"build": {"wheel": "a"}, "test": {"report": "ok"}}
    started = begun(again)
    assert [attempt.milestone for attempt in started.live] == ["scan"], "what has succeeded is not run again"
    assert started.lineage is not None
    assert (started.lineage.parent_id, started.lineage.verb, started.created_by) == ("w", "retry", "eve")


def test_a_rerun_begins_where_a_person_says() -> None:
    run = ended()
    run.complete("test")
    run.complete("scan")
    run.fail("deploy")
    again = successor_of(run.workflow, Repeat.RERUN, "new", "eve", milestone="scan")
    assert (again.position, set(again.outputs)) == (1, {"build"})
    assert [attempt.milestone for attempt in begun(again).live] == ["test", "scan"]


def test_a_new_start_takes_the_same_commit_or_the_newest() -> None:
    run = ended()
    run.tell(e.CancelRequested(by="eve", force=True))
    same = successor_of(run.workflow, Repeat.AGAIN, "new", "eve")
    newest = successor_of(run.workflow, Repeat.AGAIN, "new", "eve", newest=True)
    assert (same.position, same.outputs, same.source_commit_hash) == (0, {}, "41f")
    assert newest.source_commit_hash is None


@pytest.mark.parametrize(
    ("repeat", "milestone", "why"),
    [
        (Repeat.RERUN, "polish", 'no milestone "polish"'),
        (Repeat.RERUN, "deploy", "never got to deploy"),
    ],
)
def test_what_cannot_be_repeated_so_says_why(repeat: Repeat, milestone: str, why: str) -> None:
    run = ended()
    run.tell(e.CancelRequested(by="eve", force=True))
    with pytest.raises(WrongState, match=why):
        successor_of(run.workflow, repeat, "new", "eve", milestone=milestone)


def test_only_what_has_ended_can_be_repeated_and_only_a_failure_retried() -> None:
    run = Machine("build")
    with pytest.raises(WrongState, match="has to end before it is repeated"):
        successor_of(run.workflow, Repeat.AGAIN, "new", "eve")
    run.complete("build")
    with pytest.raises(WrongState, match='"openaperture again w"'):
        successor_of(run.workflow, Repeat.RETRY, "new", "eve")
    assert successor_of(replace(run.workflow), Repeat.AGAIN, "new", "eve").position == 0

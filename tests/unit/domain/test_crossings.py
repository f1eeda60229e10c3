"""Where two features meet: holds and cancels, groups and locks, approvals and what changes behind them."""

from dataclasses import replace
from typing import Any

import pytest

from openaperture.domain import events as e
from openaperture.domain.commands import AskLocks, FreeLocks, KeepLocks
from openaperture.domain.decide import decide, objection_to
from openaperture.domain.errors import WrongState
from openaperture.domain.lineage import Repeat, successor_of
from openaperture.domain.milestones import MilestoneOptions, OnLoss
from openaperture.domain.releases import Entry, OnGroupFailure, WhenLocked
from openaperture.domain.workflow import Result, State, Workflow
from tests.unit.domain.machine import KINDS, NOW, Machine

PROD, TOWN = "environment:prod", "environment:town"


def locked(*milestones: Entry, names: tuple[str, ...] = (PROD,), **fields: Any) -> Machine:
    """Has its locks."""
    run = Machine(*milestones, locks=names, **fields)
    run.tell(e.LocksGranted(tokens=dict.fromkeys(names, 1)))
    return run


def restarted(run: Machine, repeat: Repeat = Repeat.RETRY, **fields: Any) -> Workflow:
    again = successor_of(run.workflow, repeat, "new", "eve", **fields)
    return decide(again, e.StartRequested(by="eve"), NOW, KINDS).workflow


def overdue(milestone: str = "deploy") -> Machine:
    """Its deploy ran for too long, and its worker does not stop: held."""
    run = Machine(milestone, milestone_options={milestone: MilestoneOptions(run_seconds=50.0)})
    run.claim(milestone)
    run.wait(51)
    run.wait(31)
    return run


# ------------------------------------------------------------------------------- doing again what failed


def test_a_milestone_that_stands_twice_is_retried_where_it_failed() -> None:
    run = Machine("deploy", "scan", "deploy")
    for milestone in ("deploy", "scan"):
        run.claim(milestone)
        run.complete(milestone)
    run.claim("deploy")
    run.fail("deploy")
    again = restarted(run)
    assert (again.position, [attempt.milestone for attempt in again.live]) == (2, ["deploy"])
    assert again.lineage is not None
    assert again.lineage.position == 2


def test_a_group_that_is_done_in_part_is_not_retried_with_the_newest_commit() -> None:
    run = Machine(("build", "test"))
    run.claim("build", "test")
    run.complete("build")
    run.fail("test")
    with pytest.raises(WrongState, match="has to go through all milestones"):
        successor_of(run.workflow, Repeat.RETRY, "new", "eve", newest=True)
    assert successor_of(run.workflow, Repeat.AGAIN, "new", "eve", newest=True).source_commit_hash is None


def test_a_rollback_of_the_same_name_does_not_make_the_failed_milestone_done() -> None:
    run = Machine("build", ("deploy", "scan"), on_failure=("deploy",))
    run.claim("build")
    run.complete("build", wheel="a")
    run.claim("deploy", "scan")
    run.complete("scan", report="clean")
    run.fail("deploy")
    run.claim("deploy")
    run.complete("deploy", version="old")
    assert run.state is State.FAILED
    again = restarted(run)
    assert [attempt.milestone for attempt in again.live] == ["deploy"]
    assert again.outputs == {"build": {"wheel": "a"}, "scan": {"report": "clean"}}


def test_an_approval_of_a_group_is_given_anew_when_the_group_is_retried() -> None:
    run = Machine(("approval", "build"))
    run.vote("bob")
    run.claim("build")
    run.fail("build")
    again = restarted(run)
    assert [(step.milestone, step.wait and step.wait.code) for step in again.steps] == [
        ("approval", "approval"),
        ("build", None),
    ]


# ---------------------------------------------------------------------------------- holds and cancels


def test_a_held_milestone_that_was_told_to_stop_is_cancelled_at_once() -> None:
    run = overdue()
    assert run.told == ["workflow.held"]
    run.tell(e.CancelRequested(by="eve"))
    assert run.state is State.CANCELLED


def test_a_worker_that_speaks_and_does_not_stop_does_not_take_its_deploy_from_the_person_who_was_asked() -> None:
    run = overdue()
    heartbeat = e.HeartbeatSeen(key=run.attempt("deploy").key, worker="worker-deploy", reply_to="deploy.answers")
    decision = run.tell(heartbeat)
    assert (run.state, [answer.verdict for answer in decision.answers]) == (State.HELD, ["cancel"])
    again = run.tell(replace(heartbeat, run_seconds=500.0))
    assert [answer.verdict for answer in again.answers] == ["cancel"], "the workflow has said how long it may run"
    assert run.complete("deploy").workflow.state is State.COMPLETED


def test_a_worker_that_could_not_stop_its_deploy_leaves_it_unknown() -> None:
    run = locked("deploy", milestone_options={"deploy": MilestoneOptions(run_seconds=50.0)})
    run.claim("deploy")
    run.wait(51)
    assert run.fail("deploy", interrupted=True, message="its thread goes on").locks == ()
    assert run.state is State.HELD
    assert "its thread goes on" in run.workflow.reason


def test_a_worker_that_could_not_stop_its_build_has_failed() -> None:
    run = Machine("build", milestone_options={"build": MilestoneOptions(run_seconds=50.0)})
    run.claim("build")
    run.wait(51)
    run.fail("build", interrupted=True)
    assert (run.state, [ended.outcome for ended in run.decision.ended]) == (State.FAILED, ["timed_out"])


def test_a_cancelled_deploy_that_could_not_be_stopped_keeps_the_lock() -> None:
    run = locked("deploy")
    run.claim("deploy")
    key = run.attempt("deploy").key
    run.tell(e.CancelRequested(by="eve"))
    [kept] = run.fail("deploy", interrupted=True).locks
    assert isinstance(kept, KeepLocks)
    assert kept.why
    late = e.MilestoneFailed(key=key, worker="worker-deploy", message="still at it", interrupted=True)
    assert run.tell(late).locks == ()
    done = e.MilestoneCompleted(key=key, worker="worker-deploy")
    assert run.tell(done).locks == (FreeLocks(names=(PROD,)),)


def test_what_was_told_to_stop_before_it_began_ends_as_the_order_says() -> None:
    run = Machine("build", on_failure=("clean",), milestone_options={"build": MilestoneOptions(run_seconds=50.0)})
    run.claim("build")
    run.wait(51)
    run.tell(e.Released(key=run.attempt("build").key, worker="worker-build"))
    assert (run.state, run.asked) == (State.RUNNING, ["clean"])
    assert "ran longer than 50 s" in run.workflow.reason


# ------------------------------------------------------------------------------------ groups and holds


def test_a_deploy_of_unknown_outcome_is_still_for_a_person_when_its_group_is_stopped() -> None:
    run = locked(("deploy", "scan"), on_failure=("rollback",), on_group_failure=OnGroupFailure.CANCEL)
    run.claim("deploy", "scan")
    run.lose("deploy")
    run.fail("scan")
    assert (run.state, run.asked) == (State.HELD, ["deploy"])
    run.tell(e.Resolved(resolution=e.Resolution.FAILED, by="eve"))
    assert (run.state, run.asked) == (State.RUNNING, ["rollback"])


def test_a_member_whose_time_is_over_is_not_tried_again_when_its_group_is_stopped() -> None:
    own = {"build": MilestoneOptions(run_seconds=50.0, max_attempts=3)}
    run = Machine(("build", "scan"), on_group_failure=OnGroupFailure.CANCEL, milestone_options=own)
    run.claim("build", "scan")
    run.wait(51)
    run.fail("scan")
    run.fail("build")
    assert run.state is State.FAILED


def test_a_lock_is_kept_until_the_very_milestone_has_answered_for_which_it_is_kept() -> None:
    run = locked(("deploy", "scan"))
    run.claim("deploy", "scan")
    deploy, scan = (run.attempt(name).key for name in ("deploy", "scan"))
    run.tell(e.CancelRequested(by="eve", force=True))
    assert run.workflow.kept_for == (deploy,)
    assert run.tell(e.MilestoneCompleted(key=scan, worker="worker-scan")).locks == ()
    assert run.tell(e.MilestoneCompleted(key=deploy, worker="worker-deploy")).locks == (FreeLocks(names=(PROD,)),)


def test_a_late_answer_frees_no_lock_that_what_follows_a_failure_still_needs() -> None:
    run = locked(("deploy", "rollback"), on_failure=("deploy",), on_group_failure=OnGroupFailure.CANCEL)
    run.claim("deploy", "rollback")
    silent = run.attempt("deploy").key
    run.fail("rollback")
    run.tell(e.Woken())
    run.wait(31)
    assert run.state is State.HELD
    run.tell(e.Resolved(resolution=e.Resolution.FAILED, by="eve"))
    run.claim("deploy")
    assert run.tell(e.MilestoneCompleted(key=silent, worker="worker-deploy")).locks == ()
    assert run.workflow.lock_tokens == {PROD: 1}
    assert run.complete("deploy").locks == (FreeLocks(names=(PROD,)),)


# ----------------------------------------------------------------------------------------------- locks


def test_a_workflow_that_lost_one_of_two_locks_asks_for_both_before_it_goes_on() -> None:
    run = locked("build", "deploy", names=(PROD, TOWN))
    run.claim("build")
    run.tell(e.LockForced(name=PROD, by="eve"))
    assert run.workflow.lock_tokens == {PROD: 1, TOWN: 1}, "only by force while a worker is at it"
    run.tell(e.LockForced(name=PROD, by="eve", force=True))
    decision = run.complete("build")
    assert (run.state, run.asked) == (State.WAITING, [])
    assert decision.locks == (
        FreeLocks(names=(PROD, TOWN)),
        AskLocks(names=(PROD, TOWN), when_locked=WhenLocked.WAIT),
    )


def test_a_held_deploy_whose_lock_was_taken_away_has_it_again_before_it_is_done_again() -> None:
    run = locked(("deploy", "scan"))
    run.claim("deploy", "scan")
    run.complete("scan")
    run.lose("deploy")
    run.tell(e.LockForced(name=PROD, by="eve"))
    run.tell(e.Resolved(resolution=e.Resolution.AGAIN, by="eve"))
    assert (run.state, run.asked) == (State.WAITING, [])
    run.tell(e.LocksGranted(tokens={PROD: 2}))
    assert (run.asked, run.step("scan").result) == (["deploy"], Result.COMPLETED)


def test_a_held_deploy_whose_lock_was_taken_away_is_not_done_again_beside_its_group() -> None:
    run = locked(("deploy", "scan"))
    run.claim("deploy", "scan")
    run.lose("deploy")
    run.tell(e.LockForced(name=PROD, by="eve", force=True))
    run.tell(e.Resolved(resolution=e.Resolution.AGAIN, by="eve"))
    assert (run.state, run.told) == (State.HELD, ["workflow.held"])


@pytest.mark.parametrize("event", [e.LockDenied(name=PROD, code="refused", by="other"), e.Woken()])
def test_who_never_gets_the_lock_in_the_middle_runs_what_follows_a_failure(event: e.Event) -> None:
    run = Machine("build", "deploy", locks=(PROD,), locks_from="deploy", on_failure=("clean",))
    run.claim("build")
    run.complete("build")
    run.seconds += 8 * 86_400
    run.tell(event)
    assert (run.state, run.asked) == (State.RUNNING, ["clean"])


def test_who_never_gets_the_lock_at_the_beginning_has_nothing_to_clean_up() -> None:
    run = Machine("deploy", locks=(PROD,), on_failure=("clean",))
    run.tell(e.LockDenied(name=PROD, code="refused", by="other"))
    assert (run.state, run.asked) == (State.FAILED, [])


# ------------------------------------------------------------------------------------------- approvals


def test_an_approval_that_was_enough_is_asked_for_anew_when_its_group_makes_another_thing_of_it() -> None:
    run = Machine(("approval", "build"), "deploy")
    run.vote("bob")
    run.claim("build")
    run.complete("build", image="b")
    assert (run.state, run.asked) == (State.WAITING, [])
    assert "approval.voided" in run.told
    run.vote("bob")
    assert (run.state, run.asked) == (State.RUNNING, ["deploy"])


def test_two_approvals_of_one_group_do_not_void_each_other() -> None:
    run = Machine(("approval", "two"), "deploy")
    run.vote("kim", group="leads", milestone="two")
    run.vote("bob", milestone="approval")
    run.vote("joe", group="leads", milestone="two")
    assert (run.state, run.asked) == (State.RUNNING, ["deploy"])


def test_another_commit_than_the_approved_one_fails_the_milestone_that_comes_with_it() -> None:
    run = Machine("build", "approval", "test", "deploy")
    run.claim("build")
    built = run.attempt("build").key
    run.tell(e.MilestoneCompleted(key=built, worker="worker-build", source_commit_hash="aaa"))
    run.vote("bob")
    run.claim("test")
    tested = run.attempt("test").key
    run.tell(e.MilestoneCompleted(key=tested, worker="worker-test", source_commit_hash="bbb"))
    assert (run.state, run.asked) == (State.FAILED, [])
    assert "aaa" in run.workflow.reason


def test_who_made_what_is_repeated_cannot_approve_the_repetition_either() -> None:
    run = Machine("two", created_by="ann")
    run.vote("bob", group="leads", approves=False)
    again = restarted(run)
    vote = e.Voted(approves=True, by="ann", groups=frozenset({"leads"}))
    assert "has a hand in" in objection_to(again, vote, KINDS)


@pytest.mark.parametrize("resolution", [e.Resolution.WORKED, e.Resolution.AGAIN])
def test_nobody_says_of_an_approval_that_it_worked(resolution: e.Resolution) -> None:
    run = Machine("approval", "deploy")
    before = run.workflow
    run.vote("bob")
    run.claim("deploy")
    deployed = run.attempt("deploy").key
    run.workflow = before
    run.tell(e.MilestoneCompleted(key=deployed, worker="worker-deploy"))
    assert run.state is State.HELD
    decision = run.tell(e.Resolved(resolution=resolution, by="eve"))
    assert (run.state, decision.dispatches) == (State.WAITING, ())
    assert run.step("approval").wait is not None


# -------------------------------------------------------------------------------------------- options


def test_what_a_workflow_says_of_a_milestone_stands_above_what_its_repository_says() -> None:
    own = {"deploy": MilestoneOptions(on_loss=OnLoss.HOLD, run_seconds=60.0)}
    run = Machine("deploy", milestone_options=own)
    run.claim("deploy")
    key = run.attempt("deploy").key
    run.tell(e.HeartbeatSeen(key=key, worker="worker-deploy", on_loss=OnLoss.RETRY, run_seconds=9_999.0))
    attempt = run.attempt("deploy")
    assert (attempt.on_loss, attempt.run_seconds) == (OnLoss.HOLD, 60.0)

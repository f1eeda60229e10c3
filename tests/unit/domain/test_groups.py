"""Milestones that run side by side, and what follows a failure."""

import pytest

from openaperture.domain import events as e
from openaperture.domain.decide import decide
from openaperture.domain.milestones import FailureKind, MilestoneOptions
from openaperture.domain.releases import OnGroupFailure
from openaperture.domain.workflow import Result, State, Wire, Workflow
from tests.unit.domain.machine import KINDS, NOW, Machine

GROUP = ("test", "scan")


def test_the_members_of_a_group_are_asked_for_together_and_the_next_when_all_are_done() -> None:
    run = Machine("build", GROUP, "deploy")
    run.complete("build")
    assert run.asked == ["test", "scan"]
    assert len({attempt.key for attempt in run.workflow.live}) == 2
    run.claim("test", "scan")
    run.complete("scan", report="a")
    assert (run.state, run.asked) == (State.RUNNING, ["test"])
    assert run.workflow.current_milestone == "test"
    run.complete("test", report="b")
    assert run.asked == ["deploy"]
    assert run.workflow.outputs == {"build": {}, "scan": {"report": "a"}, "test": {"report": "b"}}


def test_a_group_fails_when_one_failed_and_all_have_ended() -> None:
    run = Machine(GROUP, "deploy")
    run.claim("test", "scan")
    run.fail("test", message="3 tests failed")
    assert (run.state, run.asked) == (State.RUNNING, ["scan"])
    run.complete("scan")
    assert (run.state, run.asked) == (State.FAILED, [])
    assert run.workflow.reason == "milestone test failed: 3 tests failed"
    assert run.workflow.outputs == {"scan": {}}


def test_the_others_are_stopped_where_the_release_says_so() -> None:
    run = Machine(("test", "scan", "build"), on_group_failure=OnGroupFailure.CANCEL)
    run.claim("test", "scan")
    decision = run.fail("test")
    assert [(answer.reply_to, answer.verdict) for answer in decision.answers] == [("scan.answers", "cancel")]
    # Nobody had claimed the build: it is over at once, and its request is void.
    assert (run.step("build").result, run.asked) == (Result.CANCELLED, ["scan"])
    run.fail("scan", message="stopped")
    assert run.state is State.FAILED
    assert run.workflow.reason == "milestone test failed: no"


def test_a_member_that_does_not_stop_is_given_up_after_its_grace() -> None:
    run = Machine(GROUP, on_group_failure=OnGroupFailure.CANCEL)
    run.claim("test", "scan")
    run.fail("test")
    run.wait(29)
    assert run.asked == ["scan"]
    run.wait(2)
    assert run.state is State.FAILED


def test_a_lost_member_is_tried_again_while_the_others_run() -> None:
    run = Machine(GROUP)
    run.claim("test", "scan")
    run.lose("test")
    assert (run.state, run.asked) == (State.RUNNING, ["scan"])
    run.wait(10)
    assert sorted(run.asked) == ["scan", "test"]
    assert run.attempt("test").key.number == 3


def test_a_member_of_unknown_outcome_holds_the_workflow_and_not_the_other_members() -> None:
    run = Machine(("deploy", "scan"), "build")
    run.claim("deploy", "scan")
    run.lose("deploy")
    assert run.state is State.HELD
    run.complete("scan")
    assert (run.state, run.asked) == (State.HELD, ["deploy"])
    run.tell(e.Resolved(resolution=e.Resolution.WORKED, by="eve"))
    assert run.asked == ["build"]


def test_of_two_unknown_outcomes_a_person_has_to_say_which_is_meant() -> None:
    run = Machine(("deploy", "deploy_oa"))
    run.claim("deploy", "deploy_oa")
    run.lose("deploy")
    run.lose("deploy_oa")
    before = run.workflow
    run.tell(e.Resolved(resolution=e.Resolution.WORKED, by="eve"))
    assert run.workflow == before
    run.tell(e.Resolved(resolution=e.Resolution.WORKED, by="eve", milestone="deploy"))
    run.tell(e.Resolved(resolution=e.Resolution.AGAIN, by="eve", milestone="deploy_oa"))
    assert (run.state, run.asked) == (State.RUNNING, ["deploy_oa"])
    assert run.attempt("deploy_oa").key.generation == 1


def test_a_cancel_stops_every_member() -> None:
    run = Machine(GROUP)
    run.claim("test", "scan")
    decision = run.tell(e.CancelRequested(by="eve"))
    assert {answer.reply_to for answer in decision.answers} == {"test.answers", "scan.answers"}
    run.fail("test", message="stopped")
    assert run.asked == ["scan"]
    run.complete("scan")
    assert run.state is State.CANCELLED
    assert run.workflow.outputs == {}


@pytest.mark.parametrize("group", [(), ("test", "test"), tuple(f"m{n}" for n in range(21))])
def test_a_group_that_makes_no_sense_fails_before_anything_runs(group: tuple[str, ...]) -> None:
    run = Machine("build", group)
    assert run.state is State.FAILED
    assert not run.decision.dispatches


def test_workers_of_the_original_are_never_asked_for_a_group() -> None:
    asked = Machine(GROUP).workflow.release
    terms = Workflow(id="w", release=asked, wire=Wire.TERMS)
    failed = decide(terms, e.StartRequested(), NOW, KINDS).workflow
    assert failed.state is State.FAILED
    assert "workers of the original take no groups" in failed.reason
    assert asked.flat == ("test", "scan")


# --------------------------------------------------------------------------------- after a failure


def test_what_follows_a_failure_is_run_before_the_workflow_ends() -> None:
    run = Machine("build", "deploy", on_failure=("rollback", "clean"))
    run.complete("build", wheel="a.whl")
    run.claim("deploy")
    run.fail("deploy", message="no space")
    assert (run.state, run.asked) == (State.RUNNING, ["rollback"])
    assert run.attempt("rollback").key.generation == 1
    failure = run.workflow.failure
    assert failure is not None
    assert (failure.milestone, failure.kind, failure.position) == ("deploy", FailureKind.CRASHED, 1)
    run.complete("rollback")
    run.complete("clean")
    assert (run.state, run.workflow.position) == (State.FAILED, 1)
    assert run.workflow.reason == "milestone deploy failed: no space"
    assert run.workflow.current_milestone == "deploy"


def test_a_failure_of_what_follows_is_written_down_and_changes_nothing() -> None:
    run = Machine("build", on_failure=("rollback", "clean"))
    run.fail("build", message="no wheel")
    run.fail("rollback", message="no way back")
    assert run.asked == ["clean"]
    assert "milestone.failed" in run.told
    run.complete("clean")
    assert (run.state, run.workflow.reason) == (State.FAILED, "milestone build failed: no wheel")


def test_what_follows_a_failure_does_not_follow_a_cancel_or_a_success() -> None:
    cancelled = Machine("build", on_failure=("rollback",))
    cancelled.tell(e.CancelRequested(by="eve"))
    assert cancelled.state is State.CANCELLED
    completed = Machine("build", on_failure=("rollback",))
    completed.complete("build")
    assert completed.state is State.COMPLETED


# ---------------------------------------------------------------------------------------- retries


def test_a_failure_of_a_kind_that_is_tried_again_waits_longer_each_time_and_then_fails() -> None:
    options = MilestoneOptions(retry_on=frozenset({FailureKind.CRASHED}), max_attempts=3)
    run = Machine("build", milestone_options={"build": options})
    pauses: list[float] = []
    while run.state is not State.FAILED:
        run.claim("build")
        run.fail("build", message="flaky")
        if run.workflow.wake_at is not None:
            pauses.append((run.workflow.wake_at - run.now).total_seconds())
            run.wait(pauses[-1])
    assert len(pauses) == 2
    assert 1 <= pauses[0] <= 1.5 < 2 <= pauses[1] <= 3
    assert run.workflow.reason == "milestone build failed: it did not succeed 3 times, last: flaky"


def test_a_failure_of_another_kind_fails_at_once() -> None:
    options = MilestoneOptions(retry_on=frozenset({FailureKind.CRASHED}))
    run = Machine("build", milestone_options={"build": options})
    run.fail("build", kind=FailureKind.BAD_INPUT)
    assert run.state is State.FAILED


def test_a_workflow_has_limits_of_its_own() -> None:
    options = MilestoneOptions(run_seconds=100, heartbeat_seconds=10, pickup_seconds=50)
    run = Machine("build", milestone_options={"build": options})
    assert run.workflow.wake_at is not None
    assert (run.workflow.wake_at - NOW).total_seconds() == 50
    run.claim("build")
    assert (run.attempt("build").run_until, run.attempt("build").alive_until) == (
        NOW.replace(minute=1, second=40),
        NOW.replace(second=10),
    )

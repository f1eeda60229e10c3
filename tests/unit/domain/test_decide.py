"""One example for each rule of `decide`, to be read. Every order of events is tried in tests/property."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from openaperture.domain import events as e
from openaperture.domain.attempts import Attempt, AttemptKey
from openaperture.domain.commands import Decision
from openaperture.domain.decide import decide
from openaperture.domain.milestones import MilestoneKind, table_of
from openaperture.domain.releases import Release
from openaperture.domain.workflow import TERMINAL, State, Wait, Workflow

NOW = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
KINDS = table_of([MilestoneKind(name="paint", queue="painter", max_attempts=2, pickup_limit_seconds=900)])
FIRST = AttemptKey(generation=0, position=0, number=1)


def after(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def asked(*milestones: str, **fields: Any) -> Workflow:
    return Workflow(id="w", release=Release(milestones=milestones, **fields))


def told(workflow: Workflow, *events: e.Event, at: datetime = NOW) -> Workflow:
    """The workflow after these events."""
    for event in events:
        workflow = decide(workflow, event, at, KINDS).workflow
    return workflow


def answered(workflow: Workflow, event: e.Event, at: datetime = NOW) -> Decision:
    return decide(workflow, event, at, KINDS)


def begun(*milestones: str, **fields: Any) -> Workflow:
    return told(asked(*milestones, **fields), e.StartRequested())


def claimed(*milestones: str) -> Workflow:
    """Its first milestone was taken by ann, at NOW."""
    return told(begun(*milestones), e.Claimed(key=FIRST, worker="ann", reply_to="ann.answers"))


def kinds_of(decision: Decision) -> list[str]:
    return [entry.kind for entry in decision.entries]


def the_attempt(workflow: Workflow) -> Attempt:
    [attempt] = workflow.live
    return attempt


def the_wait(workflow: Workflow) -> Wait:
    [step] = workflow.steps
    assert step.wait is not None
    return step.wait


# ------------------------------------------------------------------------------------ start and end


def test_a_start_asks_for_the_first_milestone_and_sets_a_deadline() -> None:
    decision = answered(asked("build", "deploy"), e.StartRequested(by="eve"))
    assert kinds_of(decision) == ["workflow.started", "milestone.started", "milestone.requested"]
    assert decision.entries[0].text == "workflow started by eve"
    assert [dispatch.attempt.key for dispatch in decision.dispatches] == [FIRST]
    assert decision.workflow.state is State.RUNNING
    assert decision.workflow.wake_at == after(600)


def test_no_milestones_are_all_done_at_once() -> None:
    decision = answered(asked(), e.StartRequested())
    assert decision.workflow.state is State.COMPLETED
    assert decision.workflow.ended_at == NOW
    assert not decision.dispatches


def test_an_unknown_milestone_fails_before_anything_runs_even_when_it_is_the_last() -> None:
    decision = answered(asked("build", "polish"), e.StartRequested())
    assert decision.workflow.state is State.FAILED
    assert "define it as [milestones.polish]" in decision.workflow.reason
    assert not decision.dispatches


def test_a_second_start_changes_nothing_and_is_written_down() -> None:
    workflow = begun("build")
    decision = answered(workflow, e.StartRequested())
    assert decision.workflow is workflow
    assert kinds_of(decision) == ["start.repeated"]


def test_a_result_leads_to_the_next_milestone_and_its_outputs_go_along() -> None:
    done = e.MilestoneCompleted(key=FIRST, worker="ann", outputs={"wheel": "a.whl"}, source_commit_hash="41f")
    decision = answered(claimed("build", "deploy"), done, after(90))
    assert kinds_of(decision) == ["milestone.completed", "milestone.started", "milestone.requested"]
    assert decision.entries[0].text == "build completed after 2 minute(s)"
    workflow = decision.workflow
    assert (workflow.position, workflow.outputs) == (1, {"build": {"wheel": "a.whl"}})
    assert workflow.source_commit_hash == "41f"
    assert [dispatch.attempt.milestone for dispatch in decision.dispatches] == ["deploy"]
    assert [(ended.attempt.key, ended.outcome) for ended in decision.ended] == [(FIRST, "completed")]


def test_the_result_of_the_last_milestone_completes_the_workflow() -> None:
    workflow = told(claimed("build"), e.MilestoneCompleted(key=FIRST, worker="ann"))
    assert workflow.state is State.COMPLETED
    assert workflow.wake_at is None


def test_a_failed_milestone_fails_the_workflow_with_the_words_of_its_worker() -> None:
    decision = answered(claimed("build", "deploy"), e.MilestoneFailed(key=FIRST, worker="ann", message="no wheel"))
    assert decision.workflow.state is State.FAILED
    assert "no wheel" in decision.workflow.reason
    assert not decision.dispatches


# ----------------------------------------------------------------------------------- who may say what


def test_the_first_worker_that_claims_gets_the_attempt_also_when_it_asks_twice() -> None:
    workflow = begun("build")
    claim = e.Claimed(key=FIRST, worker="ann", reply_to="ann.answers")
    first = answered(workflow, claim)
    assert [(a.reply_to, a.verdict) for a in first.answers] == [("ann.answers", "run")]
    again = answered(first.workflow, claim)
    assert [a.verdict for a in again.answers] == ["run"]
    assert again.workflow == first.workflow
    other = answered(first.workflow, e.Claimed(key=FIRST, worker="ben", reply_to="ben.answers"))
    assert [(a.reply_to, a.verdict) for a in other.answers] == [("ben.answers", "void")]
    assert the_attempt(other.workflow).worker == "ann"


@pytest.mark.parametrize(
    "event",
    [
        e.MilestoneCompleted(key=FIRST, worker="ben"),
        e.MilestoneFailed(key=FIRST, worker="ben", message="mine"),
        e.MilestoneCompleted(key=replace(FIRST, number=0), worker="ann"),
    ],
)
@pytest.mark.fault("F23", "F59")
def test_a_result_of_another_worker_or_attempt_changes_nothing_and_is_written_down(event: e.Event) -> None:
    workflow = claimed("build")
    decision = answered(workflow, event)
    assert decision.workflow is workflow
    assert kinds_of(decision) == ["callback.late"]


@pytest.mark.fault("F23")
def test_a_result_counts_although_its_claim_was_never_heard() -> None:
    assert told(begun("build"), e.MilestoneCompleted(key=FIRST, worker="ann")).state is State.COMPLETED


def test_a_forged_callback_is_written_down_and_nothing_else() -> None:
    workflow = claimed("build")
    decision = answered(workflow, e.Forged(claimed_type="completed"))
    assert decision.workflow is workflow
    assert kinds_of(decision) == ["callback.forged"]
    assert not decision.entries[0].success


@pytest.mark.parametrize("state", sorted(TERMINAL))
def test_an_ended_workflow_never_changes(state: State) -> None:
    ended = replace(claimed("build"), state=state, steps=(), ended_at=NOW)
    for event in (
        e.StartRequested(),
        e.Claimed(key=FIRST, worker="ann", reply_to="ann.answers"),
        e.HeartbeatSeen(key=FIRST, worker="ann", reply_to="ann.answers"),
        e.MilestoneCompleted(key=FIRST, worker="ann"),
        e.MilestoneFailed(key=FIRST, worker="ann", message="no"),
        e.Released(key=FIRST, worker="ann"),
        e.Undeliverable(key=FIRST, reason="no queue"),
        e.Woken(),
        e.CancelRequested(by="eve"),
        e.Resolved(resolution=e.Resolution.AGAIN, by="eve"),
    ):
        decision = answered(ended, event, after(100_000))
        assert decision.workflow is ended
        assert not decision.dispatches
        assert {answer.verdict for answer in decision.answers} <= {"void"}


# --------------------------------------------------------------------------------- losses and deadlines


def test_a_heartbeat_moves_the_deadline() -> None:
    workflow = claimed("build")
    assert workflow.wake_at == after(60)
    beaten = told(workflow, e.HeartbeatSeen(key=FIRST, worker="ann"), at=after(50))
    assert beaten.wake_at == after(110)
    assert told(beaten, e.Woken(), at=after(109)) is beaten


def test_a_lost_build_is_asked_for_again_after_a_pause_as_another_attempt() -> None:
    lost = answered(claimed("build"), e.Woken(), after(61))
    assert kinds_of(lost) == ["milestone.lost", "workflow.waiting"]
    assert lost.workflow.state is State.WAITING
    assert lost.workflow.wake_at is not None
    again = answered(lost.workflow, e.Woken(), lost.workflow.wake_at)
    [dispatch] = again.dispatches
    assert dispatch.attempt.key == replace(FIRST, number=2)
    # The lost one is fenced off: whatever it says now is of an attempt that is over.
    assert kinds_of(answered(again.workflow, e.MilestoneCompleted(key=FIRST, worker="ann"))) == ["callback.late"]


def test_a_milestone_that_is_lost_too_often_fails() -> None:
    workflow = told(claimed("paint"), e.Woken(), at=after(61))
    workflow = told(workflow, e.Woken(), at=after(70))
    second = replace(FIRST, number=2)
    workflow = told(workflow, e.Claimed(key=second, worker="ben"), at=after(70))
    workflow = told(workflow, e.Woken(), at=after(131))
    assert workflow.state is State.FAILED
    assert "it did not succeed 2 times" in workflow.reason


def test_a_lost_deploy_is_held_for_a_person_and_not_repeated() -> None:
    decision = answered(claimed("deploy"), e.Woken(), after(61))
    assert kinds_of(decision) == ["milestone.lost", "workflow.held"]
    assert decision.workflow.state is State.HELD
    assert decision.workflow.wake_at is None
    assert 'then say "openaperture resolve w worked"' in decision.workflow.reason


def test_a_held_deploy_goes_on_when_its_worker_is_heard_of_again() -> None:
    held = told(claimed("deploy"), e.Woken(), at=after(61))
    back = answered(held, e.HeartbeatSeen(key=FIRST, worker="ann", reply_to="ann.answers"), after(70))
    assert kinds_of(back) == ["milestone.regained"]
    assert back.workflow.state is State.RUNNING
    assert back.workflow.wake_at == after(130)


@pytest.mark.parametrize(
    ("resolution", "state", "position", "generation"),
    [
        (e.Resolution.WORKED, State.RUNNING, 1, 0),
        (e.Resolution.FAILED, State.FAILED, 0, 0),
        (e.Resolution.AGAIN, State.RUNNING, 0, 1),
    ],
)
def test_a_person_says_what_became_of_a_held_deploy(
    resolution: e.Resolution, state: State, position: int, generation: int
) -> None:
    held = told(claimed("deploy", "build"), e.Woken(), at=after(61))
    decision = answered(held, e.Resolved(resolution=resolution, by="eve", reason="I looked"), after(70))
    workflow = decision.workflow
    assert (workflow.state, workflow.position, workflow.generation) == (state, position, generation)
    assert decision.entries[0].text == f"eve says of deploy: {resolution} (I looked)"
    assert [ended.outcome for ended in decision.ended] == [f"resolved_{resolution}"]
    assert [d.attempt.key for d in decision.dispatches] == (
        [AttemptKey(generation=generation, position=position, number=1 + generation)]
        if state is State.RUNNING
        else []
    )


def test_progress_is_kept_until_the_worker_says_another() -> None:
    half = told(claimed("build"), e.HeartbeatSeen(key=FIRST, worker="ann", progress=0.5), at=after(10))
    silent = told(half, e.HeartbeatSeen(key=FIRST, worker="ann"), at=after(20))
    assert [attempt.progress for attempt in silent.live] == [0.5]


def too_long(milestone: str) -> Decision:
    """Its worker lives, and its time is over at 100 s."""
    workflow = told(claimed(milestone), e.HeartbeatSeen(key=FIRST, worker="ann", run_seconds=100), at=after(50))
    heartbeat = e.HeartbeatSeen(key=FIRST, worker="ann", reply_to="ann.answers")
    return answered(told(workflow, heartbeat, at=after(99)), e.Woken(), after(100))


def test_a_milestone_that_runs_too_long_is_stopped_and_then_has_failed() -> None:
    decision = too_long("deploy")
    assert decision.workflow.state is State.RUNNING
    assert [(a.reply_to, a.verdict) for a in decision.answers] == [("ann.answers", "cancel")]
    stopped = e.MilestoneFailed(key=FIRST, worker="ann", message="stopped")
    ended = answered(decision.workflow, stopped, after(105))
    assert ended.workflow.state is State.FAILED
    assert "ran longer than 100 s" in ended.workflow.reason
    assert [ended.outcome for ended in ended.ended] == ["timed_out"]


def test_a_result_that_comes_while_its_worker_is_told_to_stop_counts() -> None:
    done = e.MilestoneCompleted(key=FIRST, worker="ann")
    assert told(too_long("deploy").workflow, done, at=after(105)).state is State.COMPLETED


@pytest.mark.parametrize(("milestone", "state"), [("build", State.FAILED), ("deploy", State.HELD)])
def test_a_worker_that_does_not_stop_leaves_a_deploy_of_unknown_outcome(milestone: str, state: State) -> None:
    assert told(too_long(milestone).workflow, e.Woken(), at=after(131)).state is state


@pytest.mark.fault("F25")
def test_a_request_that_nobody_takes_is_made_again_until_the_limit() -> None:
    workflow = begun("paint")
    again = answered(workflow, e.Woken(), after(600))
    assert kinds_of(again) == ["milestone.unclaimed", "milestone.requested"]
    assert [dispatch.attempt.key.number for dispatch in again.dispatches] == [2]
    given_up = answered(again.workflow, e.Woken(), after(1_200))
    assert given_up.workflow.state is State.FAILED
    assert "start one that serves it" in given_up.workflow.reason


def test_a_request_that_finds_no_queue_waits_longer_each_time_and_then_fails() -> None:
    workflow, at, pauses = begun("build"), NOW, list[float]()
    while workflow.state is not State.FAILED:
        key = the_attempt(workflow).key
        workflow = told(workflow, e.Undeliverable(key=key, reason="no queue builder"), at=at)
        if workflow.wake_at is not None:
            assert "no queue builder" in the_wait(workflow).text
            pauses.append((workflow.wake_at - at).total_seconds())
            at = workflow.wake_at
            workflow = told(workflow, e.Woken(), at=at)
    assert pauses == sorted(pauses)
    assert pauses[0] < 2
    assert 300 <= (at - NOW).total_seconds() < 400
    assert "its request found no queue for" in workflow.reason


def test_an_undeliverable_copy_of_a_request_that_a_worker_has_means_nothing() -> None:
    workflow = claimed("build")
    decision = answered(workflow, e.Undeliverable(key=FIRST, reason="no queue"))
    assert decision == Decision(workflow=workflow)


def test_what_a_worker_gives_back_unbegun_is_asked_for_again_at_once_also_a_deploy() -> None:
    decision = answered(claimed("deploy"), e.Released(key=FIRST, worker="ann"))
    assert kinds_of(decision) == ["milestone.released", "milestone.requested"]
    assert [dispatch.attempt.key.number for dispatch in decision.dispatches] == [2]
    assert decision.workflow.steps[0].failures == 0


@pytest.mark.parametrize(("milestone", "state"), [("build", State.WAITING), ("deploy", State.HELD)])
def test_a_run_that_was_interrupted_is_a_loss_and_no_failure(milestone: str, state: State) -> None:
    stopped = e.MilestoneFailed(key=FIRST, worker="ann", message="the machine stops", interrupted=True)
    assert told(claimed(milestone), stopped).state is state


# ------------------------------------------------------------------------------------------- people


@pytest.mark.fault("F60")
def test_a_cancel_before_a_worker_has_it_ends_it_at_once() -> None:
    workflow = told(begun("build"), e.CancelRequested(by="eve", reason="wrong ref"))
    assert (workflow.state, workflow.reason) == (State.CANCELLED, "cancelled by eve: wrong ref")
    assert not workflow.live


def test_a_cancel_tells_the_worker_and_gives_it_a_moment() -> None:
    decision = answered(claimed("build"), e.CancelRequested(by="eve"))
    assert decision.workflow.state is State.CANCELLING
    assert [(a.reply_to, a.verdict) for a in decision.answers] == [("ann.answers", "cancel")]
    assert decision.workflow.wake_at == after(30)
    assert told(decision.workflow, e.Woken(), at=after(30)).state is State.CANCELLED


@pytest.mark.fault("F60")
def test_a_result_that_crosses_a_cancel_does_not_go_on_to_the_next_milestone() -> None:
    cancelling = told(claimed("build", "deploy"), e.CancelRequested(by="eve"))
    decision = answered(cancelling, e.MilestoneCompleted(key=FIRST, worker="ann"))
    assert decision.workflow.state is State.CANCELLED
    assert not decision.dispatches


# ------------------------------------------------------------------------------------------ schedule


def test_a_start_time_to_come_is_waited_for_and_a_past_one_is_not() -> None:
    waiting = begun("scheduled", "build", scheduled_start_time="Thu, 01 Jan 2026 13:00:00 UTC")
    assert (waiting.state, waiting.wake_at) == (State.WAITING, after(3_600))
    assert told(waiting, e.Woken(), at=after(3_599)) is waiting
    assert the_attempt(told(waiting, e.Woken(), at=after(3_600))).milestone == "build"
    past = begun("scheduled", "build", scheduled_start_time="Thu, 01 Jan 2026 11:00:00 UTC")
    assert the_attempt(past).milestone == "build"


@pytest.mark.parametrize("text", [None, "soon", "Thu, 01 Jan 2026 13:00:00 EST"])
def test_a_start_time_that_cannot_be_kept_fails_the_workflow(text: str | None) -> None:
    assert begun("scheduled", scheduled_start_time=text).state is State.FAILED

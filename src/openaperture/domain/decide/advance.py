"""From one milestone to the next, and to the end."""

from dataclasses import replace
from datetime import datetime, timedelta

from openaperture.domain import events as e
from openaperture.domain.commands import Decision, Dispatch
from openaperture.domain.decide.pieces import Kinds, about, before, end, with_ended
from openaperture.domain.errors import BadInput
from openaperture.domain.history import Entry
from openaperture.domain.milestones import kind_of
from openaperture.domain.times import elapsed_text, start_time_of
from openaperture.domain.workflow import Attempt, AttemptKey, State, Wait, Wire, Workflow


def created(workflow: Workflow, now: datetime) -> Decision:
    if workflow.version:
        return Decision(workflow=workflow)
    text = f"created with the milestones {', '.join(workflow.release.milestones) or 'none'}"
    return Decision(workflow=workflow, entries=(Entry(kind="workflow.created", text=text, at=now),))


def start(workflow: Workflow, event: e.StartRequested, now: datetime, kinds: Kinds) -> Decision:
    begun = replace(workflow, started_at=workflow.started_at or now, position=0)
    text = "workflow started" + (f" by {event.by}" if event.by else "")
    return before(enter(begun, now, kinds), Entry(kind="workflow.started", text=text, at=now))


def problem_of_milestones(workflow: Workflow, kinds: Kinds) -> str:
    """Why this list cannot be worked off; empty when it can."""
    unknown = [name for name in workflow.release.milestones[workflow.position :] if name not in kinds]
    if not unknown:
        return ""
    return (
        f'milestone "{unknown[0]}" is not known; known are {", ".join(sorted(kinds))}; '
        f"define it as [milestones.{unknown[0]}] in the orchestrator's configuration"
    )


def enter(workflow: Workflow, now: datetime, kinds: Kinds) -> Decision:
    """Begin the milestone at the position, or complete when none is left."""
    fresh = replace(
        workflow, live=(), wait=None, losses=0, last_number=0, asked_since=now, step_started_at=now, reason=""
    )
    if workflow.position >= len(workflow.release.milestones):
        done = replace(fresh, state=State.COMPLETED, ended_at=now, step_started_at=None)
        text = f"workflow completed after {elapsed_text(workflow.started_at, now)}"
        return Decision(workflow=done, entries=(Entry(kind="workflow.completed", text=text, at=now),))
    if problem := problem_of_milestones(fresh, kinds):
        return fail(replace(fresh, step_started_at=None), problem, now)
    milestone = workflow.release.milestones[workflow.position]
    text = f"milestone {milestone} started"
    started = Entry(kind="milestone.started", text=text, at=now, details={"milestone": milestone})
    if kind_of(kinds, milestone).queue is None:
        return before(keep_schedule(fresh, now, kinds), started)
    return before(request(fresh, now, kinds), started)


def request(workflow: Workflow, now: datetime, kinds: Kinds) -> Decision:
    """Ask a worker for the milestone at the position, as its next attempt."""
    milestone = workflow.release.milestones[workflow.position]
    attempt = next_attempt(workflow, now, kinds)
    text = f"{milestone} requested from queue {kind_of(kinds, milestone).queue}"
    entry = Entry(kind="milestone.requested", text=text, at=now, details=about(attempt))
    return Decision(workflow=running(workflow, attempt), entries=(entry,), dispatches=(Dispatch(attempt=attempt),))


def next_attempt(workflow: Workflow, now: datetime, kinds: Kinds) -> Attempt:
    milestone = workflow.release.milestones[workflow.position]
    kind = kind_of(kinds, milestone)
    # Workers of the original claim nothing. Until the broker has their request, it only has to get there.
    claims = workflow.wire is Wire.JSON or kind.queue is None
    pickup_seconds = kind.pickup_seconds if claims else kind.pickup_limit_seconds
    return Attempt(
        key=AttemptKey(
            generation=workflow.generation, position=workflow.position, number=workflow.last_number + 1
        ),
        milestone=milestone,
        requested_at=now,
        pickup_by=now + timedelta(seconds=pickup_seconds),
        on_loss=kind.on_loss,
        run_seconds=kind.run_seconds,
    )


def running(workflow: Workflow, attempt: Attempt) -> Workflow:
    """The workflow with this attempt as the one that it waits for."""
    return replace(workflow, state=State.RUNNING, wait=None, live=(attempt,), last_number=attempt.key.number)


def complete(
    workflow: Workflow, attempt: Attempt, event: e.MilestoneCompleted, now: datetime, kinds: Kinds
) -> Decision:
    """The worker of `attempt` has done it: on to the next milestone."""
    ended = end(attempt, "completed", event.message, now)
    if workflow.state is State.CANCELLING:
        return with_ended(cancelled(workflow, now), ended)
    elapsed = elapsed_text(workflow.step_started_at, now)
    done = replace(
        workflow,
        outputs={**workflow.outputs, attempt.milestone: dict(event.outputs)},
        source_commit_hash=event.source_commit_hash or workflow.source_commit_hash,
        notifications_config=event.notifications_config or workflow.notifications_config,
        step_durations={**workflow.step_durations, attempt.milestone: elapsed},
        position=workflow.position + 1,
    )
    text = f"{attempt.milestone} completed after {elapsed}" + (f": {event.message}" if event.message else "")
    entry = Entry(
        kind="milestone.completed",
        text=text,
        at=now,
        details={**about(attempt), "elapsed": elapsed, "outputs": dict(event.outputs)},
    )
    return with_ended(before(enter(done, now, kinds), entry), ended)


# ------------------------------------------------------------------------------------------ waiting


def keep_schedule(workflow: Workflow, now: datetime, kinds: Kinds) -> Decision:
    """Wait for the start time; once it has come, go on."""
    text = workflow.release.scheduled_start_time
    if text is None:
        reason = "milestone scheduled failed: the workflow has no scheduled_start_time; give one, in UTC"
        return fail(workflow, reason, now)
    try:
        start_at = start_time_of(text)
    except BadInput as exc:
        return fail(workflow, f"milestone scheduled failed: {exc}", now)
    if start_at > now:
        return wait(workflow, Wait(code="scheduled", text=f"waits for its start time {text}", until=start_at), now)
    return on_schedule(workflow, now, kinds)


def on_schedule(workflow: Workflow, now: datetime, kinds: Kinds) -> Decision:
    """Its start time has come. A workflow of the original tells that to itself, by a message."""
    milestone = workflow.release.milestones[workflow.position]
    due = Entry(
        kind="milestone.due", text="the scheduled start time has come", at=now, details={"milestone": milestone}
    )
    if workflow.wire is Wire.TERMS:
        return before(tell_itself(workflow, now, kinds), due)
    elapsed = elapsed_text(workflow.step_started_at, now)
    passed = replace(
        workflow,
        position=workflow.position + 1,
        step_durations={**workflow.step_durations, milestone: elapsed},
    )
    return before(enter(passed, now, kinds), due)


def tell_itself(workflow: Workflow, now: datetime, kinds: Kinds, *, again: bool = False) -> Decision:
    """A message to the orchestrators that started it, which brings it back here, or to one of theirs.

    `again`: the schedule is to be looked at once more, after a wait.
    """
    attempt = replace(next_attempt(workflow, now, kinds), again=again)
    return Decision(workflow=running(workflow, attempt), dispatches=(Dispatch(attempt=attempt),))


def wait(workflow: Workflow, reason: Wait, now: datetime) -> Decision:
    waiting = replace(workflow, state=State.WAITING, live=(), wait=reason)
    entry = Entry(
        kind="workflow.waiting",
        text=reason.text,
        at=now,
        details={"code": reason.code, "until": reason.until.isoformat()},
    )
    return Decision(workflow=waiting, entries=(entry,))


# --------------------------------------------------------------------------------------------- ends


def fail(workflow: Workflow, reason: str, now: datetime) -> Decision:
    failed = replace(workflow, state=State.FAILED, live=(), wait=None, cancel_by=None, reason=reason, ended_at=now)
    milestone = workflow.current_milestone
    if workflow.step_started_at and milestone is not None and milestone not in failed.step_durations:
        elapsed = elapsed_text(workflow.step_started_at, now)
        failed = replace(failed, step_durations={**failed.step_durations, milestone: elapsed})
    entry = Entry(kind="workflow.failed", text=reason, at=now, success=False)
    return Decision(workflow=failed, entries=(entry,))


def fail_milestone(workflow: Workflow, attempt: Attempt, outcome: str, message: str, now: datetime) -> Decision:
    elapsed = elapsed_text(workflow.step_started_at, now)
    timed = replace(workflow, step_durations={**workflow.step_durations, attempt.milestone: elapsed})
    text = f"{attempt.milestone} {outcome.replace('_', ' ')} after {elapsed}: {message}"
    entry = Entry(kind=f"milestone.{outcome}", text=text, at=now, success=False, details=about(attempt))
    decision = fail(timed, f"milestone {attempt.milestone} failed: {message}", now)
    return with_ended(before(decision, entry), end(attempt, outcome, message, now))


def cancelled(workflow: Workflow, now: datetime) -> Decision:
    gone = replace(workflow, state=State.CANCELLED, live=(), wait=None, cancel_by=None, ended_at=now)
    entry = Entry(kind="workflow.cancelled", text=workflow.reason, at=now, success=False)
    return Decision(workflow=gone, entries=(entry,))

"""What people decide."""

from openaperture.domain import events as e
from openaperture.domain.decide.advance import begin_step, cancelled, enter, resume
from openaperture.domain.decide.approvals import objection_to, vote
from openaperture.domain.decide.draft import Draft
from openaperture.domain.decide.locks import are_due, forced, objection_to_forcing
from openaperture.domain.decide.steps import cut_off, fail, stop, take_time
from openaperture.domain.milestones import FailureKind
from openaperture.domain.workflow import Pause, Result, State, Step, Workflow


def from_person(d: Draft, event: e.FromPerson) -> None:
    match event:
        case e.CancelRequested():
            _cancel(d, event)
        case e.PauseRequested():
            _pause(d, event)
        case e.ResumeRequested():
            _resume(d, event)
        case e.Voted():
            if not objection_to(d.workflow, event, d.kinds):
                vote(d, event)
        case e.Resolved():
            if (step := held_step(d.workflow, event.milestone)) is not None:
                _resolve(d, step, event)
        case e.LockForced():
            if event.name in d.workflow.lock_tokens and (event.force or not objection_to_forcing(d.workflow)):
                forced(d, event)


def _why(reason: str) -> str:
    return f": {reason}" if reason else ""


def _cancel(d: Draft, event: e.CancelRequested) -> None:
    """Effective at once; a worker that is at it is told, and has a moment to stop."""
    if d.workflow.state is State.CANCELLING and not event.force:
        return
    reason = f"cancelled by {event.by}{_why(event.reason)}"
    d.change(reason=reason)
    for step in d.workflow.steps:
        if event.force and step.result is None:
            cut_off(d, step, "cancelled", reason)
        else:
            stop(d, step, FailureKind.CANCELLED, reason)
    if d.workflow.live:
        d.change(state=State.CANCELLING)
        d.tell("workflow.cancelling", f"{reason}; its worker was told to stop")
    else:
        cancelled(d)


def _pause(d: Draft, event: e.PauseRequested) -> None:
    if d.workflow.pause is not None:
        return
    d.change(pause=Pause(by=event.by, reason=event.reason, at=d.now))
    d.tell("workflow.pausing", f"{event.by} pauses it{_why(event.reason)}; nothing more is begun", by=event.by)


def _resume(d: Draft, event: e.ResumeRequested) -> None:
    if d.workflow.pause is None:
        return
    d.change(pause=None)
    d.tell("workflow.resumed", f"{event.by} lets it go on{_why(event.reason)}", by=event.by)
    resume(d)


def held_step(workflow: Workflow, milestone: str | None) -> Step | None:
    """The step that a person may say something about; None when none is, or when it is not clear which."""
    held = [step for step in workflow.steps if step.unknown and milestone in {None, step.milestone}]
    return held[0] if len(held) == 1 else None


def _resolve(d: Draft, step: Step, event: e.Resolved) -> None:
    again = event.resolution is e.Resolution.AGAIN
    if again and are_due(d) and not all(other.result is Result.COMPLETED for other in _others(d, step)):
        text = f'{step.milestone} has lost its lock, so it cannot be done again within its group; say "failed"'
        d.warn("workflow.held", text, milestone=step.milestone, by=event.by)
        return
    said = f"{event.by} says of {step.milestone}: {event.resolution}"
    said += f" ({event.reason})" if event.reason else ""
    d.tell("workflow.resolved", said, milestone=step.milestone, by=event.by)
    attempt = step.live
    if attempt is not None:
        d.end(attempt, f"resolved_{event.resolution}", said)
    step = d.put(step, live=None, unknown="")
    match event.resolution:
        case e.Resolution.WORKED:
            _worked(d, step)
        case e.Resolution.FAILED:
            d.put(step, failures=d.kind(step.milestone).max_attempts)
            fail(d, d.step(step.milestone), FailureKind.LOST, "failed", said)
        case e.Resolution.AGAIN:
            _again(d, step)


def _others(d: Draft, step: Step) -> list[Step]:
    return [other for other in d.workflow.steps if other.milestone != step.milestone]


def _worked(d: Draft, step: Step) -> None:
    """Nobody can say so of an approval: only the votes of those who may approve count."""
    if d.kind(step.milestone).approval is not None:
        begin_step(d, step)
        return
    take_time(d, step.milestone)
    d.change(outputs={**d.workflow.outputs, step.milestone: {}})
    d.put(step, result=Result.COMPLETED)


def _again(d: Draft, step: Step) -> None:
    """A new generation is a new key: the worker must not answer from its journal."""
    generation = d.workflow.generation + 1
    d.change(generation=generation)
    again = d.put(step, generation=generation, failures=0, asked_since=d.now)
    if are_due(d):
        # A lock of it was taken away: it has to have it again first.
        d.change(inherited=tuple(other.milestone for other in _others(d, step)))
        enter(d)
    else:
        begin_step(d, again)

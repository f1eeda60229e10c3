"""The milestone `scheduled`: wait for the start time, then go on."""

from dataclasses import replace

from openaperture.domain.decide.draft import Draft
from openaperture.domain.decide.steps import ask, fail, next_attempt, take_time, wait
from openaperture.domain.errors import BadInput
from openaperture.domain.milestones import FailureKind
from openaperture.domain.times import start_time_of
from openaperture.domain.workflow import Result, Step, Wait, Wire


def keep_schedule(d: Draft, step: Step) -> None:
    """Wait for the start time; once it has come, go on."""
    text = d.workflow.release.scheduled_start_time
    if text is None:
        message = "the workflow has no scheduled_start_time; give one, in UTC"
        fail(d, step, FailureKind.BAD_INPUT, "failed", message)
        return
    try:
        start_at = start_time_of(text)
    except BadInput as exc:
        fail(d, step, FailureKind.BAD_INPUT, "failed", str(exc))
        return
    if start_at > d.now:
        wait(d, step, Wait(code="scheduled", text=f"waits for its start time {text}", until=start_at))
    else:
        _on_schedule(d, step)


def _on_schedule(d: Draft, step: Step) -> None:
    """Its start time has come. A workflow of the original tells that to itself, by a message."""
    d.tell("milestone.due", "the scheduled start time has come", milestone=step.milestone)
    if d.workflow.wire is Wire.TERMS:
        tell_itself(d, step)
        return
    take_time(d, step.milestone)
    d.put(step, live=None, wait=None, result=Result.COMPLETED)


def tell_itself(d: Draft, step: Step, *, again: bool = False) -> None:
    """A message to the orchestrators that started it, which brings it back here, or to one of theirs.

    `again`: the schedule is to be looked at once more, after a wait.
    """
    ask(d, step, replace(next_attempt(d, step), again=again))

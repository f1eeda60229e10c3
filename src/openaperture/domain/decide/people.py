"""What people decide."""

from dataclasses import replace
from datetime import datetime, timedelta

from openaperture.domain import events as e
from openaperture.domain.commands import Decision
from openaperture.domain.decide.advance import cancelled, enter, fail
from openaperture.domain.decide.pieces import Kinds, before, end, reply, with_ended
from openaperture.domain.history import Entry
from openaperture.domain.workflow import State, Workflow

CANCEL_GRACE_SECONDS = 30.0
"""How long a worker may take to stop before a cancelled workflow ends without its word."""


def from_person(
    workflow: Workflow, event: e.CancelRequested | e.Resolved, now: datetime, kinds: Kinds
) -> Decision:
    match event:
        case e.CancelRequested():
            return _cancel(workflow, event, now)
        case e.Resolved():
            return _resolve(workflow, event, now, kinds)


def _cancel(workflow: Workflow, event: e.CancelRequested, now: datetime) -> Decision:
    """Effective at once; a worker that is at it is told, and has a moment to stop."""
    reason = f"cancelled by {event.by}" + (f": {event.reason}" if event.reason else "")
    asked = replace(workflow, reason=reason)
    at_work = [a for a in workflow.live if a.worker is not None and workflow.state is State.RUNNING]
    if not at_work:
        ended = [end(attempt, "cancelled", reason, now) for attempt in workflow.live]
        return with_ended(cancelled(asked, now), *ended)
    stopping = replace(asked, state=State.CANCELLING, cancel_by=now + timedelta(seconds=CANCEL_GRACE_SECONDS))
    entry = Entry(kind="workflow.cancelling", text=f"{reason}; its worker was told to stop", at=now)
    answers = [answer for a in at_work for answer in reply(a.reply_to, a.key, "cancel", reason)]
    return Decision(workflow=stopping, entries=(entry,), answers=tuple(answers))


def _resolve(workflow: Workflow, event: e.Resolved, now: datetime, kinds: Kinds) -> Decision:
    milestone = workflow.release.milestones[workflow.position]
    said = f"{event.by} says of {milestone}: {event.resolution}" + (f" ({event.reason})" if event.reason else "")
    entry = Entry(kind="workflow.resolved", text=said, at=now)
    ended = [end(attempt, f"resolved_{event.resolution}", said, now) for attempt in workflow.live]
    match event.resolution:
        case e.Resolution.WORKED:
            decision = enter(replace(workflow, position=workflow.position + 1), now, kinds)
        case e.Resolution.FAILED:
            decision = fail(workflow, f"milestone {milestone} failed: {said}", now)
        case e.Resolution.AGAIN:
            # A new generation is a new idempotency key: the worker must not answer from its journal.
            decision = enter(replace(workflow, generation=workflow.generation + 1), now, kinds)
    return with_ended(before(decision, entry), *ended)

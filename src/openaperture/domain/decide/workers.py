"""What the worker that holds an attempt can bring about."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import assert_never

from openaperture.domain import events as e
from openaperture.domain.commands import Decision
from openaperture.domain.decide.advance import cancelled, complete, fail_milestone, request
from openaperture.domain.decide.losses import lose
from openaperture.domain.decide.pieces import Kinds, about, before, end, reply, with_ended
from openaperture.domain.history import Entry, LogChunk
from openaperture.domain.milestones import kind_of
from openaperture.domain.workflow import Attempt, State, Workflow

MAX_LOG_BYTES = 16 * 1_048_576
"""Output kept per attempt; a worker of ours cuts earlier."""


def from_worker(
    workflow: Workflow, attempt: Attempt, event: e.FromWorker, now: datetime, kinds: Kinds
) -> Decision:
    """An event of the very worker that holds the attempt, or may take it."""
    match event:
        case e.Claimed():
            return _claim(workflow, attempt, event, now, kinds)
        case e.HeartbeatSeen():
            return _heartbeat(workflow, attempt, event, now, kinds)
        case e.Logged():
            return _log(workflow, attempt, event, now)
        case e.Noted():
            entry = Entry(
                kind="milestone.note", text=event.text, at=now, success=event.success, details=about(attempt)
            )
            return Decision(workflow=workflow, entries=(entry,))
        case e.MilestoneCompleted():
            return complete(workflow, attempt, event, now, kinds)
        case e.MilestoneFailed():
            return failed(workflow, attempt, event, now, kinds)
        case e.Released():
            return _released(workflow, attempt, event, now, kinds)
        case _:
            assert_never(event)


def _claim(workflow: Workflow, attempt: Attempt, event: e.Claimed, now: datetime, kinds: Kinds) -> Decision:
    """Give the attempt to the first worker that asks. The same worker may ask again and gets it again."""
    answers = reply(event.reply_to, attempt.key, "run")
    if attempt.worker is not None:
        return Decision(workflow=workflow, answers=answers)
    taken = replace(
        attempt,
        worker=event.worker,
        reply_to=event.reply_to,
        claimed_at=now,
        pickup_by=None,
        alive_until=now + timedelta(seconds=kind_of(kinds, attempt.milestone).heartbeat_seconds),
        run_until=now + timedelta(seconds=attempt.run_seconds),
    )
    entry = Entry(
        kind="milestone.claimed",
        text=f"{attempt.milestone} taken by worker {event.worker}",
        at=now,
        details=about(attempt),
    )
    claimed = replace(workflow, live=(taken,))
    return Decision(workflow=claimed, entries=(entry,), answers=answers, claimed=(taken,))


def _heartbeat(
    workflow: Workflow, attempt: Attempt, event: e.HeartbeatSeen, now: datetime, kinds: Kinds
) -> Decision:
    """Renew the lease. A worker that was given up, but whose attempt nobody replaced, is back."""
    if attempt.claimed_at is None:
        return Decision(workflow=workflow)
    run_seconds = event.run_seconds or attempt.run_seconds
    alive = replace(
        attempt,
        reply_to=event.reply_to or attempt.reply_to,
        alive_until=now + timedelta(seconds=kind_of(kinds, attempt.milestone).heartbeat_seconds),
        run_seconds=run_seconds,
        run_until=attempt.claimed_at + timedelta(seconds=run_seconds),
        on_loss=event.on_loss or attempt.on_loss,
        progress=attempt.progress if event.progress is None else event.progress,
    )
    renewed = replace(workflow, live=(alive,))
    if workflow.state is State.CANCELLING:
        answers = reply(alive.reply_to, attempt.key, "cancel", workflow.reason)
        return Decision(workflow=renewed, answers=answers)
    answers = reply(alive.reply_to, attempt.key, "run")
    if workflow.state is not State.HELD:
        return Decision(workflow=renewed, answers=answers)
    back = replace(renewed, state=State.RUNNING, reason="")
    text = f"{attempt.milestone}: worker {event.worker} is back and still at it"
    entry = Entry(kind="milestone.regained", text=text, at=now, details=about(attempt))
    return Decision(workflow=back, entries=(entry,), answers=answers)


def _log(workflow: Workflow, attempt: Attempt, event: e.Logged, now: datetime) -> Decision:
    longer, chunks = _kept(attempt, event, now)
    return Decision(workflow=replace(workflow, live=(longer,)) if chunks else workflow, logs=chunks)


def last_words(workflow: Workflow, event: e.Logged, now: datetime) -> Decision:
    """Output of the attempt that has just ended, which the result overtook."""
    if workflow.closing is None or workflow.closing.key != event.key or workflow.closing.worker != event.worker:
        return Decision(workflow=workflow)
    longer, chunks = _kept(workflow.closing, event, now)
    return Decision(workflow=replace(workflow, closing=longer) if chunks else workflow, logs=chunks)


def _kept(attempt: Attempt, event: e.Logged, now: datetime) -> tuple[Attempt, tuple[LogChunk, ...]]:
    """The attempt, and the chunk unless it has left too much already."""
    size = sum(len(line.encode()) + 1 for line in event.lines)
    if attempt.log_bytes + size > MAX_LOG_BYTES:
        return attempt, ()
    chunk = LogChunk(
        attempt=str(attempt.key),
        milestone=attempt.milestone,
        sequence=event.sequence,
        lines=tuple(event.lines),
        at=now,
    )
    return replace(attempt, log_bytes=attempt.log_bytes + size), (chunk,)


def failed(
    workflow: Workflow, attempt: Attempt, event: e.MilestoneFailed, now: datetime, kinds: Kinds
) -> Decision:
    if workflow.state is State.CANCELLING:
        return with_ended(cancelled(workflow, now), end(attempt, "cancelled", event.message, now))
    if event.interrupted:
        return lose(workflow, attempt, event.message, now, kinds)
    return fail_milestone(workflow, attempt, "failed", event.message, now)


def _released(workflow: Workflow, attempt: Attempt, event: e.Released, now: datetime, kinds: Kinds) -> Decision:
    """It surely never began, so asking another worker is safe for every kind, and is no loss."""
    if attempt.worker is None:
        # The request is still on its queue: whoever takes it asks for this very attempt.
        return Decision(workflow=workflow)
    text = f"{attempt.milestone} given back by worker {event.worker}, which stops before it began"
    ended = end(attempt, "released", text, now)
    if workflow.state is State.CANCELLING:
        return with_ended(cancelled(workflow, now), ended)
    entry = Entry(kind="milestone.released", text=text, at=now, details=about(attempt))
    return with_ended(before(request(replace(workflow, reason="", asked_since=now), now, kinds), entry), ended)

"""What the worker that holds an attempt can bring about."""

from dataclasses import replace
from datetime import timedelta
from typing import assert_never

from openaperture.domain import events as e
from openaperture.domain.attempts import Attempt, AttemptKey
from openaperture.domain.decide.draft import Draft, about
from openaperture.domain.decide.locks import free
from openaperture.domain.decide.steps import complete, fail, lose, not_stopped, request, stopped
from openaperture.domain.history import LogChunk
from openaperture.domain.milestones import FailureKind, MilestoneOptions
from openaperture.domain.workflow import Step

MAX_LOG_BYTES = 16 * 1_048_576
"""Output kept per attempt; a worker of ours cuts earlier."""


def from_worker(d: Draft, step: Step, attempt: Attempt, event: e.FromWorker) -> None:
    """An event of the very worker that holds the attempt, or may take it."""
    match event:
        case e.Claimed():
            _claim(d, step, attempt, event)
        case e.HeartbeatSeen():
            _heartbeat(d, step, attempt, event)
        case e.Logged():
            _log(d, step, attempt, event)
        case e.Noted():
            note = d.tell if event.success else d.warn
            note("milestone.note", event.text, **about(attempt))
        case e.MilestoneCompleted():
            done(d, step, event)
        case e.MilestoneFailed():
            failed(d, step, attempt, event)
        case e.Released():
            _released(d, step, attempt, event)
        case _:
            assert_never(event)


def _claim(d: Draft, step: Step, attempt: Attempt, event: e.Claimed) -> None:
    """Give the attempt to the first worker that asks. The same worker may ask again and gets it again."""
    if attempt.stop is not None:
        d.answer(event.reply_to, attempt.key, "cancel", attempt.stop.reason)
        return
    d.answer(event.reply_to, attempt.key, "run")
    alive_until = d.now + timedelta(seconds=d.kind(attempt.milestone).heartbeat_seconds)
    if attempt.worker is not None:
        # It has not heard the answer, so it has not begun, and sends no heartbeats yet.
        d.put(step, live=replace(attempt, alive_until=alive_until, reply_to=event.reply_to))
        return
    taken = replace(
        attempt,
        worker=event.worker,
        reply_to=event.reply_to,
        claimed_at=d.now,
        pickup_by=None,
        alive_until=alive_until,
        run_until=d.now + timedelta(seconds=attempt.run_seconds),
    )
    d.put(step, live=taken)
    d.claim(taken)
    d.tell("milestone.claimed", f"{attempt.milestone} taken by worker {event.worker}", **about(attempt))


def _heartbeat(d: Draft, step: Step, attempt: Attempt, event: e.HeartbeatSeen) -> None:
    """Renew the lease. A worker that was given up, but whose attempt nobody replaced, is back."""
    if attempt.claimed_at is None:
        return
    # What the workflow itself says stands above what its repository says.
    said = d.workflow.release.milestone_options.get(attempt.milestone, MilestoneOptions())
    run_seconds = said.run_seconds or event.run_seconds or attempt.run_seconds
    alive = replace(
        attempt,
        reply_to=event.reply_to or attempt.reply_to,
        alive_until=d.now + timedelta(seconds=d.kind(attempt.milestone).heartbeat_seconds),
        run_seconds=run_seconds,
        run_until=attempt.claimed_at + timedelta(seconds=run_seconds),
        on_loss=said.on_loss or event.on_loss or attempt.on_loss,
        progress=attempt.progress if event.progress is None else event.progress,
    )
    if step.unknown and alive.run_until is not None and alive.run_until <= d.now:
        # Its time is over, whatever it says: it stays for the person who was asked, and is told again to stop.
        d.put(step, live=alive)
        d.answer(alive.reply_to, attempt.key, "cancel", f"it ran longer than {run_seconds:.0f} s")
        return
    d.put(step, live=alive, unknown="")
    if attempt.stop is not None:
        d.answer(alive.reply_to, attempt.key, "cancel", attempt.stop.reason)
    else:
        d.answer(alive.reply_to, attempt.key, "run")
    if step.unknown:
        text = f"{attempt.milestone}: worker {event.worker} is back and still at it"
        d.tell("milestone.regained", text, **about(attempt))


def _log(d: Draft, step: Step, attempt: Attempt, event: e.Logged) -> None:
    d.put(step, live=_longer(d, attempt, event))


def last_words(d: Draft, event: e.Logged) -> None:
    """Output of an attempt that has just ended, which the result overtook."""
    closing = d.workflow.closing
    if any(attempt.key == event.key and attempt.worker == event.worker for attempt in closing):
        d.change(closing=tuple(_longer(d, old, event) if old.key == event.key else old for old in closing))


def _longer(d: Draft, attempt: Attempt, event: e.Logged) -> Attempt:
    """The attempt with this output, unless it has left too much already."""
    size = sum(len(line.encode()) + 1 for line in event.lines)
    if attempt.log_bytes + size > MAX_LOG_BYTES:
        return attempt
    chunk = LogChunk(
        attempt=str(attempt.key),
        milestone=attempt.milestone,
        sequence=event.sequence,
        lines=tuple(event.lines),
        at=d.now,
    )
    d.log(chunk)
    return replace(attempt, log_bytes=attempt.log_bytes + size)


def done(d: Draft, step: Step, event: e.MilestoneCompleted) -> None:
    """Its worker has done it."""
    if problem := _unapproved(d, event):
        fail(d, step, FailureKind.BAD_INPUT, "failed", problem)
        return
    d.change(
        source_commit_hash=event.source_commit_hash or d.workflow.source_commit_hash,
        notifications_config=event.notifications_config or d.workflow.notifications_config,
    )
    complete(d, step, event.message, event.outputs)


def _unapproved(d: Draft, event: e.MilestoneCompleted) -> str:
    """Why its result cannot count: people have approved another commit. Empty when it can."""
    known, told = d.workflow.source_commit_hash, event.source_commit_hash
    approvals = [name for name in d.workflow.outputs if name in d.kinds and d.kinds[name].approval]
    if not known or not told or known == told or not approvals:
        return ""
    return f"it was done with commit {told}, but what {approvals[-1]} has approved is {known}"


def failed(d: Draft, step: Step, attempt: Attempt, event: e.MilestoneFailed) -> None:
    if attempt.stop is not None and event.interrupted:
        not_stopped(d, step, attempt, attempt.stop, f"its worker could not stop it: {event.message}")
    elif attempt.stop is not None:
        stopped(d, step, attempt.stop, event.message)
    elif event.interrupted:
        lose(d, step, attempt, event.message)
    else:
        fail(d, step, event.kind, "failed", event.message)


def _released(d: Draft, step: Step, attempt: Attempt, event: e.Released) -> None:
    """It surely never began, so asking another worker is safe for every kind, and is no loss."""
    if attempt.worker is None:
        # The request is still on its queue: whoever takes it asks for this very attempt.
        return
    if attempt.stop is not None:
        stopped(d, step, attempt.stop, "it was not begun")
        return
    text = f"{attempt.milestone} given back by worker {event.worker}, which stops before it began"
    d.end(attempt, "released", text)
    d.tell("milestone.released", text, **about(attempt))
    request(d, replace(step, asked_since=d.now))


def late_result(d: Draft, event: e.MilestoneCompleted | e.MilestoneFailed) -> None:
    """Of an attempt that is over: it changes nothing, but for what was kept until its worker would answer."""
    told = "completed" if isinstance(event, e.MilestoneCompleted) else "failed"
    text = f'worker {event.worker} says "{told}" of attempt {event.key}, which is over: nothing changes'
    d.tell("callback.late", text)
    still_at_it = isinstance(event, e.MilestoneFailed) and event.interrupted
    if event.key in d.workflow.kept_for and not still_at_it:
        _keep_no_longer(d, event.key)


def _keep_no_longer(d: Draft, key: AttemptKey) -> None:
    """One for which the locks are kept has stopped. The last one frees them, once nothing else needs them."""
    left = tuple(kept for kept in d.workflow.kept_for if kept != key)
    d.change(kept_for=left)
    if left:
        return
    d.change(keeps_locks="")
    if d.workflow.ended:
        names = ", ".join(d.workflow.release.locks)
        d.tell("lock.freed", f"its worker has answered, so the lock {names} is free")
        free(d)

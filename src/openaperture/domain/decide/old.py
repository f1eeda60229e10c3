"""What one event does to one workflow. Pure: the instant and the kinds are arguments, the answer is a value.

Three rules hold whatever arrives, in whatever order, however often:
  - only the current attempt's worker can move a workflow on, and a result counts once;
  - the position never goes back;
  - every change is written down as an entry that a person can read.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import assert_never
from zlib import crc32

from openaperture.domain import events as e
from openaperture.domain.commands import Answer, Decision, Dispatch, Verdict
from openaperture.domain.errors import BadInput
from openaperture.domain.history import Entry, LogChunk
from openaperture.domain.milestones import MilestoneKind, OnLoss
from openaperture.domain.moves import accepts, verify
from openaperture.domain.times import elapsed_text, start_time_of
from openaperture.domain.workflow import Attempt, AttemptKey, Ended, State, Wait, Workflow

CANCEL_GRACE_SECONDS = 30.0
"""How long a worker may take to stop before a cancelled workflow ends without its word."""
UNDELIVERABLE_LIMIT_SECONDS = 300.0
"""How long a request may find no queue before its milestone fails."""
MAX_LOG_BYTES = 16 * 1_048_576
"""Output kept per attempt; a worker of ours cuts earlier."""

Kinds = Mapping[str, MilestoneKind]


def decide(workflow: Workflow, event: e.Event, now: datetime, kinds: Kinds) -> Decision:
    """Answer one event. A late, repeated or forged one moves nothing, and is recorded."""
    if not accepts(workflow.state, event):
        return _out_of_place(workflow, event, now)
    decision = _answer(workflow, event, now, kinds)
    verify(workflow.state, event, decision.workflow.state)
    return decision


def _answer(workflow: Workflow, event: e.Event, now: datetime, kinds: Kinds) -> Decision:
    match event:
        case e.Created():
            return _created(workflow, now)
        case e.StartRequested():
            return _start(workflow, event, now, kinds)
        case e.Woken():
            return _wake(workflow, now, kinds)
        case e.CancelRequested():
            return _cancel(workflow, event, now)
        case e.Resolved():
            return _resolve(workflow, event, now, kinds)
        case e.Undeliverable():
            attempt = workflow.find_attempt(event.key)
            if attempt is None or attempt.worker is not None:
                return Decision(workflow=workflow)
            return _undeliverable(workflow, attempt, event.reason, now)
        case e.Forged():
            return _out_of_place(workflow, event, now)
        case _:
            attempt = workflow.find_attempt(event.key)
            if attempt is None or not _may_speak(event.worker, attempt):
                return _out_of_place(workflow, event, now)
            return _from_worker(workflow, attempt, event, now, kinds)


def _from_worker(
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
                kind="milestone.note", text=event.text, at=now, success=event.success, details=_about(attempt)
            )
            return Decision(workflow=workflow, entries=(entry,))
        case e.MilestoneCompleted():
            return _completed(workflow, attempt, event, now, kinds)
        case e.MilestoneFailed():
            return _failed(workflow, attempt, event, now, kinds)
        case e.Released():
            return _released(workflow, attempt, event, now, kinds)
        case _:
            assert_never(event)


# ------------------------------------------------------------------------------- start and advance


def _created(workflow: Workflow, now: datetime) -> Decision:
    if workflow.version:
        return Decision(workflow=workflow)
    text = f"created with the milestones {', '.join(workflow.release.milestones) or 'none'}"
    return Decision(workflow=workflow, entries=(Entry(kind="workflow.created", text=text, at=now),))


def _start(workflow: Workflow, event: e.StartRequested, now: datetime, kinds: Kinds) -> Decision:
    begun = replace(workflow, started_at=now, position=0)
    text = "workflow started" + (f" by {event.by}" if event.by else "")
    started = Entry(kind="workflow.started", text=text, at=now)
    unknown = [name for name in workflow.release.milestones if name not in kinds]
    if unknown:
        reason = (
            f'milestone "{unknown[0]}" is not known; known are {", ".join(sorted(kinds))}; '
            f"define it as [milestones.{unknown[0]}] in the orchestrator's configuration"
        )
        return _before(_fail(begun, reason, now), started)
    return _before(_enter(begun, now, kinds), started)


def _enter(workflow: Workflow, now: datetime, kinds: Kinds) -> Decision:
    """Begin the milestone at the position, or complete when none is left."""
    fresh = replace(
        workflow, live=(), wait=None, losses=0, last_number=0, asked_since=now, step_started_at=now, reason=""
    )
    if workflow.position >= len(workflow.release.milestones):
        done = replace(fresh, state=State.COMPLETED, ended_at=now, step_started_at=None)
        text = f"workflow completed after {elapsed_text(workflow.started_at, now)}"
        return Decision(workflow=done, entries=(Entry(kind="workflow.completed", text=text, at=now),))
    milestone = workflow.release.milestones[workflow.position]
    if kinds[milestone].queue is None:
        return _wait_for_schedule(fresh, now)
    return _request(fresh, now, kinds)


def _request(workflow: Workflow, now: datetime, kinds: Kinds) -> Decision:
    """Ask a worker for the milestone at the position, as its next attempt."""
    milestone = workflow.release.milestones[workflow.position]
    kind = kinds[milestone]
    key = AttemptKey(generation=workflow.generation, position=workflow.position, number=workflow.last_number + 1)
    attempt = Attempt(
        key=key,
        milestone=milestone,
        requested_at=now,
        pickup_by=now + timedelta(seconds=kind.pickup_seconds),
        on_loss=kind.on_loss,
        run_seconds=kind.run_seconds,
    )
    text = f"{milestone} requested from queue {kind.queue}"
    entry = Entry(kind="milestone.requested", text=text, at=now, details=_about(attempt))
    running = replace(workflow, state=State.RUNNING, wait=None, live=(attempt,), last_number=key.number)
    return Decision(workflow=running, entries=(entry,), dispatches=(Dispatch(attempt=attempt),))


def _wait_for_schedule(workflow: Workflow, now: datetime) -> Decision:
    text = workflow.release.scheduled_start_time
    if text is None:
        reason = "milestone scheduled: the workflow has no scheduled_start_time; give one, in UTC"
        return _fail(workflow, reason, now)
    try:
        start = start_time_of(text)
    except BadInput as exc:
        return _fail(workflow, f"milestone scheduled: {exc}", now)
    return _wait(workflow, Wait(code="scheduled", text=f"waits for its start time {text}", until=start), now)


def _wait(workflow: Workflow, wait: Wait, now: datetime) -> Decision:
    waiting = replace(workflow, state=State.WAITING, live=(), wait=wait)
    entry = Entry(
        kind="workflow.waiting",
        text=wait.text,
        at=now,
        details={"code": wait.code, "until": wait.until.isoformat()},
    )
    return Decision(workflow=waiting, entries=(entry,))


def _fail(workflow: Workflow, reason: str, now: datetime) -> Decision:
    failed = replace(workflow, state=State.FAILED, live=(), wait=None, cancel_by=None, reason=reason, ended_at=now)
    entry = Entry(kind="workflow.failed", text=reason, at=now, success=False)
    return Decision(workflow=failed, entries=(entry,))


# ------------------------------------------------------------------------------------ from workers


def _claim(workflow: Workflow, attempt: Attempt, event: e.Claimed, now: datetime, kinds: Kinds) -> Decision:
    """Give the attempt to the first worker that asks. The same worker may ask again and gets it again."""
    answers = _reply(event.reply_to, attempt.key, "run")
    if attempt.worker is not None:
        return Decision(workflow=workflow, answers=answers)
    taken = replace(
        attempt,
        worker=event.worker,
        reply_to=event.reply_to,
        claimed_at=now,
        pickup_by=None,
        alive_until=now + timedelta(seconds=kinds[attempt.milestone].heartbeat_seconds),
        run_until=now + timedelta(seconds=attempt.run_seconds),
    )
    entry = Entry(
        kind="milestone.claimed",
        text=f"{attempt.milestone} taken by worker {event.worker}",
        at=now,
        details=_about(attempt),
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
        alive_until=now + timedelta(seconds=kinds[attempt.milestone].heartbeat_seconds),
        run_seconds=run_seconds,
        run_until=attempt.claimed_at + timedelta(seconds=run_seconds),
        on_loss=event.on_loss or attempt.on_loss,
    )
    renewed = replace(workflow, live=(alive,))
    if workflow.state is State.CANCELLING:
        answers = _reply(alive.reply_to, attempt.key, "cancel", workflow.reason)
        return Decision(workflow=renewed, answers=answers)
    answers = _reply(alive.reply_to, attempt.key, "run")
    if workflow.state is not State.HELD:
        return Decision(workflow=renewed, answers=answers)
    back = replace(renewed, state=State.RUNNING, reason="")
    text = f"{attempt.milestone}: worker {event.worker} is back and still at it"
    entry = Entry(kind="milestone.regained", text=text, at=now, details=_about(attempt))
    return Decision(workflow=back, entries=(entry,), answers=answers)


def _log(workflow: Workflow, attempt: Attempt, event: e.Logged, now: datetime) -> Decision:
    size = sum(len(line) for line in event.lines)
    if attempt.log_bytes + size > MAX_LOG_BYTES:
        return Decision(workflow=workflow)
    chunk = LogChunk(
        attempt=str(attempt.key),
        milestone=attempt.milestone,
        sequence=event.sequence,
        lines=tuple(event.lines),
        at=now,
    )
    longer = replace(workflow, live=(replace(attempt, log_bytes=attempt.log_bytes + size),))
    return Decision(workflow=longer, logs=(chunk,))


def _completed(
    workflow: Workflow, attempt: Attempt, event: e.MilestoneCompleted, now: datetime, kinds: Kinds
) -> Decision:
    ended = _end(attempt, "completed", event.message, now)
    if workflow.state is State.CANCELLING:
        return _with_ended(_cancelled(workflow, now), ended)
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
        details={**_about(attempt), "outputs": dict(event.outputs)},
    )
    return _with_ended(_before(_enter(done, now, kinds), entry), ended)


def _failed(
    workflow: Workflow, attempt: Attempt, event: e.MilestoneFailed, now: datetime, kinds: Kinds
) -> Decision:
    if workflow.state is State.CANCELLING:
        return _with_ended(_cancelled(workflow, now), _end(attempt, "cancelled", event.message, now))
    if event.interrupted:
        return _lost(workflow, attempt, event.message, now, kinds)
    return _milestone_failed(workflow, attempt, "failed", event.message, now)


def _released(workflow: Workflow, attempt: Attempt, event: e.Released, now: datetime, kinds: Kinds) -> Decision:
    """It surely never began, so asking another worker is safe for every kind, and is no loss."""
    if attempt.worker is None:
        # The request is still on its queue: whoever takes it asks for this very attempt.
        return Decision(workflow=workflow)
    text = f"{attempt.milestone} given back by worker {event.worker}, which stops before it began"
    ended = _end(attempt, "released", text, now)
    if workflow.state is State.CANCELLING:
        return _with_ended(_cancelled(workflow, now), ended)
    entry = Entry(kind="milestone.released", text=text, at=now, details=_about(attempt))
    return _with_ended(_before(_request(replace(workflow, reason=""), now, kinds), entry), ended)


def _milestone_failed(workflow: Workflow, attempt: Attempt, outcome: str, message: str, now: datetime) -> Decision:
    elapsed = elapsed_text(workflow.step_started_at, now)
    timed = replace(workflow, step_durations={**workflow.step_durations, attempt.milestone: elapsed})
    text = f"{attempt.milestone} {outcome.replace('_', ' ')} after {elapsed}: {message}"
    entry = Entry(kind=f"milestone.{outcome}", text=text, at=now, success=False, details=_about(attempt))
    decision = _fail(timed, f"milestone {attempt.milestone} failed: {message}", now)
    return _with_ended(_before(decision, entry), _end(attempt, outcome, message, now))


# --------------------------------------------------------------------------------- losses and waits


def _lost(workflow: Workflow, attempt: Attempt, message: str, now: datetime, kinds: Kinds) -> Decision:
    """The worker is gone or was stopped: ask another one where that is safe, else ask a person."""
    entry = Entry(
        kind="milestone.lost",
        text=f"{attempt.milestone} lost: {message}",
        at=now,
        success=False,
        details=_about(attempt),
    )
    if attempt.on_loss is OnLoss.HOLD:
        return _before(_hold(workflow, attempt, message, now), entry)
    ended = _end(attempt, "lost", message, now)
    losses = workflow.losses + 1
    limit = kinds[attempt.milestone].max_attempts
    if losses >= limit:
        reason = f"milestone {attempt.milestone} failed: it was lost {losses} times, last: {message}"
        return _with_ended(_before(_fail(workflow, reason, now), entry), ended)
    seconds = _backoff_seconds(workflow.id, losses)
    text = f"{attempt.milestone} was lost and is tried again in {seconds:.0f} s (loss {losses} of {limit})"
    wait = Wait(code="backoff", text=text, until=now + timedelta(seconds=seconds))
    return _with_ended(_before(_wait(replace(workflow, losses=losses), wait, now), entry), ended)


def _hold(workflow: Workflow, attempt: Attempt, message: str, now: datetime) -> Decision:
    """The attempt stays current: should its worker come back with an answer, that answer counts."""
    reason = (
        f"the outcome of {attempt.milestone} is unknown ({message}); look at the target, then say "
        f'"openaperture resolve {workflow.id} worked", "failed" or "again"'
    )
    held = replace(workflow, state=State.HELD, reason=reason)
    return Decision(workflow=held, entries=(Entry(kind="workflow.held", text=reason, at=now, success=False),))


def _undeliverable(workflow: Workflow, attempt: Attempt, reason: str, now: datetime) -> Decision:
    ended = _end(attempt, "undeliverable", reason, now)
    asked = (now - (workflow.asked_since or now)).total_seconds()
    if asked >= UNDELIVERABLE_LIMIT_SECONDS:
        text = f"milestone {attempt.milestone} failed: its request found no queue for {asked:.0f} s: {reason}"
        return _with_ended(_fail(workflow, text, now), ended)
    seconds = _backoff_seconds(workflow.id, min(attempt.key.number, 5))
    text = f"{attempt.milestone} cannot be requested: {reason}; tried again in {seconds:.0f} s"
    wait = Wait(code="undeliverable", text=text, until=now + timedelta(seconds=seconds))
    return _with_ended(_wait(workflow, wait, now), ended)


def _backoff_seconds(workflow_id: str, tries: int) -> float:
    """1, 2, 4 … 60 s, and up to half more, differing by workflow so that a crowd does not return at once."""
    return min(60.0, 2.0 ** (tries - 1)) * (1 + (crc32(workflow_id.encode()) % 1000) / 2000)


def _wake(workflow: Workflow, now: datetime, kinds: Kinds) -> Decision:
    """Do what is due by now: the end of a wait, of a cancel's grace, or a deadline of the attempt."""
    if workflow.cancel_by is not None and workflow.cancel_by <= now:
        ended = [_end(a, "cancelled", "its worker did not answer the cancel", now) for a in workflow.live]
        return _with_ended(_cancelled(workflow, now), *ended)
    if workflow.state is State.CANCELLING:
        return Decision(workflow=workflow)
    if workflow.wait is not None and workflow.wait.until <= now:
        if workflow.wait.code != "scheduled":
            return _request(workflow, now, kinds)
        return _enter(replace(workflow, position=workflow.position + 1), now, kinds)
    for attempt in workflow.live:
        if attempt.run_until is not None and attempt.run_until <= now:
            message = f"it ran longer than {attempt.run_seconds:.0f} s"
            return _milestone_failed(workflow, attempt, "timed_out", message, now)
        if attempt.alive_until is not None and attempt.alive_until <= now:
            return _lost(workflow, attempt, f"worker {attempt.worker} stopped answering", now, kinds)
        if attempt.pickup_by is not None and attempt.pickup_by <= now:
            return _unclaimed(workflow, attempt, now, kinds)
    return Decision(workflow=workflow)


def _unclaimed(workflow: Workflow, attempt: Attempt, now: datetime, kinds: Kinds) -> Decision:
    """Nobody took it, so nothing ran: asking again is safe for every kind. Old copies are void."""
    kind = kinds[attempt.milestone]
    asked = (now - (workflow.asked_since or now)).total_seconds()
    message = f"no worker of queue {kind.queue} took it for {asked:.0f} s"
    if asked >= kind.pickup_limit_seconds:
        return _milestone_failed(workflow, attempt, "unclaimed", f"{message}; start one that serves it", now)
    entry = Entry(kind="milestone.unclaimed", text=f"{attempt.milestone}: {message}", at=now, success=False)
    ended = _end(attempt, "unclaimed", message, now)
    return _with_ended(_before(_request(workflow, now, kinds), entry), ended)


# ------------------------------------------------------------------------------------- from people


def _cancel(workflow: Workflow, event: e.CancelRequested, now: datetime) -> Decision:
    """Effective at once; a worker that is at it is told, and has a moment to stop."""
    reason = f"cancelled by {event.by}" + (f": {event.reason}" if event.reason else "")
    asked = replace(workflow, reason=reason)
    at_work = [a for a in workflow.live if a.worker is not None and workflow.state is State.RUNNING]
    if not at_work:
        ended = [_end(attempt, "cancelled", reason, now) for attempt in workflow.live]
        return _with_ended(_cancelled(asked, now), *ended)
    stopping = replace(asked, state=State.CANCELLING, cancel_by=now + timedelta(seconds=CANCEL_GRACE_SECONDS))
    entry = Entry(kind="workflow.cancelling", text=f"{reason}; its worker was told to stop", at=now)
    answers = [answer for a in at_work for answer in _reply(a.reply_to, a.key, "cancel", reason)]
    return Decision(workflow=stopping, entries=(entry,), answers=tuple(answers))


def _cancelled(workflow: Workflow, now: datetime) -> Decision:
    gone = replace(workflow, state=State.CANCELLED, live=(), wait=None, cancel_by=None, ended_at=now)
    entry = Entry(kind="workflow.cancelled", text=workflow.reason, at=now, success=False)
    return Decision(workflow=gone, entries=(entry,))


def _resolve(workflow: Workflow, event: e.Resolved, now: datetime, kinds: Kinds) -> Decision:
    milestone = workflow.release.milestones[workflow.position]
    said = f"{event.by} says of {milestone}: {event.resolution}" + (f" ({event.reason})" if event.reason else "")
    entry = Entry(kind="workflow.resolved", text=said, at=now)
    ended = [_end(attempt, f"resolved_{event.resolution}", said, now) for attempt in workflow.live]
    match event.resolution:
        case e.Resolution.WORKED:
            decision = _enter(replace(workflow, position=workflow.position + 1), now, kinds)
        case e.Resolution.FAILED:
            decision = _fail(workflow, f"milestone {milestone} failed: {said}", now)
        case e.Resolution.AGAIN:
            # A new generation is a new idempotency key: the worker must not answer from its journal.
            decision = _enter(replace(workflow, generation=workflow.generation + 1), now, kinds)
    return _with_ended(_before(decision, entry), *ended)


# ------------------------------------------------------------------------------------- out of place


def _out_of_place(workflow: Workflow, event: e.Event, now: datetime) -> Decision:
    """Change nothing. What carries meaning is written down; a worker that waits for an answer gets one."""
    match event:
        case e.Claimed() | e.HeartbeatSeen():
            answers = _reply(event.reply_to, event.key, "void", f"this attempt is over; {_standing(workflow)}")
            return Decision(workflow=workflow, answers=answers)
        case e.MilestoneCompleted() | e.MilestoneFailed():
            told = "completed" if isinstance(event, e.MilestoneCompleted) else "failed"
            text = f'worker {event.worker} says "{told}" of attempt {event.key}, which is over: nothing changes'
            return Decision(workflow=workflow, entries=(Entry(kind="callback.late", text=text, at=now),))
        case e.Forged():
            text = f'refused a callback "{event.claimed_type}" whose token is not of this workflow'
            return Decision(
                workflow=workflow, entries=(Entry(kind="callback.forged", text=text, at=now, success=False),)
            )
        case e.StartRequested():
            text = f"start requested again; {_standing(workflow)}: nothing changes"
            return Decision(workflow=workflow, entries=(Entry(kind="start.repeated", text=text, at=now),))
        case _:
            return Decision(workflow=workflow)


def _standing(workflow: Workflow) -> str:
    milestone = workflow.current_milestone
    return f"the workflow is {workflow.state}" + (f" at {milestone}" if milestone and not workflow.ended else "")


# ------------------------------------------------------------------------------------------ pieces


def _may_speak(worker: str | None, attempt: Attempt) -> bool:
    """Whether an answer is of the worker that holds the attempt. One that never claims has only its token."""
    return worker is None or attempt.worker is None or worker == attempt.worker


def _about(attempt: Attempt) -> dict[str, str]:
    return {"milestone": attempt.milestone, "attempt": str(attempt.key)}


def _end(attempt: Attempt, outcome: str, message: str, now: datetime) -> Ended:
    return Ended(attempt=attempt, outcome=outcome, message=message, ended_at=now)


def _before(decision: Decision, *entries: Entry) -> Decision:
    return replace(decision, entries=(*entries, *decision.entries))


def _with_ended(decision: Decision, *ended: Ended) -> Decision:
    return replace(decision, ended=(*decision.ended, *ended))


def _reply(reply_to: str | None, key: AttemptKey, verdict: Verdict, reason: str = "") -> tuple[Answer, ...]:
    if reply_to is None:
        return ()
    return (Answer(reply_to=reply_to, key=key, verdict=verdict, reason=reason),)

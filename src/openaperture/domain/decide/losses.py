"""What happens when nothing happens: deadlines, losses, requests that reach nobody."""

from dataclasses import replace
from datetime import datetime, timedelta
from zlib import crc32

from openaperture.domain import events as e
from openaperture.domain.commands import Decision
from openaperture.domain.decide.advance import (
    cancelled,
    fail,
    fail_milestone,
    keep_schedule,
    request,
    tell_itself,
    wait,
)
from openaperture.domain.decide.pieces import Kinds, about, before, end, with_ended
from openaperture.domain.history import Entry
from openaperture.domain.milestones import OnLoss, kind_of
from openaperture.domain.workflow import Attempt, State, Wait, Wire, Workflow

HEARD_SHARE = 0.5
"""Of the time between two heartbeats at most: a worker sends one at every third of it."""
UNDELIVERABLE_LIMIT_SECONDS = 300.0
"""How long a request may find no queue before its milestone fails."""


def wake(workflow: Workflow, event: e.Woken, now: datetime, kinds: Kinds) -> Decision:
    """Do what is due by now: the end of a wait, of a cancel's grace, or a deadline of the attempt."""
    if workflow.cancel_by is not None and workflow.cancel_by <= now:
        ended = [end(a, "cancelled", "its worker did not answer the cancel", now) for a in workflow.live]
        return with_ended(cancelled(workflow, now), *ended)
    if workflow.state is State.CANCELLING:
        return Decision(workflow=workflow)
    if workflow.wait is not None and workflow.wait.until <= now:
        return _end_wait(workflow, workflow.wait, now, kinds)
    for attempt in workflow.live:
        if event.heard_seconds < kind_of(kinds, attempt.milestone).heartbeat_seconds * HEARD_SHARE:
            # Its worker may have said something that waits in the queue, or could not be sent.
            continue
        if attempt.run_until is not None and attempt.run_until <= now:
            message = f"it ran longer than {attempt.run_seconds:.0f} s"
            return fail_milestone(workflow, attempt, "timed_out", message, now)
        if attempt.alive_until is not None and attempt.alive_until <= now:
            return lose(workflow, attempt, f"worker {attempt.worker} stopped answering", now, kinds)
        if attempt.pickup_by is not None and attempt.pickup_by <= now:
            return _unclaimed(workflow, attempt, now, kinds)
    return Decision(workflow=workflow)


def _end_wait(workflow: Workflow, waited: Wait, now: datetime, kinds: Kinds) -> Decision:
    if kind_of(kinds, workflow.release.milestones[workflow.position]).queue is not None:
        return request(workflow, now, kinds)
    if waited.code == "scheduled" and workflow.wire is Wire.TERMS:
        return tell_itself(workflow, now, kinds, again=True)
    return keep_schedule(workflow, now, kinds)


def lose(workflow: Workflow, attempt: Attempt, message: str, now: datetime, kinds: Kinds) -> Decision:
    """The worker is gone or was stopped: ask another one where that is safe, else ask a person."""
    entry = Entry(
        kind="milestone.lost",
        text=f"{attempt.milestone} lost: {message}",
        at=now,
        success=False,
        details=about(attempt),
    )
    if attempt.on_loss is OnLoss.HOLD:
        return before(_hold(workflow, attempt, message, now), entry)
    ended = end(attempt, "lost", message, now)
    losses = workflow.losses + 1
    limit = kind_of(kinds, attempt.milestone).max_attempts
    if losses >= limit:
        reason = f"milestone {attempt.milestone} failed: it was lost {losses} times, last: {message}"
        return with_ended(before(fail(workflow, reason, now), entry), ended)
    seconds = _backoff_seconds(workflow.id, losses)
    text = f"{attempt.milestone} was lost and is tried again in {seconds:.0f} s (loss {losses} of {limit})"
    backoff = Wait(code="backoff", text=text, until=now + timedelta(seconds=seconds))
    return with_ended(before(wait(replace(workflow, losses=losses, asked_since=now), backoff, now), entry), ended)


def _hold(workflow: Workflow, attempt: Attempt, message: str, now: datetime) -> Decision:
    """The attempt stays current: should its worker come back with an answer, that answer counts."""
    reason = (
        f"the outcome of {attempt.milestone} is unknown ({message}); look at the target, then say "
        f'"openaperture resolve {workflow.id} worked", "failed" or "again"'
    )
    held = replace(workflow, state=State.HELD, reason=reason)
    return Decision(workflow=held, entries=(Entry(kind="workflow.held", text=reason, at=now, success=False),))


def unsure(workflow: Workflow, attempt: Attempt, reason: str, now: datetime) -> Decision:
    """It may be under way. What may be done twice is asked for again; for the rest a person has to look."""
    if attempt.on_loss is OnLoss.RETRY:
        return undeliverable(workflow, attempt, reason, now)
    return _hold(workflow, attempt, reason, now)


def undeliverable(workflow: Workflow, attempt: Attempt, reason: str, now: datetime) -> Decision:
    """No queue took the request: try again for a while, then fail."""
    ended = end(attempt, "undeliverable", reason, now)
    asked = (now - (workflow.asked_since or now)).total_seconds()
    if asked >= UNDELIVERABLE_LIMIT_SECONDS:
        text = f"milestone {attempt.milestone} failed: its request found no queue for {asked:.0f} s: {reason}"
        return with_ended(fail(workflow, text, now), ended)
    seconds = _backoff_seconds(workflow.id, min(attempt.key.number, 5))
    text = f"{attempt.milestone} cannot be requested: {reason}; tried again in {seconds:.0f} s"
    backoff = Wait(code="undeliverable", text=text, until=now + timedelta(seconds=seconds))
    return with_ended(wait(workflow, backoff, now), ended)


def _backoff_seconds(workflow_id: str, tries: int) -> float:
    """1, 2, 4 … 60 s, and up to half more, differing by workflow so that a crowd does not return at once."""
    return min(60.0, 2.0 ** (tries - 1)) * (1 + (crc32(workflow_id.encode()) % 1000) / 2000)


def _unclaimed(workflow: Workflow, attempt: Attempt, now: datetime, kinds: Kinds) -> Decision:
    """Nobody took it, so nothing ran: asking again is safe for every kind. Old copies are void."""
    kind = kind_of(kinds, attempt.milestone)
    asked = (now - (workflow.asked_since or now)).total_seconds()
    ended = end(attempt, "unclaimed", f"nobody took it for {asked:.0f} s", now)
    if kind.queue is None:
        return with_ended(keep_schedule(workflow, now, kinds), ended)
    message = f"no worker of queue {kind.queue} took it for {asked:.0f} s"
    if asked >= kind.pickup_limit_seconds:
        return fail_milestone(workflow, attempt, "unclaimed", f"{message}; start one that serves it", now)
    entry = Entry(kind="milestone.unclaimed", text=f"{attempt.milestone}: {message}", at=now, success=False)
    return with_ended(before(request(workflow, now, kinds), entry), ended)

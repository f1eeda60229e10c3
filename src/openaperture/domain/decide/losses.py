"""What happens when nothing happens: waits that end, deadlines that pass, requests that reach nobody."""

from openaperture.domain.attempts import Attempt
from openaperture.domain.decide.advance import fail_here
from openaperture.domain.decide.approvals import expire
from openaperture.domain.decide.draft import Draft, about
from openaperture.domain.decide.schedule import keep_schedule, tell_itself
from openaperture.domain.decide.steps import back_off, fail, hold, lose, not_stopped, request, stop
from openaperture.domain.milestones import FailureKind, OnLoss
from openaperture.domain.workflow import Step, Wire

HEARD_SHARE = 0.5
"""Of the time between two heartbeats at most: a worker sends one at every third of it."""
UNDELIVERABLE_LIMIT_SECONDS = 300.0
"""How long a request may find no queue before its milestone fails."""
_SILENT = "its worker did not answer when it was told to stop"


def wake(d: Draft, heard_seconds: float) -> None:
    """Do what is due by now: the end of a wait, or a deadline of an attempt."""
    waited = d.workflow.wait
    if waited is not None and waited.until <= d.now:
        reason = f"it {waited.text} for too long; see who has it, and start the workflow again"
        fail_here(d, FailureKind.TIMED_OUT, reason)
        return
    for milestone in [step.milestone for step in d.workflow.steps]:
        step = d.step(milestone)
        if step.wait is not None and step.wait.until <= d.now:
            _end_wait(d, step)
        elif step.live is not None and not step.unknown:
            _judge(d, step, step.live, heard_seconds)


def _end_wait(d: Draft, step: Step) -> None:
    kind = d.kind(step.milestone)
    if kind.approval is not None:
        expire(d, step, kind.approval)
    elif kind.queue is not None:
        request(d, step)
    elif d.workflow.wire is Wire.TERMS:
        tell_itself(d, step, again=True)
    else:
        keep_schedule(d, step)


def _judge(d: Draft, step: Step, attempt: Attempt, heard_seconds: float) -> None:
    """Which of its deadlines has passed?"""
    order = attempt.stop
    if order is not None and order.kind is FailureKind.CANCELLED and order.by <= d.now:
        not_stopped(d, step, attempt, order, _SILENT)
    elif order is None and attempt.worker and attempt.run_until and attempt.run_until <= d.now:
        # However much waits to be heard: it is told to stop, and a result that comes meanwhile counts.
        _run_out(d, step, attempt)
    elif heard_seconds < d.kind(step.milestone).heartbeat_seconds * HEARD_SHARE:
        # Its worker may have said something that waits in the queue, or could not be sent.
        return
    elif order is not None:
        if order.by <= d.now:
            not_stopped(d, step, attempt, order, _SILENT)
    elif attempt.run_until is not None and attempt.run_until <= d.now:
        _run_out(d, step, attempt)
    elif attempt.alive_until is not None and attempt.alive_until <= d.now:
        lose(d, step, attempt, f"worker {attempt.worker} stopped answering")
    elif attempt.pickup_by is not None and attempt.pickup_by <= d.now:
        _unclaimed(d, step, attempt)


def _run_out(d: Draft, step: Step, attempt: Attempt) -> None:
    """It runs for too long. A worker of ours is told to stop; one of the original hears nothing of that."""
    reason = f"it ran longer than {attempt.run_seconds:.0f} s"
    if attempt.worker is not None:
        stop(d, step, FailureKind.TIMED_OUT, reason)
    elif attempt.on_loss is OnLoss.HOLD:
        hold(d, step, reason)
    else:
        fail(d, step, FailureKind.TIMED_OUT, "timed_out", reason)


def undeliverable(d: Draft, step: Step, attempt: Attempt, reason: str) -> None:
    """No queue took the request: try again for a while, then fail."""
    asked = (d.now - (step.asked_since or d.now)).total_seconds()
    if asked >= UNDELIVERABLE_LIMIT_SECONDS:
        message = f"its request found no queue for {asked:.0f} s: {reason}"
        fail(d, step, FailureKind.UNDELIVERABLE, "undeliverable", message)
        return
    d.end(attempt, "undeliverable", reason)
    text = f"{step.milestone} cannot be requested: {reason}"
    back_off(d, step, "undeliverable", min(attempt.key.number, 5), text)


def unsure(d: Draft, step: Step, attempt: Attempt, reason: str) -> None:
    """It may be under way. What may be done twice is asked for again; for the rest a person has to look."""
    if attempt.on_loss is OnLoss.RETRY:
        undeliverable(d, step, attempt, reason)
    else:
        hold(d, step, reason)


def _unclaimed(d: Draft, step: Step, attempt: Attempt) -> None:
    """Nobody took it, so nothing ran: asking again is safe for every kind. Old copies are void."""
    kind = d.kind(step.milestone)
    asked = (d.now - (step.asked_since or d.now)).total_seconds()
    if kind.queue is None:
        d.end(attempt, "unclaimed", f"nobody took it for {asked:.0f} s")
        keep_schedule(d, step)
        return
    message = f"no worker of queue {kind.queue} took it for {asked:.0f} s"
    if asked >= kind.pickup_limit_seconds:
        fail(d, step, FailureKind.UNDELIVERABLE, "unclaimed", f"{message}; start one that serves it")
        return
    d.end(attempt, "unclaimed", message)
    d.warn("milestone.unclaimed", f"{step.milestone}: {message}", **about(attempt))
    request(d, step)

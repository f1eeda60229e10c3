"""What can happen to one milestone of a position: it is asked for, waits, ends, is lost, is stopped.

Whether the position is over by that is for `advance.settle` to say.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from zlib import crc32

from openaperture.domain.attempts import Attempt, AttemptKey, Stop
from openaperture.domain.decide.draft import Draft, about
from openaperture.domain.milestones import FailureKind, OnLoss
from openaperture.domain.releases import OnGroupFailure
from openaperture.domain.times import elapsed_text
from openaperture.domain.workflow import Result, State, Step, Wait, Wire

STOP_GRACE_SECONDS = 30.0
"""How long a worker may take to stop before its attempt ends without its word."""


def request(d: Draft, step: Step) -> None:
    """Ask a worker for it, as its next attempt. While the workflow is paused it stays idle instead."""
    if d.workflow.pause is not None:
        d.put(step, live=None, wait=None, unknown="")
        return
    attempt = next_attempt(d, step)
    ask(d, step, attempt)
    text = f"{step.milestone} requested from queue {d.kind(step.milestone).queue}"
    d.tell("milestone.requested", text, **about(attempt))


def ask(d: Draft, step: Step, attempt: Attempt) -> None:
    """Have this attempt sent, and wait for what becomes of it."""
    d.put(step, live=attempt, wait=None, unknown="")
    d.change(last_number=attempt.key.number)
    d.dispatch(attempt)


def next_attempt(d: Draft, step: Step) -> Attempt:
    workflow, kind = d.workflow, d.kind(step.milestone)
    # Workers of the original claim nothing. Until the broker has their request, it only has to get there.
    claims = workflow.wire is Wire.JSON or kind.queue is None
    pickup_seconds = kind.pickup_seconds if claims else kind.pickup_limit_seconds
    return Attempt(
        key=AttemptKey(generation=step.generation, position=workflow.position, number=workflow.last_number + 1),
        milestone=step.milestone,
        requested_at=d.now,
        pickup_by=d.now + timedelta(seconds=pickup_seconds),
        on_loss=kind.on_loss,
        run_seconds=kind.run_seconds,
    )


def wait(d: Draft, step: Step, reason: Wait) -> None:
    d.put(step, live=None, wait=reason, unknown="")
    d.tell(
        "workflow.waiting",
        reason.text,
        milestone=step.milestone,
        code=reason.code,
        until=reason.until.isoformat(),
    )


def back_off(d: Draft, step: Step, code: str, tries: int, text: str) -> None:
    """Wait before it is asked for again; `text` is completed by when that is."""
    seconds = _backoff_seconds(d.workflow.id, tries)
    until = d.now + timedelta(seconds=seconds)
    wait(d, step, Wait(code=code, text=f"{text}; tried again in {seconds:.0f} s", until=until))


def _backoff_seconds(workflow_id: str, tries: int) -> float:
    """1, 2, 4 … 60 s, and up to half more, differing by workflow: a crowd does not return at once."""
    spread = crc32(f"{workflow_id}/{tries}".encode()) % 1000 / 2000
    return min(60.0, 2.0 ** (tries - 1)) * (1 + spread)


# ---------------------------------------------------------------------------------------------- ends


def complete(d: Draft, step: Step, message: str, outputs: Mapping[str, str]) -> None:
    """It is done."""
    if step.live is not None:
        d.end(step.live, "completed", message)
    if d.workflow.state is State.CANCELLING:
        d.put(step, live=None, result=Result.CANCELLED)
        return
    elapsed = take_time(d, step.milestone)
    d.change(outputs={**d.workflow.outputs, step.milestone: dict(outputs)})
    d.put(step, live=None, wait=None, unknown="", result=Result.COMPLETED)
    text = f"{step.milestone} completed after {elapsed}" + (f": {message}" if message else "")
    d.tell("milestone.completed", text, **about(step, elapsed=elapsed, outputs=dict(outputs)))


def take_time(d: Draft, milestone: str) -> str:
    """How long it took so far, kept as its duration."""
    elapsed = elapsed_text(d.workflow.step_started_at, d.now)
    d.change(step_durations={**d.workflow.step_durations, milestone: elapsed})
    return elapsed


def fail(d: Draft, step: Step, kind: FailureKind, outcome: str, message: str) -> None:
    """It did not succeed: it is tried again where its kind says so, or has failed.

    `outcome` is what its attempt ended as, and the entry that tells of it: `milestone.<outcome>`.
    """
    if step.live is not None:
        d.end(step.live, outcome, message)
    elapsed = elapsed_text(d.workflow.step_started_at, d.now)
    text = f"{step.milestone} {outcome.replace('_', ' ')} after {elapsed}: {message}"
    d.warn(f"milestone.{outcome}", text, **about(step, kind=kind.value))
    row, failures = d.kind(step.milestone), step.failures + 1
    retried = kind in row.retry_on
    if retried and failures < row.max_attempts:
        again = d.put(step, failures=failures, asked_since=d.now)
        tries = f"failure {failures} of {row.max_attempts}, {kind.value.replace('_', ' ')}"
        back_off(d, again, "backoff", failures, f"{step.milestone} did not succeed ({tries})")
        return
    words = f"it did not succeed {failures} times, last: {message}" if retried and failures > 1 else message
    take_time(d, step.milestone)
    d.put(
        step, live=None, wait=None, unknown="", failures=failures, result=Result.FAILED, failure=words, kind=kind
    )
    if d.workflow.release.on_group_failure is OnGroupFailure.CANCEL:
        # One of unknown outcome is still for a person: it may be under way, and what follows would come upon it.
        for other in [other for other in d.workflow.steps if not other.unknown]:
            stop(d, other, FailureKind.CANCELLED, f"{step.milestone} of the same group failed")


def lose(d: Draft, step: Step, attempt: Attempt, message: str) -> None:
    """The worker is gone or was stopped: ask another one where that is safe, else ask a person."""
    if attempt.on_loss is OnLoss.HOLD:
        d.warn("milestone.lost", f"{step.milestone} lost: {message}", **about(attempt))
        hold(d, step, message)
    else:
        fail(d, step, FailureKind.LOST, "lost", message)


def hold(d: Draft, step: Step, message: str) -> None:
    """The attempt stays current: should its worker come back with an answer, that answer counts.

    Whether it was told to stop means nothing any more: what is done about it is for the person to say.
    """
    which = f" --milestone {step.milestone}" if len(d.workflow.steps) > 1 else ""
    reason = (
        f"the outcome of {step.milestone} is unknown ({message}); look at the target, then say "
        f'"openaperture resolve{which} {d.workflow.id} worked", "failed" or "again"'
    )
    d.put(step, live=step.live and replace(step.live, stop=None), unknown=reason)
    d.warn("workflow.held", reason, milestone=step.milestone)


# ---------------------------------------------------------------------------------------------- stops


def stop(d: Draft, step: Step, kind: FailureKind, reason: str) -> None:
    """End it: at once when no worker has it, else its worker is told, and has a moment to stop."""
    if step.result is not None:
        return
    attempt = step.live
    if attempt is not None and attempt.stop is not None:
        # Its worker is told already; the moment that it has does not begin anew.
        d.put(step, live=replace(attempt, stop=replace(attempt.stop, kind=kind)))
        return
    if attempt is None or attempt.worker is None or step.unknown:
        cut_off(d, step, "cancelled", reason)
        return
    order = Stop(kind=kind, reason=reason, by=d.now + timedelta(seconds=STOP_GRACE_SECONDS))
    d.put(step, live=replace(attempt, stop=order))
    d.answer(attempt.reply_to, attempt.key, "cancel", reason)
    d.tell("milestone.stopping", f"{step.milestone}: {reason}; its worker was told to stop", **about(attempt))


def cut_off(d: Draft, step: Step, outcome: str, reason: str) -> None:
    """End it without the word of a worker. One that may still be deploying keeps the locks of its workflow."""
    attempt = step.live
    if attempt is not None:
        d.end(attempt, outcome, reason)
    if attempt is not None and attempt.may_run and attempt.on_loss is OnLoss.HOLD and d.workflow.lock_tokens:
        why = f"nobody knows whether {step.milestone} has stopped ({reason})"
        d.change(keeps_locks=why, kept_for=(*d.workflow.kept_for, attempt.key))
    d.put(step, live=None, wait=None, unknown="", result=Result.CANCELLED)


def not_stopped(d: Draft, step: Step, attempt: Attempt, order: Stop, why: str) -> None:
    """It was told to stop and may go on all the same; `why` completes the sentence that says so."""
    reason = f"{order.reason}, and {why}"
    if d.workflow.state is State.CANCELLING:
        cut_off(d, step, "cancelled", why)
    elif attempt.on_loss is OnLoss.HOLD:
        hold(d, step, reason)
    else:
        stopped(d, step, replace(order, reason=reason), "nobody knows how far it got")


def stopped(d: Draft, step: Step, order: Stop, message: str) -> None:
    """Its worker has stopped as it was told to."""
    if order.kind is not FailureKind.CANCELLED:
        fail(d, step, order.kind, order.kind.value, f"{order.reason}; {message}")
        return
    if step.live is not None:
        d.end(step.live, "cancelled", message)
    if d.workflow.state is not State.CANCELLING:
        d.warn("milestone.cancelled", f"{step.milestone}: {order.reason}", milestone=step.milestone)
    d.put(step, live=None, result=Result.CANCELLED)

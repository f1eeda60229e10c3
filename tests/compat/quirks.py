"""What is demanded where the original loses work (the case's `recommended`, or better), and how that is played."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from uuid import uuid4

from tests.compat.cases import read_cases
from tests.compat.journal import Seen
from tests.compat.notes import is_of, missing_notes
from tests.compat.rabbit import UNBOUND_EXCHANGE
from tests.compat.saves import steps_back, wrong_shapes
from tests.compat.trial import Trial
from tests.compat.verdict import faults, requests_are_well_formed

PATIENCE_SECONDS = 15.0
SOON_SECONDS = 4
WORKERS = ("builder", "deployer", "deploy_oa")
Play = Callable[[Trial], None]
Judge = Callable[[Trial], Iterator[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """How a case is judged when it is not judged by its expectation."""

    judge: Judge
    play: Play | None = None
    """None: deliver once, and wait until the judge is content."""


def judged(trial: Trial) -> list[str]:
    """All faults of a case, but for the fate of its delivery."""
    demand = DEMANDS.get(trial.case.name)
    if demand is None:
        return faults(trial)
    shapes = (*wrong_shapes(trial.seen.saves), *steps_back(trial.seen.saves), *requests_are_well_formed(trial))
    return [*trial.complaints, *shapes, *demand.judge(trial)]


def play(trial: Trial) -> None:
    """Deliver, and wait until the case is as it should be, or until it is too late."""
    demand = DEMANDS.get(trial.case.name)
    own = PLAYS.get(trial.case.name) or (demand.play if demand else None)
    if own is not None:
        own(trial)
    elif trial.case.incoming or "delivery" in trial.case.given:
        trial.deliver()
    seconds = PATIENCE_SECONDS + trial.case.expect.get("later", {}).get("after_seconds", 0)
    if trial.case.is_quirk:
        seconds = PATIENCE_SECONDS
    elif "30 s after startup" in trial.case.given.get("event", ""):
        seconds += 30
    trial.wait_for(lambda _: not judged(trial), seconds)


# ------------------------------------------------------------------------------------------ judges


def _has_failed(trial: Trial, *named: str, notes: int = 1) -> Iterator[str]:
    """Recorded as failed, told with a sentence that names it, and nothing sent to a worker."""
    yield from _has_ended_failed(trial)
    yield from _has_dispatched_nothing(trial)
    failures = [note.message for note in trial.seen.notes if note.is_success is False]
    if len(failures) < notes:
        yield f"notes: expected {notes} of a failure, seen {failures or 'none'}"
    for name in named:
        if not any(name in message for message in failures):
            yield f"notes: expected one of a failure that names {name}, seen {failures or 'none'}"


def _has_ended_failed(trial: Trial) -> Iterator[str]:
    if not _is_recorded_failed(trial.seen):
        bodies = [save.body for save in trial.seen.saves]
        flags = [(body.get("workflow_completed"), body.get("workflow_error")) for body in bodies]
        yield f"saves: expected the last completed and with error, seen {flags or 'none'} (completed, error)"


def _is_recorded_failed(seen: Seen) -> bool:
    last = seen.saves[-1].body if seen.saves else {}
    return last.get("workflow_completed") is True and last.get("workflow_error") is True


def _has_dispatched_nothing(trial: Trial) -> Iterator[str]:
    for message in trial.seen.dispatched_to(*WORKERS):
        yield f"published: expected nothing to workers, seen {message.routing_key}"


def _was_dispatched(trial: Trial, queue: str, times: int = 1) -> Iterator[str]:
    """That many requests, each after a save that names the step."""
    found = trial.seen.dispatched_to(queue)
    if len(found) != times:
        yield f"published: expected {times} to {queue}, seen {len(found)}"
    for message in found:
        step = message.fields.get("current_step")
        before = [save.body.get("current_step") for save in trial.seen.saves if save.at <= message.at]
        if not before or {"$atom": before[-1]} != step:
            yield f"saves: expected {step} before its request, seen {before or 'none'}"


def _is_told_once(trial: Trial) -> Iterator[str]:
    """A second report of the end adds nothing."""
    yield from _has_failed(trial, trial.case.incoming["current_step"]["$atom"])
    yield from missing_notes(trial.case.expect["hipchat"], trial.seen.notes, PATIENCE_SECONDS)
    for kind in ("milestone_failed", "workflow_failed", "email_sent"):
        notes = [note.message for note in trial.seen.notes if is_of(kind, note)]
        if kind != "email_sent":
            notes = [note.message for note in trial.seen.notes if is_of(kind, note) and note.is_success is False]
        if len(notes) != 1:
            yield f"notes: expected {kind} once, seen {notes or 'none'}"
    if len(trial.seen.emails) != 1:
        yield f"email: expected one, seen {len(trial.seen.emails)}"


def _is_cancelled(trial: Trial) -> Iterator[str]:
    yield from _has_failed(trial)
    prefixes = [str(email.fields.get("prefix")) for email in trial.seen.emails]
    if len(prefixes) != 1 or not prefixes[0].startswith("FAILED - "):
        yield f"email: expected one of a failure, seen {prefixes or 'none'}"
    for note in trial.seen.notes:
        if note.is_success and is_of("milestone_started", note):
            yield f"notes: expected no start of a milestone, seen {note.message!r}"


def _waits(trial: Trial) -> Iterator[str]:
    """It waits where people see it, and the delivery is not held for it."""
    yield from missing_notes(trial.case.expect["hipchat"], trial.seen.notes, PATIENCE_SECONDS)
    steps = [save.body.get("current_step") for save in trial.seen.saves]
    if steps[-1:] != ["scheduled"]:
        yield f"saves: expected the last at scheduled, seen {steps or 'none'}"
    for message in trial.seen.requests:
        yield f"published: expected nothing during the wait, seen {message.routing_key}"
    for event in trial.seen.events:
        yield f"system events: expected none, seen {event!r}"


def _keeps_its_place(trial: Trial) -> Iterator[str]:
    yield from _was_dispatched(trial, "deployer")
    yield from _was_dispatched(trial, "builder", times=0)


def _is_dropped_and_told(trial: Trial) -> Iterator[str]:
    yield from _has_dispatched_nothing(trial)
    if not trial.seen.refused_saves:
        yield "saves: expected one that the Manager refused, seen none"
    if not trial.seen.events and not any(note.is_success is False for note in trial.seen.notes):
        yield "told: expected a system event or a note of a failure, seen neither"


def _comes_to_an_end(trial: Trial) -> Iterator[str]:
    """Either a repeated name is refused, or the place in the list counts: then one build is left at most."""
    if _is_recorded_failed(trial.seen):
        yield from _has_dispatched_nothing(trial)
        return
    yield from _was_dispatched(trial, "deployer")
    yield from _was_dispatched(trial, "builder", times=min(1, len(trial.seen.dispatched_to("builder"))))


def _cancel_stands(trial: Trial) -> Iterator[str]:
    yield from _has_ended_failed(trial)
    yield from _has_dispatched_nothing(trial)
    for save in trial.seen.saves:
        if save.body.get("workflow_error") is not True:
            yield f"saves: expected workflow_error in each, seen {save.body.get('workflow_error')!r}"


def _is_not_success(trial: Trial) -> Iterator[str]:
    yield from _has_failed(trial, "deploy_ecs")
    for note in trial.seen.notes:
        if note.is_success and is_of("workflow_completed", note):
            yield f"notes: expected no completion, seen {note.message!r}"


def _makes_a_system_event(trial: Trial) -> Iterator[str]:
    if not any(call.path == "/system_events" for call in trial.group_calls):
        yield "system events: expected one, seen none"


def _is_sent_or_failed(trial: Trial) -> Iterator[str]:
    if _is_recorded_failed(trial.seen):
        yield from _has_failed(trial)
    else:
        yield from _was_dispatched(trial, _queue_of(trial))


def _queue_of(trial: Trial) -> str:
    """Of the first milestone."""
    return {"build": "builder", "deploy": "deployer"}[trial.case.incoming["milestones"][0]]


# ------------------------------------------------------------------------------------------- plays


def _twice(trial: Trial) -> None:
    trial.deliver()
    trial.stage.post.deliver(trial.body)


def _soon_and_carried(trial: Trial) -> None:
    """The wait is shortened; what it sends to itself is carried back, as a binding would."""
    trial.deliver(scheduled_start_time={"$rfc1123": SOON_SECONDS})
    carried = 0
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline and not trial.seen.dispatched_to(*WORKERS):
        trial.wait_for(partial(_is_further, carried), deadline - time.monotonic())
        for message in trial.seen.dispatched_to("workflow_orchestration")[carried:]:
            trial.stage.post.deliver(message.body)
            carried += 1


def _is_further(carried: int, seen: Seen) -> bool:
    return bool(seen.dispatched_to(*WORKERS)) or len(seen.dispatched_to("workflow_orchestration")) > carried


def _manager_recovers(trial: Trial) -> None:
    trial.deliver()
    trial.wait_for(lambda seen: len(seen.refused_saves) >= 2, PATIENCE_SECONDS)
    trial.complaints.extend(_has_dispatched_nothing(trial))
    with trial.stage.tables.lock:
        for call in trial.case.forced:
            del trial.stage.tables.forced[call]


def _builds_are_answered(trial: Trial) -> None:
    """The builder gives back what it got, which means that the step is done; more than twice is for ever."""
    trial.deliver()
    answered = 0
    while answered < 3:
        if not trial.wait_for(partial(_is_past, answered), PATIENCE_SECONDS):
            return
        if trial.seen.dispatched_to("deployer") or _is_recorded_failed(trial.seen):
            return
        trial.stage.post.deliver(trial.seen.dispatched_to("builder")[answered].body)
        answered += 1


def _is_past(answered: int, seen: Seen) -> bool:
    builds = len(seen.dispatched_to("builder"))
    return builds > answered or bool(seen.dispatched_to("deployer")) or _is_recorded_failed(seen)


def _bound_later(trial: Trial) -> None:
    trial.deliver()
    trial.wait_for(lambda seen: _is_recorded_failed(seen) or bool(seen.dispatched_to("deployer")), 3.0)
    trial.stage.post.bind_observer(UNBOUND_EXCHANGE)


def _until_a_second_token(trial: Trial) -> None:
    """Work goes on, one workflow after the other, until a second token was asked for."""
    trial.incoming = read_cases()[0].incoming
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline and sum(call.path == "/oauth/token" for call in trial.group_calls) < 2:
        workflow_id = str(uuid4())
        trial.deliver_copy(workflow_id)
        trial.stage.journal.wait(workflow_id, partial(_is_requested, trial, workflow_id), PATIENCE_SECONDS)


def _is_requested(trial: Trial, workflow_id: str) -> bool:
    return bool(trial.stage.journal.of(workflow_id).requests)


DEMANDS: Mapping[str, Demand] = {
    "duplicate failure report from a worker repeats all notifications": Demand(judge=_is_told_once, play=_twice),
    "workflow_error true but not completed: next milestone is skipped, row never marked completed": Demand(
        judge=_is_cancelled
    ),
    "scheduled: more than an hour ahead re-evaluates hourly": Demand(judge=_waits),
    "scheduled not first and not due: the wait wipes current_step and restarts from the first milestone": Demand(
        judge=_keeps_its_place, play=_soon_and_carried
    ),
    "PUT answers 500: processing goes on as if saved": Demand(
        judge=lambda trial: _was_dispatched(trial, "builder"), play=_manager_recovers
    ),
    "PUT answers 404 (deleted workflow): processing goes on": Demand(judge=_is_dropped_and_told),
    "module lookup answers non-2xx: FSM crashes, message unacked": Demand(
        judge=lambda trial: _has_failed(trial, "999")
    ),
    "unknown milestone name: no such state, FSM crashes, message unacked": Demand(
        judge=lambda trial: _has_failed(trial, "frobnicate")
    ),
    "current_step not in milestones: treated as finished successfully": Demand(judge=_is_not_success),
    "duplicate milestone names loop for ever": Demand(judge=_comes_to_an_end, play=_builds_are_answered),
    "stale payload clears a cancel made in the Manager": Demand(judge=_cancel_stands),
    "term is not a map: first delivery requeued, second left unacked": Demand(judge=_makes_a_system_event),
    "builder vanishes between check and publish: message lost, workflow hangs in build": Demand(
        judge=_is_sent_or_failed
    ),
    "broker refuses the publish: only logged, message still acked": Demand(
        judge=_is_sent_or_failed, play=_bound_later
    ),
}

PLAYS: Mapping[str, Play] = {"token is reused until 30 seconds before expiry": _until_a_second_token}

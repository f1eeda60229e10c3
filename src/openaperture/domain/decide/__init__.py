"""What one event does to one workflow. Pure: the instant and the kinds are arguments, the answer is a value.

Three rules hold whatever arrives, in whatever order, however often:
  - only the current attempt's worker can move a workflow on, and a result counts once;
  - the position never goes back;
  - every change is written down as an entry that a person can read.

    advance.py    the next milestone, waits, ends      people.py     cancel, resolve
    workers.py    claims, heartbeats, results          originals.py  answers of workers of the original
    losses.py     deadlines, losses, dead ends         sending.py    routes, and records that are refused
"""

from dataclasses import replace
from datetime import datetime

from openaperture.domain import events as e
from openaperture.domain.commands import Decision
from openaperture.domain.decide.advance import created, start
from openaperture.domain.decide.losses import undeliverable, unsure, wake
from openaperture.domain.decide.originals import handed_over
from openaperture.domain.decide.people import from_person
from openaperture.domain.decide.pieces import Kinds, reply
from openaperture.domain.decide.sending import refused, routed, sent, unsaved
from openaperture.domain.decide.workers import from_worker, last_words
from openaperture.domain.history import Entry
from openaperture.domain.moves import accepts, verify
from openaperture.domain.workflow import Attempt, Workflow

__all__ = ["Kinds", "decide"]


def decide(workflow: Workflow, event: e.Event, now: datetime, kinds: Kinds) -> Decision:
    """Answer one event. A late, repeated or forged one moves nothing, and is recorded."""
    decision = _answer(workflow, event, now, kinds) if accepts(workflow.state, event) else None
    if decision is None:
        return _out_of_place(workflow, event, now)
    verify(workflow.state, event, decision.workflow.state)
    if decision.ended:
        closed = replace(decision.workflow, closing=decision.ended[-1].attempt)
        decision = replace(decision, workflow=closed)
    return decision


def _answer(workflow: Workflow, event: e.Event, now: datetime, kinds: Kinds) -> Decision | None:
    """None for an event that is of another attempt, or of somebody who has no say in this one."""
    match event:
        case e.Created():
            return created(workflow, now)
        case e.StartRequested():
            return start(workflow, event, now, kinds)
        case e.HandedOver():
            return handed_over(workflow, event, now, kinds)
        case e.Woken():
            return wake(workflow, event, now, kinds)
        case e.CancelRequested() | e.Resolved():
            return from_person(workflow, event, now, kinds)
        case e.Unsaved():
            return unsaved(workflow, event, now)
        case e.Forged():
            return None
        case e.Undeliverable() | e.Routed() | e.RouteRefused() | e.Sent() | e.Unsure():
            return _of_request(workflow, event, now, kinds)
        case _:
            attempt = workflow.find_attempt(event.key)
            if attempt is None or not _may_speak(event.worker, attempt):
                return None
            return from_worker(workflow, attempt, event, now, kinds)


def _of_request(workflow: Workflow, event: e.OfRequest, now: datetime, kinds: Kinds) -> Decision:
    """What became of a request on its way. Of no meaning once a worker has it, or it was replaced."""
    attempt = workflow.find_attempt(event.key)
    if attempt is None or attempt.worker is not None:
        return Decision(workflow=workflow)
    match event:
        case e.Routed():
            return routed(workflow, attempt, event, now, kinds)
        case e.RouteRefused():
            return refused(workflow, attempt, event, now, kinds)
        case e.Unsure():
            return unsure(workflow, attempt, event.reason, now)
        case e.Sent():
            return sent(workflow, attempt, now, kinds)
        case e.Undeliverable():
            return undeliverable(workflow, attempt, event.reason, now)


def _out_of_place(workflow: Workflow, event: e.Event, now: datetime) -> Decision:
    """Change nothing. What carries meaning is written down; a worker that waits for an answer gets one."""
    match event:
        case e.Claimed() | e.HeartbeatSeen():
            answers = reply(event.reply_to, event.key, "void", f"this attempt is over; {_standing(workflow)}")
            return Decision(workflow=workflow, answers=answers)
        case e.Logged():
            return last_words(workflow, event, now)
        case e.MilestoneCompleted() | e.MilestoneFailed():
            told = "completed" if isinstance(event, e.MilestoneCompleted) else "failed"
            text = f'worker {event.worker} says "{told}" of attempt {event.key}, which is over: nothing changes'
            return Decision(workflow=workflow, entries=(Entry(kind="callback.late", text=text, at=now),))
        case e.HandedOver(step=None, failed=False):
            return _out_of_place(workflow, e.StartRequested(), now)
        case e.HandedOver():
            told = "failed" if event.failed else "completed"
            what = f'a worker says "{told}" of {event.step or "nothing"}, which is not what is asked for'
            text = f"{what}; {_standing(workflow)}: nothing changes"
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


def _may_speak(worker: str | None, attempt: Attempt) -> bool:
    """Whether an answer is of the worker that holds the attempt. One that never claims has only its token."""
    return worker is None or attempt.worker is None or worker == attempt.worker

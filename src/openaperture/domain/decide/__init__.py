"""What one event does to one workflow. Pure: the instant and the kinds are arguments, the answer is a value.

Three rules hold whatever arrives, in whatever order, however often:
  - only the current attempt's worker can move a workflow on, and a result counts once;
  - the position never goes back;
  - every change is written down as an entry that a person can read.

    advance.py    positions, waits, ends               people.py     cancel, pause, resolve, approve
    steps.py      one milestone of a position          originals.py  answers of workers of the original
    workers.py    claims, heartbeats, results          sending.py    routes, and records that are refused
    losses.py     deadlines, losses, dead ends         locks.py      what only one workflow may have
    schedule.py, approvals.py    milestones that no worker does
    rewound.py    a database that has lost its last commits
"""

from datetime import datetime

from openaperture.domain import events as e
from openaperture.domain.attempts import Attempt
from openaperture.domain.commands import Decision
from openaperture.domain.decide.advance import cancelled, enter, fail_here, settle, start
from openaperture.domain.decide.approvals import objection_to
from openaperture.domain.decide.draft import Draft, Kinds
from openaperture.domain.decide.locks import is_waiting, objection_to_forcing, taken, why_denied
from openaperture.domain.decide.losses import wake
from openaperture.domain.decide.originals import handed_over
from openaperture.domain.decide.people import from_person, held_step
from openaperture.domain.decide.rewound import hold_rewound, is_ahead
from openaperture.domain.decide.sending import of_request, unsaved
from openaperture.domain.decide.workers import from_worker, last_words, late_result
from openaperture.domain.milestones import FailureKind
from openaperture.domain.moves import accepts, verify
from openaperture.domain.workflow import Workflow

__all__ = ["Kinds", "decide", "held_step", "objection_to", "objection_to_forcing"]


def decide(workflow: Workflow, event: e.Event, now: datetime, kinds: Kinds) -> Decision:
    """Answer one event. A late, repeated or forged one moves nothing, and is recorded."""
    draft = Draft(workflow, now, kinds)
    if accepts(workflow.state, event) and _answer(draft, event):
        settle(draft)
    else:
        _out_of_place(draft, event)
    decision = draft.decision()
    verify(workflow.state, event, decision.workflow.state)
    return decision


def _answer(d: Draft, event: e.Event) -> bool:
    """False for an event that is of another attempt, or of somebody who has no say in this one."""
    match event:
        case e.Created():
            _created(d)
        case e.StartRequested():
            start(d, event.by)
        case e.HandedOver():
            return handed_over(d, event)
        case e.Woken():
            wake(d, event.heard_seconds)
        case e.LocksGranted() | e.LockDenied():
            return _of_locks(d, event)
        case e.Unsaved():
            unsaved(d, event)
        case e.Forged():
            return False
        case e.Undeliverable() | e.Routed() | e.RouteRefused() | e.Sent() | e.Unsure():
            of_request(d, event)
        case _:
            return _of_somebody(d, event)
    return True


def _of_somebody(d: Draft, event: e.FromWorker | e.FromPerson) -> bool:
    if not isinstance(event, e.FromWorker):
        from_person(d, event)
        return True
    step = d.workflow.find_step(event.key)
    if step is None or step.live is None or not _may_speak(event.worker, step.live):
        return False
    if step.unknown and isinstance(event, e.Claimed):
        # It may have been begun already.
        return False
    from_worker(d, step, step.live, event)
    return True


def _created(d: Draft) -> None:
    if d.workflow.version:
        return
    milestones = ", ".join(d.workflow.release.flat) or "none"
    lineage = d.workflow.lineage
    if lineage is None:
        d.tell("workflow.created", f"created with the milestones {milestones}")
        return
    begins = f"begins at {lineage.milestone}" if lineage.milestone else "begins at the first one"
    taken = ", ".join(d.workflow.outputs) or "nothing"
    text = f"created by {lineage.verb} of workflow {lineage.parent_id} with the milestones {milestones}; {begins}"
    d.tell("workflow.created", f"{text}; takes over what these have left: {taken}", parent_id=lineage.parent_id)


def _of_locks(d: Draft, event: e.OfLocks) -> bool:
    if not is_waiting(d.workflow):
        return False
    if isinstance(event, e.LocksGranted):
        taken(d, event)
        enter(d)
        return True
    reason = why_denied(event)
    d.warn("lock.denied", reason, lock=event.name, by=event.by)
    if event.code == "superseded" and d.workflow.failure is None:
        d.change(reason=reason)
        cancelled(d)
    else:
        fail_here(d, FailureKind.REFUSED, reason)
    return True


def _out_of_place(d: Draft, event: e.Event) -> None:
    """Change nothing. What carries meaning is written down; a worker that waits for an answer gets one."""
    standing = _standing(d.workflow)
    match event:
        case e.HeartbeatSeen() | e.MilestoneCompleted() | e.MilestoneFailed() if is_ahead(d.workflow, event.key):
            hold_rewound(d, event)
        case e.Claimed() | e.HeartbeatSeen():
            d.answer(event.reply_to, event.key, "void", f"this attempt is over; {standing}")
        case e.Logged():
            last_words(d, event)
        case e.MilestoneCompleted() | e.MilestoneFailed():
            late_result(d, event)
        case e.HandedOver(step=None, failed=False):
            _out_of_place(d, e.StartRequested())
        case e.HandedOver():
            told = "failed" if event.failed else "completed"
            what = f'a worker says "{told}" of {event.step or "nothing"}, which is not what is asked for'
            d.tell("callback.late", f"{what}; {standing}: nothing changes")
        case e.Forged():
            text = f'refused a callback "{event.claimed_type}" whose token is not of this workflow'
            d.warn("callback.forged", text)
        case e.StartRequested():
            d.tell("start.repeated", f"start requested again; {standing}: nothing changes")
        case _:
            pass


def _standing(workflow: Workflow) -> str:
    milestone = workflow.current_milestone
    return f"the workflow is {workflow.state}" + (f" at {milestone}" if milestone and not workflow.ended else "")


def _may_speak(worker: str | None, attempt: Attempt) -> bool:
    """Whether an answer is of the worker that holds the attempt. One that never claims has only its token."""
    return worker is None or attempt.worker is None or worker == attempt.worker

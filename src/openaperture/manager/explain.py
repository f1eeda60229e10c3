"""Why a workflow stands where it stands, for every state, in words and as data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, assert_never

from openaperture.client.models import Explanation
from openaperture.domain.attempts import Attempt
from openaperture.domain.decide.approvals import digest_of_inputs
from openaperture.domain.milestones import MilestoneKind, kind_of
from openaperture.domain.workflow import State, Step, Wait, Wire, Workflow
from openaperture.ports import LockClaim, RowKind, Sighting, Trouble

_ERRANDS = {
    RowKind.REQUEST: "cannot be requested",
    RowKind.ROUTE: "cannot be requested, since the way to its workers cannot be looked up",
    RowKind.RECORD: "waits until the workflow is recorded with the Manager",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """What is known beside the workflow itself."""

    kinds: Mapping[str, MilestoneKind]
    trouble: Trouble | None = None
    """What its outbox says."""
    claims: Sequence[LockClaim] = ()
    """The holders and queues of its locks."""
    sightings: Mapping[str, Sighting] = field(default_factory=dict[str, Sighting])
    """When a worker last took a milestone of that name."""
    backlog: int = 0
    """How many errands wait in the outbox."""


def explain(workflow: Workflow, about: Situation) -> Explanation:
    """One answer for every workflow: no wait is without a reason."""
    state = workflow.state
    match state:
        case State.CREATED:
            return Explanation(code="not_started", text="nobody has asked to run it yet")
        case State.RUNNING:
            return _running(workflow, about)
        case State.WAITING:
            return _waiting(workflow, about)
        case State.HELD:
            held = [step.milestone for step in workflow.steps if step.unknown]
            return Explanation(code="held", text=workflow.reason, details={"milestones": held})
        case State.PAUSED:
            return Explanation(code="paused", text=f"{workflow.reason}; before {workflow.current_milestone}")
        case State.CANCELLING:
            text = f"{workflow.reason}; its worker has a moment to stop"
            return Explanation(code="cancelling", text=text, until=workflow.wake_at)
        case State.COMPLETED:
            return Explanation(code="completed", text="all its milestones are done")
        case State.FAILED | State.CANCELLED:
            kept = f"; it keeps its locks: {workflow.keeps_locks}" if workflow.keeps_locks else ""
            return Explanation(code=state.value, text=f"{workflow.reason}{kept}")
        case _:
            assert_never(state)


def _running(workflow: Workflow, about: Situation) -> Explanation:
    at_work = [attempt for attempt in workflow.live if attempt.worker is not None]
    if at_work:
        text = "; ".join([*map(_at_work, at_work), *(step.wait.text for step in workflow.steps if step.wait)])
        return Explanation(code="running", text=text, until=workflow.wake_at)
    if about.trouble is not None and about.trouble.kind in _ERRANDS:
        return _errand(workflow, about.trouble, about.backlog)
    if workflow.wire is Wire.TERMS:
        text = f"{workflow.current_milestone} was sent to a worker, which answers when it is done"
        return Explanation(code="sent", text=text, until=workflow.wake_at)
    return _pickup(workflow, about)


def _at_work(attempt: Attempt) -> str:
    done = "" if attempt.progress is None else f", {attempt.progress:.0%} done"
    stopping = f", told to stop: {attempt.stop.reason}" if attempt.stop else ""
    return f"{attempt.milestone} runs at worker {attempt.worker}{done}{stopping}"


def _errand(workflow: Workflow, trouble: Trouble, backlog: int) -> Explanation:
    text = f"{workflow.current_milestone} {_ERRANDS[trouble.kind]}: {trouble.error}"
    details: dict[str, Any] = {"error": trouble.error, "again_at": trouble.again_at}
    if backlog > 1:
        text += f" ({backlog} errands wait in all)"
        details["backlog"] = backlog
    return Explanation(code="outbox", text=text, until=trouble.again_at, details=details)


def _pickup(workflow: Workflow, about: Situation) -> Explanation:
    milestone = workflow.live[0].milestone
    queue = kind_of(about.kinds, milestone).queue
    text = f"{workflow.current_milestone} was requested and no worker has taken it yet"
    details: dict[str, Any] = {"milestone": milestone, "queue": queue}
    if (seen := about.sightings.get(milestone)) is not None:
        text += f"; the last one that took a {milestone} was {seen.worker}, on {_shown(seen.at)}"
        details |= {"last_worker": seen.worker, "last_taken_at": seen.at}
    return Explanation(code="pickup", text=text, until=workflow.wake_at, details=details)


def _waiting(workflow: Workflow, about: Situation) -> Explanation:
    if workflow.wait is not None:
        return _locked(workflow, workflow.wait, about.claims)
    waits = [(step, step.wait) for step in workflow.steps if step.wait is not None]
    if not waits:
        return Explanation(code="waiting", text="it waits, and its stored state does not say for what")
    step, first = waits[0]
    details = _of_approval(workflow, step, about.kinds) if first.code == "approval" else {}
    text = "; ".join(wait.text for _, wait in waits)
    if step.votes:
        text += f" (approved so far by {', '.join(vote.by for vote in step.votes)})"
    return Explanation(code=first.code, text=text, until=workflow.wake_at, details=details)


def _of_approval(workflow: Workflow, step: Step, kinds: Mapping[str, MilestoneKind]) -> dict[str, Any]:
    rule = kind_of(kinds, step.milestone).approval
    return {
        "milestone": step.milestone,
        "role": rule.role if rule else None,
        "required": rule.required if rule else None,
        "approved_by": [vote.by for vote in step.votes],
        "inputs": digest_of_inputs(workflow),
    }


def _locked(workflow: Workflow, wait: Wait, claims: Sequence[LockClaim]) -> Explanation:
    locks = [_queue_of(name, workflow.id, claims) for name in workflow.release.locks]
    taken = [lock for lock in locks if lock["holder"] not in {None, workflow.id}]
    text = "; ".join(map(_told_of, taken))
    return Explanation(
        code=wait.code,
        text=f"{wait.text}: {text}" if text else wait.text,
        until=wait.until,
        details={"locks": locks},
    )


def _told_of(lock: Mapping[str, Any]) -> str:
    kept = f", though it has ended: {lock['kept']}" if lock["kept"] else ""
    ahead = f", and {lock['ahead']} wait before this one" if lock["ahead"] else ""
    return f'workflow {lock["holder"]} has "{lock["name"]}" since {_shown(lock["since"])}{kept}{ahead}'


def _queue_of(name: str, workflow_id: str, claims: Sequence[LockClaim]) -> dict[str, Any]:
    queue = [claim for claim in claims if claim.name == name]
    holder = next((claim for claim in queue if claim.holds), None)
    waiting = [claim.workflow_id for claim in queue if claim.state == "waiting"]
    return {
        "name": name,
        "holder": holder.workflow_id if holder else None,
        "since": holder.granted_at if holder else None,
        "kept": holder.kept if holder else None,
        "ahead": waiting.index(workflow_id) if workflow_id in waiting else 0,
    }


def _shown(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"

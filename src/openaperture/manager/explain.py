"""Why a workflow stands where it stands, for every state, in words and as data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, assert_never

from msgspec.structs import replace

from openaperture.client.models import Explanation
from openaperture.domain.attempts import Attempt
from openaperture.domain.decide.approvals import digest_of_inputs
from openaperture.domain.milestones import MilestoneKind, kind_of
from openaperture.domain.workflow import State, Step, Wait, Wire, Workflow
from openaperture.ports import Errand, LockClaim, RowKind, Sighting, Trouble

_TROUBLES = {
    RowKind.REQUEST: "cannot be requested",
    RowKind.ROUTE: "cannot be requested, since the way to its workers cannot be looked up",
    RowKind.RECORD: "waits until the workflow is recorded with the Manager",
}
_ERRANDS = {
    RowKind.REQUEST: "its request is to be handed to the broker",
    RowKind.ROUTE: "the way to its workers is to be looked up",
    RowKind.RECORD: "it is to be recorded with the Manager",
}
_NAMED_WORKERS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """What is known beside the workflow itself."""

    kinds: Mapping[str, MilestoneKind]
    trouble: Trouble | None = None
    """What its outbox says."""
    errand: Errand | None = None
    """What waits there for long, with or without trouble."""
    claims: Sequence[LockClaim] = ()
    """The holders and queues of its locks."""
    sightings: Mapping[str, Sighting] = field(default_factory=dict[str, Sighting])
    """When a worker last took a milestone of that name."""
    at_work: Mapping[str, Sequence[Sighting]] = field(default_factory=dict[str, Sequence[Sighting]])
    """Of a milestone that no worker has: what the workers of its queue are at; left out where nobody looked."""
    backlog: int = 0
    """How many errands wait in the outbox."""


def explain(workflow: Workflow, about: Situation) -> Explanation:
    """One answer for every workflow: no wait is without a reason."""
    found = _standing(workflow, about)
    pause = workflow.pause
    if pause is None or workflow.state not in {State.RUNNING, State.WAITING, State.HELD}:
        return found
    why = f": {pause.reason}" if pause.reason else ""
    return replace(
        found,
        text=f"{found.text}; pauses before the next milestone (asked by {pause.by}{why})",
        details={**found.details, "pause": {"by": pause.by, "reason": pause.reason, "at": pause.at}},
    )


def _standing(workflow: Workflow, about: Situation) -> Explanation:
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
            return Explanation(code=state.value, text=f"{workflow.reason}{_kept_locks(workflow)}")
        case _:
            assert_never(state)


def _kept_locks(workflow: Workflow) -> str:
    if not workflow.keeps_locks:
        return ""
    freed = " and ".join(f'"openaperture locks release {name}"' for name in workflow.lock_tokens)
    return f"; it keeps its locks: {workflow.keeps_locks}; look at the target, then {freed} frees them"


def _running(workflow: Workflow, about: Situation) -> Explanation:
    """What its milestones are at comes first, then what keeps others of their group from being begun."""
    at_work = [attempt for attempt in workflow.live if attempt.worker is not None]
    unclaimed = [attempt for attempt in workflow.live if attempt.worker is None]
    obstacle = _obstacle(workflow, unclaimed, about)
    asked = next((step for step in workflow.steps if step.wait is not None and step.wait.code == "approval"), None)
    texts = [*map(_at_work, at_work), *(step.wait.text for step in workflow.steps if step.wait)]
    if obstacle is not None:
        texts.append(obstacle.text)
    details = {
        **(_of_approval(workflow, asked, about.kinds) if asked is not None else {}),
        **(obstacle.details if obstacle is not None else {}),
    }
    code = obstacle.code if obstacle is not None and not at_work else "running"
    until = obstacle.until if obstacle is not None and code != "running" else workflow.wake_at
    return Explanation(code=code, text="; ".join(texts), until=until, details=details)


def _at_work(attempt: Attempt) -> str:
    done = "" if attempt.progress is None else f", {attempt.progress:.0%} done"
    stopping = f", told to stop: {attempt.stop.reason}" if attempt.stop else ""
    return f"{attempt.milestone} runs at worker {attempt.worker}{done}{stopping}"


def _obstacle(workflow: Workflow, unclaimed: Sequence[Attempt], about: Situation) -> Explanation | None:
    """What milestones wait for that no worker has; also trouble of the workflow while workers are at it."""
    names = ", ".join(attempt.milestone for attempt in unclaimed)
    if about.trouble is not None and about.trouble.kind in _TROUBLES:
        return _troubled(names or "what comes next", about.trouble, about.backlog)
    if about.errand is not None and about.errand.kind in _ERRANDS:
        return _slow(names or "what comes next", about.errand, about.backlog, workflow)
    if not unclaimed:
        return None
    if workflow.wire is Wire.TERMS:
        text = f"{names} was sent to a worker, which answers when it is done"
        return Explanation(code="sent", text=text, until=workflow.wake_at)
    found = [_pickup(workflow, attempt, about) for attempt in unclaimed]
    text = "; ".join(each.text for each in found)
    return replace(found[0], text=text)


def _troubled(name: str, trouble: Trouble, backlog: int) -> Explanation:
    text = f"{name} {_TROUBLES[trouble.kind]}: {trouble.error}{_in_all(backlog)}"
    details: dict[str, Any] = {"error": trouble.error, "again_at": trouble.again_at, **_counted(backlog)}
    return Explanation(code="outbox", text=text, until=trouble.again_at, details=details)


def _slow(name: str, errand: Errand, backlog: int, workflow: Workflow) -> Explanation:
    text = f"{name} waits since {_shown(errand.since)}: {_ERRANDS[errand.kind]}{_in_all(backlog)}"
    details: dict[str, Any] = {"since": errand.since, **_counted(backlog)}
    return Explanation(code="outbox", text=text, until=workflow.wake_at, details=details)


def _in_all(backlog: int) -> str:
    return f" ({backlog} errands wait in all)" if backlog > 1 else ""


def _counted(backlog: int) -> dict[str, int]:
    return {"backlog": backlog} if backlog > 1 else {}


def _pickup(workflow: Workflow, attempt: Attempt, about: Situation) -> Explanation:
    milestone = attempt.milestone
    kind = kind_of(about.kinds, milestone)
    route = attempt.route
    exchange = route.exchange_id if route else workflow.override_for(kind) or kind.exchange_id
    text = f"{milestone} was requested from queue {kind.queue}"
    text += f" of exchange {exchange}" if exchange else ""
    text += f" and no worker has taken it yet{_who_is_busy(about.at_work.get(milestone))}"
    seen = about.sightings.get(milestone)
    text += f"; the last one that took a {milestone} was {seen.worker}, on {_shown(seen.at)}" if seen else ""
    details = {
        "milestone": milestone,
        "queue": kind.queue,
        "exchange": exchange,
        "routing_key": route.routing_key if route else None,
        "last_worker": seen.worker if seen else None,
        "last_taken_at": seen.at if seen else None,
        "at_work": [{"worker": each.worker, "since": each.at} for each in about.at_work.get(milestone, ())],
    }
    return Explanation(code="pickup", text=text, until=workflow.wake_at, details=details)


def _who_is_busy(at_work: Sequence[Sighting] | None) -> str:
    """Empty where nobody looked."""
    if at_work is None:
        return ""
    if not at_work:
        return "; none of the same queue runs now, so no worker may be there to take it"
    workers = list(dict.fromkeys(each.worker for each in at_work))
    more = f" and {len(workers) - _NAMED_WORKERS} others" if len(workers) > _NAMED_WORKERS else ""
    verb = "runs" if len(at_work) == 1 else "run"
    return f"; {len(at_work)} of the same queue {verb} now, at worker {', '.join(workers[:_NAMED_WORKERS])}{more}"


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
    return Explanation(code=first.code, text=text, until=first.until, details=details)


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
    freed = f'look at the target, then "openaperture locks release {lock["name"]}" frees it'
    kept = f", though it has ended: {lock['kept']}; {freed}" if lock["kept"] else ""
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

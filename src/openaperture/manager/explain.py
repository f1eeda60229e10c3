"""Why a workflow stands where it stands, for every state."""

from typing import assert_never

from openaperture.client.models import Explanation
from openaperture.domain.attempts import Attempt
from openaperture.domain.workflow import State, Wire, Workflow
from openaperture.ports import RowKind, Trouble

_ERRANDS = {
    RowKind.REQUEST: "cannot be requested",
    RowKind.ROUTE: "cannot be requested, since the way to its workers cannot be looked up",
    RowKind.RECORD: "waits until the workflow is recorded with the Manager",
}


def explain(workflow: Workflow, trouble: Trouble | None = None) -> Explanation:
    """One answer for every workflow: no wait is without a reason. `trouble` is what its outbox says."""
    state = workflow.state
    match state:
        case State.CREATED:
            return Explanation(code="not_started", text="nobody has asked to run it yet")
        case State.RUNNING:
            return _running(workflow, trouble)
        case State.WAITING:
            return _waiting(workflow)
        case State.HELD:
            return Explanation(code="held", text=workflow.reason)
        case State.PAUSED:
            return Explanation(code="paused", text=workflow.reason)
        case State.CANCELLING:
            text = f"{workflow.reason}; its worker has a moment to stop"
            return Explanation(code="cancelling", text=text, until=workflow.wake_at)
        case State.COMPLETED:
            return Explanation(code="completed", text="all its milestones are done")
        case State.FAILED | State.CANCELLED:
            return Explanation(code=state.value, text=workflow.reason)
        case _:
            assert_never(state)


def _running(workflow: Workflow, trouble: Trouble | None) -> Explanation:
    at_work = [attempt for attempt in workflow.live if attempt.worker is not None]
    if at_work:
        text = "; ".join(_at_work(attempt) for attempt in at_work)
        return Explanation(code="running", text=text, until=workflow.wake_at)
    if trouble is not None and trouble.kind in _ERRANDS:
        text = f"{workflow.current_milestone} {_ERRANDS[trouble.kind]}: {trouble.error}"
        return Explanation(code="outbox", text=text, until=trouble.again_at)
    if workflow.wire is Wire.TERMS:
        text = f"{workflow.current_milestone} was sent to a worker, which answers when it is done"
        return Explanation(code="sent", text=text, until=workflow.wake_at)
    text = f"{workflow.current_milestone} was requested and no worker has taken it yet"
    return Explanation(code="pickup", text=text, until=workflow.wake_at)


def _at_work(attempt: Attempt) -> str:
    done = "" if attempt.progress is None else f", {attempt.progress:.0%} done"
    return f"{attempt.milestone} runs at worker {attempt.worker}{done}"


def _waiting(workflow: Workflow) -> Explanation:
    waits = [wait for wait in (workflow.wait, *(step.wait for step in workflow.steps)) if wait is not None]
    if not waits:
        return Explanation(code="waiting", text="it waits, and its stored state does not say for what")
    text = "; ".join(wait.text for wait in waits)
    return Explanation(code=waits[0].code, text=text, until=workflow.wake_at)

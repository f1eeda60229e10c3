"""Why a workflow stands where it stands, for every state."""

from typing import assert_never

from openaperture.client.models import Explanation
from openaperture.domain.workflow import State, Workflow


def explain(workflow: Workflow) -> Explanation:
    """One answer for every workflow: no wait is without a reason."""
    state = workflow.state
    match state:
        case State.CREATED:
            return Explanation(code="not_started", text="nobody has asked to run it yet")
        case State.RUNNING:
            return _running(workflow)
        case State.WAITING:
            return _waiting(workflow)
        case State.HELD:
            return Explanation(code="held", text=workflow.reason)
        case State.CANCELLING:
            text = f"{workflow.reason}; its worker has a moment to stop"
            return Explanation(code="cancelling", text=text, until=workflow.wake_at)
        case State.COMPLETED:
            return Explanation(code="completed", text="all its milestones are done")
        case State.FAILED | State.CANCELLED:
            return Explanation(code=state.value, text=workflow.reason)
        case _:
            assert_never(state)


def _running(workflow: Workflow) -> Explanation:
    at_work = [attempt for attempt in workflow.live if attempt.worker is not None]
    if at_work:
        text = "; ".join(f"{attempt.milestone} runs at worker {attempt.worker}" for attempt in at_work)
        return Explanation(code="running", text=text, until=workflow.wake_at)
    text = f"{workflow.current_milestone} was requested and no worker has taken it yet"
    return Explanation(code="pickup", text=text, until=workflow.wake_at)


def _waiting(workflow: Workflow) -> Explanation:
    wait = workflow.wait
    if wait is None:
        return Explanation(code="waiting", text="it waits, and its stored state does not say for what")
    return Explanation(code=wait.code, text=wait.text, until=wait.until)

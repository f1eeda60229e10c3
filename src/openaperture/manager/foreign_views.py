"""How a workflow looks that an orchestrator elsewhere runs: as that one has recorded it."""

from typing import Any, TypeVar

import msgspec

from openaperture.client.models import Explanation, WorkflowSummary
from openaperture.domain.times import rfc1123_text
from openaperture.domain.workflow import State, Workflow
from openaperture.ports import Fields

RECORDED = (
    *("deployment_repo", "deployment_repo_git_ref", "source_repo", "source_repo_git_ref", "source_commit_hash"),
    *("milestones", "current_step", "elapsed_step_time", "elapsed_workflow_time", "workflow_duration"),
    *("workflow_step_durations", "workflow_error", "workflow_completed", "event_log", "scheduled_start_time"),
    "execute_options",
)
"""The 17 fields of the original but its id."""
_WHEN_NULL: dict[str, Any] = {
    "milestones": [],
    "workflow_step_durations": {},
    "workflow_error": False,
    "workflow_completed": False,
}

S = TypeVar("S", bound=WorkflowSummary)


def as_recorded(shown: S, workflow: Workflow, record: Fields | None, *, with_log: bool = True) -> S:
    """`shown` as the record says, where there is one. A cancel that was made with us stands."""
    if record is None:
        return shown
    told = {name: record[name] for name in RECORDED if name in record}
    filled = {
        name: _WHEN_NULL[name] if value is None and name in _WHEN_NULL else value for name, value in told.items()
    }
    if not with_log:
        filled.pop("event_log", None)
    cancelled = workflow.state is State.CANCELLED
    if cancelled:
        filled |= {"workflow_error": True, "workflow_completed": True}
    changed = msgspec.structs.replace(shown, **filled, updated_at=rfc1123_text(record["updated_at"]))
    return changed if cancelled else _placed(changed)


def _placed(shown: S) -> S:
    """With our own fields as they follow from the original's."""
    step, milestones = shown.current_step, shown.milestones
    position = milestones.index(step) if step in milestones else 0
    return msgspec.structs.replace(
        shown,
        state=_state_of(shown),
        position=len(milestones) if _state_of(shown) == "completed" else position,
        explanation=Explanation(code="elsewhere", text="an orchestrator elsewhere runs it, and records it here"),
    )


def _state_of(shown: WorkflowSummary) -> str:
    match shown.workflow_completed, shown.workflow_error:
        case True, True:
            return "failed"
        case True, False:
            return "completed"
        case False, True:
            return "cancelling"
        case _:
            return "running"

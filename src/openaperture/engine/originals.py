"""A workflow in the field names of the original: what its Manager stores and what its messages carry."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from openaperture.domain.attempts import Attempt
from openaperture.domain.errors import BadInput
from openaperture.domain.times import elapsed_text, start_time_of
from openaperture.domain.workflow import State, Workflow

COMPLETED_STEP = "workflow_completed"
_CARRIED = ("deployable_units", "fleet_config", "aws_config", "ecs_task_definition")


def recorded_fields(workflow: Workflow, now: datetime) -> dict[str, Any]:
    """The 17 fields of the Manager's row, all of them: one that is left out would be erased."""
    return {
        **_described(workflow),
        "current_step": _step_of(workflow),
        "elapsed_step_time": elapsed_text(workflow.step_started_at, workflow.ended_at or now),
        "elapsed_workflow_time": elapsed_text(workflow.started_at, workflow.ended_at or now),
        "workflow_duration": elapsed_text(workflow.started_at, workflow.ended_at) if workflow.ended_at else None,
        # From the moment of a cancel on: what somebody wrote there to ask for it must stay.
        "workflow_error": workflow.state in {State.FAILED, State.CANCELLED, State.CANCELLING},
        "workflow_completed": workflow.ended,
        "scheduled_start_time": _start_time(workflow.release.scheduled_start_time),
    }


def message_fields(
    workflow: Workflow, attempt: Attempt, now: datetime, *, step: str | None, answer_to: Mapping[str, Any]
) -> dict[str, Any]:
    """The 35 fields of a message that asks for `step`. `answer_to` says where the answer and notes go."""
    carried = workflow.carried
    built_in = attempt.route.docker_build_etcd_token if attempt.route else None
    return {
        **_described(workflow),
        **{key: carried.get(key) for key in _CARRIED},
        **answer_to,
        "workflow_id": carried.get("workflow_id"),
        "current_step": step,
        "elapsed_step_time": elapsed_text(workflow.step_started_at, now),
        "elapsed_workflow_time": elapsed_text(workflow.started_at, now),
        "workflow_duration": None,
        "workflow_error": False,
        "workflow_completed": False,
        "workflow_start_time": workflow.started_at,
        "step_time": attempt.requested_at,
        "scheduled_start_time": workflow.release.scheduled_start_time,
        "force_build": carried.get("force_build", workflow.release.force_build),
        "build_messaging_exchange_id": workflow.release.build_messaging_exchange_id,
        "deploy_messaging_exchange_id": workflow.release.deploy_messaging_exchange_id,
        "docker_build_etcd_token": built_in or carried.get("docker_build_etcd_token"),
        "etcd_token": workflow.etcd_token,
        "notifications_config": workflow.notifications_config,
    }


def _described(workflow: Workflow) -> dict[str, Any]:
    """What the row and the message have in common. A worker may have resolved a ref to a commit."""
    release, carried = workflow.release, workflow.carried
    return {
        "id": workflow.id,
        "deployment_repo": release.deployment_repo,
        "deployment_repo_git_ref": carried.get("deployment_repo_git_ref") or release.deployment_repo_git_ref,
        "source_repo": release.source_repo,
        "source_repo_git_ref": carried.get("source_repo_git_ref") or release.source_repo_git_ref,
        "source_commit_hash": workflow.source_commit_hash,
        "milestones": list(release.flat),
        "workflow_step_durations": dict(workflow.step_durations) or None,
        "event_log": list(workflow.event_log),
        "execute_options": release.execute_options,
    }


def _step_of(workflow: Workflow) -> str:
    if workflow.state is State.COMPLETED:
        return COMPLETED_STEP
    return workflow.current_milestone or ""


def _start_time(text: str | None) -> str | None:
    """The Manager fails on any other form; such a workflow fails at that milestone, and says why."""
    try:
        return text if text is None or start_time_of(text) else None
    except BadInput:
        return None

"""How the values of the domain look to clients. The first fields are named and typed as the original's."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec

from openaperture.client import models
from openaperture.domain.milestones import MilestoneOptions
from openaperture.domain.releases import members_of
from openaperture.domain.times import elapsed_text, rfc1123_text
from openaperture.domain.workflow import State, Step, Workflow
from openaperture.manager.explain import Situation, explain
from openaperture.ports import HistoryEntry, StoredLog


def summary_of(workflow: Workflow, now: datetime, about: Situation) -> models.WorkflowSummary:
    return models.WorkflowSummary(**_fields(workflow, now, about))


def workflow_of(
    workflow: Workflow,
    now: datetime,
    about: Situation,
    *,
    entries: Sequence[HistoryEntry],
    attempts: Sequence[Mapping[str, Any]],
    children: Sequence[str],
) -> models.Workflow:
    event_log = [row.entry.text for row in entries]
    fields = _fields(workflow, now, about)
    shown = attempts_of(attempts)
    return models.Workflow(**fields, event_log=event_log, attempts=shown, children=list(children))


def step_of(workflow: Workflow) -> str | None:
    """The original's `current_step`."""
    return "workflow_completed" if workflow.state is State.COMPLETED else workflow.current_milestone


def attempts_of(rows: Sequence[Mapping[str, Any]]) -> list[models.Attempt]:
    return msgspec.convert(list(rows), list[models.Attempt])


def event_of(row: HistoryEntry) -> models.Event:
    entry = row.entry
    return models.Event(
        id=row.id,
        kind=entry.kind,
        text=entry.text,
        at=entry.at,
        success=entry.success,
        details=dict(entry.details),
    )


def chunk_of(row: StoredLog) -> models.LogChunk:
    chunk = row.chunk
    return models.LogChunk(
        id=row.id,
        attempt=chunk.attempt,
        milestone=chunk.milestone,
        sequence=chunk.sequence,
        lines=list(chunk.lines),
        at=chunk.at,
    )


def _fields(workflow: Workflow, now: datetime, about: Situation) -> dict[str, Any]:
    until = workflow.ended_at or now
    return {**_release_fields(workflow), **_original_fields(workflow, until), **_our_fields(workflow, about)}


def _release_fields(workflow: Workflow) -> dict[str, Any]:
    release = workflow.release
    return {
        "milestones": list(release.flat),
        "deployment_repo": release.deployment_repo,
        "deployment_repo_git_ref": release.deployment_repo_git_ref,
        "source_repo": release.source_repo,
        "source_repo_git_ref": release.source_repo_git_ref,
        "scheduled_start_time": release.scheduled_start_time,
        "execute_options": None if release.execute_options is None else dict(release.execute_options),
        "force_build": release.force_build,
        "build_messaging_exchange_id": release.build_messaging_exchange_id,
        "deploy_messaging_exchange_id": release.deploy_messaging_exchange_id,
    }


def _original_fields(workflow: Workflow, until: datetime) -> dict[str, Any]:
    """`until` is now, or when it ended."""
    instants = (workflow.created_at, workflow.started_at, workflow.step_started_at, workflow.ended_at)
    return {
        "id": workflow.id,
        "source_commit_hash": workflow.source_commit_hash,
        "current_step": step_of(workflow),
        "elapsed_step_time": _elapsed(workflow.step_started_at, until),
        "elapsed_workflow_time": _elapsed(workflow.started_at, until),
        "workflow_duration": _elapsed(workflow.started_at, until) if workflow.ended else None,
        "workflow_step_durations": dict(workflow.step_durations),
        # From the moment of a cancel on: builders of the original look for it while they work.
        "workflow_error": workflow.state in {State.FAILED, State.CANCELLED, State.CANCELLING},
        "workflow_completed": workflow.ended,
        "inserted_at": _rfc1123(workflow.created_at),
        "updated_at": _rfc1123(max(filter(None, instants), default=None)),
    }


def _our_fields(workflow: Workflow, about: Situation) -> dict[str, Any]:
    release = workflow.release
    return {
        "state": workflow.state.value,
        "reason": workflow.reason,
        "position": workflow.position,
        "plan": [list(members_of(entry)) for entry in release.milestones],
        "on_failure": list(release.on_failure),
        "on_group_failure": release.on_group_failure.value,
        "milestone_options": {name: _given(options) for name, options in release.milestone_options.items()},
        "locks": list(release.locks),
        "locks_from": release.locks_from,
        "when_locked": release.when_locked.value,
        "steps": [_step_shown(step) for step in workflow.steps],
        "created_by": workflow.created_by or None,
        "parent_id": workflow.lineage.parent_id if workflow.lineage else None,
        "first_position": workflow.lineage.position if workflow.lineage else 0,
        "explanation": explain(workflow, about),
        "progress": next((attempt.progress for attempt in workflow.live), None),
        "outputs": {name: dict(outputs) for name, outputs in workflow.outputs.items()},
        "created_at": workflow.created_at,
        "started_at": workflow.started_at,
        "step_started_at": workflow.step_started_at,
        "ended_at": workflow.ended_at,
    }


def _given(options: MilestoneOptions) -> dict[str, Any]:
    given = {name: value for name in options.__slots__ if (value := getattr(options, name)) is not None}
    return given if options.retry_on is None else {**given, "retry_on": sorted(options.retry_on)}


def _elapsed(since: datetime | None, until: datetime) -> str | None:
    return None if since is None else elapsed_text(since, until)


def _rfc1123(instant: datetime | None) -> str | None:
    return None if instant is None else rfc1123_text(instant)


def _step_shown(step: Step) -> models.Step:
    attempt = step.live
    return models.Step(
        milestone=step.milestone,
        state=_state_of(step),
        text=step.failure or step.unknown or (step.wait.text if step.wait else ""),
        worker=attempt.worker if attempt else None,
        progress=attempt.progress if attempt else None,
        until=step.wake_at,
    )


def _state_of(step: Step) -> str:
    if step.result is not None:
        return step.result.value
    if step.live is None:
        return "waiting" if step.wait else "idle"
    if step.unknown:
        return "unknown"
    if step.live.stop is not None:
        return "stopping"
    return "running" if step.live.worker else "requested"

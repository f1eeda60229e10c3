"""Builds the request that a worker receives, from the state of its workflow."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from openaperture.domain.messages import JSON_CONTENT_TYPE, AttemptInfo, Request
from openaperture.domain.milestones import MilestoneKind
from openaperture.domain.times import elapsed_text
from openaperture.domain.workflow import Attempt, Workflow
from openaperture.engine.ports import Encode
from openaperture.engine.tokens import TokenMint
from openaperture.ports import Address, OutboxRow


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who we are on the wire: how a worker's answer finds us."""

    callback: Address
    queue_name: str = "workflow_orchestration"
    exchange_id: str | None = None
    broker_id: str | None = None


class RequestBuilder:
    """Turns an attempt into an outbox row. The bytes are final: every copy on the wire is the same."""

    def __init__(
        self, identity: Identity, mint: TokenMint, kinds: Mapping[str, MilestoneKind], encode: Encode
    ) -> None:
        self._identity = identity
        self._mint = mint
        self._kinds = kinds
        self._encode = encode

    def build(self, workflow: Workflow, attempt: Attempt, now: datetime) -> OutboxRow:
        kind = self._kinds[attempt.milestone]
        if kind.queue is None:
            raise AssertionError(f"{attempt.milestone} has no workers")
        return OutboxRow(
            id=f"{workflow.id}.{attempt.key}",
            workflow_id=workflow.id,
            attempt=str(attempt.key),
            queue=kind.queue,
            body=self._encode(self._request(workflow, attempt, kind, now)),
            content_type=JSON_CONTENT_TYPE,
        )

    def _request(self, workflow: Workflow, attempt: Attempt, kind: MilestoneKind, now: datetime) -> Request:
        release, key, us = workflow.release, attempt.key, self._identity
        return Request(
            id=workflow.id,
            deployment_repo=release.deployment_repo,
            deployment_repo_git_ref=release.deployment_repo_git_ref,
            source_repo=release.source_repo,
            source_repo_git_ref=release.source_repo_git_ref,
            source_commit_hash=workflow.source_commit_hash,
            milestones=list(release.milestones),
            current_step=attempt.milestone,
            elapsed_step_time=elapsed_text(workflow.step_started_at, now),
            elapsed_workflow_time=elapsed_text(workflow.started_at, now),
            workflow_step_durations=dict(workflow.step_durations),
            workflow_error=False,
            workflow_completed=False,
            event_log=[],
            scheduled_start_time=release.scheduled_start_time,
            execute_options=dict(release.execute_options) if release.execute_options is not None else None,
            force_build=release.force_build,
            build_messaging_exchange_id=release.build_messaging_exchange_id,
            deploy_messaging_exchange_id=release.deploy_messaging_exchange_id,
            etcd_token=workflow.etcd_token,
            notifications_config=dict(workflow.notifications_config) if workflow.notifications_config else None,
            attempt_token=self._mint.mint(workflow.id, key),
            attempt=AttemptInfo(
                milestone=attempt.milestone,
                position=key.position,
                generation=key.generation,
                number=key.number,
            ),
            idempotency_key=f"{workflow.id}.{key.generation}.{key.position}",
            inputs={milestone: dict(outputs) for milestone, outputs in workflow.outputs.items()},
            timeout_seconds=attempt.run_seconds,
            heartbeat_seconds=kind.heartbeat_seconds,
            callback_exchange=us.callback.exchange,
            callback_routing_key=us.callback.routing_key,
            orchestration_queue_name=us.queue_name,
            orchestration_exchange_id=us.exchange_id,
            orchestration_broker_id=us.broker_id,
            workflow_orchestration_exchange_id=us.exchange_id,
            workflow_orchestration_broker_id=us.broker_id,
            notifications_exchange_id=us.exchange_id,
            notifications_broker_id=us.broker_id,
        )

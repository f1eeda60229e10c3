"""Builds the request that a worker receives, from the state of its workflow."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from openaperture.domain.attempts import Attempt
from openaperture.domain.messages import JSON_CONTENT_TYPE, AttemptInfo, Request
from openaperture.domain.milestones import MilestoneKind, kind_of
from openaperture.domain.times import elapsed_text
from openaperture.domain.workflow import Wire, Workflow
from openaperture.engine.originals import message_fields
from openaperture.engine.ports import Encode, EncodeWorkflow
from openaperture.engine.tokens import TokenMint
from openaperture.ports import Address, OutboxRow, RowKind


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who we are on the wire: how a worker's answer finds us."""

    callback: Address
    exchange_id: str | None = None
    broker_id: str | None = None
    logical_queue: str = "workflow_orchestration"
    """What others call our queue, whatever it is called on the broker."""

    def answer_to(self) -> dict[str, Any]:
        """The fields of a request that say where answers and notes go, both spellings apart from ours."""
        return {
            "orchestration_queue_name": self.logical_queue,
            "workflow_orchestration_exchange_id": self.exchange_id,
            "workflow_orchestration_broker_id": self.broker_id,
            "notifications_exchange_id": self.exchange_id,
            "notifications_broker_id": self.broker_id,
        }


class RequestBuilder:
    """Turns an attempt into an outbox row. The bytes are final: every copy on the wire is the same."""

    def __init__(
        self,
        identity: Identity,
        mint: TokenMint,
        kinds: Mapping[str, MilestoneKind],
        encode: Encode,
        encode_workflow: EncodeWorkflow,
        *,
        looks_up_routes: bool = False,
    ) -> None:
        """`looks_up_routes`: ask for the way to the workers first, and build the request once it is known."""
        self._identity = identity
        self._mint = mint
        self._kinds = kinds
        self._encode = encode
        self._encode_workflow = encode_workflow
        self._looks_up_routes = looks_up_routes

    def build(self, workflow: Workflow, attempt: Attempt, now: datetime) -> OutboxRow:
        """The request; or, while the way to its workers is unknown, the errand to find it."""
        name = f"{workflow.id}.{attempt.key}"
        if self._looks_up_routes and attempt.route is None:
            return OutboxRow(
                id=f"{name}.route", workflow_id=workflow.id, kind=RowKind.ROUTE, attempt=str(attempt.key)
            )
        terms = workflow.wire is Wire.TERMS
        return OutboxRow(
            id=name,
            workflow_id=workflow.id,
            kind=RowKind.REQUEST,
            attempt=str(attempt.key),
            queue=self._queue_of(workflow, attempt),
            route=attempt.route,
            body=self._terms(workflow, attempt, now) if terms else self._json(workflow, attempt, now),
            content_type=None if terms else JSON_CONTENT_TYPE,
        )

    def _queue_of(self, workflow: Workflow, attempt: Attempt) -> str:
        kind = kind_of(self._kinds, attempt.milestone)
        if kind.queue is not None:
            return kind.queue
        return (workflow.origin.queue_name if workflow.origin else None) or self._identity.callback.routing_key

    def _terms(self, workflow: Workflow, attempt: Attempt, now: datetime) -> bytes:
        fields = message_fields(
            workflow,
            attempt,
            now,
            step=self._step_of(workflow, attempt),
            answer_to=self._identity.answer_to(),
        )
        return self._encode_workflow(fields)

    def _step_of(self, workflow: Workflow, attempt: Attempt) -> str | None:
        """The step that is asked for; of a schedule that was waited for, the one before: it is looked at again."""
        waited = kind_of(self._kinds, attempt.milestone).queue is None and attempt.again
        if not waited:
            return attempt.milestone
        position = attempt.key.position
        return workflow.release.flat[position - 1] if position else None

    def _json(self, workflow: Workflow, attempt: Attempt, now: datetime) -> bytes:
        return self._encode(self._request(workflow, attempt, kind_of(self._kinds, attempt.milestone), now))

    def _request(self, workflow: Workflow, attempt: Attempt, kind: MilestoneKind, now: datetime) -> Request:
        release, key, us = workflow.release, attempt.key, self._identity
        return Request(
            id=workflow.id,
            deployment_repo=release.deployment_repo,
            deployment_repo_git_ref=release.deployment_repo_git_ref,
            source_repo=release.source_repo,
            source_repo_git_ref=release.source_repo_git_ref,
            source_commit_hash=workflow.source_commit_hash,
            milestones=list(release.flat),
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
            idempotency_key=f"{workflow.id}.{key.generation}.{key.position}.{attempt.milestone}",
            inputs=_inputs_of(workflow),
            locks=dict(workflow.lock_tokens),
            timeout_seconds=attempt.run_seconds,
            heartbeat_seconds=kind.heartbeat_seconds,
            callback_exchange=us.callback.exchange,
            callback_routing_key=us.callback.routing_key,
            orchestration_exchange_id=us.exchange_id,
            orchestration_broker_id=us.broker_id,
            docker_build_etcd_token=attempt.route.docker_build_etcd_token if attempt.route else None,
            **us.answer_to(),
        )


def _inputs_of(workflow: Workflow) -> dict[str, dict[str, str]]:
    """What the milestones before it have left; and once the workflow has failed, why."""
    inputs = {milestone: dict(outputs) for milestone, outputs in workflow.outputs.items()}
    if (failure := workflow.failure) is not None:
        inputs["failure"] = {
            "milestone": failure.milestone,
            "kind": failure.kind.value,
            "reason": failure.reason,
        }
    return inputs

"""The messages on the wire, as types: one truth for decoding, encoding and the published schemas.

`StartMessage` and `Request` carry the field names of the original OpenAperture. A worker answers with
a small `Callback`, or with its whole request as a `StartMessage` that carries the attempt token.
"""

from datetime import datetime
from typing import Annotated, Any

from msgspec import Meta, Struct

from openaperture.domain.milestones import FailureKind, OnLoss
from openaperture.domain.releases import MAX_MEMBERS, OnGroupFailure, WhenLocked

JSON_CONTENT_TYPE = "application/json"

Id = Annotated[str, Meta(min_length=1, max_length=128)]
Token = Annotated[str, Meta(min_length=1, max_length=256)]
Name = Annotated[str, Meta(min_length=1, max_length=64)]
Line = Annotated[str, Meta(max_length=8_192)]
Text = Annotated[str, Meta(max_length=65_536)]
Group = Annotated[list[Name], Meta(min_length=1, max_length=MAX_MEMBERS)]
LockName = Annotated[str, Meta(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/@-]*$")]
Outputs = Annotated[dict[Name, Annotated[str, Meta(max_length=4_096)]], Meta(max_length=64)]
"""What a milestone leaves for the later ones: name -> text. A file is passed as its path or address."""
ExchangeId = int | Annotated[str, Meta(max_length=128)]
"""Also of a broker: the environment gives texts, the Manager gives numbers."""
Seconds = Annotated[float, Meta(gt=0, le=30 * 86_400)]


class WorkflowFields(Struct, kw_only=True):
    """The fields of a workflow that travel in both directions, named as in the original."""

    id: Id
    workflow_id: str | None = None
    deployment_repo: Line | None = None
    deployment_repo_git_ref: Line | None = None
    source_repo: Line | None = None
    source_repo_git_ref: Line | None = None
    source_commit_hash: Line | None = None
    current_step: Line | None = None
    elapsed_step_time: Line | None = None
    elapsed_workflow_time: Line | None = None
    workflow_duration: Line | None = None
    workflow_step_durations: dict[str, str] | None = None
    workflow_error: bool | None = None
    workflow_completed: bool | None = None
    event_log: list[Text] | None = None
    scheduled_start_time: Line | None = None
    execute_options: dict[str, Any] | None = None
    force_build: bool | None = None
    build_messaging_exchange_id: int | None = None
    deploy_messaging_exchange_id: int | None = None
    etcd_token: Line | None = None
    notifications_config: dict[str, Any] | None = None


class Limits(Struct, kw_only=True, forbid_unknown_fields=True):
    """What a workflow asks for in place of the limits of a milestone's kind."""

    on_loss: OnLoss | None = None
    retry_on: list[FailureKind] | None = None
    max_attempts: Annotated[int, Meta(ge=1, le=100)] | None = None
    pickup_seconds: Seconds | None = None
    pickup_limit_seconds: Seconds | None = None
    heartbeat_seconds: Annotated[float, Meta(ge=1, le=86_400)] | None = None
    run_seconds: Seconds | None = None


class StartMessage(WorkflowFields, kw_only=True):
    """What arrives on `workflow_orchestration` without a `type`: start this workflow, or go on with it.

    With an `attempt_token` it is a worker's whole-map answer: the milestone is done, or has failed
    when `workflow_error` is true. Only its outputs and resolved refs are taken over then.
    """

    milestones: Annotated[list[Name | Group], Meta(max_length=100)] | None = None
    """Names, and groups of names: their milestones run side by side."""
    on_failure: Annotated[list[Name], Meta(max_length=20)] = []
    """Milestones to run once the workflow has failed."""
    on_group_failure: OnGroupFailure = OnGroupFailure.FINISH
    milestone_options: Annotated[dict[Name, Limits], Meta(max_length=100)] = {}
    locks: Annotated[list[LockName], Meta(max_length=16)] = []
    """Names of what only one workflow may have at a time, such as `environment:prod`."""
    locks_from: Name | None = None
    """The milestone before which they are taken; without it, the first."""
    when_locked: WhenLocked = WhenLocked.WAIT
    attempt_token: Token | None = None
    outputs: Outputs | None = None


class OriginalMessage(WorkflowFields, kw_only=True):
    """A workflow as the original sends it, as Erlang terms: 35 keys with this struct's names."""

    milestones: Annotated[list[Line], Meta(max_length=100)] | None = None
    other_force_build: Any = None
    """`force_build`, when the caller of `execute` sent something else than a boolean: it travels as it came."""
    workflow_start_time: datetime | None = None
    step_time: datetime | None = None
    """When the milestone was asked for. A worker sends it back, and so names the attempt."""
    orchestration_queue_name: Line | None = None
    workflow_orchestration_exchange_id: ExchangeId | None = None
    workflow_orchestration_broker_id: ExchangeId | None = None
    notifications_exchange_id: ExchangeId | None = None
    notifications_broker_id: ExchangeId | None = None
    docker_build_etcd_token: Line | None = None
    deployable_units: list[dict[str, Any] | None] | None = None
    fleet_config: dict[str, Any] | None = None
    aws_config: dict[str, Any] | None = None
    ecs_task_definition: str | None = None


class AttemptInfo(Struct, kw_only=True):
    """Which attempt a request asks for."""

    milestone: str
    position: int
    generation: int
    number: int


class Request(WorkflowFields, kw_only=True):
    """What a worker receives: do the milestone `current_step` of this workflow."""

    milestones: list[str]
    """All of the workflow, in one row, also those of groups."""
    attempt_token: Token
    """Must come back in every callback. Only the current attempt's token counts."""
    attempt: AttemptInfo
    idempotency_key: str
    """The same for every attempt of one milestone: run its effect once."""
    inputs: dict[str, dict[str, str]]
    """Outputs of the earlier milestones: milestone -> name -> text. Of a milestone that follows a failure also
    `failure`: its `milestone`, `kind` and `reason`."""
    locks: dict[str, int] = {}
    """Locks that the workflow has -> token. A token grows each time that the lock is given to somebody: what is
    deployed to can refuse one that is lower than it has seen."""
    timeout_seconds: float
    heartbeat_seconds: float
    """Without a callback for this long the attempt counts as lost; send one at a third of it."""
    callback_exchange: str
    """AMQP exchange and routing key for callbacks, ready to use."""
    callback_routing_key: str
    orchestration_queue_name: str = "workflow_orchestration"
    orchestration_exchange_id: str | None = None
    orchestration_broker_id: str | None = None
    workflow_orchestration_exchange_id: str | None = None
    workflow_orchestration_broker_id: str | None = None
    notifications_exchange_id: str | None = None
    notifications_broker_id: str | None = None
    docker_build_etcd_token: str | None = None


class Callback(Struct, kw_only=True, tag_field="type"):
    """What every small callback carries."""

    workflow_id: Id
    attempt_token: Token
    worker: Name
    """Random name of the worker process, chosen anew at each start."""


class Accepted(Callback, tag="accepted", kw_only=True):
    """A worker wants to run this attempt and waits for the answer on `reply_to` (default exchange)."""

    reply_to: Line | None = None


class Heartbeat(Callback, tag="heartbeat", kw_only=True):
    """The attempt is still running. What the repository declares for it may come along."""

    reply_to: Line | None = None
    timeout_seconds: Seconds | None = None
    on_loss: str | None = None
    progress: Annotated[float, Meta(ge=0, le=1)] | None = None


class Log(Callback, tag="log", kw_only=True):
    """Some lines of output. `sequence` counts from 1 per attempt."""

    sequence: Annotated[int, Meta(ge=1, le=2**53)]
    lines: Annotated[list[Line], Meta(max_length=1_000)]


class Note(Callback, tag="note", kw_only=True):
    """A sentence for the people who follow the workflow."""

    text: Line
    success: bool = True


class Completed(Callback, tag="completed", kw_only=True):
    """The milestone is done."""

    outputs: Outputs = {}
    message: Line = ""
    source_commit_hash: Line | None = None
    notifications_config: dict[str, Any] | None = None


class Failed(Callback, tag="failed", kw_only=True):
    """The milestone failed; `message` is shown to people.

    `interrupted`: it was interrupted, or goes on though it was told to stop: what it has done is not known.
    """

    message: Line
    interrupted: bool = False
    kind: FailureKind = FailureKind.CRASHED
    """Why: `crashed` (it ran and did not succeed), `timed_out`, `bad_input` (it cannot succeed as it is asked for)
    and so on; the configuration of the milestone says which are tried again."""


class Released(Callback, tag="released", kw_only=True):
    """The worker stops before it began: give the attempt to another. Sent instead of `failed`."""


AnyCallback = Accepted | Heartbeat | Log | Note | Completed | Failed | Released


class Answer(Struct, kw_only=True):
    """Our answer to `accepted` and `heartbeat`, sent to the worker's reply queue.

    verdict: `run` (the attempt is yours), `void` (it is not, or not any more: drop it, stop at once)
    or `cancel` (a person or a deadline ended it: stop, then report `failed`).
    """

    workflow_id: str
    attempt_token: str
    verdict: str
    reason: str = ""

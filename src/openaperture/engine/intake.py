"""From a received message to an event, or to the sentence that says why it is none.

Only fields that a sender may decide are read. What carries authority (flags of completion, positions,
routing) comes from our own state, whatever the message says.
"""

from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from msgspec import structs

from openaperture.domain import events as e
from openaperture.domain import messages as m
from openaperture.domain.attempts import AttemptKey
from openaperture.domain.errors import BadMessage
from openaperture.domain.milestones import MilestoneOptions, OnLoss
from openaperture.domain.releases import Release
from openaperture.domain.workflow import Origin, Wire, Workflow
from openaperture.engine.tokens import TokenMint


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One event for one workflow."""

    workflow_id: str
    event: e.Event
    message_id: str | None = None
    """For the inbox: unique within its workflow. None for what needs none: timers and people, forgeries, and

    questions (claims and heartbeats), which change nothing when repeated and must be answered each time."""
    seed: Workflow | None = None
    """What to begin with if the workflow is not known yet."""

    @property
    def begins(self) -> bool:
        """Whether it asks for a workflow to begin, rather than to go on."""
        match self.event:
            case e.StartRequested():
                return True
            case e.HandedOver(step=step):
                return step is None
            case _:
                return False


def item_of(
    message: m.StartMessage | m.OriginalMessage | m.AnyCallback, message_id: str | None, mint: TokenMint
) -> Item:
    """The event that a message means. Raises BadMessage when it means none."""
    item = _item_of(message, message_id, mint)
    if item.message_id is None or isinstance(item.event, e.Forged):
        # What nobody vouches for must not make the genuine message a repeat.
        return replace(item, message_id=None)
    return replace(item, message_id=f"{item.workflow_id}/{item.message_id}")


def _item_of(
    message: m.StartMessage | m.OriginalMessage | m.AnyCallback, message_id: str | None, mint: TokenMint
) -> Item:
    if isinstance(message, m.OriginalMessage):
        return _original(message, message_id)
    if isinstance(message, m.StartMessage):
        if message.attempt_token is None:
            return _start(message, message_id)
        return _whole_map(message, message.attempt_token, message_id, mint)
    key = mint.find_key(message.workflow_id, message.attempt_token)
    if key is None:
        forged = e.Forged(claimed_type=type(message).__name__.lower())
        return Item(workflow_id=message.workflow_id, event=forged, message_id=message_id)
    event = _callback(message, key)
    inbox_id = None if isinstance(event, e.Claimed | e.HeartbeatSeen) else message_id
    return Item(workflow_id=message.workflow_id, event=event, message_id=inbox_id)


def _start(message: m.StartMessage, message_id: str | None) -> Item:
    _require_uuid(message.id)
    if message.current_step:
        raise BadMessage(
            f'workflow {message.id}: the message goes on from "{message.current_step}" but carries no '
            "attempt_token; send back the one of the request"
        )
    seed = Workflow(id=message.id, release=_asked_of(message)) if message.milestones is not None else None
    return Item(workflow_id=message.id, event=e.StartRequested(), message_id=message_id, seed=seed)


def _original(message: m.OriginalMessage, message_id: str | None) -> Item:
    """A message of the original: what it says counts for a workflow that we have never seen."""
    _require_uuid(message.id)
    failed = bool(message.workflow_error)
    if message.workflow_completed and not failed and message.current_step is None:
        raise BadMessage(f"workflow {message.id}: the message says that it is completed; there is nothing to do")
    brought = _carried(message)
    event = e.HandedOver(
        step=message.current_step,
        step_time=message.step_time,
        failed=failed,
        event_log=tuple(message.event_log or ()),
        carried=brought,
        etcd_token=message.etcd_token or None,
        notifications_config=message.notifications_config,
        source_commit_hash=message.source_commit_hash,
    )
    seed = Workflow(
        id=message.id,
        release=_release_of(message),
        wire=Wire.TERMS,
        origin=Origin(
            queue_name=message.orchestration_queue_name,
            exchange_id=message.workflow_orchestration_exchange_id,
            broker_id=message.workflow_orchestration_broker_id,
        ),
        carried=brought,
        event_log=event.event_log,
        etcd_token=event.etcd_token,
        notifications_config=message.notifications_config,
        source_commit_hash=message.source_commit_hash,
        step_durations=message.workflow_step_durations or {},
        started_at=message.workflow_start_time,
    )
    return Item(workflow_id=message.id, event=event, message_id=message_id, seed=seed)


def _carried(message: m.OriginalMessage) -> dict[str, Any]:
    """What travels in messages of the original and nowhere else. Nil says nothing, and takes nothing away."""
    fields = {
        "workflow_id": message.workflow_id,
        "force_build": message.other_force_build,
        "source_repo_git_ref": message.source_repo_git_ref,
        "deployment_repo_git_ref": message.deployment_repo_git_ref,
        "docker_build_etcd_token": message.docker_build_etcd_token,
        "deployable_units": [unit for unit in message.deployable_units or () if unit is not None] or None,
        "fleet_config": message.fleet_config,
        "aws_config": message.aws_config,
        "ecs_task_definition": message.ecs_task_definition,
    }
    return {key: value for key, value in fields.items() if value is not None}


def _release_of(message: m.StartMessage | m.OriginalMessage) -> Release:
    """What the sender asks for."""
    entries = message.milestones or ()
    return Release(
        milestones=tuple(entry if isinstance(entry, str) else tuple(entry) for entry in entries),
        deployment_repo=message.deployment_repo,
        deployment_repo_git_ref=message.deployment_repo_git_ref,
        source_repo=message.source_repo,
        source_repo_git_ref=message.source_repo_git_ref,
        scheduled_start_time=message.scheduled_start_time,
        execute_options=message.execute_options,
        force_build=message.force_build,
        build_messaging_exchange_id=message.build_messaging_exchange_id,
        deploy_messaging_exchange_id=message.deploy_messaging_exchange_id,
    )


def _asked_of(message: m.StartMessage) -> Release:
    """With what only our own messages can ask for."""
    options = {name: _options_of(limits) for name, limits in message.milestone_options.items()}
    return replace(
        _release_of(message),
        on_failure=tuple(message.on_failure),
        on_group_failure=message.on_group_failure,
        milestone_options=options,
        locks=tuple(dict.fromkeys(message.locks)),
        locks_from=message.locks_from,
        when_locked=message.when_locked,
    )


def _options_of(limits: m.Limits) -> MilestoneOptions:
    given = structs.asdict(limits)
    retry_on = None if limits.retry_on is None else frozenset(limits.retry_on)
    return MilestoneOptions(**given | {"retry_on": retry_on})


def _require_uuid(workflow_id: str) -> None:
    try:
        UUID(workflow_id)
    except ValueError as exc:
        raise BadMessage(f"the workflow id {workflow_id[:64]!r} is not a UUID; send one") from exc


def _whole_map(message: m.StartMessage, token: str, message_id: str | None, mint: TokenMint) -> Item:
    """A worker's answer in the original's way: the whole request again, its flags set."""
    key = mint.find_key(message.id, token)
    event: e.Event
    if key is None:
        event = e.Forged(claimed_type="workflow")
    elif message.workflow_error:
        last = (message.event_log or ["the worker reported a failure"])[-1]
        event = e.MilestoneFailed(key=key, worker=None, message=last)
    else:
        event = e.MilestoneCompleted(
            key=key,
            worker=None,
            outputs=message.outputs or {},
            source_commit_hash=message.source_commit_hash,
            notifications_config=message.notifications_config,
        )
    return Item(workflow_id=message.id, event=event, message_id=message_id)


def _callback(message: m.AnyCallback, key: AttemptKey) -> e.Event:
    worker = message.worker
    match message:
        case m.Accepted():
            return e.Claimed(key=key, worker=worker, reply_to=message.reply_to)
        case m.Heartbeat():
            return e.HeartbeatSeen(
                key=key,
                worker=worker,
                reply_to=message.reply_to,
                run_seconds=message.timeout_seconds,
                on_loss=OnLoss(message.on_loss) if message.on_loss in set(OnLoss) else None,
                progress=message.progress,
            )
        case m.Log():
            return e.Logged(key=key, worker=worker, sequence=message.sequence, lines=message.lines)
        case m.Note():
            return e.Noted(key=key, worker=worker, text=message.text, success=message.success)
        case m.Completed():
            return e.MilestoneCompleted(
                key=key,
                worker=worker,
                outputs=message.outputs,
                message=message.message,
                source_commit_hash=message.source_commit_hash,
                notifications_config=message.notifications_config,
            )
        case m.Released():
            return e.Released(key=key, worker=worker)
        case m.Failed():
            return e.MilestoneFailed(
                key=key,
                worker=worker,
                message=message.message,
                interrupted=message.interrupted,
                kind=message.kind,
            )

"""The state of one workflow, as a value. No I/O, no clock, no randomness."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from openaperture.domain.milestones import MilestoneKind, OnLoss
from openaperture.domain.routes import ExchangeBy, Route


class State(StrEnum):
    """Where a workflow stands. The moves between them are in `moves.py`."""

    CREATED = "created"
    """Stored; nobody asked to run it yet."""
    RUNNING = "running"
    """A worker was asked for the milestone at its position."""
    WAITING = "waiting"
    """Nothing is asked for until a known instant (see `Wait`)."""
    HELD = "held"
    """A person has to say what happened to an attempt."""
    CANCELLING = "cancelling"
    """Cancelled; the worker has a last moment to stop."""
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Wire(StrEnum):
    """How a workflow's messages are written: as it came in, so it goes out."""

    JSON = "json"
    """Ours: workers claim attempts and prove them by tokens."""
    TERMS = "terms"
    """Erlang terms: workers of the original, which send the whole workflow back."""


TERMINAL = frozenset({State.COMPLETED, State.FAILED, State.CANCELLED})


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class AttemptKey:
    """Identifies an attempt within its workflow."""

    generation: int
    """Grows when a person starts a milestone afresh."""
    position: int
    """Index into the milestones."""
    number: int
    """Counts the attempts of this position and generation, from 1. It fences late answers."""

    def __str__(self) -> str:
        return f"{self.generation}.{self.position}.{self.number}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One dispatch of one milestone. Live until a result, a loss or a cancel ends it."""

    key: AttemptKey
    milestone: str
    requested_at: datetime
    pickup_by: datetime | None
    """Until when a worker must claim it; None once claimed."""
    worker: str | None = None
    reply_to: str | None = None
    """Queue of the default exchange on which its worker listens for answers."""
    claimed_at: datetime | None = None
    alive_until: datetime | None = None
    """When its lease ends unless the worker is heard of."""
    run_until: datetime | None = None
    on_loss: OnLoss
    run_seconds: float
    log_bytes: int = 0
    progress: float | None = None
    """How much is done, from 0 to 1, as its worker says."""
    route: Route | None = None
    """Where its request goes, once that was looked up."""
    again: bool = False
    """Of a schedule of the original: its time is to be looked at once more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How an attempt ended; goes to the attempts table for people to read."""

    attempt: Attempt
    outcome: str
    """completed | failed | lost | released | timed_out | unclaimed | undeliverable | cancelled | resolved_…"""
    message: str
    ended_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """Why nothing is asked for right now, and until when."""

    code: str
    """scheduled | backoff | undeliverable"""
    text: str
    until: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where the start message of the original says that answers go: its own queue, exchange and broker."""

    queue_name: str | None = None
    exchange_id: str | int | None = None
    broker_id: str | int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """What was asked for. Never changes after the workflow was stored."""

    milestones: tuple[str, ...]
    deployment_repo: str | None = None
    deployment_repo_git_ref: str | None = None
    source_repo: str | None = None
    source_repo_git_ref: str | None = None
    scheduled_start_time: str | None = None
    """RFC 1123 text, as in the original."""
    execute_options: Mapping[str, Any] | None = None
    force_build: bool | None = None
    build_messaging_exchange_id: int | None = None
    deploy_messaging_exchange_id: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Workflow:
    """One release run. `version` counts the committed decisions; 0 is not stored yet."""

    id: str
    version: int = 0
    release: Release
    state: State = State.CREATED
    position: int = 0
    generation: int = 0
    live: tuple[Attempt, ...] = ()
    closing: Attempt | None = None
    """The attempt that ended last. Its output may still be on the way: another orchestrator, or another batch,
    may get the result first."""
    wait: Wait | None = None
    losses: int = 0
    """Lost attempts of the current milestone in a row."""
    last_number: int = 0
    """Highest attempt number used at this position and generation."""
    asked_since: datetime | None = None
    """Since when we look for a worker for the current milestone."""
    outputs: Mapping[str, Mapping[str, str]] = field(default_factory=dict[str, Mapping[str, str]])
    """What the milestones so far have left: milestone -> name -> text."""
    source_commit_hash: str | None = None
    notifications_config: Mapping[str, Any] | None = None
    etcd_token: str | None = None
    step_durations: Mapping[str, str] = field(default_factory=dict[str, str])
    created_at: datetime | None = None
    started_at: datetime | None = None
    step_started_at: datetime | None = None
    ended_at: datetime | None = None
    reason: str = ""
    """Why it failed, is held or was cancelled, in a sentence for people."""
    cancel_by: datetime | None = None
    wire: Wire = Wire.JSON
    origin: Origin | None = None
    carried: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """What workers of the original hand on in the message itself, by its key there: units, configurations,
    resolved refs. Secrets of the original travel here: it is shown to nobody."""
    event_log: tuple[str, ...] = ()
    """The log of the original's form, bounded; kept only where such a message or Manager needs it."""

    @property
    def ended(self) -> bool:
        return self.state in TERMINAL

    @property
    def current_milestone(self) -> str | None:
        """Name of the milestone at its position; None when it has none left or never started."""
        if self.state is State.CREATED or self.position >= len(self.release.milestones):
            return None
        return self.release.milestones[self.position]

    @property
    def wake_at(self) -> datetime | None:
        """The next instant at which something must be decided though nothing arrives.

        Derived, so that a deadline can neither be forgotten nor left over.
        """
        match self.state:
            case State.WAITING:
                return self.wait.until if self.wait else None
            case State.CANCELLING:
                return self.cancel_by
            case State.RUNNING:
                deadlines = [at for a in self.live for at in (a.pickup_by, a.alive_until, a.run_until)]
                return min((at for at in deadlines if at is not None), default=None)
            case _:
                return None

    def override_for(self, kind: MilestoneKind) -> int | None:
        """The exchange that this workflow names in place of the one that `kind` would have."""
        match kind.exchange_by:
            case ExchangeBy.BUILD_CLUSTER:
                return self.release.build_messaging_exchange_id
            case ExchangeBy.DEPLOY_CLUSTER:
                return self.release.deploy_messaging_exchange_id
            case _:
                return None

    def find_attempt(self, key: AttemptKey) -> Attempt | None:
        return next((attempt for attempt in self.live if attempt.key == key), None)

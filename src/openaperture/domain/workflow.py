"""The state of one workflow, as a value. No I/O, no clock, no randomness."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from openaperture.domain.attempts import Attempt, AttemptKey
from openaperture.domain.milestones import FailureKind, MilestoneKind
from openaperture.domain.releases import Entry, Release, members_of
from openaperture.domain.routes import ExchangeBy


class State(StrEnum):
    """Where a workflow stands. The moves between them are in `moves.py`."""

    CREATED = "created"
    """Stored; nobody asked to run it yet."""
    RUNNING = "running"
    """A worker was asked for a milestone at its position."""
    WAITING = "waiting"
    """Nothing is asked for until a known instant, a lock or an approval (see `Wait`)."""
    HELD = "held"
    """A person has to say what happened to an attempt."""
    PAUSED = "paused"
    """Nothing more is asked for until a person resumes it."""
    CANCELLING = "cancelling"
    """Cancelled; its workers have a last moment to stop."""
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """Why nothing is asked for right now, and until when."""

    code: str
    """scheduled | backoff | undeliverable | approval | lock"""
    text: str
    until: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Vote:
    """A person approves."""

    by: str
    reason: str
    at: datetime
    inputs: str
    """Digest of what was approved; a vote for other inputs does not count."""


class Result(StrEnum):
    """How one milestone of a position ended."""

    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One milestone of the current position, and how far it is. A group has several, side by side."""

    milestone: str
    generation: int = 0
    """With the position, the key by which a worker does its effect once."""
    live: Attempt | None = None
    wait: Wait | None = None
    unknown: str = ""
    """Why nobody knows what became of `live`; a person has to say."""
    failures: int = 0
    """Failed attempts in a row."""
    asked_since: datetime | None = None
    """Since when we look for a worker for it."""
    votes: tuple[Vote, ...] = ()
    result: Result | None = None
    failure: str = ""
    """Why it failed, in the words of who says so."""
    kind: FailureKind | None = None

    @property
    def is_idle(self) -> bool:
        """Nothing was asked for, though it has not ended: only while its workflow is paused."""
        return self.live is None and self.wait is None and self.result is None and not self.unknown

    @property
    def wake_at(self) -> datetime | None:
        if self.wait is not None:
            return self.wait.until
        # What became of an attempt of unknown outcome is for a person to say, not for a deadline.
        return None if self.live is None or self.unknown else self.live.wake_at


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why a workflow fails, while the milestones of its `on_failure` are still run."""

    milestone: str
    kind: FailureKind
    reason: str
    position: int
    outputs: Mapping[str, Mapping[str, str]] = field(default_factory=dict[str, Mapping[str, str]])
    """What the milestones had left by then: what follows may be called the same, and leaves its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause:
    """A person wants nothing more to be begun."""

    by: str
    reason: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Lineage:
    """Of a workflow that repeats another one, or a part of it."""

    parent_id: str
    verb: str
    """retry | rerun | again"""
    by: str
    milestone: str | None = None
    """Where it begins, for people; None is the first milestone."""
    position: int = 0
    """The same as an index: a name may stand more than once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where the start message of the original says that answers go: its own queue, exchange and broker."""

    queue_name: str | None = None
    exchange_id: str | int | None = None
    broker_id: str | int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Workflow:
    """One release run. `version` counts the committed decisions; 0 is not stored yet."""

    id: str
    version: int = 0
    release: Release
    state: State = State.CREATED
    position: int = 0
    generation: int = 0
    steps: tuple[Step, ...] = ()
    """The milestones of the current position; none before the start, while it waits for a lock, after the end."""
    closing: tuple[Attempt, ...] = ()
    """The last attempt of each milestone that ended lately. Its output may still be on the way: another
    orchestrator, or another batch, may get the result first."""
    wait: Wait | None = None
    """For its locks."""
    last_number: int = 0
    """Highest attempt number used at this position."""
    inherited: tuple[str, ...] = ()
    """Members of the group at its position that were completed before it came to it, and are not done again."""
    finished: tuple[str, ...] = ()
    """Members of the group at which it ended without success that were completed: a retry skips them."""
    outputs: Mapping[str, Mapping[str, str]] = field(default_factory=dict[str, Mapping[str, str]])
    """What the milestones so far have left: milestone -> name -> text."""
    failure: Failure | None = None
    pause: Pause | None = None
    lock_tokens: Mapping[str, int] = field(default_factory=dict[str, int])
    """The locks that it has. A token grows each time that a lock is given: what is deployed to can tell an old
    holder from a new one."""
    keeps_locks: str = ""
    """Why it keeps its locks beyond its end."""
    kept_for: tuple[AttemptKey, ...] = ()
    """The attempts that may still be at work, for which it keeps them."""
    source_commit_hash: str | None = None
    notifications_config: Mapping[str, Any] | None = None
    etcd_token: str | None = None
    step_durations: Mapping[str, str] = field(default_factory=dict[str, str])
    created_at: datetime | None = None
    created_by: str = ""
    """Who made it; empty when it came as a message."""
    written_by: tuple[str, ...] = ()
    """Who else has said what it asks for: by changing it before its start, or by making what it repeats."""
    lineage: Lineage | None = None
    started_at: datetime | None = None
    step_started_at: datetime | None = None
    ended_at: datetime | None = None
    reason: str = ""
    """Why it failed, is held or was cancelled, in a sentence for people."""
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
    def course(self) -> tuple[Entry, ...]:
        """What its position counts: its milestones, or those that follow its failure."""
        return self.release.on_failure if self.failure and not self.ended else self.release.milestones

    @property
    def members(self) -> tuple[str, ...]:
        """Names of the milestones at its position; none when it has none left."""
        return members_of(self.course[self.position]) if self.position < len(self.course) else ()

    @property
    def current_milestone(self) -> str | None:
        """The milestone at its position, or the names of those in its group that have not ended.

        None when it has none left or never started.
        """
        if self.state is State.CREATED or not self.members:
            return None
        unfinished = [step.milestone for step in self.steps if step.result is None]
        return ", ".join(unfinished or self.members)

    @property
    def live(self) -> tuple[Attempt, ...]:
        """What workers are asked for right now."""
        return tuple(step.live for step in self.steps if step.live is not None)

    @property
    def wake_at(self) -> datetime | None:
        """The next instant at which something must be decided though nothing arrives.

        Derived, so that a deadline can neither be forgotten nor left over.
        """
        if self.state in TERMINAL or self.state is State.CREATED:
            return None
        instants = [step.wake_at for step in self.steps] + [self.wait.until if self.wait else None]
        return min((at for at in instants if at is not None), default=None)

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

    def find_step(self, key: AttemptKey) -> Step | None:
        """The step whose live attempt that is."""
        return next((step for step in self.steps if step.live is not None and step.live.key == key), None)

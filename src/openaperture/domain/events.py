"""What can happen to a workflow. Facts, already authenticated: a forged callback is an event of its own."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from openaperture.domain.attempts import AttemptKey
from openaperture.domain.milestones import FailureKind, OnLoss
from openaperture.domain.routes import Route


@dataclass(frozen=True, slots=True, kw_only=True)
class Created:
    """Somebody stored it, to be run later."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StartRequested:
    """Somebody asked to run it; `by` is empty when it was a message."""

    by: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed:
    """A worker wants to run an attempt, and waits for our answer at `reply_to`."""

    key: AttemptKey
    worker: str
    reply_to: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HeartbeatSeen:
    """A worker is still at it. What its repository declares for the attempt may come along."""

    key: AttemptKey
    worker: str
    reply_to: str | None = None
    run_seconds: float | None = None
    on_loss: OnLoss | None = None
    progress: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Logged:
    """Some lines of output."""

    key: AttemptKey
    worker: str
    sequence: int
    lines: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Noted:
    """A sentence of a worker for the people who follow."""

    key: AttemptKey
    worker: str
    text: str
    success: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class MilestoneCompleted:
    """A worker has done it. `worker` is None for one that does not claim."""

    key: AttemptKey
    worker: str | None
    outputs: Mapping[str, str] = field(default_factory=dict[str, str])
    message: str = ""
    source_commit_hash: str | None = None
    notifications_config: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MilestoneFailed:
    """A worker could not do it, or (`interrupted`) was stopped on the way and cannot say how far it got."""

    key: AttemptKey
    worker: str | None
    message: str
    interrupted: bool = False
    kind: FailureKind = FailureKind.CRASHED


@dataclass(frozen=True, slots=True, kw_only=True)
class Released:
    """A worker gives back an attempt that it claimed, or asked for, and has not begun."""

    key: AttemptKey
    worker: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Undeliverable:
    """The broker has no queue for the request of this attempt."""

    key: AttemptKey
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Routed:
    """The way to the workers of this attempt was found."""

    key: AttemptKey
    route: Route


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """The broker has the request of this attempt. Told of workers that never say that they began."""

    key: AttemptKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Unsure:
    """The request may or may not have reached a worker that would do it twice if it came twice."""

    key: AttemptKey
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteRefused:
    """There is no way to workers of this attempt; `condition` is a stable word for why."""

    key: AttemptKey
    condition: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Unsaved:
    """The Manager refused to record the workflow, for good."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HandedOver:
    """A message of the original hands the whole workflow over: to begin it, or to go on after `step`.

    See `decide.originals`.
    """

    step: str | None
    step_time: datetime | None
    failed: bool
    event_log: tuple[str, ...] = ()
    carried: Mapping[str, Any] = field(default_factory=dict[str, Any])
    etcd_token: str | None = None
    notifications_config: Mapping[str, Any] | None = None
    source_commit_hash: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Forged:
    """A callback whose token is not ours, or belongs to another workflow."""

    claimed_type: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Woken:
    """Its `wake_at` has passed."""

    heard_seconds: float = math.inf
    """For how long we have been hearing what workers say, without a gap. Silence of a worker means nothing while
    it was we who did not listen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LocksGranted:
    """All locks that the workflow waits for are its own now: name -> token."""

    tokens: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class LockDenied:
    """It does not get a lock: somebody has it (`refused`), or a newer workflow took its place (`superseded`)."""

    name: str
    code: str
    by: str
    """Id of the workflow that has it, or took the place."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LockForced:
    """A person takes a lock away from it; with `force` also while a worker is asked for something."""

    name: str
    by: str
    reason: str = ""
    force: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelRequested:
    """A person wants it to end; with `force` without a moment for its workers to stop."""

    by: str
    reason: str = ""
    force: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PauseRequested:
    """A person wants nothing more to be begun."""

    by: str
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResumeRequested:
    """A person wants it to go on."""

    by: str
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Voted:
    """A person decides about an approval."""

    approves: bool
    by: str
    groups: frozenset[str] = frozenset()
    """What the person is a member of; `*` is everything."""
    reason: str = ""
    milestone: str | None = None
    """Which approval is meant; None is the only one that is waited for."""
    inputs: str | None = None
    """Digest of what the person saw; a decision about something else does not count."""


class Resolution(StrEnum):
    """What a person says about an attempt of unknown outcome."""

    WORKED = "worked"
    FAILED = "failed"
    AGAIN = "again"


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolved:
    """A person says what became of a held milestone."""

    resolution: Resolution
    by: str
    reason: str = ""
    milestone: str | None = None
    """Which one is meant; None is the only one that is held."""


FromWorker = Claimed | HeartbeatSeen | Logged | Noted | MilestoneCompleted | MilestoneFailed | Released
OfLocks = LocksGranted | LockDenied
FromPerson = CancelRequested | PauseRequested | ResumeRequested | Voted | Resolved | LockForced
OfRequest = Undeliverable | Routed | RouteRefused | Sent | Unsure
FromElsewhere = OfRequest | OfLocks | Unsaved | Forged | Woken
Event = Created | StartRequested | FromWorker | HandedOver | FromElsewhere | FromPerson

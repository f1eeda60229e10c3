"""One dispatch of one milestone, as a value. It exists from the request to a result, a loss or a cancel."""

from dataclasses import dataclass
from datetime import datetime

from openaperture.domain.milestones import FailureKind, OnLoss
from openaperture.domain.routes import Route


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class AttemptKey:
    """Identifies an attempt within its workflow."""

    generation: int
    """Grows when a milestone is begun afresh: a person said so, or it follows a failure."""
    position: int
    """Index into the milestones; into those of `on_failure` once the workflow has failed."""
    number: int
    """Counts the attempts of this position, from 1. It fences late answers."""

    def __str__(self) -> str:
        return f"{self.generation}.{self.position}.{self.number}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """Its worker was told to stop, and has a moment to say how far it got."""

    kind: FailureKind
    """What it ends as: `cancelled` or `timed_out`."""
    reason: str
    by: datetime
    """When it is over without its word."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One dispatch of one milestone."""

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
    stop: Stop | None = None
    log_bytes: int = 0
    progress: float | None = None
    """How much is done, from 0 to 1, as its worker says."""
    route: Route | None = None
    """Where its request goes, once that was looked up."""
    again: bool = False
    """Of a schedule of the original: its time is to be looked at once more."""

    @property
    def may_run(self) -> bool:
        """Whether some worker may be at it: one that claimed it, or one of the original that was sent it."""
        return self.worker is not None or self.run_until is not None

    @property
    def wake_at(self) -> datetime | None:
        """The next instant at which its silence means something."""
        if self.stop is not None:
            return self.stop.by
        deadlines = (self.pickup_by, self.alive_until, self.run_until)
        return min((at for at in deadlines if at is not None), default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How an attempt ended; goes to the attempts table for people to read."""

    attempt: Attempt
    outcome: str
    """completed | failed | lost | released | refused | timed_out | unclaimed | undeliverable | cancelled, or
    resolved_worked and so on."""
    message: str
    ended_at: datetime

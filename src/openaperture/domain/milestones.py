"""The table of milestone kinds: what each is, which queue takes it, what losing it means.

Adding a kind is adding a row here or a ``[milestones.NAME]`` section to the configuration.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from types import MappingProxyType

from openaperture.domain.routes import ExchangeBy


class OnLoss(StrEnum):
    """What to do when a worker stopped answering in the middle of an attempt."""

    RETRY = "retry"
    """Safe to repeat: give it to another worker."""
    HOLD = "hold"
    """Its outcome is unknown and repeating may harm: stop and ask a person."""


class FailureKind(StrEnum):
    """Why an attempt did not succeed. A closed set: which of them are tried again is up to the kind."""

    REFUSED = "refused"
    """There is no way to a worker, or a person rejected it."""
    CRASHED = "crashed"
    """It ran and did not succeed."""
    TIMED_OUT = "timed_out"
    """It ran longer than it may."""
    LOST = "lost"
    """Its worker stopped answering, or was stopped on the way."""
    UNDELIVERABLE = "undeliverable"
    """No queue took its request, or no worker took it from there."""
    CANCELLED = "cancelled"
    """Somebody, or the failure of another member of its group, ended it."""
    BAD_INPUT = "bad_input"
    """It cannot succeed as it is asked for."""


class OnExpiry(StrEnum):
    """What an approval becomes when nobody decided in time."""

    REJECT = "reject"
    """As if somebody had rejected it."""
    FAIL = "fail"
    """A milestone that took too long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalRule:
    """Who has to approve, and by when."""

    role: str = "approver"
    """Group that a person must be of to have a say."""
    required: int = 1
    """How many of them must approve. One rejection is enough to reject."""
    not_author: bool = False
    """Whoever made the workflow has no say."""
    expires_seconds: float = 7 * 86_400.0
    on_expiry: OnExpiry = OnExpiry.REJECT


@dataclass(frozen=True, slots=True, kw_only=True)
class MilestoneKind:
    """One row of the table. All times are seconds."""

    name: str
    queue: str | None
    """Logical queue of the workers, or None for a milestone that the orchestrator handles itself."""
    module_type: str | None = None
    """Type under which its workers register."""
    exchange_by: ExchangeBy = ExchangeBy.OWN
    """How the exchange of its workers is found, where exchanges are known."""
    exchange_id: str | None = None
    """The exchange of its workers, for `ExchangeBy.FIXED`."""
    approval: ApprovalRule | None = None
    """Of a milestone that waits for people."""
    on_loss: OnLoss = OnLoss.RETRY
    retry_on: frozenset[FailureKind] = frozenset({FailureKind.LOST})
    """Which failures are tried again. A loss is, only where `on_loss` says so."""
    max_attempts: int = 3
    """How many failed attempts in a row before the milestone fails."""
    pickup_seconds: float = 600.0
    """An attempt that no worker claimed in this time is requested again (its old copies are void)."""
    pickup_limit_seconds: float = 86_400.0
    """A milestone that nobody claimed for this long fails."""
    heartbeat_seconds: float = 60.0
    """A claimed attempt without a sign of life for this long is lost."""
    run_seconds: float = 7_200.0
    """A claimed attempt that runs longer than this has timed out. A worker may declare its own."""

    @property
    def purpose(self) -> str:
        """What a workflow that overrides its exchange calls it: build, deploy, or its name."""
        match self.exchange_by:
            case ExchangeBy.BUILD_CLUSTER:
                return "build"
            case ExchangeBy.DEPLOY_CLUSTER:
                return "deploy"
            case _:
                return self.name


@dataclass(frozen=True, slots=True, kw_only=True)
class MilestoneOptions:
    """What one workflow asks for in place of its kind's defaults. None leaves the default."""

    on_loss: OnLoss | None = None
    retry_on: frozenset[FailureKind] | None = None
    max_attempts: int | None = None
    pickup_seconds: float | None = None
    pickup_limit_seconds: float | None = None
    heartbeat_seconds: float | None = None
    run_seconds: float | None = None

    def applied_to(self, kind: MilestoneKind) -> MilestoneKind:
        given = {name: value for name in self.__slots__ if (value := getattr(self, name)) is not None}
        return replace(kind, **given)


def _builder(name: str) -> MilestoneKind:
    return MilestoneKind(name=name, queue="builder", module_type="builder", exchange_by=ExchangeBy.BUILD_CLUSTER)


def _deployer(name: str, queue: str, exchange_by: ExchangeBy) -> MilestoneKind:
    return MilestoneKind(
        name=name, queue=queue, module_type="deployer", exchange_by=exchange_by, on_loss=OnLoss.HOLD
    )


BUILT_IN = (
    _builder("config"),
    _builder("build"),
    _deployer("deploy", "deployer", ExchangeBy.DEPLOY_CLUSTER),
    _deployer("deploy_oa", "deploy_oa", ExchangeBy.DEPLOY_CLUSTER),
    _deployer("deploy_ecs", "deployer", ExchangeBy.OWN),
    MilestoneKind(name="scheduled", queue=None),
    MilestoneKind(name="approval", queue=None, approval=ApprovalRule()),
)


def table_of(extra: Iterable[MilestoneKind] = ()) -> Mapping[str, MilestoneKind]:
    """The built-in kinds and `extra` ones, by name; an extra one replaces a built-in of its name."""
    return MappingProxyType({kind.name: kind for kind in (*BUILT_IN, *extra)})


def kind_of(kinds: Mapping[str, MilestoneKind], name: str) -> MilestoneKind:
    """The kind of a milestone under way. One that was taken out of the configuration ends by the defaults."""
    return kinds.get(name) or MilestoneKind(name=name, queue=name)

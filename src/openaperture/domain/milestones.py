"""The table of milestone kinds: what each is, which queue takes it, what losing it means.

Adding a kind is adding a row here or a ``[milestones.NAME]`` section to the configuration.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from openaperture.domain.routes import ExchangeBy


class OnLoss(StrEnum):
    """What to do when a worker stopped answering in the middle of an attempt."""

    RETRY = "retry"
    """Safe to repeat: give it to another worker."""
    HOLD = "hold"
    """Its outcome is unknown and repeating may harm: stop and ask a person."""


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
    on_loss: OnLoss = OnLoss.RETRY
    max_attempts: int = 3
    """How many lost attempts in a row before the milestone fails."""
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
)


def table_of(extra: Iterable[MilestoneKind] = ()) -> Mapping[str, MilestoneKind]:
    """The built-in kinds and `extra` ones, by name; an extra one replaces a built-in of its name."""
    return MappingProxyType({kind.name: kind for kind in (*BUILT_IN, *extra)})


def kind_of(kinds: Mapping[str, MilestoneKind], name: str) -> MilestoneKind:
    """The kind of a milestone under way. One that was taken out of the configuration ends by the defaults."""
    return kinds.get(name) or MilestoneKind(name=name, queue=name)

"""Where a request goes, as values: what a milestone needs, and the way that was found for it.

Ids of exchanges and brokers are texts, also where the Manager has numbers: `1` and `"1"` are one.
"""

from dataclasses import dataclass
from enum import StrEnum


class ExchangeBy(StrEnum):
    """How the exchange of a milestone's workers is found."""

    OWN = "own"
    """The orchestrator's own exchange, whatever the workflow says."""
    BUILD_CLUSTER = "build_cluster"
    """That of a cluster that builds; `build_messaging_exchange_id` of a workflow overrides it."""
    DEPLOY_CLUSTER = "deploy_cluster"
    """That of the cluster of `etcd_token`; `deploy_messaging_exchange_id` of a workflow overrides it."""
    FIXED = "fixed"
    """One that the configuration names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """What a milestone of one workflow asks of the routing."""

    milestone: str
    """Its name, for the texts."""
    queue: str
    """Logical queue of its workers."""
    module_type: str | None
    """Type under which its workers register; None when they don't, and then nobody looks for them."""
    exchange_by: ExchangeBy
    fixed_exchange_id: str | None = None
    """For FIXED; None is the own one."""
    override_exchange_id: int | str | None = None
    etcd_token: str | None = None
    own_by_default: bool = False
    """Of workers of ours, which need no cluster: where none is named they are in the own exchange."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """One address at one broker."""

    broker_id: str
    exchange_id: str
    exchange: str
    """AMQP exchange that is published to: the root one of the exchange."""
    routing_key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """Where a message goes. Plain values: it can be kept as JSON and used later."""

    broker_id: str
    exchange_id: str
    exchange: str
    routing_key: str
    failover: Way | None = None
    """Where it goes when the broker cannot be reached."""
    cluster_token: str | None = None
    """Token of the cluster that was chosen, to build in or to deploy to."""
    docker_build_etcd_token: str | None = None
    """The same for a build, None for anything else: a field of the request."""
    overridden: bool = False
    """The workflow itself named the exchange."""

    @property
    def way(self) -> Way:
        """Its first address, without the rest."""
        return Way(
            broker_id=self.broker_id,
            exchange_id=self.exchange_id,
            exchange=self.exchange,
            routing_key=self.routing_key,
        )

"""Whom the directory asks: a Manager elsewhere, or our own tables."""

from typing import Protocol

from openaperture.client.rows import BrokerRow, Cluster, Connection, Exchange, Id, Module, Restriction


class Source(Protocol):
    """None always means that the exchange, broker or cluster does not exist.

    Raises TryLater when nobody tells now, AccessRefused and UnusableAnswer.
    """

    async def find_exchange(self, exchange_id: Id) -> Exchange | None: ...

    async def list_exchange_brokers(self, exchange_id: Id) -> list[Restriction] | None: ...

    async def list_exchange_clusters(
        self, exchange_id: Id, *, allow_docker_builds: bool = False
    ) -> list[Cluster] | None: ...

    async def list_exchange_modules(self, exchange_id: Id) -> list[Module] | None: ...

    async def list_clusters(self, *, allow_docker_builds: bool = False) -> list[Cluster]: ...

    async def find_cluster(self, etcd_token: str) -> Cluster | None: ...

    async def find_broker(self, broker_id: Id) -> BrokerRow | None: ...

    async def list_broker_connections(self, broker_id: Id) -> list[Connection] | None: ...

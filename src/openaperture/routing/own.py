"""Our own tables as a source of the directory."""

from typing import Any

from openaperture.client.rows import (
    BrokerRow,
    Cluster,
    Connection,
    Exchange,
    Id,
    Module,
    Restriction,
    number_of,
)
from openaperture.domain.exchanges import places_of, rooted
from openaperture.domain.times import rfc1123_text
from openaperture.ports import Fields, Listing, MessagingDirectory


class OwnTables:
    """A `Source`: what a Manager would answer, without asking one. Raises StoreUnavailable."""

    def __init__(self, tables: MessagingDirectory) -> None:
        self._tables = tables

    async def find_exchange(self, exchange_id: Id) -> Exchange | None:
        rows = await self._tables.list_rows(Listing.EXCHANGE)
        row = next((row for row in rows if row["id"] == number_of(exchange_id)), None)
        if row is None:
            return None
        place = rooted(places_of(rows), row["id"])
        return Exchange(
            id=row["id"],
            routing_key=place.routing_key,
            root_exchange_name=place.root_name,
            failover_exchange_id=row["failover_exchange_id"],
        )

    async def list_exchange_brokers(self, exchange_id: Id) -> list[Restriction] | None:
        rows = await self._of_exchange(Listing.RESTRICTION, exchange_id)
        return (
            None if rows is None else [Restriction(messaging_broker_id=row["messaging_broker_id"]) for row in rows]
        )

    async def list_exchange_clusters(
        self, exchange_id: Id, *, allow_docker_builds: bool = False
    ) -> list[Cluster] | None:
        wanted = {"allow_docker_builds": True} if allow_docker_builds else {}
        rows = await self._of_exchange(Listing.CLUSTER, exchange_id, **wanted)
        return None if rows is None else [_cluster(row) for row in rows]

    async def list_exchange_modules(self, exchange_id: Id) -> list[Module] | None:
        rows = await self._of_exchange(Listing.MODULE, exchange_id)
        return None if rows is None else [_module(row) for row in rows]

    async def list_clusters(self, *, allow_docker_builds: bool = False) -> list[Cluster]:
        wanted: dict[str, Any] = {"allow_docker_builds": True} if allow_docker_builds else {}
        return [_cluster(row) for row in await self._tables.list_rows(Listing.CLUSTER, **wanted)]

    async def find_cluster(self, etcd_token: str) -> Cluster | None:
        row = await self._tables.find_row(Listing.CLUSTER, token_key=etcd_token.lower())
        return None if row is None else _cluster(row)

    async def find_broker(self, broker_id: Id) -> BrokerRow | None:
        row = await self._find(Listing.BROKER, broker_id)
        if row is None:
            return None
        return BrokerRow(id=row["id"], name=row["name"], failover_broker_id=row["failover_broker_id"])

    async def list_broker_connections(self, broker_id: Id) -> list[Connection] | None:
        if await self._find(Listing.BROKER, broker_id) is None:
            return None
        rows = await self._tables.list_rows(Listing.CONNECTION, messaging_broker_id=number_of(broker_id))
        return [_connection(row) for row in rows]

    async def _find(self, listing: Listing, row_id: Id) -> Fields | None:
        number = number_of(row_id)
        return None if number is None else await self._tables.find_row(listing, id=number)

    async def _of_exchange(self, listing: Listing, exchange_id: Id, **wanted: Any) -> list[Fields] | None:
        if await self._find(Listing.EXCHANGE, exchange_id) is None:
            return None
        return await self._tables.list_rows(listing, messaging_exchange_id=number_of(exchange_id), **wanted)


def _cluster(row: Fields) -> Cluster:
    return Cluster(
        etcd_token=row["etcd_token"], messaging_exchange_id=row["messaging_exchange_id"], name=row["name"]
    )


def _module(row: Fields) -> Module:
    return Module(
        hostname=row["hostname"],
        type=row["type"],
        status=row["status"],
        updated_at=rfc1123_text(row["updated_at"]),
    )


def _connection(row: Fields) -> Connection:
    return Connection(
        host=row["host"],
        port=row["port"],
        username=row["username"],
        password=row["password"],
        virtual_host=row["virtual_host"],
    )

"""The messaging directory: exchanges, brokers, clusters and modules, remembered for a while.

They are a Manager's elsewhere, or our own.

Every entry has an age of its own, and its key holds the id as text. Remembered is only what is there: an
empty or a failed look-up is made again, so that what an operator adds works at once. (That an exchange
has no restrictions is something that is there.)

A look-up that fails falls back to what was known an hour ago, but only for addresses: exchanges, brokers
and their connections. An outdated one shows itself, by a broker that does not answer or a message that it
returns. What chooses a target, clusters and restrictions, is never taken from an outdated answer: it
could build or deploy in the wrong place, and nobody would see it.

Single clusters and modules are not remembered at all: they decide whether a milestone can run now.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from openaperture.client.rows import BrokerRow, Cluster, Connection, Exchange, Id, Module, Restriction
from openaperture.client.single_flight import SingleFlight
from openaperture.domain.errors import TryLater
from openaperture.ports import Clock
from openaperture.routing.source import Source

T = TypeVar("T")

REMEMBERED_SECONDS = 300.0
"""As in the original. What is asked of our own tables costs little, and is remembered for OWN_SECONDS."""
OWN_SECONDS = 5.0
OUTDATED_SECONDS = 3_600.0
"""How old an address may be when the Manager does not answer."""
OUTDATED_AGAIN_SECONDS = 30.0
"""How long an outdated address is used before the Manager is asked again: each try may take a minute."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry:
    value: Any
    until: float
    outdated_until: float


class Directory:
    """Typed look-ups. Raises what `Source` does. Many who look up the same make one request.

    `fresh` looks past what is remembered, for an answer with lasting consequences.
    """

    def __init__(self, source: Source, clock: Clock, *, remembered_seconds: float = REMEMBERED_SECONDS) -> None:
        self._source = source
        self._remembered_seconds = remembered_seconds
        self._clock = clock
        self._entries: dict[tuple[str, str], _Entry] = {}
        self._flight = SingleFlight()

    async def find_exchange(self, exchange_id: Id, *, fresh: bool = False) -> Exchange | None:
        return await self._look_up(
            ("exchange", str(exchange_id)),
            lambda: self._source.find_exchange(exchange_id),
            fresh=fresh,
            outdated_seconds=OUTDATED_SECONDS,
        )

    async def list_restrictions(self, exchange_id: Id, *, fresh: bool = False) -> list[Restriction]:
        """The brokers that an exchange is restricted to; empty means any."""
        key = ("restrictions", str(exchange_id))
        found = await self._look_up(
            key, lambda: self._source.list_exchange_brokers(exchange_id), fresh=fresh, keep_empty=True
        )
        return found or []

    async def find_broker(self, broker_id: Id, *, fresh: bool = False) -> BrokerRow | None:
        return await self._look_up(
            ("broker", str(broker_id)),
            lambda: self._source.find_broker(broker_id),
            fresh=fresh,
            outdated_seconds=OUTDATED_SECONDS,
        )

    async def list_connections(self, broker_id: Id) -> list[Connection]:
        """Ways to connect to a broker; empty also when there is no such broker."""
        found = await self._look_up(
            ("connections", str(broker_id)),
            lambda: self._source.list_broker_connections(broker_id),
            outdated_seconds=OUTDATED_SECONDS,
        )
        return found or []

    async def list_build_clusters(self, exchange_id: Id | None, *, fresh: bool = False) -> list[Cluster]:
        """Clusters of one exchange that build, or all of them. Empty also when there is no such exchange."""
        key = ("build clusters", "all" if exchange_id is None else f"of {exchange_id}")
        return await self._look_up(key, lambda: self._ask_for_build_clusters(exchange_id), fresh=fresh) or []

    async def _ask_for_build_clusters(self, exchange_id: Id | None) -> list[Cluster] | None:
        if exchange_id is None:
            return await self._source.list_clusters(allow_docker_builds=True)
        return await self._source.list_exchange_clusters(exchange_id, allow_docker_builds=True)

    async def find_cluster(self, etcd_token: str) -> Cluster | None:
        return await self._flight.ask(("cluster", etcd_token), lambda: self._source.find_cluster(etcd_token))

    async def list_modules(self, exchange_id: Id) -> list[Module] | None:
        """None when there is no such exchange."""
        return await self._flight.ask(
            ("modules", str(exchange_id)), lambda: self._source.list_exchange_modules(exchange_id)
        )

    async def _look_up(
        self,
        key: tuple[str, str],
        question: Callable[[], Awaitable[T | None]],
        *,
        fresh: bool = False,
        outdated_seconds: float = 0.0,
        keep_empty: bool = False,
    ) -> T | None:
        now = self._clock.monotonic()
        entry = None if fresh else self._entries.get(key)
        if entry is not None and now <= entry.until:
            known: T = entry.value
            return known
        try:
            found = await self._flight.ask(key, question)
        except TryLater:
            if entry is None or now > entry.outdated_until:
                raise
            self._entries[key] = replace(entry, until=self._clock.monotonic() + OUTDATED_AGAIN_SECONDS)
            outdated: T = entry.value
            return outdated
        if found or (keep_empty and found is not None):
            until = now + self._remembered_seconds
            self._entries[key] = _Entry(value=found, until=until, outdated_until=now + outdated_seconds)
        else:
            self._entries.pop(key, None)
        return found

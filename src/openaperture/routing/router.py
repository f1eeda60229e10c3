"""From what a milestone needs to where its request goes.

1. The exchange: the own one, a fixed one, the one that the workflow names, or that of a cluster.
2. Workers of the right type must be there.
3. The broker: one that the exchange is restricted to; else one that our own exchange is; else our own.
4. The failover: the same queue, on the failover exchange if there is one, at the failover broker.

A refusal ends a workflow, so none is given on what was only remembered: the look-ups are made afresh first.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from random import Random

from openaperture.client.rows import Cluster, Exchange, Id, text_of
from openaperture.domain.errors import (
    AccessRefused,
    BadInput,
    LoginRefused,
    ManagerUnavailable,
    RouteRefused,
    UnusableAnswer,
)
from openaperture.domain.routes import ExchangeBy, Need, Route, Way
from openaperture.ports import Observer
from openaperture.routing import refusals
from openaperture.routing.directory import Directory
from openaperture.routing.workers import Workers, judge


@dataclass(frozen=True, slots=True, kw_only=True)
class _Choice:
    """An exchange, and the cluster that led there."""

    exchange_id: str
    cluster_token: str | None = None
    builds: bool = False
    overridden: bool = False


class Router:
    """Finds routes. Events: `route.source_restriction | clusters_refused | workers_stale`."""

    def __init__(
        self,
        directory: Directory,
        observer: Observer,
        *,
        own_exchange_id: str,
        own_broker_id: str,
        chance: Random,
        now: Callable[[], datetime],
    ) -> None:
        """`now` is aware; it judges how long ago a worker was heard of."""
        self._directory = directory
        self._observer = observer
        self._own_exchange_id = own_exchange_id
        self._own_broker_id = own_broker_id
        self._chance = chance
        self._now = now

    async def route(self, need: Need) -> Route:
        """Raises RouteRefused: there is no way, and ManagerUnavailable: nobody tells us, ask again later."""
        try:
            try:
                return await self._route(need, fresh=False)
            except RouteRefused:
                return await self._route(need, fresh=True)
        except (AccessRefused, UnusableAnswer, BadInput) as exc:
            raise _waiting(exc) from exc

    async def route_directly(self, exchange_id: Id, broker_id: Id, queue: str) -> Route:
        """The way to a queue that somebody named in full, such as for answers, notifications, heartbeats.

        Restrictions and workers are not looked at. Raises as `route` does.
        """
        try:
            exchange = await self._directory.find_exchange(exchange_id)
            if exchange is None:
                raise refusals.unknown_address(str(exchange_id), queue)
            return await self._way_to(_Choice(exchange_id=str(exchange_id)), exchange, str(broker_id), queue)
        except (AccessRefused, UnusableAnswer, BadInput) as exc:
            raise _waiting(exc) from exc

    async def _route(self, need: Need, *, fresh: bool) -> Route:
        choice = await self._choose(need, fresh=fresh)
        exchange = await self._directory.find_exchange(choice.exchange_id, fresh=fresh)
        if exchange is None:
            raise refusals.unknown_exchange(need, choice.exchange_id)
        broker_id = await self._choose_broker(choice.exchange_id)
        return await self._way_to(choice, exchange, broker_id, need.queue)

    # ----------------------------------------------------------------------------------- exchange

    async def _choose(self, need: Need, *, fresh: bool) -> _Choice:
        """An exchange that exists, with workers in it."""
        match need.exchange_by:
            case ExchangeBy.BUILD_CLUSTER:
                return await self._choose_build(need, fresh=fresh)
            case ExchangeBy.DEPLOY_CLUSTER:
                choice = await self._choose_deploy(need)
            case ExchangeBy.OWN:
                choice = _Choice(exchange_id=self._own_exchange_id)
            case ExchangeBy.FIXED:
                choice = _Choice(exchange_id=need.fixed_exchange_id or self._own_exchange_id)
        return await self._first_with_workers(need, [choice])

    async def _choose_deploy(self, need: Need) -> _Choice:
        token = need.etcd_token if (need.etcd_token or "").strip() else None
        override = text_of(need.override_exchange_id) or None
        # A worker of the original needs the token also when it does not lead to the exchange.
        if token is None and not need.own_by_default:
            raise refusals.invalid_etcd_token(need)
        if override is not None:
            return _Choice(exchange_id=override, cluster_token=token, overridden=True)
        if token is None:
            return _Choice(exchange_id=self._own_exchange_id)
        cluster = await self._directory.find_cluster(token)
        if cluster is None or cluster.messaging_exchange_id is None:
            raise refusals.cluster_without_exchange(need)
        return _Choice(exchange_id=str(cluster.messaging_exchange_id), cluster_token=token)

    async def _choose_build(self, need: Need, *, fresh: bool) -> _Choice:
        """A cluster of the exchange if it has any, else any cluster; at random, those without workers last.

        The workflow's own exchange stands, whichever cluster is chosen.
        """
        override = text_of(need.override_exchange_id) or None
        place = override or self._own_exchange_id
        clusters = await self._list_build_clusters(place, fresh=fresh)
        clusters = clusters or await self._list_build_clusters(None, fresh=fresh)
        if not clusters and need.own_by_default:
            choice = _Choice(exchange_id=place, builds=True, overridden=bool(override))
            return await self._first_with_workers(need, [choice])
        if not clusters:
            raise refusals.no_build_clusters(need, place)
        choices = [
            _Choice(
                exchange_id=exchange_id, cluster_token=cluster.etcd_token, builds=True, overridden=bool(override)
            )
            for cluster in self._chance.sample(clusters, len(clusters))
            if (exchange_id := override or text_of(cluster.messaging_exchange_id)) is not None
        ]
        if not choices:
            raise refusals.build_clusters_without_exchange(need)
        return await self._first_with_workers(need, choices)

    async def _list_build_clusters(self, exchange_id: str | None, *, fresh: bool) -> list[Cluster]:
        """A list that we may not see is as good as none, as in the original."""
        try:
            return await self._directory.list_build_clusters(exchange_id, fresh=fresh)
        except LoginRefused:
            raise
        except AccessRefused as exc:
            self._observer.emit("route.clusters_refused", exchange_id=exchange_id, error=exc)
            return []

    # ------------------------------------------------------------------------------------ workers

    async def _first_with_workers(self, need: Need, choices: list[_Choice]) -> _Choice:
        """The first choice with workers that were heard of lately, or else with any."""
        if need.module_type is None:
            return choices[0]
        judged: dict[str, Workers] = {}
        for choice in choices:
            if choice.exchange_id not in judged:
                modules = await self._directory.list_modules(choice.exchange_id)
                judged[choice.exchange_id] = judge(modules, need.module_type, self._now())
            if judged[choice.exchange_id] is Workers.FRESH:
                return choice
        for choice in choices:
            if judged[choice.exchange_id] is Workers.STALE:
                self._observer.emit(
                    "route.workers_stale", exchange_id=choice.exchange_id, module_type=need.module_type
                )
                return choice
        first = choices[0].exchange_id
        if judged[first] is Workers.UNKNOWN_EXCHANGE:
            raise refusals.unknown_exchange(need, first)
        raise refusals.no_workers(need, first)

    # ------------------------------------------------------------------------- broker and failover

    async def _choose_broker(self, exchange_id: str) -> str:
        """One of the target's restrictions; else one of our own exchange's, with a warning; else our own."""
        if restrictions := await self._directory.list_restrictions(exchange_id):
            return str(self._chance.choice(restrictions).messaging_broker_id)
        # For our own exchange this is the same list once more, and it is remembered.
        if restrictions := await self._directory.list_restrictions(self._own_exchange_id):
            broker_id = str(self._chance.choice(restrictions).messaging_broker_id)
            # Workers there may listen elsewhere: nothing says that they are on this broker.
            self._observer.emit("route.source_restriction", exchange_id=exchange_id, broker_id=broker_id)
            return broker_id
        return self._own_broker_id

    async def _way_to(self, choice: _Choice, exchange: Exchange, broker_id: str, queue: str) -> Route:
        return Route(
            broker_id=broker_id,
            exchange_id=choice.exchange_id,
            exchange=exchange.root_exchange_name,
            routing_key=f"{exchange.routing_key}.{queue}",
            failover=await self._find_failover(exchange, broker_id, queue),
            cluster_token=choice.cluster_token,
            docker_build_etcd_token=choice.cluster_token if choice.builds else None,
            overridden=choice.overridden,
        )

    async def _find_failover(self, exchange: Exchange, broker_id: str, queue: str) -> Way | None:
        """Without a failover broker there is none: another exchange at a broker that is gone helps nobody."""
        broker = await self._directory.find_broker(broker_id)
        if broker is None or broker.failover_broker_id is None:
            return None
        other = None
        if exchange.failover_exchange_id is not None:
            other = await self._directory.find_exchange(exchange.failover_exchange_id)
        target = other or exchange
        return Way(
            broker_id=str(broker.failover_broker_id),
            exchange_id=str(target.id),
            exchange=target.root_exchange_name,
            routing_key=f"{target.routing_key}.{queue}",
        )


def _waiting(exc: Exception) -> ManagerUnavailable:
    """What an operator has to repair first is waited for: it is no fault of the workflow."""
    return ManagerUnavailable(f"the route cannot be looked up until this is repaired: {exc}")

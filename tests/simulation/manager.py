"""A Manager elsewhere, in memory: what the engine asks of one, with all that can go wrong on the way there."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, cast

from openaperture.app.core import Core
from openaperture.app.elsewhere import Elsewhere
from openaperture.domain.errors import ManagerUnavailable, RouteRefused, UnknownWorkflow
from openaperture.domain.routes import Need, Route
from openaperture.engine.membership import Membership
from openaperture.engine.relay import PUBLISH_SECONDS
from openaperture.ports import Address, Message, OutboxRow
from tests.simulation.broker import SimulatedBroker
from tests.simulation.faults import Gate
from tests.simulation.journal import Journal, Recorded

EXCHANGE = "AWS"
"""The root exchange of the messaging exchange "1", at the broker "1"."""


class ManagerRows:
    """What the Manager holds. It outlives every process of ours."""

    def __init__(self, journal: Journal) -> None:
        self.rows: dict[str, dict[str, Any]] = {}
        self._journal = journal

    def add(self, workflow_id: str) -> None:
        self.rows.setdefault(workflow_id, {"id": workflow_id, "workflow_error": None})

    def put(self, workflow_id: str, fields: Mapping[str, Any], by: str) -> None:
        self.rows[workflow_id] |= fields
        self._journal.add(
            Recorded(
                by,
                workflow_id,
                fields["current_step"],
                bool(fields["workflow_error"]),
                fields["workflow_completed"],
            )
        )


class SimulatedManager:
    """The ports Register and Routes, for one process."""

    def __init__(self, rows: ManagerRows, gate: Gate) -> None:
        self._rows = rows
        self._gate = gate

    async def find_workflow(self, workflow_id: str) -> Mapping[str, Any] | None:
        row: Mapping[str, Any] | None = await self._call("manager.get", lambda: self._rows.rows.get(workflow_id))
        return row

    async def put_workflow(self, workflow_id: str, fields: Mapping[str, Any]) -> None:
        def put() -> None:
            if workflow_id not in self._rows.rows:
                raise UnknownWorkflow(f"the Manager has no workflow {workflow_id}")
            self._rows.put(workflow_id, fields, self._gate.name)

        await self._call("manager.put", put)

    async def route(self, need: Need) -> Route:
        def find() -> Route:
            if need.milestone == "paint":
                raise RouteRefused("no_builders", "no painters are registered; start one")
            return _route_to(need.queue)

        route: Route = await self._call("manager.route", find)
        return route

    async def route_directly(self, _exchange_id: str | int, _broker_id: str | int, queue: str) -> Route:
        return _route_to(queue)

    async def _call(self, name: str, work: Callable[[], Any]) -> Any:
        await self._gate.enter(name)
        weather = self._gate.weather
        if weather.strikes(weather.faults.manager):
            raise ManagerUnavailable("the Manager does not answer")
        found = work()
        if weather.strikes(weather.faults.manager):
            raise ManagerUnavailable("the Manager did not say whether it did it")
        if weather.strikes(weather.faults.manager):
            await asyncio.sleep(weather.chance.random() * 20.0)
        await self._gate.leave(name)
        return found


class SimulatedNetwork:
    """What `app.elsewhere.Network` is to the engine."""

    exchange_id = "1"
    broker_id = "1"

    def __init__(self, router: SimulatedManager, broker: SimulatedBroker) -> None:
        self.router = router
        self._broker = broker

    async def deliver(self, row: OutboxRow, message: Message) -> None:
        route = row.route or await self.router.route_directly("1", "1", row.queue)
        address = Address(exchange=route.exchange, routing_key=route.routing_key)
        await self._broker.publish(address, message, timeout_seconds=PUBLISH_SECONDS)


def elsewhere_of(rows: ManagerRows, gate: Gate, broker: SimulatedBroker, core: Core) -> Elsewhere:
    """As `app.elsewhere` puts it together, on this world's Manager."""
    manager = SimulatedManager(rows, gate)
    return Elsewhere(
        network=cast("Any", SimulatedNetwork(manager, broker)),
        membership=Membership(_nothing, _nothing, core.clock, core.observer),
        manager=cast("Any", manager),
        services=(),
    )


def _route_to(queue: str) -> Route:
    return Route(broker_id="1", exchange_id="1", exchange=EXCHANGE, routing_key=queue)


async def _nothing() -> None: ...

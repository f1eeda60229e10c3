"""Workers in exchanges: who we are there, where they are, and a Manager of the original that records it.

The facts come from that Manager when the settings name one, and from our own tables when they only say which
exchange and broker are ours. With neither, everything goes to a queue of our own broker, and there is nothing
of this.
"""

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from random import SystemRandom
from typing import Any

from openaperture.app.core import Core
from openaperture.brokers.amqp import AmqpBroker
from openaperture.client.oauth import TokenSource
from openaperture.client.original import OriginalManager
from openaperture.client.rows import number_of
from openaperture.codecs import terms
from openaperture.config import Settings
from openaperture.domain.errors import BadInput
from openaperture.engine.membership import Membership
from openaperture.engine.relay import PUBLISH_SECONDS
from openaperture.observability.system_events import SystemEvents
from openaperture.ports import Broker, Listing, Message, Observer, OutboxRow
from openaperture.routing import BrokerPool, Directory, OwnTables, Router
from openaperture.routing.directory import OWN_SECONDS
from openaperture.runtime.supervisor import Service

MODULE_TYPE = "workflow_orchestrator"
COMPONENT = "workflow_orchestration"


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """Ways to workers, and the ids that are ours."""

    router: Router
    pool: BrokerPool
    exchange_id: str
    broker_id: str

    async def deliver(self, row: OutboxRow, message: Message) -> None:
        """Along the route of the row; without one, to its queue in our own exchange."""
        route = row.route or await self.router.route_directly(self.exchange_id, self.broker_id, row.queue)
        await self.pool.publish(route, message, timeout_seconds=PUBLISH_SECONDS)

    async def beat(self, hostname: str) -> None:
        """A sign of life, for the Overseer."""
        route = await self.router.route_directly(self.exchange_id, self.broker_id, "system_modules")
        body = terms.encode_module_status(hostname=hostname, module_type=MODULE_TYPE)
        await self.pool.publish(route, Message(body=body, content_type=None))


@dataclass(frozen=True, slots=True, kw_only=True)
class Elsewhere:
    """What an orchestrator has to do with exchanges."""

    network: Network
    membership: Membership
    manager: OriginalManager | None
    """Where workflows are recorded; None when nobody but us has to know them."""
    services: Sequence[Service]
    """What drains after the relay."""


def observing(settings: Settings, observer: Observer) -> Observer:
    """The observer of a process; with a Manager elsewhere one that tells it of what matters."""
    return SystemEvents(observer) if settings.manager_url else observer


@asynccontextmanager
async def open_elsewhere(core: Core, broker: Broker) -> AsyncGenerator[Elsewhere | None]:
    """None when no exchange is ours."""
    if core.settings.manager_url is not None and isinstance(core.observer, SystemEvents):
        async with _manager(core.settings, core) as manager:
            yield _with_manager(core, broker, manager, core.observer)
    elif core.settings.routes_by_own_tables:
        yield _with_own_tables(core, broker)
    else:
        yield None


def _manager(settings: Settings, core: Core) -> OriginalManager:
    secret = settings.oauth_client_secret
    tokens = TokenSource(
        settings.oauth_login_url or "",
        settings.oauth_client_id or "",
        secret.get_secret_value() if secret else "",
        core.clock,
    )
    return OriginalManager(settings.manager_url or "", tokens, core.clock)


def _with_manager(core: Core, broker: Broker, manager: OriginalManager, events: SystemEvents) -> Elsewhere:
    network = _network(core, broker, Directory(manager, core.clock))
    hostname = core.settings.hostname
    register = partial(manager.register_module, network.exchange_id, hostname=hostname, module_type=MODULE_TYPE)

    async def post(text: str) -> None:
        data = {"component": COMPONENT, "exchange_id": network.exchange_id, "hostname": hostname}
        await manager.post_system_event(
            event_type="unhandled_exception", severity="error", message=text, data=data
        )

    return Elsewhere(
        network=network,
        membership=Membership(register, partial(network.beat, hostname), core.clock, core.observer),
        manager=manager,
        services=[
            _pool_service(network),
            Service(name="system events", run=lambda: events.run(post), drain=events.drain),
        ],
    )


def _with_own_tables(core: Core, broker: Broker) -> Elsewhere:
    directory = Directory(OwnTables(core.directory), core.clock, remembered_seconds=OWN_SECONDS)
    network = _network(core, broker, directory)
    module: dict[str, Any] = {
        "messaging_exchange_id": number_of(network.exchange_id),
        "hostname": core.settings.hostname,
        "type": MODULE_TYPE,
        "status": "active",
        "workload": [],
    }

    async def register() -> None:
        if module["messaging_exchange_id"] is None:
            raise BadInput(f"exchange_id {network.exchange_id!r} is no number, as all ids of exchanges are")
        await core.directory.add(Listing.MODULE, module, replacing=True)

    return Elsewhere(
        network=network,
        # Nobody listens to heartbeats here: the entry is renewed where it stands.
        membership=Membership(register, register, core.clock, core.observer),
        manager=None,
        services=[_pool_service(network)],
    )


def _network(core: Core, broker: Broker, directory: Directory) -> Network:
    exchange_id, broker_id = core.settings.exchange_id or "", core.settings.broker_id or ""
    chance = SystemRandom()
    router = Router(
        directory,
        core.observer,
        own_exchange_id=exchange_id,
        own_broker_id=broker_id,
        chance=chance,
        now=lambda: datetime.now(UTC),
    )
    open_broker = partial(AmqpBroker, observer=core.observer)
    pool = BrokerPool(directory, broker, broker_id, open_broker, core.observer, clock=core.clock, chance=chance)
    return Network(router=router, pool=pool, exchange_id=exchange_id, broker_id=broker_id)


def _pool_service(network: Network) -> Service:
    return Service(name="pool", run=network.pool.run, drain=network.pool.close)

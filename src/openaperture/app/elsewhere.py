"""A Manager of the original, when the settings name one: who we are there, where workers are, what it records."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from random import SystemRandom

from openaperture.app.core import Core
from openaperture.brokers.amqp import AmqpBroker
from openaperture.client.oauth import TokenSource
from openaperture.client.original import OriginalManager
from openaperture.codecs import terms
from openaperture.config import Settings
from openaperture.engine.membership import Membership
from openaperture.engine.relay import PUBLISH_SECONDS
from openaperture.observability.system_events import SystemEvents
from openaperture.ports import Broker, Message, Observer, OutboxRow
from openaperture.routing import BrokerPool, Directory, Router
from openaperture.runtime.supervisor import Service

MODULE_TYPE = "workflow_orchestrator"
COMPONENT = "workflow_orchestration"


@dataclass(frozen=True, slots=True, kw_only=True)
class Elsewhere:
    """The Manager and what it knows."""

    manager: OriginalManager
    router: Router
    pool: BrokerPool
    events: SystemEvents
    exchange_id: str
    broker_id: str
    hostname: str

    async def deliver(self, row: OutboxRow, message: Message) -> None:
        """Along the route of the row; without one, to its queue in our own exchange."""
        route = row.route or await self.router.route_directly(self.exchange_id, self.broker_id, row.queue)
        await self.pool.publish(route, message, timeout_seconds=PUBLISH_SECONDS)

    def membership(self, core: Core) -> Membership:
        register = partial(
            self.manager.register_module, self.exchange_id, hostname=self.hostname, module_type=MODULE_TYPE
        )
        return Membership(register, self._beat, core.clock, core.observer)

    def services(self) -> list[Service]:
        """What drains after the relay."""
        return [
            Service(name="pool", run=self.pool.run, drain=self.pool.close),
            Service(name="system events", run=lambda: self.events.run(self._post), drain=self.events.drain),
        ]

    async def _beat(self) -> None:
        route = await self.router.route_directly(self.exchange_id, self.broker_id, "system_modules")
        body = terms.encode_module_status(hostname=self.hostname, module_type=MODULE_TYPE)
        await self.pool.publish(route, Message(body=body, content_type=None))

    async def _post(self, text: str) -> None:
        data = {"component": COMPONENT, "exchange_id": self.exchange_id, "hostname": self.hostname}
        await self.manager.post_system_event(
            event_type="unhandled_exception", severity="error", message=text, data=data
        )


def observing(settings: Settings, observer: Observer) -> Observer:
    """The observer of a process; with a Manager elsewhere one that tells it of what matters."""
    return SystemEvents(observer) if settings.manager_url else observer


@asynccontextmanager
async def open_elsewhere(core: Core, broker: Broker) -> AsyncGenerator[Elsewhere | None]:
    """None without a Manager elsewhere."""
    settings, clock, chance = core.settings, core.clock, SystemRandom()
    if settings.manager_url is None or not isinstance(core.observer, SystemEvents):
        yield None
        return
    exchange_id, broker_id = settings.exchange_id or "", settings.broker_id or ""
    secret = settings.oauth_client_secret
    tokens = TokenSource(
        settings.oauth_login_url or "",
        settings.oauth_client_id or "",
        secret.get_secret_value() if secret else "",
        clock,
    )
    async with OriginalManager(settings.manager_url, tokens, clock) as manager:
        directory = Directory(manager, clock)
        router = Router(
            directory,
            core.observer,
            own_exchange_id=exchange_id,
            own_broker_id=broker_id,
            chance=chance,
            now=lambda: datetime.now(UTC),
        )
        open_broker = partial(AmqpBroker, observer=core.observer)
        pool = BrokerPool(directory, broker, broker_id, open_broker, core.observer, clock=clock, chance=chance)
        yield Elsewhere(
            manager=manager,
            router=router,
            pool=pool,
            events=core.observer,
            exchange_id=exchange_id,
            broker_id=broker_id,
            hostname=settings.hostname,
        )

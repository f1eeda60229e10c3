"""What several fault tests do to an engine at work, and what they ask of it afterwards."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from openaperture.brokers.amqp import AmqpBroker
from openaperture.ports import Broker
from openaperture.worker import Context
from tests.contract.brokers import Events, running, until
from tests.functional.engine_site import Site
from tests.tcp_proxy import TcpProxy, tcp_proxy


@asynccontextmanager
async def through_proxy(site: Site) -> AsyncGenerator[tuple[Broker, TcpProxy]]:
    """Connections for an engine that a test can disturb; the test's own and the worker's are others."""
    url = site.core.settings.broker
    events = Events()
    async with tcp_proxy(url) as proxy, running(AmqpBroker(proxy.url(url), observer=events)) as broker:
        await events.wait_for("broker.connected", 2)
        yield broker, proxy


class StallingAt(Events):
    """Stops a proxy when an event is first told, before whoever tells it goes on."""

    def __init__(self, name: str, proxy: TcpProxy) -> None:
        super().__init__()
        self._name = name
        self._proxy = proxy

    def emit(self, name: str, /, **details: Any) -> None:
        super().emit(name, **details)
        if name == self._name and self.count(name) == 1:
            self._proxy.stall()


class Deploys:
    """A handler of milestones whose deploys end when the test says so: the load cannot end before its fault."""

    def __init__(self) -> None:
        self.may_end = asyncio.Event()

    async def run(self, context: Context) -> None:
        if context.milestone == "deploy":
            await self.may_end.wait()


async def assert_nothing_left_but_copies(site: Site) -> None:
    """A request whose confirm was lost, or whose row could not be deleted, goes out again and is void."""
    async with site.engine("later", store=site.store_in(60)), site.worker():

        async def all_sent() -> bool:
            return await site.core.store.count_outbox() == 0

        await until(all_sent)
    await site.assert_nothing_left()

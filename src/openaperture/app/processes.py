"""The processes that run until they are stopped."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from openaperture.app.access import check_exposure
from openaperture.app.announcement import announced
from openaperture.app.core import Core, broker_of, open_core
from openaperture.app.elsewhere import observing, open_elsewhere
from openaperture.app.engine import build_engine, worker_service
from openaperture.app.manager import Api
from openaperture.config import Settings
from openaperture.domain.errors import StoreUnavailable
from openaperture.observability.logs import open_log
from openaperture.ports import Observer
from openaperture.runtime.backoff import Backoff
from openaperture.runtime.supervisor import Service, Supervisor
from openaperture.stores.access import SqlAccess
from openaperture.worker.worker import SETTLING_SECONDS


async def serve_orchestrator(settings: Settings) -> int:
    """An orchestrator until SIGTERM; any number of them may run."""
    async with AsyncExitStack() as stack:
        core = await _open_patiently(settings, stack)
        broker = core.broker()
        async with open_elsewhere(core, broker) as elsewhere:
            engine = build_engine(core, broker, elsewhere)
            await supervisor(engine.services, settings, core.observer).run(handle_signals=True)
    return 0


async def _open_patiently(settings: Settings, stack: AsyncExitStack) -> Core:
    """As soon as the database answers: servers and orchestrators may come up in any order."""
    observer = observing(settings, open_log(None))
    backoff = Backoff()
    while True:
        try:
            return await stack.enter_async_context(open_core(settings, observer))
        except StoreUnavailable as exc:
            observer.emit("orchestrator.waiting", error=exc)
            await asyncio.sleep(backoff.next_seconds())


async def serve_worker(settings: Settings, queues: Sequence[str] = ()) -> int:
    """A command worker until SIGTERM. It needs the broker alone."""
    observer = open_log(None)
    broker = broker_of(settings, None, observer)
    services = [
        worker_service(settings, broker, observer, queues),
        Service(name="broker", run=broker.run, drain=broker.close),
    ]
    await supervisor(services, settings, observer).run(handle_signals=True)
    return 0


async def serve_manager(settings: Settings, ready: Callable[[str, str], None]) -> int:
    """The Manager alone until SIGTERM; any number of them may run on one PostgreSQL.

    What its verbs ask for lies in the outbox, and any orchestrator of the database does it. `ready` is called
    with the Manager's address and the token of whoever started it, which is in no log.
    """
    host = settings.manager.host
    async with open_core(settings, open_log(None)) as core:
        await check_exposure(settings, SqlAccess(core.database), host)
        api = Api(core, core.decider())
        server = api.server(host=host, port=settings.manager.port)
        services = [Service(name="manager", run=server.run, drain=server.drain)]
        with announced(settings.data_dir, server.url, api.token):
            core.observer.emit("manager.ready", url=server.url)
            ready(server.url, api.token)
            await supervisor(services, settings, core.observer).run(handle_signals=True)
    return 0


async def serve_up(settings: Settings, ready: Callable[[str, str], None]) -> int:
    """Everything in one process until SIGTERM: orchestrator, worker, Manager. `ready` as above."""
    async with whole(settings, open_log(None), host=settings.manager.host, port=settings.manager.port) as process:
        ready(process.url, process.api.token)
        await process.supervisor.run(handle_signals=True)
    return 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Whole:
    """A process that does everything. Its supervisor is not running yet."""

    supervisor: Supervisor
    api: Api
    url: str


@asynccontextmanager
async def whole(settings: Settings, log: Observer, *, host: str, port: int) -> AsyncGenerator[Whole]:
    """Orchestrator, worker and Manager on one database and broker; announced while the block lasts."""
    async with open_core(settings, observing(settings, log)) as core:
        await check_exposure(settings, SqlAccess(core.database), host)
        broker = core.broker()
        async with open_elsewhere(core, broker) as elsewhere:
            engine = build_engine(core, broker, elsewhere)
            api = Api(core, engine.decider)
            server = api.server(host=host, port=port)
            services = [
                worker_service(settings, broker, core.observer),
                Service(name="manager", run=server.run, drain=server.drain),
                *engine.services,
            ]
            with announced(settings.data_dir, server.url, api.token):
                core.observer.emit("manager.ready", url=server.url)
                yield Whole(supervisor=supervisor(services, settings, core.observer), api=api, url=server.url)


def supervisor(services: Sequence[Service], settings: Settings, observer: Observer) -> Supervisor:
    """With grace enough for the milestones at hand to end, or to be interrupted and reported."""
    grace_seconds = max(settings.orchestrator.grace_seconds, settings.worker.grace_seconds + SETTLING_SECONDS)
    return Supervisor(services, observer, grace_seconds=grace_seconds)

"""The composition root: the only file that names concrete classes.

Both shapes are built here from the same parts: embedded (SQLite, embedded broker, everything in one
process) and distributed (PostgreSQL, RabbitMQ, any number of processes).
"""

import asyncio
import json
import os
import secrets
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import httpx

from openaperture.brokers.amqp import AmqpBroker
from openaperture.brokers.embedded import EmbeddedBroker
from openaperture.client import ManagerClient
from openaperture.codecs import json as json_codec
from openaperture.config import Settings
from openaperture.database import Database
from openaperture.domain.milestones import table_of
from openaperture.engine.decider import Decider, HandOver
from openaperture.engine.orchestrator import Orchestrator
from openaperture.engine.ports import Wire
from openaperture.engine.relay import Relay
from openaperture.engine.requests import Identity, RequestBuilder
from openaperture.engine.timers import Timers
from openaperture.engine.tokens import TokenMint
from openaperture.engine.verbs import Verbs
from openaperture.manager import create_app
from openaperture.manager.server import ManagerServer
from openaperture.observability.clock import SystemClock
from openaperture.observability.logs import open_log
from openaperture.ports import Address, Broker, Observer
from openaperture.runtime.supervisor import Service, Supervisor
from openaperture.runtime.topology import prepare
from openaperture.stores.sql import SqlStore
from openaperture.worker.command import CommandWorker
from openaperture.worker.worker import SETTLING_SECONDS

if TYPE_CHECKING:
    # It takes a third of a second to import, and not every process serves the API.
    from fastapi import FastAPI

LOG_FILE = "openaperture.log"
"""Log of a `run`, whose terminal belongs to its progress."""
SESSION_FILE = "manager.json"
"""Where a running `up` says how to reach it; readable by its owner alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Core:
    """What every process has: the settings and the store with what hangs on it."""

    settings: Settings
    observer: Observer
    database: Database
    store: SqlStore
    clock: SystemClock
    wire: Wire
    owner: str

    def decider(self, hand_over: HandOver | None = None) -> Decider:
        """With a relay in this process its rows are leased to us; without one any relay takes them."""
        settings = self.settings
        kinds = table_of(settings.milestones)
        identity = Identity(
            callback=Address(routing_key=settings.queue_name),
            queue_name=settings.queue_name,
            exchange_id=settings.exchange_id,
            broker_id=settings.broker_id,
        )
        requests = RequestBuilder(identity, self.wire.mint, kinds, self.wire.encode)
        owner = self.owner if hand_over else ""
        return Decider(self.store, requests, kinds, self.observer, owner=owner, hand_over=hand_over)


@asynccontextmanager
async def open_core(settings: Settings, observer: Observer) -> AsyncGenerator[Core]:
    """Open the database (its schema is brought up to date) and build what needs nothing else."""
    database = await Database.open(settings.database)
    try:
        store = SqlStore(database, observer=observer)
        configured = settings.token_key.get_secret_value() if settings.token_key else None
        key = configured or await store.get_or_create_setting("token_key", secrets.token_urlsafe(32))
        wire = Wire(
            mint=TokenMint(key),
            encode=json_codec.encode,
            decode=json_codec.decode_incoming,
            route=lambda queue: Address(routing_key=queue),
        )
        yield Core(
            settings=settings,
            observer=observer,
            database=database,
            store=store,
            clock=SystemClock(),
            wire=wire,
            owner=f"{settings.hostname}.{os.getpid()}.{secrets.token_hex(4)}",
        )
    finally:
        await database.close()


# ------------------------------------------------------------------------------------- the services


def _broker_of(settings: Settings, database: Database | None, observer: Observer) -> Broker:
    if settings.broker == "embedded":
        if database is None:
            raise AssertionError("the embedded broker lives in the database of its process")
        return EmbeddedBroker(database, observer=observer)
    return AmqpBroker(settings.broker, observer=observer)


def _broker_service(broker: Broker) -> Service:
    return Service(name="broker", run=broker.run, drain=broker.close)


def _engine_services(core: Core, broker: Broker) -> tuple[list[Service], Decider]:
    """The orchestrator, the timers and the relay of one process, in the order in which they drain."""
    settings = core.settings
    tuning = settings.orchestrator
    relay = Relay(
        core.store,
        broker,
        core.wire,
        core.clock,
        core.observer,
        owner=core.owner,
        window=tuning.relay_window,
        poll_seconds=tuning.poll_seconds,
    )
    decider = core.decider(relay.hand_over)
    orchestrator = Orchestrator(
        broker,
        decider,
        core.wire,
        core.clock,
        core.observer,
        queue=settings.queue_name,
        batch=tuning.batch,
    )
    timers = Timers(core.store, decider, core.clock, core.observer, poll_seconds=tuning.poll_seconds)

    async def orchestrate() -> None:
        workers = {kind.queue for kind in table_of(settings.milestones).values() if kind.queue}
        # Operators who own the topology may have queues of some kinds only: theirs are not checked here.
        queues = [settings.queue_name, *(sorted(workers) if settings.declare_queues else ())]
        await prepare(broker, queues, core.observer, declare=settings.declare_queues)
        await orchestrator.run()

    services = [
        Service(name="orchestrator", run=orchestrate, drain=orchestrator.drain),
        Service(name="timers", run=timers.run, drain=timers.drain),
        Service(name="relay", run=lambda: relay.run(decider), drain=relay.drain),
    ]
    return services, decider


def _worker_service(settings: Settings, broker: Broker, observer: Observer, queues: Sequence[str] = ()) -> Service:
    configured = settings.worker
    worker = CommandWorker(
        broker,
        queues=list(queues or configured.queues),
        slots=configured.slots,
        work_dir=configured.work_dir,
        artifacts_dir=configured.artifacts_dir,
        local_repositories=configured.local_repositories,
        private_networks=configured.private_networks,
        environment=configured.environment,
        grace_seconds=configured.grace_seconds,
        observer=observer,
    )

    async def work() -> None:
        names = list(queues or configured.queues)
        await prepare(broker, names, observer, declare=settings.declare_queues)
        await worker.run()

    return Service(name="worker", run=work, drain=worker.drain)


# ------------------------------------------------------------------------------------ the processes


async def serve_orchestrator(settings: Settings) -> int:
    """An orchestrator until SIGTERM; any number of them may run."""
    observer = open_log(None)
    async with open_core(settings, observer) as core:
        broker = _broker_of(settings, core.database, observer)
        services, _ = _engine_services(core, broker)
        await _supervise([*services, _broker_service(broker)], settings, observer)
    return 0


async def serve_worker(settings: Settings, queues: Sequence[str] = ()) -> int:
    """A command worker until SIGTERM. It needs the broker alone."""
    observer = open_log(None)
    broker = _broker_of(settings, None, observer)
    await _supervise(
        [_worker_service(settings, broker, observer, queues), _broker_service(broker)], settings, observer
    )
    return 0


async def _supervise(services: Sequence[Service], settings: Settings, observer: Observer) -> None:
    await Supervisor(services, observer, grace_seconds=_grace_seconds(settings)).run(handle_signals=True)


def _grace_seconds(settings: Settings) -> float:
    """Enough for the milestones at hand to end, or to be interrupted and reported."""
    return max(settings.orchestrator.grace_seconds, settings.worker.grace_seconds + SETTLING_SECONDS)


async def serve_up(settings: Settings) -> int:
    """Everything in one process until SIGTERM: orchestrator, worker, Manager."""
    observer = open_log(None)
    async with open_core(settings, observer) as core:
        broker = _broker_of(settings, core.database, observer)
        services, decider = _engine_services(core, broker)
        token = secrets.token_urlsafe(32)
        app = _manager_app(core, decider, token)
        manager = ManagerServer(app, host=settings.manager.host, port=settings.manager.port)
        everything = [
            _worker_service(settings, broker, observer),
            Service(name="manager", run=manager.run, drain=manager.drain),
            *services,
            _broker_service(broker),
        ]
        with _announced(settings.data_dir, manager.url, token):
            await _supervise(everything, settings, observer)
    return 0


# --------------------------------------------------------------------------------- for the commands


def _manager_app(core: Core, decider: Decider, token: str) -> "FastAPI":
    verbs = Verbs(decider, core.store)
    return create_app(verbs, core.store, token=token, version=version("openaperture"), observer=core.observer)


@asynccontextmanager
async def _in_process(app: "FastAPI", token: str) -> AsyncGenerator[ManagerClient]:
    """The Manager's API without a server: the same requests, handed over in memory."""
    async with ManagerClient("http://manager", token, transport=httpx.ASGITransport(app=app)) as client:
        yield client


@asynccontextmanager
async def manager_session(settings: Settings) -> AsyncGenerator[ManagerClient]:
    """The API for a command: of the `up` that runs on this data folder, else on the database itself."""
    if (announced := find_running(settings.data_dir)) is not None:
        async with ManagerClient(announced.url, announced.token) as client:
            yield client
        return
    observer = open_log(settings.data_dir / LOG_FILE)
    async with open_core(settings, observer) as core:
        token = secrets.token_urlsafe(32)
        async with _in_process(_manager_app(core, core.decider(), token), token) as client:
            yield client


@asynccontextmanager
async def running(settings: Settings) -> AsyncGenerator[ManagerClient]:
    """An orchestrator and a worker in this process for as long as the block lasts, and the API to them."""
    observer = open_log(settings.data_dir / LOG_FILE)
    async with open_core(settings, observer) as core:
        broker = _broker_of(settings, core.database, observer)
        services, decider = _engine_services(core, broker)
        token = secrets.token_urlsafe(32)
        app = _manager_app(core, decider, token)
        # Served as well, so that other commands can look and cancel: this process has the database to itself.
        manager = ManagerServer(app, host="127.0.0.1", port=0)
        everything = [
            _worker_service(settings, broker, observer),
            Service(name="manager", run=manager.run, drain=manager.drain),
            *services,
            _broker_service(broker),
        ]
        supervisor = Supervisor(everything, observer, grace_seconds=_grace_seconds(settings))
        with _announced(settings.data_dir, manager.url, token):
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(supervisor.run())
                try:
                    async with _in_process(app, token) as client:
                        yield client
                finally:
                    supervisor.stop()


@dataclass(frozen=True, slots=True, kw_only=True)
class Announced:
    """How to reach a running `up`."""

    url: str
    token: str
    pid: int


def find_running(data_dir: Path) -> Announced | None:
    """The `up` that runs on this data folder; a file left behind by a killed one is ignored."""
    try:
        fields = json.loads((data_dir / SESSION_FILE).read_text(encoding="utf-8"))
        announced = Announced(url=fields["url"], token=fields["token"], pid=fields["pid"])
        os.kill(announced.pid, 0)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return announced


@contextmanager
def _announced(data_dir: Path, url: str, token: str) -> Generator[None]:
    path = data_dir / SESSION_FILE
    path.unlink(missing_ok=True)
    fields = {"url": url, "token": token, "pid": os.getpid()}
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        json.dump(fields, file)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)

"""An orchestrator in the world of the original: its Manager over HTTP, its exchanges on two brokers, its messages.

The loops run in the process of the test, as `app` puts them together. The Manager is reached through a gate, at
which a test can shut it off, slow it down or lose its answers. All that is published is in a journal.
"""

import asyncio
import copy
from collections.abc import AsyncGenerator, Callable, Generator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec
from pika.adapters.blocking_connection import BlockingChannel

from openaperture.app.core import open_core
from openaperture.app.elsewhere import open_elsewhere
from openaperture.app.engine import build_engine
from openaperture.brokers.amqp import AmqpBroker
from openaperture.codecs import json as json_codec
from openaperture.codecs import terms
from openaperture.config import Settings
from openaperture.domain import messages as m
from openaperture.observability.clock import SystemClock
from openaperture.observability.system_events import SystemEvents
from openaperture.ports import Address, Consumer, Message, Observer
from openaperture.runtime.supervisor import Supervisor
from tests.compat.cases import read_meta
from tests.compat.journal import Journal, Published, Seen
from tests.compat.manager import LOGIN_PATH, Answer, Tables, serving
from tests.compat.notation import rfc1123
from tests.compat.rabbit import VirtualHost, observing
from tests.compat.saves import FIELDS
from tests.contract.brokers import Events, receive, running, until
from tests.functional.engine_site import GRACE_SECONDS, Engine, Site
from tests.servers import LOOPBACK

PATIENCE_SECONDS = 20.0
HURRY = 10.0
ROOTS = {"1": "AWS", "2": "AWS", "3": "lab"}
"""Root exchange by exchange id. Exchange 3 is restricted to broker 2; the others are on broker 1."""
PLACES = {"1": "us-east-1", "2": "us-west-1", "3": "lab"}
WORKERS = (("1", "builder"), ("2", "deployer"), ("3", "deployer"), ("2", "signers"), ("3", "painters"))
TOKEN_BY_EXCHANGE = {"2": "app-tok-2", "3": "lab-tok"}
"""etcd_token of a cluster there."""


class HurriedClock(SystemClock):
    """Its pauses are shorter: a test waits for what comes after them."""

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds / HURRY)


# ----------------------------------------------------------------------------------------- the Manager


class Gate:
    """The Manager's address: always the same one, whatever is behind it."""

    def __init__(self, target_port: int) -> None:
        self._target_port = target_port
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._to_hold = b""
        self._to_lose: bytes | None = None
        self._port = 0
        self.lost = 0
        """Answers that were cut off."""

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self._port}"

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._handle, LOOPBACK, self._port)
        self._port = self._server.sockets[0].getsockname()[1]

    def shut(self) -> None:
        """No connection is made, and none is left."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in self._writers:
            writer.transport.abort()

    def hold(self, method: str) -> None:
        """Requests arrive, and answers to this method stay here until `flow`."""
        self._to_hold = method.encode() + b" "
        self._flowing.clear()

    def flow(self) -> None:
        self._flowing.set()

    def lose_next(self, method: str) -> None:
        """Cut the connection in place of the next answer to this method: what was asked for is done."""
        self._to_lose = method.encode() + b" "

    async def _handle(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        server, to_server = await asyncio.open_connection(LOOPBACK, self._target_port)
        ends = (to_client, to_server)
        self._writers.update(ends)
        asked = b""
        try:
            async with asyncio.TaskGroup() as tasks:

                async def ask() -> None:
                    nonlocal asked
                    while chunk := await client.read(65_536):
                        # A client of HTTP begins a request with a write of its own.
                        asked = chunk if chunk[:4].strip() in {b"GET", b"PUT", b"POST", b"DELE"} else asked
                        to_server.write(chunk)
                    to_server.write_eof()

                async def answer() -> None:
                    while chunk := await server.read(65_536):
                        if asked.startswith(self._to_hold):
                            await self._flowing.wait()
                        if self._to_lose and asked.startswith(self._to_lose):
                            self._to_lose, self.lost = None, self.lost + 1
                            break
                        to_client.write(chunk)
                    to_client.transport.abort()

                tasks.create_task(ask())
                tasks.create_task(answer())
        except* OSError:
            pass
        finally:
            self._writers.difference_update(ends)
            for end in ends:
                end.transport.abort()


class MoodyTables(Tables):
    """A Manager that may refuse all tokens."""

    refuses_tokens = False
    refused = 0
    secret = "secret"
    """What the orchestrator has to know to get a token."""

    def log_in(self, body: Any) -> Answer:
        known = body["client_secret"] == self.secret
        return Tables.log_in(self, body | {"client_secret": "secret" if known else ""})

    def admits(self, authorization: str) -> bool:
        if self.refuses_tokens:
            self.refused += 1
            return False
        return Tables.admits(self, authorization)


def tables_of(hosts: Mapping[str, VirtualHost], run: str) -> MoodyTables:
    """The directory of the cases, with routing keys of this run and workers wherever there may be some."""
    content: dict[str, Any] = copy.deepcopy(read_meta()["std"])
    content["broker_connections"] = {broker_id: [host.row] for broker_id, host in hosts.items()}
    for exchange in content["exchanges"]:
        exchange["routing_key"] = f"{run}.{exchange['routing_key']}"
        if str(exchange["id"]) in PLACES:
            exchange["routing_key"] = key_of(run, str(exchange["id"]))
    everybody: list[dict[str, Any]] = [
        {"hostname": kind, "type": kind, "status": "active", "workload": []}
        for kind in ("builder", "deployer", "workflow_orchestrator")
    ]
    content["modules"] = dict.fromkeys(ROOTS, everybody)
    lab = {"id": 4, "etcd_token": "lab-tok", "name": "lab", "allow_docker_builds": False}
    content["clusters"] = [*content["clusters"], lab | {"messaging_exchange_id": 3}]
    return MoodyTables(content)


def key_of(run: str, exchange_id: str) -> str:
    """The routing key of an exchange."""
    return f"{run}.{PLACES[exchange_id]}"


# -------------------------------------------------------------------------------------------- workers


@dataclass(frozen=True, slots=True)
class OldHand:
    """A worker of the original played by the test."""

    site: "OriginalSite"
    requests: Consumer

    async def take(self) -> m.OriginalMessage:
        """The next request; its message is acked."""
        [delivery] = await receive(self.requests, 1)
        await self.requests.ack([delivery])
        assert delivery.message.content_type is None
        return terms.decode(delivery.message.body)

    async def complete(self, request: m.OriginalMessage, **found: Any) -> None:
        """Send the whole request back, with a longer log and what was found out."""
        log = [*(request.event_log or []), f"[OA][{request.id}] did {request.current_step}"]
        await self.site.send_old(msgspec.structs.replace(request, **{"event_log": log} | found))

    async def fail(self, request: m.OriginalMessage, reason: str) -> None:
        log = [*(request.event_log or []), reason]
        await self.complete(request, workflow_error=True, workflow_completed=True, event_log=log)


# ----------------------------------------------------------------------------------------------- site


@dataclass(frozen=True, slots=True, kw_only=True)
class OriginalSite(Site):
    """One database, two brokers, a Manager, and the orchestrators that run there."""

    run: str
    hosts: Mapping[str, VirtualHost]
    gate: Gate
    tables: MoodyTables
    journal: Journal
    answers: Address
    """Where workers find the queue of the orchestrators."""
    seconds: float = field(default=PATIENCE_SECONDS)

    @property
    def workers(self) -> str:
        return self.queue_at("1", "builder")

    def queue_at(self, exchange_id: str, queue: str) -> str:
        """The name on its broker of a queue that is bound to an exchange."""
        return queue_name(self.run, exchange_id, queue)

    @asynccontextmanager
    async def engine(  # type: ignore[override]  # what a test replaces there is not replaced here
        self, owner: str = "one"
    ) -> AsyncGenerator[Engine]:
        """A running orchestrator that is registered with the Manager, drained at the end."""
        core = replace(self.core, owner=owner)
        async with open_elsewhere(core, self.broker) as elsewhere:
            services = build_engine(core, self.broker, elsewhere).services
            # The broker runs as long as the test, which looks on from the same connections.
            loops = [service for service in services if service.name != "broker"]
            engine = Engine(Supervisor(loops, core.observer, grace_seconds=GRACE_SECONDS))
            try:
                await self.until_calls("", lambda seen: any(c.path.endswith("/modules") for c in seen.calls))
                yield engine
            finally:
                self.gate.flow()
                await engine.close()

    @asynccontextmanager
    async def old_hand(self, exchange_id: str = "1", queue: str = "builder") -> AsyncGenerator[OldHand]:
        host = self.hosts["2" if exchange_id == "3" else "1"]
        async with running(AmqpBroker(host.url, observer=Events())) as broker:
            consumer = await broker.consume(self.queue_at(exchange_id, queue), prefetch=10)
            yield OldHand(self, consumer)
            await consumer.close()

    # ------------------------------------------------------------------------------------- messages

    def row(self, workflow_id: str, *milestones: str, **fields: Any) -> None:
        """Have the Manager know a workflow."""
        now = rfc1123(datetime.now(UTC).timestamp(), "UTC")
        row = dict.fromkeys(FIELDS) | {"inserted_at": now, "updated_at": now, "milestones": list(milestones)}
        with self.tables.lock:
            self.tables.workflows[workflow_id] = row | {"id": workflow_id} | fields

    def recorded(self, workflow_id: str) -> dict[str, Any]:
        """The Manager's row."""
        with self.tables.lock:
            return dict(self.tables.workflows[workflow_id])

    async def start_old(self, *milestones: str, again: str | None = None, **fields: Any) -> str:
        """Ask for a workflow as the Manager of the original does; the id of it."""
        workflow_id = again or str(uuid4())
        self.row(workflow_id, *milestones)
        message = m.OriginalMessage(
            id=workflow_id,
            milestones=list(milestones),
            deployment_repo="team/shop",
            orchestration_queue_name="workflow_orchestration",
            workflow_orchestration_exchange_id="1",
            workflow_orchestration_broker_id="1",
        )
        await self.send_old(msgspec.structs.replace(message, **fields))
        return workflow_id

    async def send_old(self, message: m.OriginalMessage) -> None:
        await self.send_term(terms.encode_workflow(msgspec.structs.asdict(message)))

    async def send_term(self, body: bytes) -> None:
        """Any bytes to the orchestrators, as the original's library sends them."""
        await self.broker.publish(self.answers, Message(body=body, content_type=None))

    async def start_json(self, *milestones: str, **fields: Any) -> str:
        """Ask for a workflow of ours that the Manager knows."""
        message = m.StartMessage(id=str(uuid4()), milestones=list(milestones), **fields)
        self.row(message.id, *milestones)
        await self.send(json_codec.encode(message))
        return message.id

    async def parked(self, count: int) -> list[tuple[str, bytes]]:
        """Exactly so many dead letters, oldest first: the reason of each, and its body."""

        async def are_there() -> bool:
            return await self.broker.depth(self.error_queue) >= count

        await until(are_there)
        consumer = await self.broker.consume(self.error_queue, prefetch=count + 1)
        letters = await receive(consumer, count)
        await consumer.ack(letters)
        await consumer.close()
        assert await self.broker.depth(self.error_queue) == 0
        return [(letter.message.headers["x-reason"], letter.message.body) for letter in letters]

    # --------------------------------------------------------------------------------- what was seen

    def seen(self, workflow_id: str) -> Seen:
        return self.journal.of(workflow_id)

    async def until_calls(self, workflow_id: str, holds: Callable[[Seen], bool]) -> Seen:
        """What was seen of a workflow once this holds of it."""

        def held() -> bool:
            return self.journal.wait(workflow_id, lambda: holds(self.seen(workflow_id)), self.seconds)

        assert await asyncio.to_thread(held), self.told_of(workflow_id)
        return self.seen(workflow_id)

    def told_of(self, workflow_id: str) -> str:
        """What was seen, in short, for a test that fails."""
        seen = self.seen(workflow_id)
        calls = [f"{call.method} {call.path} {call.status}" for call in seen.calls]
        messages = [f"{sent.queue}: {sent.fields.get('message', 'a request')}" for sent in seen.messages]
        return f"not within {self.seconds:g} s; calls {calls}, messages {messages}"

    async def until_recorded(self, workflow_id: str, **fields: Any) -> dict[str, Any]:
        """The Manager's row once it has these values."""

        def has_them(_: Seen) -> bool:
            row = self.recorded(workflow_id)
            return all(row[name] == value for name, value in fields.items())

        await self.until_calls(workflow_id, has_them)
        return self.recorded(workflow_id)

    def dispatched(self, workflow_id: str) -> list[Published]:
        """The requests to workers."""
        return self.seen(workflow_id).dispatched_to("builder", "deployer", "signers", "painters")


def queue_name(run: str, exchange_id: str, queue: str) -> str:
    return f"{key_of(run, exchange_id)}.{queue}"


def settings_of(
    folder: Path, run: str, hosts: Mapping[str, VirtualHost], manager_url: str, **changes: Any
) -> Settings:
    values: dict[str, Any] = {
        "data_dir": folder,
        "database": f"sqlite:///{folder / 'openaperture.db'}",
        "broker": hosts["1"].url,
        "declare_queues": False,
        "queue_name": queue_name(run, "1", "workflow_orchestration"),
        "token_key": "a key of these tests",
        "exchange_id": "1",
        "broker_id": "1",
        "hostname": "orc-1",
        "manager_url": manager_url,
        "oauth_login_url": manager_url + LOGIN_PATH,
        "oauth_client_id": "id",
        "oauth_client_secret": "secret",
        "ui_url": "https://ui.example.test",
        "milestones": {
            "sign": {"queue": "signers", "exchange_id": "2"},
            "paint": {"queue": "painters", "exchange_id": "3"},
        },
    }
    return Settings.model_validate(values | changes).completed()


def declare_queues(hosts: Mapping[str, VirtualHost], run: str) -> None:
    """As operators do it: durable queues with dead letters, bound to the root exchanges by their routing keys."""
    for host in hosts.values():
        with host.connect() as connection:
            channel = connection.channel()
            for exchange_id, queue in (("1", "workflow_orchestration"), *WORKERS):
                if (exchange_id == "3") == (host.broker_id == "2"):
                    _declare(channel, queue_name(run, exchange_id, queue), ROOTS[exchange_id])


def _declare(channel: BlockingChannel, name: str, root: str) -> None:
    dead = f"{name}_error"
    arguments = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead}
    channel.queue_declare(name, durable=True, arguments=arguments)
    channel.queue_declare(dead, durable=True)
    channel.queue_bind(name, root, name)


@contextmanager
def manager_at_work(
    hosts: Mapping[str, VirtualHost], run: str, journal: Journal
) -> Generator[tuple[MoodyTables, str]]:
    tables = tables_of(hosts, run)
    with serving(tables, journal, run) as url, observing(hosts, journal):
        yield tables, url


@asynccontextmanager
async def opened_original_site(
    folder: Path, hosts: Mapping[str, VirtualHost], *, told: Observer | None = None, **changes: Any
) -> AsyncGenerator[OriginalSite]:
    """Everything but the orchestrator. `told` hears of events as well; `changes` are settings."""
    run, journal = f"run-{uuid4().hex[:8]}", Journal()
    events = Events()
    await asyncio.to_thread(declare_queues, hosts, run)
    with manager_at_work(hosts, run, journal) as (tables, url):
        gate = Gate(int(url.rpartition(":")[2]))
        await gate.open()
        settings = settings_of(folder, run, hosts, gate.url, **changes)
        observer = SystemEvents(Both(events, told) if told else events)
        async with open_core(settings, observer) as opened:
            core = replace(opened, clock=HurriedClock())
            async with running(core.broker()) as broker:
                yield OriginalSite(
                    core=core,
                    broker=broker,
                    events=events,
                    run=run,
                    hosts=hosts,
                    gate=gate,
                    tables=tables,
                    journal=journal,
                    answers=Address(exchange="AWS", routing_key=queue_name(run, "1", "workflow_orchestration")),
                )
        gate.shut()


class Both:
    """An Observer that tells two."""

    def __init__(self, one: Observer, other: Observer) -> None:
        self._observers = (one, other)

    def emit(self, name: str, /, **details: Any) -> None:
        for observer in self._observers:
            observer.emit(name, **details)

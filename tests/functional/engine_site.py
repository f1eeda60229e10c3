"""An orchestrator's loops as `app.py` puts them together, on real servers, and what tests do to them.

Both shapes come from here: SQLite with the embedded broker, and a schema of its own in PostgreSQL with
queues of its own in RabbitMQ. Tests speak to the loops by messages and read what they left in the store.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Collection, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

from openaperture.app.core import Core, open_core
from openaperture.app.engine import build_engine
from openaperture.brokers.amqp import AmqpBroker
from openaperture.brokers.embedded import EmbeddedBroker
from openaperture.codecs import json as json_codec
from openaperture.config import Settings
from openaperture.domain import messages as m
from openaperture.domain.errors import BrokerUnavailable, StoreUnavailable, Unconfirmed
from openaperture.domain.history import Entry
from openaperture.domain.workflow import State, Workflow
from openaperture.engine.verbs import Verbs
from openaperture.observability.clock import SystemClock
from openaperture.ports import (
    Address,
    Broker,
    Change,
    CommitOutcome,
    Consumer,
    Deferred,
    Loaded,
    Message,
    Observer,
)
from openaperture.runtime.supervisor import Supervisor
from openaperture.stores.sql import SqlStore
from openaperture.worker import Context, Worker
from tests.contract.brokers import Events, receive, running, until

GRACE_SECONDS = 15.0
POLL_SECONDS = 0.05
LONG_PAST = "Tue, 05 Mar 2013 23:25:19 UTC"


def settings_of(
    folder: Path, queue: Callable[[], str], *, database: str | None = None, broker: str = "embedded"
) -> Settings:
    """Settings of one test. `queue` makes fresh names; nobody declares that of the milestone `paint`."""
    workers = queue()
    sections: dict[str, dict[str, Any]] = {
        name: {"queue": workers} for name in ("config", "build", "deploy", "deploy_oa", "deploy_ecs")
    }
    values: dict[str, Any] = {
        "data_dir": folder,
        "broker": broker,
        "declare_queues": False,
        "queue_name": queue(),
        "token_key": "a key of these tests",
        "orchestrator": {"poll_seconds": POLL_SECONDS},
        "milestones": {**sections, "paint": {"queue": queue()}},
    }
    if database:
        values["database"] = database
    return Settings.model_validate(values).completed()


# ------------------------------------------------------------------------------------------- faults


class FaultyStore(SqlStore):
    """A store whose commits can be made to fail, or to stop half-way."""

    down = False
    """Commits fail and save nothing."""
    mute = False
    """Commits save, and then seem to have failed."""
    hold_before = False
    hold_after = False
    """Commits stop there until `release`."""
    hold_load = False
    """Loads stop before they have read anything."""
    hold_settle = False
    """What the relay has done is not noted."""

    def __init__(self, core: Core) -> None:
        super().__init__(core.database, observer=core.observer)
        self.tried = 0
        self.held = asyncio.Event()
        self._released = asyncio.Event()

    def release(self) -> None:
        self._released.set()

    async def load(self, ids: Collection[str], message_ids: Collection[str] = ()) -> Loaded:
        if self.hold_load:
            await self._hold()
        return await super().load(ids, message_ids)

    async def settle_outbox(self, *, sent: Sequence[str], deferred: Sequence[Deferred] = ()) -> None:
        if self.hold_settle:
            await self._hold()
        await super().settle_outbox(sent=sent, deferred=deferred)

    async def commit(self, changes: Sequence[Change], *, owner: str = "") -> list[CommitOutcome]:
        self.tried += 1
        if self.down:
            raise StoreUnavailable("the test took the database away")
        if self.hold_before:
            await self._hold()
        outcomes = await super().commit(changes, owner=owner)
        if self.hold_after:
            await self._hold()
        if self.mute:
            raise StoreUnavailable("the test lost the answer to the commit")
        return outcomes

    async def _hold(self) -> None:
        self.held.set()
        await self._released.wait()


class FaultyBroker:
    """Passes everything on, but for publishes to one queue that a test interferes with, and keeps those."""

    def __init__(self, broker: Broker, queue: str) -> None:
        self._broker = broker
        self._queue = queue
        self.away = False
        """Publishes fail, and send nothing."""
        self.stuck = False
        """Publishes send nothing and never return."""
        self.silent = False
        """Publishes send nothing, and fail when the time for their confirm is over."""
        self.trying = 0
        """So many publishes wait for a confirm."""
        self.unconfirmed = 0
        """So many more publishes arrive and seem not to."""
        self.sent: list[Message] = []
        self.tried = asyncio.Event()
        self.run = broker.run
        self.declare = broker.declare
        self.check = broker.check
        self.depth = broker.depth
        self.close = broker.close

    async def consume(self, queue: str, *, prefetch: int, temporary: bool = False) -> Consumer:
        return await self._broker.consume(queue, prefetch=prefetch, temporary=temporary)

    async def _hear_nothing(self, timeout_seconds: float) -> None:
        self.trying += 1
        try:
            await asyncio.sleep(timeout_seconds)
        finally:
            self.trying -= 1
        raise Unconfirmed("the test keeps the confirms")

    async def publish(self, address: Address, message: Message, *, timeout_seconds: float = 10.0) -> None:
        if address.routing_key != self._queue:
            await self._broker.publish(address, message, timeout_seconds=timeout_seconds)
            return
        self.tried.set()
        if self.away:
            raise BrokerUnavailable("the test took the broker away")
        if self.stuck:
            await asyncio.Event().wait()
        if self.silent:
            await self._hear_nothing(timeout_seconds)
        await self._broker.publish(address, message, timeout_seconds=timeout_seconds)
        self.sent.append(message)
        if self.unconfirmed:
            self.unconfirmed -= 1
            raise Unconfirmed("the test lost the confirm")


# ---------------------------------------------------------------------------------------- the engine


class Engine:
    """The loops of one orchestrator process."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self._task = asyncio.ensure_future(supervisor.run())

    def stop(self) -> None:
        """As SIGTERM does."""
        self._supervisor.stop()

    async def ended(self) -> None:
        """Wait until the process would be gone. Raises what a loop raised."""
        async with asyncio.timeout(GRACE_SECONDS + 5):
            await self._task

    async def kill(self) -> None:
        """End it in the middle of whatever it does."""
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task

    async def close(self) -> None:
        if not self._task.cancelled():
            if not self._task.done():
                self.stop()
            await self.ended()


@dataclass(frozen=True, slots=True)
class Hand:
    """A worker played by the test, which says exactly what it is told to."""

    site: "Site"
    requests: Consumer
    answers: Consumer
    reply_to: str

    async def take(self) -> m.Request:
        """The next request; its message is acked, as workers do."""
        [delivery] = await receive(self.requests, 1)
        await self.requests.ack([delivery])
        return json_codec.decode_request(delivery.message.body)

    async def claim(self, request: m.Request) -> m.Answer:
        """Say `accepted` and wait for the answer."""
        await self.site.say(m.Accepted, request, reply_to=self.reply_to)
        [delivery] = await receive(self.answers, 1)
        await self.answers.ack([delivery])
        return json_codec.decode_answer(delivery.message.body)

    async def complete(self, request: m.Request, **fields: Any) -> None:
        await self.site.say(m.Completed, request, **fields)


class QuickClock(SystemClock):
    """A process clock on which half a minute passes within a second. Pauses last as long as ever."""

    def monotonic(self) -> float:
        return 40 * super().monotonic()


async def _nothing(_context: Context) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """One database and one message server, the loops that run there, and their users."""

    core: Core
    broker: Broker
    events: Events = field(default_factory=Events)

    @property
    def intake(self) -> str:
        return self.core.settings.queue_name

    @property
    def error_queue(self) -> str:
        return f"{self.intake}_error"

    @property
    def workers(self) -> str:
        return self.queue_of("build")

    def queue_of(self, milestone: str) -> str:
        queue = self.core.settings.milestone_sections[milestone].queue
        assert queue is not None
        return queue

    @property
    def verbs(self) -> Verbs:
        return Verbs(self.core.decider(), self.core.store, self.core.kinds)

    def store_in(self, seconds: float) -> SqlStore:
        """A store whose clock goes that much ahead: for deadlines that no test can wait for."""
        return SqlStore(
            self.core.database,
            observer=self.events,
            now=lambda: datetime.now(UTC) + timedelta(seconds=seconds),
        )

    @asynccontextmanager
    async def another_broker(self) -> AsyncGenerator[Broker]:
        """Connections of its own, where there are connections."""
        if isinstance(self.broker, EmbeddedBroker):
            yield self.broker
            return
        async with running(AmqpBroker(self.core.settings.broker, observer=self.events)) as broker:
            yield broker

    @asynccontextmanager
    async def engine(
        self,
        owner: str = "one",
        *,
        store: SqlStore | None = None,
        broker: Broker | None = None,
        observer: Observer | None = None,
    ) -> AsyncGenerator[Engine]:
        """A running orchestrator, drained at the end."""
        told = observer or self.events
        core = replace(self.core, owner=owner, store=store or self.core.store, observer=told)
        if store is not None:
            # One that judges deadlines of the future has to have listened for as long.
            core = replace(core, clock=QuickClock())
        services = build_engine(core, broker or self.broker, None).services
        # The broker runs as long as the test, which looks on from the same connections.
        loops = [service for service in services if service.name != "broker"]
        engine = Engine(Supervisor(loops, told, grace_seconds=GRACE_SECONDS))
        try:
            yield engine
        finally:
            await engine.close()

    @asynccontextmanager
    async def hand(self) -> AsyncGenerator[Hand]:
        reply_to = f"test.reply.{uuid4().hex}"
        async with self.another_broker() as broker:
            requests = await broker.consume(self.workers, prefetch=10)
            answers = await broker.consume(reply_to, prefetch=10, temporary=True)
            yield Hand(self, requests, answers, reply_to)
            await requests.close()
            await answers.close()

    @asynccontextmanager
    async def worker(
        self, handler: Callable[[Context], Any] = _nothing, *, slots: int = 100, declare: bool = False
    ) -> AsyncGenerator[None]:
        """A worker of the SDK for all milestones, which by default do nothing. `declare`: the queue is its own."""
        worker = Worker(queue=self.workers, slots=slots, observer=self.events)
        worker.every_milestone(handler)
        async with self.another_broker() as broker:
            if declare:
                await broker.declare(self.workers)
            serving = asyncio.ensure_future(worker.serve(broker))
            await self.events.wait_for("worker.ready")
            try:
                yield
            finally:
                async with asyncio.timeout(GRACE_SECONDS):
                    await worker.drain()
                    await serving

    # ------------------------------------------------------------------------------------- messages

    async def send(self, body: bytes, message_id: str | None = None) -> None:
        """Any bytes to the orchestrators."""
        message = Message(body=body, message_id=message_id or uuid4().hex)
        await self.broker.publish(Address(routing_key=self.intake), message)

    async def start(
        self, *milestones: str | list[str], again: str | None = None, message_id: str = "", **fields: Any
    ) -> str:
        """Ask for a workflow; the id of it. `again` asks for that one once more."""
        message = m.StartMessage(id=again or str(uuid4()), milestones=list(milestones), **fields)
        await self.send(json_codec.encode(message), message_id or None)
        return message.id

    async def say(
        self, kind: type[m.AnyCallback], request: m.Request, *, message_id: str = "", **fields: Any
    ) -> None:
        """A callback of the worker ann about this request; fields replace what it would carry."""
        carried: dict[str, Any] = {
            "workflow_id": request.id,
            "attempt_token": request.attempt_token,
            "worker": "ann",
        }
        await self.send(json_codec.encode(kind(**carried | fields)), message_id or None)

    # --------------------------------------------------------------------------------------- records

    async def get(self, workflow_id: str) -> Workflow:
        found = await self.core.store.find_workflow(workflow_id)
        assert found is not None, f"workflow {workflow_id} is not stored"
        return found

    async def history(self, workflow_id: str) -> list[Entry]:
        return [stored.entry for stored in await self.core.store.list_entries(workflow_id)]

    async def kinds(self, workflow_id: str) -> Counter[str]:
        """How many entries of each kind its history has."""
        return Counter(entry.kind for entry in await self.history(workflow_id))

    async def until_entry(self, workflow_id: str, kind: str, times: int = 1) -> Entry:
        """The `times`-th entry of that kind, as soon as it is there."""

        async def written() -> bool:
            return (await self.kinds(workflow_id))[kind] >= times

        await until(written)
        return [entry for entry in await self.history(workflow_id) if entry.kind == kind][times - 1]

    async def until_state(self, workflow_id: str, *states: State) -> Workflow:
        async def reached() -> bool:
            found = await self.core.store.find_workflow(workflow_id)
            return found is not None and found.state in states

        await until(reached)
        return await self.get(workflow_id)

    async def until_all_completed(self, workflow_ids: Sequence[str], *, seconds: float = 40.0) -> None:
        """Wait for every one, and see that each of its milestones counted once."""
        missing = list(workflow_ids)
        async with asyncio.timeout(seconds):
            while missing:
                await asyncio.sleep(POLL_SECONDS)  # the store notifies nobody
                found = (await self.core.store.load(missing[:50])).workflows
                ended = {key for key, workflow in found.items() if workflow.state is State.COMPLETED}
                missing = [key for key in missing if key not in ended]
        for workflow_id in workflow_ids:
            await self.assert_counted_once(workflow_id)

    async def assert_counted_once(self, workflow_id: str) -> None:
        """One start, one end, one result for each milestone; and it waits for nothing any more."""
        entries = await self.history(workflow_id)
        workflow = await self.get(workflow_id)
        results = [entry.details["milestone"] for entry in entries if entry.kind == "milestone.completed"]
        assert results == list(workflow.release.milestones)
        counts = Counter(entry.kind for entry in entries)
        assert (counts["workflow.started"], counts["workflow.completed"]) == (1, 1)
        ended = [row for row in await self.core.store.list_attempts(workflow_id) if row["outcome"] == "completed"]
        assert len(ended) == len(results)

    async def dead_letters(self, count: int) -> dict[str, str]:
        """Exactly so many dead letters: their reasons by message id."""

        async def arrived() -> bool:
            return await self.broker.depth(self.error_queue) >= count

        await until(arrived)
        assert await self.broker.depth(self.error_queue) == count
        consumer = await self.broker.consume(self.error_queue, prefetch=count)
        letters = await receive(consumer, count) if count else []
        await consumer.ack(letters)
        await consumer.close()
        return {letter.message.message_id or "": letter.message.headers["x-reason"] for letter in letters}

    async def assert_nothing_left(self) -> None:
        """Ask when no engine runs: what it had not settled would be back on the queue by now."""
        assert await self.broker.depth(self.intake) == 0
        assert await self.core.store.count_outbox() == 0


@asynccontextmanager
async def opened_site(settings: Settings, *, declare: bool = True) -> AsyncGenerator[Site]:
    """The servers of these settings with the queues declared; nothing runs yet but the test's own broker."""
    events = Events()
    async with open_core(settings, events) as core, running(core.broker()) as broker:
        site = Site(core=core, broker=broker, events=events)
        for queue in (site.intake, site.workers) if declare else ():
            await broker.declare(queue)
        yield site

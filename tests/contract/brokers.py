"""Places where broker objects can be opened, one kind per adapter, and what tests ask of them."""

import asyncio
import random
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

import pika

from openaperture.brokers.amqp import AmqpBroker
from openaperture.brokers.embedded import EmbeddedBroker
from openaperture.database import Database
from openaperture.ports import Address, Broker, Consumer, Delivery, Message
from tests.simulation.broker import Server, SimulatedBroker
from tests.simulation.faults import Gate, Weather
from tests.simulation.journal import Journal

PATIENCE_SECONDS = 20.0


class BrokerSite(Protocol):
    """One message server or one database file: what outlives a broker object."""

    def queue(self) -> str:
        """A fresh queue name."""
        ...

    def open(self) -> AbstractAsyncContextManager[Broker, bool | None]:
        """A running broker object, closed at the end of the `async with`."""
        ...


class Events:
    """An Observer that remembers, for tests to wait on."""

    def __init__(self) -> None:
        self.told: list[tuple[str, dict[str, Any]]] = []
        self._news = asyncio.Event()

    def emit(self, name: str, /, **details: Any) -> None:
        self.told.append((name, details))
        self._news.set()

    def count(self, name: str) -> int:
        return sum(1 for told, _ in self.told if told == name)

    async def wait_for(self, name: str, times: int = 1) -> dict[str, Any]:
        """The details of the `times`-th event of that name, as soon as it is there."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while self.count(name) < times:
                self._news.clear()
                await self._news.wait()
        return [details for told, details in self.told if told == name][times - 1]


@asynccontextmanager
async def running(broker: Broker) -> AsyncGenerator[Broker, None]:
    """Run a broker object as the product does: one task for `run`, ended by `close`."""
    loop = asyncio.ensure_future(broker.run())
    try:
        yield broker
    finally:
        await broker.close()
        async with asyncio.timeout(PATIENCE_SECONDS):
            await loop


class AmqpSite:
    """The RabbitMQ server of the tests."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._queues: list[str] = []

    def queue(self) -> str:
        name = f"test.{uuid4().hex[:12]}"
        self._queues += [name, f"{name}_error"]
        return name

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[Broker, None]:
        async with running(AmqpBroker(self._url, observer=Events())) as broker:
            yield broker

    def delete_queues(self) -> None:
        """By a client of its own, so that a defect of the adapter leaves nothing behind."""
        connection = pika.BlockingConnection(pika.URLParameters(self._url))
        channel = connection.channel()
        for queue in self._queues:
            channel.queue_delete(queue)
        connection.close()


class EmbeddedSite:
    """A database file of its own."""

    def __init__(self, file: Path) -> None:
        self._url = f"sqlite:///{file}"

    def queue(self) -> str:
        return f"test.{uuid4().hex[:12]}"

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[Broker, None]:
        database = await Database.open(self._url)
        try:
            async with running(EmbeddedBroker(database, observer=Events())) as broker:
                yield broker
        finally:
            await database.close()


class InMemorySite:
    """The broker of the simulation, without faults."""

    def __init__(self) -> None:
        self._gate = Gate(Weather(random.Random(0)), Journal())
        self._server = Server(self._gate.weather, self._gate.journal)

    def queue(self) -> str:
        return f"test.{uuid4().hex[:12]}"

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[Broker, None]:
        async with running(SimulatedBroker(self._server, self._gate)) as broker:
            yield broker


async def publish(broker: Broker, queue: str, *texts: str) -> None:
    """Publish in this order, each after the confirm of the one before."""
    for text in texts:
        await broker.publish(Address(routing_key=queue), Message(body=text.encode(), message_id=text))


async def receive(consumer: Consumer, count: int) -> list[Delivery]:
    """Receive exactly so many, in as many calls as it takes."""
    received: list[Delivery] = []
    async with asyncio.timeout(PATIENCE_SECONDS):
        while len(received) < count:
            received += await consumer.receive(count - len(received))
    return received


def texts(deliveries: list[Delivery]) -> list[str]:
    return [delivery.message.body.decode() for delivery in deliveries]


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    """Ask the broker again and again until something holds that it tells nobody of."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not await holds():  # noqa: ASYNC110 (the broker notifies nobody of this)
            await asyncio.sleep(0.02)


async def until_depth(broker: Broker, queue: str, depth: int) -> None:
    """Wait until so many messages wait in the queue, those being handled not counted."""

    async def reached() -> bool:
        return await broker.depth(queue) == depth

    await until(reached)

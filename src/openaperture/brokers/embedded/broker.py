"""The Broker port on the SQLite file of this process."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from openaperture.brokers.embedded.consumer import EmbeddedConsumer
from openaperture.brokers.embedded.ledger import Ledger, Stored
from openaperture.brokers.embedded.queue import Queue
from openaperture.database import Database
from openaperture.domain.errors import (
    BrokerUnavailable,
    QueueMismatch,
    StoreFull,
    StoreUnavailable,
    Unconfirmed,
    Unroutable,
)
from openaperture.ports import Address, Message, Observer

LARGEST_BODY_BYTES = 16 * 1_048_576
"""As RabbitMQ has it, so that what works here works there."""


def error_queue_of(queue: str) -> str:
    return f"{queue}_error"


class EmbeddedBroker:
    """Queues for the parts of one process. There is one broker object per database file.

    It has the default exchange only. `redelivered` is set on all that an earlier process left.
    """

    def __init__(self, database: Database, *, observer: Observer) -> None:
        """Raises ConfigError when the database is not SQLite."""
        self._observer = observer
        self._ledger = Ledger(database, observer, self._on_stored)
        self._queues: dict[str, Queue] = {}
        self._consumers: list[EmbeddedConsumer] = []
        self._last_id = 0
        self._opened = False
        self._opening = asyncio.Lock()
        self._closed = asyncio.Event()

    async def run(self) -> None:
        """See `Broker.run`. There is no session to keep alive: this only waits for `close`."""
        await self._closed.wait()

    async def publish(self, address: Address, message: Message, *, timeout_seconds: float = 10.0) -> None:
        try:
            async with asyncio.timeout(timeout_seconds):
                await self._open()
                await self._publish(address, message)
        except StoreFull as exc:
            raise BrokerUnavailable(f"nothing was published: {exc}") from exc
        except (StoreUnavailable, TimeoutError) as exc:
            raise Unconfirmed(f'a message for "{address.routing_key}" may not have been stored: {exc}') from exc

    async def _publish(self, address: Address, message: Message) -> None:
        queue = None if address.exchange else self._queues.get(address.routing_key)
        if queue is None:
            raise Unroutable(_unroutable(address))
        if len(message.body) > LARGEST_BODY_BYTES:
            raise Unroutable(
                f'a message of {len(message.body)} bytes for "{address.routing_key}" is too large; '
                f"the limit is {LARGEST_BODY_BYTES} bytes"
            )
        stored = self._next(queue, message)
        if queue.is_full:
            raise BrokerUnavailable(f'the temporary queue "{queue.name}" is full; its reader does not keep up')
        if queue.temporary:
            queue.put(stored)
            return
        await self._store(stored)

    async def _store(self, stored: Stored, *, instead_of: int | None = None) -> None:
        try:
            done = self._ledger.store(stored, instead_of=instead_of)
        except UnicodeError as exc:
            raise Unroutable(f'a message for "{stored.queue}" cannot be stored: {exc}') from exc
        # Shared with others, and on its way whatever becomes of us.
        await asyncio.shield(done)

    async def consume(self, queue: str, *, prefetch: int, temporary: bool = False) -> EmbeddedConsumer:
        await self._open_for(queue)
        if temporary:
            if queue in self._queues:
                raise QueueMismatch(f'queue "{queue}" exists; choose another name for the temporary one')
            self._queues[queue] = Queue(queue, None)
        consumer = EmbeddedConsumer(
            self._get(queue),
            self._observer,
            prefetch=prefetch,
            forget=self._forget,
            bury=self._bury,
            on_closed=self._on_consumer_closed,
        )
        self._consumers.append(consumer)
        return consumer

    async def declare(self, queue: str) -> None:
        await self._open_for(queue)
        existing = self._queues.get(queue)
        if existing is not None and existing.temporary:
            raise QueueMismatch(f'queue "{queue}" is a temporary one of this process; choose another name')
        names = [queue, error_queue_of(queue)]
        if existing is None or names[1] not in self._queues:
            try:
                await self._ledger.declare(names)
            except StoreUnavailable as exc:
                raise BrokerUnavailable(f'queue "{queue}" may not have been created: {exc}') from exc
            for name in names:
                self._queues.setdefault(name, Queue(name, self._ledger))

    async def check(self, queue: str) -> None:
        await self._open_for(queue)
        self._get(queue)

    async def depth(self, queue: str) -> int:
        await self._open_for(queue)
        return self._get(queue).depth

    async def close(self) -> None:
        if self._closed.is_set():
            return
        self._closed.set()
        for consumer in tuple(self._consumers):
            await consumer.close()
        try:
            await self._ledger.flush()
        except StoreUnavailable as exc:
            # What was acked and could not be removed is delivered once more after the next start.
            self._observer.emit("broker.unflushed", error=exc)

    async def _open_for(self, queue: str) -> None:
        try:
            await self._open()
        except StoreUnavailable as exc:
            raise BrokerUnavailable(f'queue "{queue}" cannot be used: {exc}') from exc

    async def _open(self) -> None:
        if self._closed.is_set():
            raise BrokerUnavailable("the embedded broker is closed")
        if self._opened:
            return
        async with self._opening:
            if not self._opened:
                contents = await self._ledger.open()
                self._last_id = contents.last_id
                for name, count in contents.waiting.items():
                    self._queues[name] = Queue(name, self._ledger, behind=count, known_to=contents.last_id)
                self._opened = True

    def _get(self, name: str) -> Queue:
        queue = self._queues.get(name)
        if queue is None:
            raise QueueMismatch(f'queue "{name}" does not exist; declare it, or let the product do it')
        return queue

    def _next(self, queue: Queue, message: Message) -> Stored:
        self._last_id += 1
        return Stored(id=self._last_id, queue=queue.name, message=message)

    def _on_stored(self, messages: Sequence[Stored]) -> None:
        for stored in messages:
            self._queues[stored.queue].put(stored)

    def _forget(self, queue: Queue, messages: Sequence[Stored]) -> None:
        if not queue.temporary:
            self._ledger.forget(stored.id for stored in messages)

    async def _bury(self, stored: Stored, reason: str) -> None:
        """Into the error queue and out of its own, in one transaction."""
        errors = self._queues.get(error_queue_of(stored.queue))
        if errors is None:
            raise Unroutable(f'queue "{stored.queue}" has no error queue; declare it')
        # The reason may quote what came in, which need not be text.
        headers = {**stored.message.headers, "x-reason": reason.encode(errors="replace").decode()}
        message = replace(stored.message, headers=headers)
        await self._store(self._next(errors, message), instead_of=stored.id)

    def _on_consumer_closed(self, consumer: EmbeddedConsumer) -> None:
        self._consumers.remove(consumer)
        if consumer.queue.temporary:
            del self._queues[consumer.queue.name]


def _unroutable(address: Address) -> str:
    if address.exchange:
        return (
            f'the embedded broker has no exchange "{address.exchange}"; leave the exchange empty, or use RabbitMQ'
        )
    return f'no queue "{address.routing_key}" takes the message; declare it, or start what reads it'

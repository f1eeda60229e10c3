"""The Broker port on AMQP 0-9-1: RabbitMQ 3.10 to 4.x, by pika's asyncio adapter."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from functools import partial

from pika.exceptions import AMQPError

from openaperture.brokers.amqp.connection import CALL_SECONDS, Channel, connection_parameters
from openaperture.brokers.amqp.consumer import AmqpConsumer
from openaperture.brokers.amqp.dead_letters import DeadLetters, error_queue, is_error_queue
from openaperture.brokers.amqp.failures import queue_error
from openaperture.brokers.amqp.publisher import Publisher, message_properties
from openaperture.brokers.amqp.session import Session
from openaperture.domain.errors import QueueMismatch, Unroutable
from openaperture.ports import Address, Message, Observer


class AmqpBroker:
    """See `ports.Broker`. Events: `broker.connected | disconnected | blocked | unblocked`,
    `consumer.lost | subscribed | waiting | dead_letter_failed`.

    Two connections: a broker under memory or disk alarm stops reading from those that publish, and
    consuming and settling must go on meanwhile (failure model, F38).
    """

    def __init__(
        self,
        url: str,
        *,
        observer: Observer,
        heartbeat_seconds: int = 20,
        probe_seconds: float = 15.0,
        name: str = "openaperture",
    ) -> None:
        """`name` is what RabbitMQ's management shows. Raises ConfigError for a url that cannot be used."""

        def session(purpose: str) -> Session:
            connection_name = f"{name} ({purpose})"
            parameters = connection_parameters(
                url, heartbeat_seconds=heartbeat_seconds, connection_name=connection_name
            )
            return Session(parameters, purpose=purpose, observer=observer)

        self._observer = observer
        self._probe_seconds = probe_seconds
        self._consuming = session("consume")
        self._publishing = session("publish")
        self._publisher = Publisher(self._publishing)
        self._dead_letters = DeadLetters(self._publisher, self._declare_plain)
        self._declared: set[str] = set()
        """Queues that are ours to make: when one of them is gone it is made again."""
        self._consumers: set[AmqpConsumer] = set()
        self._started: asyncio.Queue[AmqpConsumer | None] = asyncio.Queue()

    async def run(self) -> None:
        """See `Broker.run`. Returns after `close`."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._consuming.run())
            tasks.create_task(self._publishing.run())
            while (consumer := await self._started.get()) is not None:
                tasks.create_task(consumer.run())

    async def publish(self, address: Address, message: Message, *, timeout_seconds: float = 10.0) -> None:
        """See `Broker.publish`. A queue that was declared here and is gone is declared again."""
        properties = message_properties(message.content_type, message.message_id, message.headers)
        publish = partial(
            self._publisher.publish,
            address.exchange,
            address.routing_key,
            properties,
            message.body,
            timeout_seconds=timeout_seconds,
        )
        try:
            await publish()
        except Unroutable:
            if address.exchange or address.routing_key not in self._declared:
                raise
            await self.declare(address.routing_key)
            await publish()

    async def consume(self, queue: str, *, prefetch: int, temporary: bool = False) -> AmqpConsumer:
        consumer = AmqpConsumer(
            self._consuming,
            self._dead_letters,
            self._observer,
            queue=queue,
            prefetch=prefetch,
            temporary=temporary,
            probe_seconds=self._probe_seconds,
            secure=self._secure,
            on_closed=self._consumers.discard,
        )
        await consumer.subscribe()
        self._consumers.add(consumer)
        self._started.put_nowait(consumer)
        return consumer

    async def declare(self, queue: str) -> None:
        # The dead-letter queue first: at no instant does a queue point to one that does not exist.
        await self._declare_plain(error_queue(queue))
        async with self._channel(queue) as channel:
            await channel.call(
                channel.raw.queue_declare,
                queue=queue,
                durable=True,
                # Exactly these arguments: queues of the original carry them, and they can never be changed.
                arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": error_queue(queue)},
            )
        self._declared.add(queue)

    async def check(self, queue: str) -> None:
        await self.depth(queue)

    async def depth(self, queue: str) -> int:
        """See `Broker.depth`. Raises QueueMismatch, BrokerUnavailable."""
        async with self._channel(queue) as channel:
            frame = await channel.call(channel.raw.queue_declare, queue=queue, passive=True)
            return int(frame.method.message_count)

    async def close(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            for consumer in self._consumers:
                tasks.create_task(consumer.close())
        await self._publishing.close()
        await self._consuming.close()
        self._started.put_nowait(None)

    async def _secure(self, queue: str) -> None:
        """Make a queue of ours again if it was deleted, and see to it that its dead letters have a queue.

        What is dead-lettered to a queue that does not exist vanishes, and neither the broker nor the one
        who rejected it says so (failure model, F33). Raises QueueMismatch, BrokerUnavailable.
        """
        if queue in self._declared:
            # Somebody may have made it anew with other arguments: it can be consumed as it is.
            with suppress(QueueMismatch):
                await self.declare(queue)
        elif not is_error_queue(queue):
            try:
                await self.check(error_queue(queue))
            except QueueMismatch:
                await self._declare_plain(error_queue(queue))

    async def _declare_plain(self, queue: str) -> None:
        async with self._channel(queue) as channel:
            await channel.call(channel.raw.queue_declare, queue=queue, durable=True)

    @asynccontextmanager
    async def _channel(self, queue: str) -> AsyncGenerator[Channel, None]:
        """A channel for one errand about `queue`: a refusal closes it, and must not hit anything else.

        On the consuming connection, which no alarm blocks. Raises QueueMismatch, BrokerUnavailable.
        """
        try:
            connection = await self._consuming.connection(CALL_SECONDS)
            channel = await connection.open_channel()
            try:
                yield channel
            finally:
                await channel.close()
        except (AMQPError, TimeoutError) as exc:
            raise queue_error(queue, exc) from exc

"""One subscription: a channel of its own that consumes one queue, until the channel or the queue is gone."""

import asyncio
from collections.abc import Callable, Iterable
from itertools import takewhile
from secrets import token_hex
from typing import cast

from pika.channel import Channel as PikaChannel
from pika.spec import Basic, BasicProperties

from openaperture.brokers.amqp.connection import Channel, Connection, describe
from openaperture.ports import Delivery, Message


class Tag:
    """What settles a delivery: the subscription that received it and its delivery tag there."""

    __slots__ = ("number", "properties", "subscription")

    def __init__(self, subscription: "Subscription", number: int, properties: BasicProperties) -> None:
        self.subscription = subscription
        self.number = number
        self.properties = properties


class Subscription:
    """Deliveries of one channel. Once it has ended its tags settle nothing, and it is never revived."""

    def __init__(self, channel: Channel, queue: str, deliver: Callable[[Delivery], None]) -> None:
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        """Done when the broker will deliver no more, with the reason in words."""
        self.received = 0
        self._channel = channel
        self._queue = queue
        self._deliver = deliver
        self._consumer_tag = ""
        self._unsettled: dict[int, None] = {}
        """Tags in the order of delivery, which is ascending."""
        channel.ended.add_done_callback(lambda ended: self._end(describe(ended.result())))
        channel.raw.add_on_cancel_callback(self._on_cancel)

    @classmethod
    async def open(
        cls,
        connection: Connection,
        queue: str,
        *,
        prefetch: int,
        temporary: bool,
        deliver: Callable[[Delivery], None],
    ) -> "Subscription":
        """Raises AMQPError (ChannelClosedByBroker if there is no such queue) or TimeoutError."""
        channel = await connection.open_channel()
        self = cls(channel, queue, deliver)
        try:
            if temporary:
                # Not auto-delete: a paused consumer would take the queue and its messages away with it.
                await channel.call(channel.raw.queue_declare, queue=queue, exclusive=True)
            await self.start(prefetch)
        except BaseException:
            channel.abandon()
            raise
        return self

    @property
    def is_live(self) -> bool:
        return not self.ended.done() and self._channel.raw.is_open

    @property
    def is_consuming(self) -> bool:
        return bool(self._consumer_tag)

    def holds(self, number: int) -> bool:
        """Whether this tag can still be settled."""
        return self.is_live and number in self._unsettled

    @property
    def unsettled_count(self) -> int:
        return len(self._unsettled)

    async def start(self, prefetch: int) -> None:
        """Ask for deliveries. Raises AMQPError or TimeoutError."""
        # RabbitMQ applies a prefetch to the consumers that come after it on the channel, one by one.
        await self._channel.call(self._channel.raw.basic_qos, prefetch_count=prefetch)
        tag = f"openaperture.{token_hex(8)}"
        await self._channel.call(
            self._channel.raw.basic_consume,
            queue=self._queue,
            on_message_callback=self._on_message,
            consumer_tag=tag,
        )
        self._consumer_tag = tag

    async def stop(self) -> None:
        """Take no more; what arrives until cancel-ok pika rejects back to the queue. Raises as `start`."""
        tag, self._consumer_tag = self._consumer_tag, ""
        if tag:
            await self._channel.call(self._channel.raw.basic_cancel, consumer_tag=tag)

    async def probe(self) -> tuple[int, int]:
        """Ask the broker: (messages that wait in the queue, consumers that it knows). Raises as `start`."""
        frame = await self._channel.call(self._channel.raw.queue_declare, queue=self._queue, passive=True)
        return frame.method.message_count, frame.method.consumer_count

    async def delete_queue(self) -> None:
        await self._channel.call(self._channel.raw.queue_delete, queue=self._queue)

    def ack(self, numbers: Iterable[int]) -> None:
        """Settle; tags that are settled already, or that nobody can settle any more, are left alone."""
        self._settle(numbers, self._channel.raw.basic_ack)

    def requeue(self, numbers: Iterable[int] | None = None) -> None:
        """Give back these, or all that are unsettled. A nack, since a reject counts towards a delivery limit."""
        self._settle(list(self._unsettled) if numbers is None else numbers, self._channel.raw.basic_nack)

    async def close(self) -> None:
        """Close the channel; what is unsettled goes back to the queue."""
        self._end("closed")
        await self._channel.close()

    def abandon(self) -> None:
        """Give the channel up without waiting for the broker."""
        self._end("given up")
        self._channel.abandon()

    def _settle(self, numbers: Iterable[int], method: Callable[[int, bool], None]) -> None:
        if not self.is_live:
            return
        wanted = {number for number in numbers if number in self._unsettled}
        # One frame with `multiple` settles everything up to its tag: right for the unbroken run of the
        # oldest unsettled deliveries only. Deliveries still on their way to us have higher tags.
        run = list(takewhile(wanted.__contains__, self._unsettled))
        if run:
            method(run[-1], len(run) > 1)
        for number in sorted(wanted.difference(run)):
            method(number, False)
        for number in wanted:
            del self._unsettled[number]

    def _on_message(
        self, _channel: PikaChannel, method: Basic.Deliver, properties: BasicProperties, body: bytes
    ) -> None:
        if self.ended.done():
            return
        number = cast("int", method.delivery_tag)
        self._unsettled[number] = None
        self.received += 1
        message = Message(
            body=body,
            content_type=properties.content_type,
            message_id=properties.message_id,
            headers=_text_headers(properties),
        )
        tag = Tag(self, number, properties)
        self._deliver(Delivery(message=message, queue=self._queue, redelivered=method.redelivered, tag=tag))

    def _on_cancel(self, _frame: object) -> None:
        self._end("the broker cancelled the consumer: the queue was deleted or its node went down")

    def _end(self, reason: str) -> None:
        self._consumer_tag = ""
        if not self.ended.done():
            self.ended.set_result(reason)


def _text_headers(properties: BasicProperties) -> dict[str, str]:
    """Headers as text; tables and arrays (x-death) are the broker's own and are left out."""
    headers = properties.headers
    if not headers:
        return {}
    return {key: str(value) for key, value in headers.items() if isinstance(value, str | int | float)}

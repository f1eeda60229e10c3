"""Confirmed, mandatory publishing, many in flight at once.

The one place that calls `basic_publish`. A confirm alone proves nothing: RabbitMQ confirms an
unroutable message too, so every publish is mandatory, and the return that precedes its confirm makes
it a failure (failure model, finding 1). Each exchange has its own channel (a lane), because a publish
to a missing exchange closes the channel and would make everything else in flight on it unknown.
"""

import asyncio
from collections import defaultdict
from collections.abc import Mapping
from itertools import takewhile

from pika.channel import Channel as PikaChannel
from pika.exceptions import (
    AMQPError,
    ChannelClosedByBroker,
    NoFreeChannels,
    ShortStringTooLong,
    UnsupportedAMQPFieldException,
)
from pika.frame import Method
from pika.spec import Basic, BasicProperties

from openaperture.brokers.amqp.connection import Channel, Connection, describe
from openaperture.brokers.amqp.failures import ACCESS_REFUSED, NOT_FOUND
from openaperture.brokers.amqp.session import Session
from openaperture.domain.errors import BrokerUnavailable, Unconfirmed, Unroutable

LARGEST_BODY_BYTES = 16 * 1024 * 1024
"""RabbitMQ 4.x takes no more, and closes the channel over it: everything in flight would become unknown."""
LARGEST_HEADERS_BYTES = 64 * 1024
"""Properties travel in one frame, 128 KiB by default; a larger one ends the connection."""
LANE_RETRY_SECONDS = 0.1


class Publishing:
    """One publish whose confirm is awaited."""

    __slots__ = ("body", "message_id", "number", "outcome", "routing_key")

    def __init__(self, number: int, routing_key: str, message_id: str | None, body: bytes) -> None:
        self.number = number
        self.routing_key = routing_key
        self.message_id = message_id
        self.body = body
        self.outcome: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def settle(self, error: Exception | None = None) -> None:
        if self.outcome.done():
            return
        if error is None:
            self.outcome.set_result(None)
        else:
            self.outcome.set_exception(error)


class Lane:
    """A channel in confirm mode that publishes to one exchange."""

    def __init__(self, connection: Connection, channel: Channel, exchange: str) -> None:
        self._connection = connection
        self._channel = channel
        self._exchange = exchange
        self._number = 0
        self._in_flight: dict[int, Publishing] = {}
        self._proven = False

    @classmethod
    async def open(cls, connection: Connection, exchange: str) -> "Lane":
        """Raises AMQPError or TimeoutError."""
        channel = await connection.open_channel()
        lane = cls(connection, channel, exchange)
        channel.ended.add_done_callback(lambda ended: lane._on_end(ended.result()))
        channel.raw.add_on_return_callback(lane._on_return)
        try:
            await channel.call(channel.raw.confirm_delivery, ack_nack_callback=lane._on_confirm)
        except BaseException:
            channel.abandon()
            raise
        return lane

    @property
    def is_ready(self) -> bool:
        return self._channel.raw.is_open and self._connection.unblocked.is_set()

    def send(self, routing_key: str, properties: BasicProperties, body: bytes) -> Publishing:
        """Raises Unroutable when AMQP cannot carry the message (a key over 255 bytes, say)."""
        try:
            self._channel.raw.basic_publish(self._exchange, routing_key, body, properties, mandatory=True)
        except (ShortStringTooLong, UnsupportedAMQPFieldException, UnicodeError) as exc:
            message = f'a message for "{routing_key}" cannot be put into AMQP 0-9-1: {describe(exc)}'
            raise Unroutable(message) from exc
        self._number += 1
        publishing = Publishing(self._number, routing_key, properties.message_id, body)
        self._in_flight[self._number] = publishing
        return publishing

    def forget(self, publishing: Publishing) -> None:
        """Nobody waits for it any more; a later confirm is ignored."""
        self._in_flight.pop(publishing.number, None)

    def expire(self, publishing: Publishing) -> None:
        publishing.settle(self._unknown(publishing.routing_key, "no answer in time"))

    def _on_confirm(self, frame: Method[Basic.Ack | Basic.Nack]) -> None:
        self._proven = True
        method = frame.method
        last = method.delivery_tag
        numbers = list(takewhile(lambda number: number <= last, self._in_flight)) if method.multiple else [last]
        for number in numbers:
            if publishing := self._in_flight.pop(number, None):
                publishing.settle(None if isinstance(method, Basic.Ack) else self._nacked(publishing))

    def _on_return(
        self, _channel: PikaChannel, method: Basic.Return, properties: BasicProperties, body: bytes
    ) -> None:
        # A return names no delivery tag. The broker handles a channel in order, so it belongs to the oldest
        # one in flight that looks like it; if two look alike to the last byte, either answer is right.
        for publishing in self._in_flight.values():
            if (
                publishing.routing_key == method.routing_key
                and publishing.message_id == properties.message_id
                and not publishing.outcome.done()
                and publishing.body == body
            ):
                publishing.settle(
                    self._unroutable(publishing.routing_key, f"{method.reply_code} {method.reply_text}")
                )
                return

    def _on_end(self, reason: AMQPError) -> None:
        # 404 on a lane that never worked: the exchange is missing, nothing can have arrived. On one that
        # did, the exchange vanished under messages that may have got through before.
        refused = isinstance(reason, ChannelClosedByBroker) and reason.reply_code in (NOT_FOUND, ACCESS_REFUSED)
        for publishing in self._in_flight.values():
            if refused and not self._proven:
                publishing.settle(self._unroutable(publishing.routing_key, describe(reason)))
            else:
                publishing.settle(self._unknown(publishing.routing_key, describe(reason)))
        self._in_flight.clear()

    def _unroutable(self, routing_key: str, said: str) -> Unroutable:
        where = f'exchange "{self._exchange}"' if self._exchange else "the default exchange"
        return Unroutable(
            f'{where} took no message for "{routing_key}": check that it exists, that a queue is bound there, '
            f"and that this user may write to it (the broker said: {said})"
        )

    def _nacked(self, publishing: Publishing) -> Unconfirmed:
        return self._unknown(publishing.routing_key, "basic.nack")

    def _unknown(self, routing_key: str, said: str) -> Unconfirmed:
        return Unconfirmed(
            f'a message for "{routing_key}" was sent but not confirmed ({said}): publish it again with the same id'
        )


class Publisher:
    """All lanes of the publishing connection. A new connection gets new lanes."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._lanes: dict[str, Lane] = {}
        self._opening: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def publish(
        self, exchange: str, routing_key: str, properties: BasicProperties, body: bytes, *, timeout_seconds: float
    ) -> None:
        """Return when a queue has the message. Raises as `Broker.publish` does."""
        _check_size(routing_key, properties, body)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_seconds
        lane = self._lanes.get(exchange)
        if lane is None or not lane.is_ready:
            lane = await self._ready_lane(exchange, deadline)
        publishing = lane.send(routing_key, properties, body)
        # A timer and no `asyncio.timeout`: a tenth of the cost of a publish lay there.
        timer = loop.call_at(deadline, lane.expire, publishing)
        try:
            await publishing.outcome
        finally:
            timer.cancel()
            lane.forget(publishing)

    async def _ready_lane(self, exchange: str, deadline: float) -> Lane:
        """Raises BrokerUnavailable at the deadline, in seconds of the loop's clock."""
        try:
            async with asyncio.timeout_at(deadline):
                while True:
                    lane = await self._open(exchange, deadline)
                    if lane is not None and lane.is_ready:
                        return lane
        except TimeoutError as exc:
            reason = self._session.problem
            message = f'nothing was sent to exchange "{exchange}" ({reason}): publish again later'
            raise BrokerUnavailable(message) from exc

    async def _open(self, exchange: str, deadline: float) -> Lane | None:
        """The lane of an exchange on the live connection, or None if that did not work just now."""
        async with self._opening[exchange]:
            connection = await self._session.connection(deadline - asyncio.get_running_loop().time())
            await connection.unblocked.wait()
            lane = self._lanes.get(exchange)
            if lane is not None and lane.is_ready:
                return lane
            try:
                lane = self._lanes[exchange] = await Lane.open(connection, exchange)
            except NoFreeChannels as exc:
                message = f'no channel left for exchange "{exchange}": raise channel_max of the broker'
                raise BrokerUnavailable(message) from exc
            except (AMQPError, TimeoutError):
                await asyncio.sleep(LANE_RETRY_SECONDS)
                return None
            return lane


def message_properties(
    content_type: str | None, message_id: str | None, headers: Mapping[str, str]
) -> BasicProperties:
    """Properties of a persistent message."""
    return BasicProperties(
        content_type=content_type, message_id=message_id, headers=dict(headers) or None, delivery_mode=2
    )


def _check_size(routing_key: str, properties: BasicProperties, body: bytes) -> None:
    headers = properties.headers or {}
    headers_bytes = sum(len(str(key)) + len(str(value)) for key, value in headers.items()) if headers else 0
    if len(body) > LARGEST_BODY_BYTES or headers_bytes > LARGEST_HEADERS_BYTES:
        raise Unroutable(
            f'a message for "{routing_key}" is too large for the broker: body {len(body)} bytes '
            f"(limit {LARGEST_BODY_BYTES}), headers {headers_bytes} bytes (limit {LARGEST_HEADERS_BYTES})"
        )

"""A consumer that outlives its subscriptions: when one is lost it subscribes again, until it is closed."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from pika.exceptions import AMQPError
from pika.spec import BasicProperties

from openaperture.brokers.amqp.connection import CALL_SECONDS, CLOSE_SECONDS, describe
from openaperture.brokers.amqp.dead_letters import DeadLetters
from openaperture.brokers.amqp.failures import queue_error
from openaperture.brokers.amqp.session import Session, wait_for_event
from openaperture.brokers.amqp.subscription import Subscription, Tag
from openaperture.domain.errors import BrokerUnavailable, OpenApertureError
from openaperture.ports import Delivery, Observer
from openaperture.runtime.backoff import Backoff

DEAD_LETTER_RETRY_SECONDS = 1.0
"""How long a message that could not be dead-lettered is held before it goes back, so that it does not spin."""


class AmqpConsumer:
    """The Consumer port on AMQP. `run` keeps it subscribed; the broker object runs it."""

    def __init__(
        self,
        session: Session,
        dead_letters: DeadLetters,
        observer: Observer,
        *,
        queue: str,
        prefetch: int,
        temporary: bool,
        probe_seconds: float,
        secure: Callable[[str], Awaitable[None]],
        on_closed: Callable[["AmqpConsumer"], None],
    ) -> None:
        """`secure` sees to it, before each subscription, that the queue has what it needs."""
        self._session = session
        self._dead_letters = dead_letters
        self._observer = observer
        self._queue = queue
        self._prefetch = prefetch
        self._temporary = temporary
        self._probe_seconds = probe_seconds
        self._secure = secure
        self._on_closed = on_closed
        self._subscription: Subscription | None = None
        self._ready: deque[Delivery] = deque()
        self._arrived = asyncio.Event()
        self._wanted = asyncio.Event()
        """Clear while paused."""
        self._wanted.set()
        self._closing = asyncio.Event()
        self._changing = asyncio.Lock()
        """Held while the subscription is opened, stopped, started or probed: one of these at a time."""

    # -------------------------------------------------------------------------------- the port

    @property
    def is_subscribed(self) -> bool:
        subscription = self._subscription
        return subscription is not None and subscription.is_live and subscription.is_consuming

    async def receive(self, limit: int) -> list[Delivery]:
        """See `Consumer.receive`. Raises BrokerUnavailable once the consumer is closed."""
        while not self._ready:
            if self._closing.is_set():
                raise BrokerUnavailable(f'the consumer of queue "{self._queue}" is closed')
            self._arrived.clear()
            await self._arrived.wait()
        # No await from here on: a cancelled receive has taken nothing.
        ready = self._ready
        return [ready.popleft() for _ in range(min(limit, len(ready)))]

    async def ack(self, deliveries: Sequence[Delivery]) -> None:
        if (subscription := self._subscription) is not None:
            subscription.ack(_numbers(subscription, deliveries))

    async def requeue(self, deliveries: Sequence[Delivery]) -> None:
        if (subscription := self._subscription) is not None:
            subscription.requeue(_numbers(subscription, deliveries))

    async def dead_letter(self, delivery: Delivery, reason: str) -> None:
        """See `Consumer.dead_letter`. If the error queue cannot be reached the delivery is requeued."""
        subscription = self._subscription
        if subscription is None or not any(map(subscription.holds, _numbers(subscription, [delivery]))):
            return
        try:
            await self._dead_letters.store(self._queue, _properties(delivery), delivery.message.body, reason)
        except OpenApertureError as exc:
            self._observer.emit("consumer.dead_letter_failed", queue=self._queue, error=str(exc))
            await asyncio.sleep(DEAD_LETTER_RETRY_SECONDS)
            await self.requeue([delivery])
        else:
            await self.ack([delivery])

    async def pause(self) -> None:
        self._wanted.clear()
        async with self._changing:
            subscription = self._subscription
            if subscription is not None and subscription.is_live:
                await self._attempt(subscription, subscription.stop)
                # After cancel-ok, so that nothing can arrive behind our back.
                subscription.requeue(_numbers(subscription, self._ready))
            self._ready.clear()

    async def resume(self, *, prefetch: int | None = None) -> None:
        async with self._changing:
            self._prefetch = self._prefetch if prefetch is None else prefetch
            self._wanted.set()
            subscription = self._subscription
            if subscription is not None and subscription.is_live and not subscription.is_consuming:
                await self._attempt(subscription, partial(subscription.start, self._prefetch))

    async def close(self) -> None:
        if self._closing.is_set():
            return
        self._closing.set()
        self._wanted.set()
        self._arrived.set()
        async with self._changing:
            if self._subscription is not None:
                await self._leave(self._subscription)
            self._ready.clear()
        self._on_closed(self)

    # ---------------------------------------------------------------------------- staying alive

    async def subscribe(self) -> bool:
        """Subscribe on the live connection, unless paused or closed meanwhile; answers whether it did.

        Raises QueueMismatch, BrokerUnavailable.
        """
        if not self._temporary:
            await self._secure(self._queue)
        connection = await self._session.connection(CALL_SECONDS)
        async with self._changing:
            if self._closing.is_set() or not self._wanted.is_set():
                return False
            try:
                self._subscription = await Subscription.open(
                    connection,
                    self._queue,
                    prefetch=self._prefetch,
                    temporary=self._temporary,
                    deliver=self._take,
                )
            except (AMQPError, TimeoutError) as exc:
                raise queue_error(self._queue, exc) from exc
            return True

    async def run(self) -> None:
        """Watch the subscription, and subscribe again whenever it is lost, until closed."""
        while not self._closing.is_set():
            reason = await self._watch()
            self._drop()
            if self._closing.is_set():
                return
            self._observer.emit("consumer.lost", queue=self._queue, reason=reason)
            await self._subscribe_again()

    def _take(self, delivery: Delivery) -> None:
        self._ready.append(delivery)
        self._arrived.set()

    async def _subscribe_again(self) -> None:
        backoff = Backoff()
        while not self._closing.is_set():
            await self._wanted.wait()
            try:
                if await self.subscribe():
                    self._observer.emit("consumer.subscribed", queue=self._queue)
                    return
            except OpenApertureError as exc:
                delay = backoff.next_seconds()
                self._observer.emit("consumer.waiting", queue=self._queue, error=str(exc), retry_in_seconds=delay)
                await wait_for_event(self._closing, delay)

    async def _watch(self) -> str:
        """Wait until the subscription is lost; answers why.

        The channel, the cancel notice and the heartbeat tell most of it. The rest the probe finds: a
        client may believe in a consumer that the broker has forgotten (failure model, finding 9).
        """
        subscription, idle_before = self._subscription, False
        if subscription is None:
            return "never subscribed"
        while True:
            await asyncio.wait([subscription.ended], timeout=self._probe_seconds)
            if subscription.ended.done():
                return subscription.ended.result()
            try:
                problem, idle_before = await self._probe(subscription, idle_before=idle_before)
            except (AMQPError, TimeoutError) as exc:
                return f"the broker does not answer on its channel ({describe(exc)})"
            if problem:
                return problem

    async def _probe(self, subscription: Subscription, *, idle_before: bool) -> tuple[str, bool]:
        """Compare the broker's view with ours: what is wrong, if anything, and whether we look idle.

        No consumer at all is a certain sign. Others may consume the same queue, so the second sign is a
        queue in which messages wait while we hold none, twice in a row with nothing received between.
        It can be wrong (a single active consumer elsewhere); subscribing again then costs nothing.
        """
        async with self._changing:
            if not subscription.is_live or not subscription.is_consuming:
                return "", False
            received = subscription.received
            waiting, consumers = await subscription.probe()
            if consumers == 0:
                return "the broker knows no consumer of this queue", False
            idle = waiting > 0 and subscription.unsettled_count == 0 and subscription.received == received
            if idle and idle_before:
                return f"{waiting} messages wait in the queue and none is delivered", False
            return "", idle

    async def _attempt(self, subscription: Subscription, change: Callable[[], Awaitable[None]]) -> None:
        """Do it or give the subscription up: its deliveries go back, and `run` subscribes again if wanted."""
        try:
            await change()
        except (AMQPError, TimeoutError):
            subscription.abandon()

    async def _leave(self, subscription: Subscription) -> None:
        """Go in order: no more deliveries, the unsettled ones back, the temporary queue away."""
        if not subscription.is_live:
            return
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await subscription.stop()
                subscription.requeue()
                if self._temporary:
                    await subscription.delete_queue()
        except (AMQPError, TimeoutError):
            subscription.abandon()
        else:
            await subscription.close()

    def _drop(self) -> None:
        """The subscription is over: the broker redelivers what it had, so forget it here."""
        if self._subscription is not None:
            self._subscription.abandon()
            self._subscription = None
        self._ready.clear()


def _numbers(subscription: Subscription, deliveries: Sequence[Delivery] | deque[Delivery]) -> list[int]:
    """Delivery tags of those that this subscription received; a stale one settles nothing."""
    tags = [delivery.tag for delivery in deliveries]
    return [tag.number for tag in tags if isinstance(tag, Tag) and tag.subscription is subscription]


def _properties(delivery: Delivery) -> BasicProperties:
    if not isinstance(delivery.tag, Tag):
        raise TypeError("a delivery of another broker")
    return delivery.tag.properties

"""A subscription to a queue of the embedded broker."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence

from openaperture.brokers.embedded.ledger import Stored
from openaperture.brokers.embedded.queue import MEMORY_LIMIT, Queue
from openaperture.domain.errors import BrokerUnavailable, OpenApertureError, StoreUnavailable
from openaperture.ports import Delivery, Observer

RETRY_SECONDS = 1.0
"""How long after a failure something is tried again, so that it does not spin."""


class EmbeddedConsumer:
    """The Consumer port. What is unsettled is known here only: a crash gives it back by forgetting it."""

    def __init__(
        self,
        queue: Queue,
        observer: Observer,
        *,
        prefetch: int,
        forget: Callable[[Queue, Sequence[Stored]], None],
        bury: Callable[[Stored, str], Awaitable[None]],
        on_closed: Callable[["EmbeddedConsumer"], None],
    ) -> None:
        """`forget` removes handled messages; `bury` moves one to the error queue, durably."""
        self.queue = queue
        self._observer = observer
        self._prefetch = prefetch or MEMORY_LIMIT
        self._forget = forget
        self._bury = bury
        self._on_closed = on_closed
        self._ready: deque[Stored] = deque()
        self._unsettled: dict[Delivery, Stored] = {}
        self._carried: set[Delivery] = set()
        """Those of the unsettled that came before a pause: they do not count, as with AMQP."""
        self._news = asyncio.Event()
        self._paused = False
        self._closed = False
        queue.add(self)

    # ------------------------------------------------------------------------- for the queue

    @property
    def room(self) -> int:
        return 0 if self._paused else self._prefetch - len(self._ready) - len(self._unsettled) + len(self._carried)

    def take(self, stored: Stored) -> None:
        self._ready.append(stored)
        self._news.set()

    def wake(self) -> None:
        self._news.set()

    # ------------------------------------------------------------------------------ the port

    @property
    def is_subscribed(self) -> bool:
        return not self._paused and not self._closed

    async def receive(self, limit: int) -> list[Delivery]:
        """See `Consumer.receive`. Raises BrokerUnavailable once the consumer is closed."""
        while not self._ready:
            if self._closed:
                raise BrokerUnavailable(f'the consumer of queue "{self.queue.name}" is closed')
            self._news.clear()
            await self._refill()
            if not self._ready:
                await self._news.wait()
        # No await from here on: a cancelled receive has taken nothing.
        taken = [self._ready.popleft() for _ in range(min(limit, len(self._ready)))]
        return [self._delivery_of(stored) for stored in taken]

    async def ack(self, deliveries: Sequence[Delivery]) -> None:
        self._forget(self.queue, self._settled(deliveries))
        self.queue.dispatch()

    async def requeue(self, deliveries: Sequence[Delivery]) -> None:
        self._give_back(self._settled(deliveries))

    async def dead_letter(self, delivery: Delivery, reason: str) -> None:
        """See `Consumer.dead_letter`. If the error queue cannot take it the delivery is requeued."""
        stored = self._unsettled.get(delivery)
        if stored is None:
            return
        try:
            await self._bury(stored, reason)
        except OpenApertureError as exc:
            self._observer.emit("consumer.dead_letter_failed", queue=self.queue.name, error=str(exc))
            await asyncio.sleep(RETRY_SECONDS)
            await self.requeue([delivery])
        else:
            self._settled([delivery])
            self.queue.dispatch()

    async def pause(self) -> None:
        self._paused = True
        self._give_back_untaken()

    async def resume(self, *, prefetch: int | None = None) -> None:
        if prefetch is not None:
            self._prefetch = prefetch or MEMORY_LIMIT
        if self._paused:
            self._carried = set(self._unsettled)
        self._paused = False
        self.queue.dispatch()
        self._news.set()

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self.queue.remove(self)
        self._give_back(list(self._unsettled.values()))
        self._unsettled.clear()
        self._give_back_untaken()
        self._news.set()
        self._on_closed(self)

    async def _refill(self) -> None:
        if self.room <= 0:
            return
        try:
            await self.queue.refill()
        except StoreUnavailable as exc:
            self._observer.emit("consumer.waiting", queue=self.queue.name, error=str(exc))
            await asyncio.sleep(RETRY_SECONDS)
            self._news.set()

    def _delivery_of(self, stored: Stored) -> Delivery:
        delivery = Delivery(
            message=stored.message, queue=self.queue.name, redelivered=stored.redelivered, tag=stored.id
        )
        self._unsettled[delivery] = stored
        return delivery

    def _settled(self, deliveries: Sequence[Delivery]) -> list[Stored]:
        """Those that were ours and unsettled. A delivery is its own key: it settles once, and only here."""
        self._carried.difference_update(deliveries)
        found = (self._unsettled.pop(delivery, None) for delivery in deliveries)
        return [stored for stored in found if stored is not None]

    def _give_back(self, messages: Sequence[Stored]) -> None:
        for stored in messages:
            stored.redelivered = True
        self.queue.put_back(messages)

    def _give_back_untaken(self) -> None:
        untaken, self._ready = self._ready, deque()
        self.queue.put_back(untaken)

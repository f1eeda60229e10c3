"""Takes requests from one queue, never more than there are free slots for.

AMQP's prefetch bounds only what is unacknowledged, and we ack when a run begins. So a busy worker would be
sent one more message for every ack, and hold it where nobody else can take it. The rule that keeps it from
that: before an ack, the window (the prefetch) and what runs together must fit into the slots; if they would
not, the consumer is paused first. It resumes, with a window that fits, when slots are free.
"""

import asyncio
from collections.abc import Callable

from openaperture.domain.errors import BrokerUnavailable
from openaperture.ports import Consumer, Delivery
from openaperture.worker.slots import Slots


class Intake:
    """The window on one queue."""

    def __init__(self, consumer: Consumer, slots: Slots, on_request: Callable[["Intake", Delivery], None]) -> None:
        """The consumer's prefetch is one. `on_request` is called once a slot is taken for the delivery."""
        self.consumer = consumer
        self._slots = slots
        self._on_request = on_request
        self._window = 1
        self._changing = asyncio.Lock()
        self._paused = False
        self._stopping = False
        self._changed = asyncio.Event()
        slots.watch(self._changed.set)

    async def run(self) -> None:
        """Until cancelled, or until the consumer is closed."""
        async with asyncio.TaskGroup() as tasks:
            steering = tasks.create_task(self._steer())
            try:
                while True:
                    await self._receive()
            except BrokerUnavailable:
                steering.cancel()

    async def stop(self) -> None:
        """Take nothing more, for good. What was taken can still be settled."""
        self._stopping = True
        async with self._changing:
            await self._pause()

    async def before_ack(self) -> None:
        """Call before the ack of a request that is about to run."""
        if self._slots.running + 1 + self._window > self._slots.total:
            async with self._changing:
                await self._pause()

    async def _receive(self) -> None:
        for delivery in await self.consumer.receive(self._window):
            if self._slots.free > 0:
                self._slots.take()
                self._on_request(self, delivery)
            else:
                # Another queue was faster. One message per queue at most, and rarely. Paused first: else it would
                # come straight back, again and again.
                async with self._changing:
                    await self._adapt(0)
                await self.consumer.requeue([delivery])

    async def _steer(self) -> None:
        while True:
            async with self._changing:
                await self._adapt(self._slots.free)
            await self._changed.wait()
            self._changed.clear()

    async def _adapt(self, free: int) -> None:
        wanted = max(1, free // 2)
        if free == 0 or self._stopping:
            await self._pause()
        elif self._paused or wanted >= 4 * self._window:
            await self._pause()
            self._window = wanted
            await self.consumer.resume(prefetch=wanted)
            self._paused = False

    async def _pause(self) -> None:
        if not self._paused:
            self._paused = True
            await self.consumer.pause()

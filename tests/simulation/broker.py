"""A message broker in memory: the port Broker, as RabbitMQ keeps it and, with faults on, much worse.

`Server` is what outlives processes; a `SimulatedBroker` is one process's connections to it.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextvars import Context
from dataclasses import dataclass, field, replace
from typing import Any

from openaperture.domain.errors import BrokerUnavailable, QueueMismatch, Unconfirmed, Unroutable
from openaperture.ports import Address, Delivery, Message
from tests.simulation.faults import Gate, Weather
from tests.simulation.journal import Arrived, Confirmed, Delivered, Journal, Settled


@dataclass(slots=True, eq=False)
class Copy:
    """One copy of a message on a queue."""

    serial: int
    message: Message
    redelivered: bool = False


@dataclass(slots=True, eq=False)
class Queue:
    """Messages that wait, oldest first, and who takes them."""

    name: str
    messages: list[Copy] = field(default_factory=list[Copy])
    consumers: list["SimulatedConsumer"] = field(default_factory=list["SimulatedConsumer"])
    turn: int = 0


class Server:
    """Queues and what lies in them. Everything here happens at once or not at all."""

    def __init__(self, weather: Weather, journal: Journal) -> None:
        self.weather = weather
        self.journal = journal
        self.exchanges = {""}
        """All of them hand on by the name of the queue."""
        self.queues: dict[str, Queue] = {}
        self.delivered = 0
        self._serial = 0

    def find(self, address: Address) -> Queue | None:
        return self.queues.get(address.routing_key) if address.exchange in self.exchanges else None

    def arrive(self, queue: Queue, message: Message, by: str) -> None:
        """Put a copy on the queue."""
        self._serial += 1
        self.journal.add(
            Arrived(by, queue.name, self._serial, message.message_id, message.body, message.content_type)
        )
        queue.messages.append(Copy(self._serial, message))
        self.dispatch(queue)

    def give_back(self, queue: Queue, copies: Sequence[Copy], *, redelivered: bool) -> None:
        for copy in copies:
            copy.redelivered = copy.redelivered or redelivered
        queue.messages = sorted([*copies, *queue.messages], key=lambda copy: copy.serial)
        self.dispatch(queue)

    def dispatch(self, queue: Queue) -> None:
        """Hand out what waits to consumers that have room, in turn."""
        while queue.messages:
            open_ones = [consumer for consumer in queue.consumers if consumer.has_room]
            if not open_ones:
                return
            queue.turn += 1
            consumer = open_ones[queue.turn % len(open_ones)]
            index = 0
            if self.weather.strikes(self.weather.faults.reorder):
                index = self.weather.chance.randrange(len(queue.messages))
            consumer.push(queue.messages.pop(index))

    def is_settled(self, name: str) -> bool:
        """Whether nothing waits in the queue or with its consumers."""
        queue = self.queues[name]
        return not queue.messages and not any(consumer.is_busy for consumer in queue.consumers)

    def declare(self, name: str) -> Queue:
        return self.queues.setdefault(name, Queue(name))


class SimulatedConsumer:
    """The port Consumer."""

    def __init__(self, broker: "SimulatedBroker", queue: str, prefetch: int, *, temporary: bool) -> None:
        self._broker = broker
        self._server = broker.server
        self._name = queue
        self._prefetch = prefetch
        self._temporary = temporary
        self._ready: list[Copy] = []
        self._taken: dict[int, Copy] = {}
        """Handed out and unsettled, by their tags, of this session."""
        self._of_window: set[int] = set()
        """Serials that count against the prefetch."""
        self._waiter: asyncio.Future[None] | None = None
        self._paused = False
        self._closed = False
        self.is_subscribed = False
        self.subscribe()

    @property
    def has_room(self) -> bool:
        return self.is_subscribed and len(self._of_window) < self._prefetch

    @property
    def is_busy(self) -> bool:
        return bool(self._ready or self._taken)

    # ---------------------------------------------------------------------------------- for the server

    def subscribe(self) -> None:
        """Begin a session. A temporary queue is made anew."""
        if self._closed:
            return
        queue = self._server.declare(self._name) if self._temporary else self._server.queues[self._name]
        queue.consumers.append(self)
        self.is_subscribed = not self._paused
        self._server.dispatch(queue)

    def push(self, copy: Copy) -> None:
        self._of_window.add(copy.serial)
        self._ready.append(copy)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def cut(self) -> None:
        """The session ends, and with it a temporary queue. What is unsettled comes back."""
        queue = self._server.queues.get(self._name)
        self.is_subscribed = False
        untaken, taken = self._ready, list(self._taken.values())
        self._ready, self._taken, self._of_window = [], {}, set()
        if queue is not None and self in queue.consumers:
            queue.consumers.remove(self)
            if self._temporary:
                del self._server.queues[self._name]
                return
            self._server.give_back(queue, [*untaken, *taken], redelivered=True)

    # ------------------------------------------------------------------------------------------ the port

    async def receive(self, limit: int) -> list[Delivery]:
        while not self._ready:
            if self._closed:
                raise BrokerUnavailable(f"the subscription to {self._name} is closed; consume it again")
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        taken, self._ready = self._ready[:limit], self._ready[limit:]
        return [self._hand_out(copy) for copy in taken]

    def _hand_out(self, copy: Copy) -> Delivery:
        tag = self._broker.next_tag()
        self._taken[tag] = copy
        self._server.delivered += 1
        message = copy.message
        self._server.journal.add(
            Delivered(self._broker.gate.name, self._name, copy.serial, message.message_id, message.body)
        )
        return Delivery(message=message, queue=self._name, redelivered=copy.redelivered, tag=(tag, copy.serial))

    async def ack(self, deliveries: Sequence[Delivery]) -> None:
        await self._broker.gate.enter("broker.ack")
        self._broker.maybe_cut()
        for delivery in deliveries:
            self._settle(delivery, "ack")
        self._offer()
        await self._broker.gate.leave("broker.ack")

    async def requeue(self, deliveries: Sequence[Delivery]) -> None:
        await self._broker.gate.enter("broker.requeue")
        copies = [copy for delivery in deliveries if (copy := self._settle(delivery, "requeue"))]
        if copies:
            self._server.give_back(self._server.queues[self._name], copies, redelivered=True)
        await self._broker.gate.leave("broker.requeue")

    async def dead_letter(self, delivery: Delivery, reason: str) -> None:
        await self._broker.gate.enter("broker.dead_letter")
        tag, _ = self._tag_of(delivery)
        if tag in self._taken:
            letter = replace(delivery.message, headers={**delivery.message.headers, "x-reason": reason})
            self._server.arrive(self._server.declare(f"{self._name}_error"), letter, self._broker.gate.name)
            await self._broker.gate.leave("broker.dead_letter")
        self._settle(delivery, "dead_letter")
        self._offer()

    async def pause(self) -> None:
        await self._broker.gate.enter("broker.pause")
        if self._paused or self._closed:
            return
        self._paused, self.is_subscribed = True, False
        untaken, self._ready = self._ready, []
        self._of_window.clear()
        if queue := self._server.queues.get(self._name):
            self._server.give_back(queue, untaken, redelivered=False)

    async def resume(self, *, prefetch: int | None = None) -> None:
        await self._broker.gate.enter("broker.resume")
        if not self._paused or self._closed:
            return
        self._paused = False
        self._prefetch = prefetch or self._prefetch
        queue = self._server.queues.get(self._name)
        if queue is not None and self in queue.consumers:
            self.is_subscribed = True
            self._server.dispatch(queue)

    async def close(self) -> None:
        if not self._broker.gate.is_dead:
            self.end()

    def end(self) -> None:
        self.cut()
        self._closed = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # --------------------------------------------------------------------------------------------- pieces

    def _settle(self, delivery: Delivery, how: str) -> Copy | None:
        """The copy, unless it is settled already or of another session."""
        tag, serial = self._tag_of(delivery)
        copy = self._taken.pop(tag, None)
        self._of_window.discard(serial)
        self._server.journal.add(
            Settled(
                self._broker.gate.name,
                self._name,
                serial,
                delivery.message.message_id,
                how,
                copy is not None,
            )
        )
        return copy

    def _tag_of(self, delivery: Delivery) -> tuple[int, int]:
        tag: Any = delivery.tag
        number, serial = tag
        return int(number), int(serial)

    def _offer(self) -> None:
        if queue := self._server.queues.get(self._name):
            self._server.dispatch(queue)


class SimulatedBroker:
    """The port Broker, for one process."""

    def __init__(self, server: Server, gate: Gate) -> None:
        self.server = server
        self.gate = gate
        self._consumers: list[SimulatedConsumer] = []
        self._tag = 0
        self._closed = asyncio.Event()
        if gate.process is not None:
            gate.process.on_death.append(self._die)

    def next_tag(self) -> int:
        self._tag += 1
        return self._tag

    async def run(self) -> None:
        await self._closed.wait()

    async def close(self) -> None:
        if not self.gate.is_dead:
            self._end()
            self._closed.set()

    async def publish(self, address: Address, message: Message, *, timeout_seconds: float = 10.0) -> None:
        self._require_open()
        await self.gate.enter("broker.publish")
        faults, strikes = self.server.weather.faults, self.server.weather.strikes
        if strikes(faults.refuse):
            raise BrokerUnavailable("the broker takes nothing now")
        queue = self.server.find(address)
        if queue is None:
            where = f'exchange "{address.exchange}" ' if address.exchange else ""
            raise Unroutable(f"no queue takes {where}{address.routing_key}; declare it")
        if strikes(faults.swallow):
            await self._give_up(timeout_seconds)
        if strikes(faults.arrive_late):
            self._later(self._arrive, queue.name, message)
            await self._give_up(timeout_seconds)
        self._arrive(queue.name, message)
        if strikes(faults.confirm_lost):
            await self._give_up(timeout_seconds)
        if strikes(faults.confirm_late):
            await asyncio.sleep(self.server.weather.chance.random() * timeout_seconds)
        self.server.journal.add(Confirmed(self.gate.name, message.message_id))
        await self.gate.leave("broker.publish")

    def _arrive(self, name: str, message: Message) -> None:
        """By its name: the queue may be another one by now, or gone."""
        weather = self.server.weather
        if queue := self.server.queues.get(name):
            self.server.arrive(queue, message, self.gate.name)
            # The original's workers cannot tell a second copy, and no broker makes one by itself.
            if message.content_type is not None and weather.strikes(weather.faults.duplicate):
                self._later(self.server.arrive, queue, message, self.gate.name)

    def _later(self, callback: Callable[..., None], *args: Any) -> None:
        """Something that the network or the broker does, whatever becomes of this process."""
        delay = self.server.weather.chance.expovariate(1 / 5.0)
        asyncio.get_running_loop().call_later(delay, callback, *args, context=Context())

    async def _give_up(self, timeout_seconds: float) -> None:
        """No confirm: the connection was cut, or it took too long."""
        chance = self.server.weather.chance
        await asyncio.sleep(timeout_seconds if chance.random() < 0.5 else chance.random())
        raise Unconfirmed("the broker did not confirm it")

    async def consume(self, queue: str, *, prefetch: int, temporary: bool = False) -> SimulatedConsumer:
        self._require_open()
        await self._ask("broker.consume")
        if not temporary:
            self._require(queue)
        consumer = SimulatedConsumer(self, queue, prefetch, temporary=temporary)
        self._consumers.append(consumer)
        return consumer

    async def declare(self, queue: str) -> None:
        await self._ask("broker.declare")
        self.server.declare(queue)
        self.server.declare(f"{queue}_error")

    async def check(self, queue: str) -> None:
        await self._ask("broker.check")
        self._require(queue)

    async def depth(self, queue: str) -> int:
        self._require(queue)
        return len(self.server.queues[queue].messages)

    async def _ask(self, call: str) -> None:
        await self.gate.enter(call)
        if self.server.weather.strikes(self.server.weather.faults.refuse):
            raise BrokerUnavailable("the broker does not answer")

    def maybe_cut(self) -> None:
        """Lose the consuming connection now, if it is to be; it is back after a while."""
        weather = self.server.weather
        if not weather.strikes(weather.faults.cut):
            return
        lost = [consumer for consumer in self._consumers if consumer.is_subscribed]
        for consumer in lost:
            consumer.cut()
        delay = weather.chance.random() * 10.0
        for consumer in lost:
            asyncio.get_running_loop().call_later(delay, consumer.subscribe)

    def _require_open(self) -> None:
        if self._closed.is_set():
            raise BrokerUnavailable("the broker object is closed")

    def _require(self, queue: str) -> None:
        if queue not in self.server.queues:
            raise QueueMismatch(f"queue {queue} does not exist; declare it")

    def _die(self) -> None:
        for consumer in self._consumers:
            consumer.cut()
        self._consumers.clear()

    def _end(self) -> None:
        for consumer in self._consumers:
            consumer.end()
        self._consumers.clear()

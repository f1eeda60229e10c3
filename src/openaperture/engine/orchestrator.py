"""Takes messages from the queue `workflow_orchestration`, and settles each only when its effect is safe.

    receive -> decode -> decide and commit (decider.py) -> ack

Ack after commit: a crash anywhere before only redelivers. What can never be handled goes to the error
queue with its reason; while the database is away, deliveries are kept and tried again, not given back:
a redelivery would count against the delivery limit of a quorum queue.

A message that came back may be what ended the process before. So it is written down before it is begun
again; those that were written down before are handled one by one, and put aside when that did not help:

    crash 1   the message was in a batch               none of it is written down
    crash 2   in a batch of those that came back       all of them are written down, once
    crash 3   alone, and written down twice            its neighbours are done and forgotten by now
    crash 4   alone, and written down BEGUN_LIMIT times; the next to get it puts it aside
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from hashlib import sha256
from typing import TypeVar

from openaperture.domain.errors import BadMessage, TryLater
from openaperture.engine.admission import CHECK_SECONDS, Admission
from openaperture.engine.decider import Decider, Outcome
from openaperture.engine.intake import Item, item_of
from openaperture.engine.ports import Wire
from openaperture.ports import BEGUN_LIMIT, Begun, Broker, Clock, Consumer, Delivery, Message, Observer
from openaperture.runtime.backoff import Backoff

T = TypeVar("T")
_SUSPECTED = (
    f"an orchestrator ended while it had this message, {BEGUN_LIMIT} times and more, and the last times no other; "
    "look into the logs for what it died of, and send the message again when that is mended"
)
MAX_WAITING = 5_000
"""Starts that wait here to be admitted; more of them keep the answers of workers waiting, too."""
MAX_WAITING_BYTES = 64 * 1_048_576


class _Stopping(Exception):
    """The process was told to stop while the database is away: what is at hand goes back."""


class Orchestrator:
    """The intake. Several of them may share the queue and the database."""

    def __init__(
        self,
        broker: Broker,
        decider: Decider,
        wire: Wire,
        clock: Clock,
        observer: Observer,
        *,
        queue: str,
        batch: int = 200,
        begun: Begun | None = None,
        admission: Admission | None = None,
    ) -> None:
        """`begun`: what messages that end the process are found by; without it nothing is written down.

        `admission`: starts are kept waiting while it is closed; without it they never are.
        """
        self._broker = broker
        self._decider = decider
        self._wire = wire
        self._clock = clock
        self._observer = observer
        self._queue = queue
        self._batch = batch
        self._begun = begun
        self._admission = admission
        self._waiting: list[Delivery] = []
        """Starts that are not admitted yet, unsettled."""
        self._room = batch
        """When so many wait, the broker is about to hand out nothing else."""
        self._consuming: asyncio.Task[None] | None = None
        self._idle = False
        self._draining = False
        self._consumer: Consumer | None = None
        self._caught_up_at: float | None = None

    async def run(self) -> None:
        """Consume until drained."""
        consumer = self._consumer = await self._subscribe()
        if consumer is None:
            return
        self._observer.emit("orchestrator.ready", queue=self._queue)
        try:
            async with asyncio.TaskGroup() as tasks:
                self._consuming = tasks.create_task(self._consume(consumer), name="orchestrator.consume")
        finally:
            await consumer.close()

    @property
    def is_draining(self) -> bool:
        return self._draining

    async def drain(self) -> None:
        """Take nothing more; `run` returns when the batch at hand is settled."""
        self._draining = True
        if self._consuming is not None and self._idle:
            self._consuming.cancel()

    def heard_seconds(self) -> float:
        """For how long all that workers said has been handled as it came; 0 while something may be waiting."""
        if self._consumer is None or not self._consumer.is_subscribed or self._waiting:
            # Behind starts that wait there may be more than the broker hands out.
            self._caught_up_at = None
        elif self._caught_up_at is None and self._idle:
            self._caught_up_at = self._clock.monotonic()
        return 0.0 if self._caught_up_at is None else self._clock.monotonic() - self._caught_up_at

    async def _consume(self, consumer: Consumer) -> None:
        while not self._draining:
            self._idle = True
            deliveries = await self._receive(consumer)
            self._idle = False
            if len(deliveries) == self._batch:
                # More may wait behind these, and among it what we would miss.
                self._caught_up_at = None
            await self.handle(consumer, deliveries)
            if self._admission and self._waiting:
                await self._look_after_waiting(consumer, self._admission)

    async def _look_after_waiting(self, consumer: Consumer, admission: Admission) -> None:
        """Let them begin when they may; until then, see that what comes behind them is received."""
        while self._waiting and not self._draining and await admission.is_open():
            first, self._waiting = self._waiting[: self._batch], self._waiting[self._batch :]
            await self._handle_together(consumer, first)
        if not self._waiting:
            self._room = self._batch
        elif len(self._waiting) >= self._room:
            size = sum(len(delivery.message.body) for delivery in self._waiting)
            if len(self._waiting) < MAX_WAITING and size < MAX_WAITING_BYTES:
                # What is unsettled from before a pause does not count against the prefetch.
                await consumer.pause()
                await consumer.resume(prefetch=2 * self._batch)
                self._room = len(self._waiting) + self._batch

    async def _receive(self, consumer: Consumer) -> list[Delivery]:
        """What is ready; nothing after a while if starts wait to be admitted."""
        if not self._waiting:
            return await consumer.receive(self._batch)
        try:
            async with asyncio.timeout(CHECK_SECONDS):
                return await consumer.receive(self._batch)
        except TimeoutError:
            return []

    async def handle(self, consumer: Consumer, deliveries: Sequence[Delivery]) -> None:
        """Settle one batch: each delivery is acked or dead-lettered, or its session ended first."""
        again = [delivery for delivery in deliveries if delivery.redelivered] if self._begun else []
        if self._begun and again:
            await self._handle_again(consumer, again, self._begun)
        first = [delivery for delivery in deliveries if delivery not in again]
        if first:
            await self._handle_together(consumer, first)

    async def _handle_again(self, consumer: Consumer, deliveries: Sequence[Delivery], begun: Begun) -> None:
        """Deliveries that came back. Told to stop, those that are not begun go back once more."""
        groups = [list(deliveries)]
        try:
            counts = await self._insist(lambda: begun.count([_key_of(each.message) for each in deliveries]))
            groups = _suspects_alone(deliveries, counts)
            while groups:
                keys = [_key_of(each.message) for each in groups[0]]
                suspected = counts[keys[0]] >= BEGUN_LIMIT
                if not suspected:
                    await self._insist(partial(begun.begin, {key: counts[key] for key in keys}))
                # From here on they settle, and tell of it, by themselves.
                group = groups.pop(0)
                if suspected:
                    await self._park(consumer, group[0], _SUSPECTED)
                    self._tell(group, Counter())
                else:
                    await self._handle_together(consumer, group)
                await self._insist(partial(begun.finish, keys))
        except _Stopping:
            if left := [delivery for group in groups for delivery in group]:
                await consumer.requeue(left)
                self._tell(left, Counter(), requeued=len(left))

    async def _handle_together(self, consumer: Consumer, deliveries: Sequence[Delivery]) -> None:
        items, members = await self._read(consumer, deliveries)
        if self._admission and any(item.begins for item in items) and not await self._admission.is_open():
            kept = self._keep_waiting(items, members)
            deliveries = [delivery for delivery in deliveries if delivery not in kept]
        outcomes = await self._apply(items) if items else []
        if outcomes is None:
            await consumer.requeue(members)
            self._tell(deliveries, Counter(), requeued=len(members))
            return
        done: list[Delivery] = []
        for item, delivery, outcome in zip(items, members, outcomes, strict=True):
            if outcome in {Outcome.APPLIED, Outcome.DUPLICATE}:
                done.append(delivery)
            else:
                await self._park(consumer, delivery, _why_parked(item, outcome))
        await consumer.ack(done)
        self._tell(deliveries, Counter(outcomes))

    async def _read(self, consumer: Consumer, deliveries: Sequence[Delivery]) -> tuple[list[Item], list[Delivery]]:
        """What the deliveries mean, and which of them mean something; the others are put aside."""
        items: list[Item] = []
        members: list[Delivery] = []
        for delivery in deliveries:
            try:
                message = self._wire.decode(delivery.message)
                items.append(item_of(message, delivery.message.message_id, self._wire.mint))
                members.append(delivery)
            except BadMessage as exc:
                await self._park(consumer, delivery, str(exc))
            except Exception as exc:  # noqa: BLE001 - a defect met by one message must not stop the others
                self._observer.emit("message.failed", message_id=delivery.message.message_id, error=exc)
                await self._park(consumer, delivery, "a defect of the orchestrator; its log has the details")
        return items, members

    def _keep_waiting(self, items: list[Item], members: list[Delivery]) -> list[Delivery]:
        """Take the starts out of a batch, unsettled. They go back to the queue when the process ends."""
        kept = [delivery for item, delivery in zip(items, members, strict=True) if item.begins]
        members[:] = [delivery for item, delivery in zip(items, members, strict=True) if not item.begins]
        items[:] = [item for item in items if not item.begins]
        self._waiting += kept
        # Those from before a reconnect come again, so the oldest of too many can go.
        del self._waiting[:-MAX_WAITING]
        return kept

    def _tell(self, deliveries: Sequence[Delivery], outcomes: Counter[Outcome], *, requeued: int = 0) -> None:
        """Where every delivery went (invariant I9): the counts add up to what was received."""
        applied, duplicates = outcomes[Outcome.APPLIED], outcomes[Outcome.DUPLICATE]
        self._observer.emit(
            "batch.settled",
            received=len(deliveries),
            applied=applied,
            duplicates=duplicates,
            parked=len(deliveries) - applied - duplicates - requeued,
            requeued=requeued,
        )

    async def _subscribe(self) -> Consumer | None:
        """None when told to stop before the broker was there."""
        backoff = Backoff()
        while not self._draining:
            try:
                return await self._broker.consume(self._queue, prefetch=2 * self._batch)
            except TryLater as exc:
                self._observer.emit("orchestrator.waiting", error=exc)
                await self._clock.sleep(backoff.next_seconds())
        return None

    async def _apply(self, items: Sequence[Item]) -> list[Outcome] | None:
        """Decide and save, however long the database is away; None when told to stop meanwhile."""
        try:
            return await self._insist(lambda: self._decider.apply(items))
        except _Stopping:
            return None

    async def _insist(self, once: Callable[[], Awaitable[T]]) -> T:
        """Do it, however long the database is away. Raises _Stopping when told to stop meanwhile."""
        backoff = Backoff()
        while True:
            try:
                return await once()
            except TryLater as exc:
                self._observer.emit("orchestrator.waiting", error=exc)
                self._caught_up_at = None
                if self._draining:
                    raise _Stopping from exc
                await self._clock.sleep(backoff.next_seconds())

    async def _park(self, consumer: Consumer, delivery: Delivery, reason: str) -> None:
        self._observer.emit(
            "message.parked", message_id=delivery.message.message_id, queue=delivery.queue, reason=reason
        )
        await consumer.dead_letter(delivery, reason)


def _key_of(message: Message) -> str:
    """What a message is known by when it comes back; those of the original have no id."""
    return sha256((message.message_id or "").encode() + b"/" + message.body).hexdigest()


def _suspects_alone(deliveries: Sequence[Delivery], counts: Mapping[str, int]) -> list[list[Delivery]]:
    """What is handled together: first all that were never written down, then each of the others."""
    unsuspected = [each for each in deliveries if not counts[_key_of(each.message)]]
    alone = [[each] for each in deliveries if counts[_key_of(each.message)]]
    return [unsuspected, *alone] if unsuspected else alone


def _why_parked(item: Item, outcome: Outcome) -> str:
    if outcome is Outcome.UNKNOWN:
        return (
            f"workflow {item.workflow_id} is not stored, and the message does not say what to release; "
            "a start of a new workflow needs its milestones"
        )
    return f"workflow {item.workflow_id}: the message could not be handled; the log of the orchestrator says why"

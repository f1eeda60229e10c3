"""Takes messages from the queue `workflow_orchestration`, and settles each only when its effect is safe.

    receive -> decode -> decide and commit (decider.py) -> ack

Ack after commit: a crash anywhere before only redelivers. What can never be handled goes to the error
queue with its reason; while the database is away, deliveries are kept and tried again, not given back:
a redelivery would count against the delivery limit of a quorum queue.
"""

import asyncio
from collections import Counter
from collections.abc import Sequence

from openaperture.domain.errors import BadMessage, TryLater
from openaperture.engine.decider import Decider, Outcome
from openaperture.engine.intake import Item, item_of
from openaperture.engine.ports import Wire
from openaperture.ports import Broker, Clock, Consumer, Delivery, Observer
from openaperture.runtime.backoff import Backoff


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
    ) -> None:
        self._broker = broker
        self._decider = decider
        self._wire = wire
        self._clock = clock
        self._observer = observer
        self._queue = queue
        self._batch = batch
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
        if self._consumer is None or not self._consumer.is_subscribed:
            self._caught_up_at = None
        elif self._caught_up_at is None and self._idle:
            self._caught_up_at = self._clock.monotonic()
        return 0.0 if self._caught_up_at is None else self._clock.monotonic() - self._caught_up_at

    async def _consume(self, consumer: Consumer) -> None:
        while not self._draining:
            self._idle = True
            deliveries = await consumer.receive(self._batch)
            self._idle = False
            if len(deliveries) == self._batch:
                # More may wait behind these, and among it what we would miss.
                self._caught_up_at = None
            await self.handle(consumer, deliveries)

    async def handle(self, consumer: Consumer, deliveries: Sequence[Delivery]) -> None:
        """Settle one batch: each delivery is acked or dead-lettered, or its session ended first."""
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
        backoff = Backoff()
        while True:
            try:
                return await self._decider.apply(items)
            except TryLater as exc:
                self._observer.emit("orchestrator.waiting", error=exc)
                self._caught_up_at = None
                if self._draining:
                    return None
                await self._clock.sleep(backoff.next_seconds())

    async def _park(self, consumer: Consumer, delivery: Delivery, reason: str) -> None:
        self._observer.emit(
            "message.parked", message_id=delivery.message.message_id, queue=delivery.queue, reason=reason
        )
        await consumer.dead_letter(delivery, reason)


def _why_parked(item: Item, outcome: Outcome) -> str:
    if outcome is Outcome.UNKNOWN:
        return (
            f"workflow {item.workflow_id} is not stored, and the message does not say what to release; "
            "a start of a new workflow needs its milestones"
        )
    return f"workflow {item.workflow_id}: the message could not be handled; the log of the orchestrator says why"

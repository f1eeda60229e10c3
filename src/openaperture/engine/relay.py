"""Publishes what was saved. The only place that sends requests to workers.

A row of the outbox is deleted only after the broker confirmed its message. New rows come straight from
the commit of this process (they are leased to it for some seconds); a sweep takes those that were left
behind: by a crash, by another instance that died, by a commit whose outcome was unknown, by a deferral.
Publishing twice is harmless: both copies carry the same id and bytes, and a worker has to claim the
attempt before it runs.

Answers to workers travel here too, but are not rows: a worker that misses one asks again.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from openaperture.domain.commands import Answer
from openaperture.domain.errors import BrokerUnavailable, OpenApertureError, TryLater, Unroutable
from openaperture.domain.events import Undeliverable
from openaperture.domain.messages import JSON_CONTENT_TYPE
from openaperture.domain.messages import Answer as AnswerMessage
from openaperture.domain.workflow import AttemptKey
from openaperture.engine.decider import Decider
from openaperture.engine.intake import Item
from openaperture.engine.ports import Wire
from openaperture.ports import Address, Broker, Clock, Deferred, Message, Observer, OutboxRow, Store
from openaperture.runtime.backoff import Backoff

FRESH_SECONDS = 4.0
"""A row at hand for longer than this is left to the sweep: its lease of 5 s may be over."""
LEASE_SECONDS = 20.0
"""Lease of a swept row: longer than its publish may take."""
PUBLISH_SECONDS = 10.0
MAX_AT_HAND = 5_000


@dataclass(slots=True)
class _Settled:
    """What the publishes at hand came to, until the next write to the database."""

    sent: list[str] = field(default_factory=list[str])
    deferred: list[Deferred] = field(default_factory=list[Deferred])
    undeliverable: list[tuple[OutboxRow, str]] = field(default_factory=list[tuple[OutboxRow, str]])

    def __bool__(self) -> bool:
        return bool(self.sent or self.deferred or self.undeliverable)


class Relay:
    """Moves outbox rows to the broker. Give `hand_over` to the deciders of this process."""

    def __init__(
        self,
        store: Store,
        broker: Broker,
        wire: Wire,
        clock: Clock,
        observer: Observer,
        *,
        owner: str,
        window: int = 200,
        poll_seconds: float = 0.5,
    ) -> None:
        self._store = store
        self._broker = broker
        self._wire = wire
        self._clock = clock
        self._observer = observer
        self._owner = owner
        self._window = window
        self._poll_seconds = poll_seconds
        self._at_hand: deque[tuple[float, OutboxRow]] = deque()
        self._answers: deque[tuple[str, Answer]] = deque()
        self._in_flight: set[str] = set()
        self._settled = _Settled()
        self._room = asyncio.Semaphore(window)
        self._work = asyncio.Event()
        self._news = asyncio.Event()
        self._draining = False
        self._stopped = asyncio.Event()

    def hand_over(self, rows: Sequence[OutboxRow], answers: Sequence[tuple[str, Answer]]) -> None:
        """Take what was just committed. What finds no room is left to the sweep."""
        room = MAX_AT_HAND - len(self._at_hand)
        now = self._clock.monotonic()
        self._at_hand.extend((now, row) for row in rows[:room])
        self._answers.extend(answers[: MAX_AT_HAND - len(self._answers)])
        self._work.set()

    async def run(self, decider: Decider) -> None:
        """Publish until drained. `decider` is told of requests that no queue takes."""
        async with asyncio.TaskGroup() as tasks:
            publishing = tasks.create_task(self._publish_all(), name="relay.publish")
            sweeping = tasks.create_task(self._sweep(), name="relay.sweep")
            settling = tasks.create_task(self._settle(decider), name="relay.settle")
            await self._stopped.wait()
            for task in (sweeping, publishing, settling):
                task.cancel()

    async def drain(self) -> None:
        """Publish what is at hand, save what became of it, then stop."""
        self._draining = True
        while self._at_hand or self._answers or self._in_flight or self._settled:
            self._work.set()
            await self._clock.sleep(0.02)
        self._stopped.set()

    # -------------------------------------------------------------------------------------- publish

    async def _publish_all(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            while True:
                await self._work.wait()
                self._work.clear()
                while self._answers or self._at_hand:
                    await self._room.acquire()
                    if self._answers:
                        workflow_id, answer = self._answers.popleft()
                        tasks.create_task(self._send_answer(workflow_id, answer))
                    elif row := self._next_row():
                        tasks.create_task(self._publish(row))
                    else:
                        self._room.release()

    def _next_row(self) -> OutboxRow | None:
        oldest = self._clock.monotonic() - FRESH_SECONDS
        while self._at_hand:
            since, row = self._at_hand.popleft()
            if since >= oldest and row.id not in self._in_flight:
                self._in_flight.add(row.id)
                return row
        return None

    async def _publish(self, row: OutboxRow) -> None:
        try:
            message = Message(body=row.body, content_type=row.content_type, message_id=row.id)
            await self._broker.publish(self._wire.route(row.queue), message, timeout_seconds=PUBLISH_SECONDS)
            self._settled.sent.append(row.id)
        except Unroutable as exc:
            self._settled.undeliverable.append((row, str(exc)))
        except BrokerUnavailable as exc:
            seconds = min(30.0, 0.5 * 2.0 ** min(row.tries, 6))
            self._settled.deferred.append(Deferred(id=row.id, seconds=seconds, error=str(exc)))
            self._observer.emit("request.deferred", message_id=row.id, seconds=seconds, error=exc)
        finally:
            self._room.release()
            self._news.set()

    async def _send_answer(self, workflow_id: str, answer: Answer) -> None:
        body = AnswerMessage(
            workflow_id=workflow_id,
            attempt_token=self._wire.mint.mint(workflow_id, answer.key),
            verdict=answer.verdict,
            reason=answer.reason,
        )
        message = Message(body=self._wire.encode(body), content_type=JSON_CONTENT_TYPE)
        try:
            await self._broker.publish(
                Address(routing_key=answer.reply_to), message, timeout_seconds=PUBLISH_SECONDS
            )
        except OpenApertureError as exc:
            self._observer.emit("answer.unsent", workflow_id=workflow_id, verdict=answer.verdict, error=exc)
        finally:
            self._room.release()

    # --------------------------------------------------------------------------------------- settle

    async def _settle(self, decider: Decider) -> None:
        """Save what became of the publishes, many in one write."""
        backoff = Backoff()
        while True:
            await self._news.wait()
            self._news.clear()
            settled, self._settled = self._settled, _Settled()
            try:
                await self._save(settled, decider)
                backoff.reset()
            except TryLater as exc:
                # Left to their leases: the rows are still in the database and will be published again.
                self._observer.emit("relay.unsettled", count=len(settled.sent), error=exc)
                await self._clock.sleep(backoff.next_seconds())
            self._forget(settled)

    async def _save(self, settled: _Settled, decider: Decider) -> None:
        """Tell the workflow first, then delete the row: a crash between only tells it twice."""
        sent = list(settled.sent)
        if settled.undeliverable:
            await decider.apply([_undeliverable(row, why) for row, why in settled.undeliverable])
            sent += [row.id for row, _ in settled.undeliverable]
        await self._store.settle_outbox(sent=sent, deferred=settled.deferred)

    def _forget(self, settled: _Settled) -> None:
        self._in_flight.difference_update(settled.sent)
        self._in_flight.difference_update(deferred.id for deferred in settled.deferred)
        self._in_flight.difference_update(row.id for row, _ in settled.undeliverable)

    # ---------------------------------------------------------------------------------------- sweep

    async def _sweep(self) -> None:
        while not self._draining:
            found = 0
            if len(self._at_hand) < self._window:
                found = await self.sweep_once()
            if found < self._window:
                await self._clock.sleep(self._poll_seconds)

    async def sweep_once(self) -> int:
        """Take over rows that are due and nobody's; returns how many."""
        try:
            rows = await self._store.claim_outbox(self._owner, limit=self._window, lease_seconds=LEASE_SECONDS)
        except TryLater as exc:
            self._observer.emit("relay.waiting", error=exc)
            return 0
        self.hand_over([row for row in rows if row.id not in self._in_flight], [])
        return len(rows)


def _undeliverable(row: OutboxRow, why: str) -> Item:
    generation, position, number = (int(part) for part in row.attempt.split("."))
    key = AttemptKey(generation=generation, position=position, number=number)
    return Item(workflow_id=row.workflow_id, event=Undeliverable(key=key, reason=why))

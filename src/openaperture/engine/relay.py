"""Does what was saved to be done. The only place that sends requests to workers.

A row of the outbox is deleted only after it was done: a message after the broker confirmed it. New rows come
straight from the commit of this process (they are leased to it for some seconds); a sweep takes those that
were left behind: by a crash, by another instance that died, by a commit whose outcome was unknown, by a
deferral. Doing a row twice is harmless (`senders.py`).

Answers to workers travel here too, but are not rows: a worker that misses one asks again.
"""

import asyncio
from collections import deque
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any

from openaperture.domain.commands import Answer
from openaperture.domain.errors import OpenApertureError, TryLater
from openaperture.domain.messages import JSON_CONTENT_TYPE
from openaperture.domain.messages import Answer as AnswerMessage
from openaperture.engine.decider import Decider
from openaperture.engine.ports import Wire
from openaperture.engine.senders import Handled, Sender, deferral
from openaperture.ports import Address, Broker, Clock, Message, Observer, OutboxRow, RowKind, Store
from openaperture.runtime.backoff import Backoff

FRESH_SECONDS = 4.0
"""A new row at hand for longer than this is left to the sweep: its lease of 5 s may be over."""
LEASE_SECONDS = 30.0
"""Lease of a swept row."""
SWEPT_SECONDS = 14.0
"""A swept row is begun within this time: what is asked may take 15 s more."""
PUBLISH_SECONDS = 10.0
MAX_AT_HAND = 5_000


class Relay:
    """Moves outbox rows to their senders. Give `hand_over` to the deciders of this process."""

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
        """`broker` takes the answers to workers."""
        self._store = store
        self._broker = broker
        self._wire = wire
        self._clock = clock
        self._observer = observer
        self._owner = owner
        self._window = window
        self._poll_seconds = poll_seconds
        self._senders: Mapping[RowKind, Sender] = {}
        self._at_hand: deque[tuple[float, OutboxRow]] = deque()
        self._answers: deque[tuple[str, Answer]] = deque()
        self._in_flight: set[str] = set()
        self._waiting: dict[str, OutboxRow] = {}
        self._handled: list[tuple[OutboxRow, Handled]] = []
        self._room = asyncio.Semaphore(window)
        self._work = asyncio.Event()
        self._news = asyncio.Event()
        self._draining = False
        self._stopped = asyncio.Event()

    def hand_over(self, rows: Sequence[OutboxRow], answers: Sequence[tuple[str, Answer]]) -> None:
        """Take what was just committed. What finds no room is left to the sweep."""
        self._take([row for row in rows if not row.held], FRESH_SECONDS)
        self._answers.extend(answers[: MAX_AT_HAND - len(self._answers)])
        self._work.set()

    def _take(self, rows: Sequence[OutboxRow], good_seconds: float) -> None:
        """Have these at hand, to be begun within so many seconds: after that their lease may end meanwhile."""
        room = MAX_AT_HAND - len(self._at_hand)
        until = self._clock.monotonic() + good_seconds
        self._at_hand.extend((until, row) for row in rows[:room])
        self._work.set()

    async def run(self, decider: Decider, senders: Mapping[RowKind, Sender]) -> None:
        """Send until drained. `decider` is told of what a workflow has to know."""
        self._senders = senders
        async with asyncio.TaskGroup() as tasks:
            sending = tasks.create_task(self._send_all(), name="relay.send")
            sweeping = tasks.create_task(self._sweep(), name="relay.sweep")
            settling = tasks.create_task(self._settle(decider), name="relay.settle")
            await self._stopped.wait()
            for task in (sweeping, sending, settling):
                task.cancel()

    async def drain(self) -> None:
        """Send what is at hand, save what became of it, then stop."""
        self._draining = True
        while self._at_hand or self._answers or self._in_flight or self._handled:
            self._work.set()
            await self._clock.sleep(0.02)
        self._stopped.set()

    # ----------------------------------------------------------------------------------------- send

    async def _send_all(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            while True:
                await self._work.wait()
                self._work.clear()
                while self._answers or self._at_hand:
                    await self._room.acquire()
                    if (work := self._next_work()) is None:
                        self._room.release()
                    else:
                        tasks.create_task(work)

    def _next_work(self) -> Coroutine[Any, Any, None] | None:
        if self._answers:
            return self._send_answer(*self._answers.popleft())
        now = self._clock.monotonic()
        while self._at_hand:
            until, row = self._at_hand.popleft()
            if row.id in self._in_flight:
                # A newer version of a record that is being made: its turn comes after that.
                self._waiting[row.id] = row
            elif until >= now:
                self._in_flight.add(row.id)
                return self._send(row)
        return None

    async def _send(self, row: OutboxRow) -> None:
        try:
            handled = await self._senders[row.kind](row)
        except Exception as exc:  # noqa: BLE001 - a defect met by one row must not stop the others
            self._observer.emit("relay.failed", workflow_id=row.workflow_id, kind=row.kind.value, error=exc)
            handled = deferral(row, OpenApertureError(f"a defect of the orchestrator ({exc!r})"))
        if handled.deferred is not None:
            deferred = handled.deferred
            self._observer.emit(
                "request.deferred", message_id=row.id, seconds=deferred.seconds, error=deferred.error
            )
        self._handled.append((row, handled))
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
        """Save what became of the rows, many in one write."""
        backoff = Backoff()
        while True:
            await self._news.wait()
            self._news.clear()
            handled = self._handled.copy()
            try:
                await self._save(handled, decider)
            except TryLater as exc:
                self._observer.emit("relay.unsettled", count=len(handled), error=exc)
                await self._clock.sleep(backoff.next_seconds())
                # Once more, with what has come meanwhile. Only a crash now sends these rows again.
                self._news.set()
            else:
                backoff.reset()
                self._forget(handled)

    async def _save(self, handled: Sequence[tuple[OutboxRow, Handled]], decider: Decider) -> None:
        """Tell the workflows first, then delete the rows: a crash between only tells them twice."""
        items = [item for _, outcome in handled for item in outcome.items]
        if items:
            await decider.apply(items)
        sent = [row.id for row, outcome in handled if outcome.deferred is None and not outcome.is_settled]
        deferred = [outcome.deferred for _, outcome in handled if outcome.deferred is not None]
        await self._store.settle_outbox(sent=sent, deferred=deferred)

    def _forget(self, handled: list[tuple[OutboxRow, Handled]]) -> None:
        self._in_flight.difference_update(row.id for row, _ in handled)
        del self._handled[: len(handled)]
        freed = [row for _, outcome in handled for row in outcome.freed]
        freed += [self._waiting.pop(row.id) for row, _ in handled if row.id in self._waiting]
        self._take(freed, FRESH_SECONDS)

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
        self._take([row for row in rows if row.id not in self._in_flight], SWEPT_SECONDS)
        return len(rows)

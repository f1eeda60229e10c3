"""What happens to workflows, handed to all who listen: the store is asked once for all of them.

Events are numbered when they are written and seen when their transaction ends, so a lower number may be seen
after a higher one. `Horizon` holds back what comes after a missing number until whoever may have taken it has
ended: who has seen an event has seen all before it, and can go on from its number later.
"""

import asyncio
from collections import deque
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress

from openaperture.domain.errors import TryLater
from openaperture.ports import EventFeed, FeedEntry, FeedPage

POLL_SECONDS = 0.25
AWAY_SECONDS = 2.0
"""Between the tries while the database is away."""
PAGE = 1_000
MAX_WAITING = 2_000
"""Events that wait for one slow listener; after that it reads what it missed from the store."""


class Horizon:
    """Up to which number nothing is missing."""

    def __init__(self, position: int) -> None:
        self.position = position
        self._gap: tuple[int, int] | None = None
        """The highest number seen when something was missing first, and the transaction that came next then."""

    def admit(self, page: FeedPage) -> list[FeedEntry]:
        """Of a page after `position`: those whose turn it is."""
        admitted: list[FeedEntry] = []
        for entry in page.entries:
            if entry.row.id != self.position + 1 and not self._is_settled(entry.row.id, page):
                break
            admitted.append(entry)
            self.position = entry.row.id
        return admitted

    def _is_settled(self, number: int, page: FeedPage) -> bool:
        """Whether all numbers below are taken by what has ended."""
        if self._gap is None or number > self._gap[0]:
            self._gap = (page.entries[-1].row.id, page.coming)
        return page.oldest >= self._gap[1]


class Subscription:
    """One listener: what it has not taken yet."""

    def __init__(self, workflow_id: str | None) -> None:
        self.workflow_id = workflow_id
        """None listens to all."""
        self.missed = False
        """Events were dropped; they are in the store."""
        self.closed = False
        self._waiting: deque[FeedEntry] = deque()
        self._news = asyncio.Event()

    def put(self, entries: Sequence[FeedEntry]) -> None:
        if len(self._waiting) + len(entries) > MAX_WAITING:
            self._waiting.clear()
            self.missed = True
        else:
            self._waiting.extend(entries)
        self._news.set()

    def close(self) -> None:
        self.closed = True
        self._news.set()

    async def take(self, timeout_seconds: float) -> list[FeedEntry]:
        """All that waits; none after the timeout, when it has missed something, or when it is closed."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_seconds):
                await self._news.wait()
        self._news.clear()
        taken = list(self._waiting)
        self._waiting.clear()
        return taken


class Feed:
    """One loop for all listeners; it rests while there is none."""

    def __init__(self, source: EventFeed, stopping: asyncio.Event, *, poll_seconds: float = POLL_SECONDS) -> None:
        self.source = source
        self.is_running = False
        self._stopping = stopping
        self._poll_seconds = poll_seconds
        self._horizon: Horizon | None = None
        self._placed = asyncio.Event()
        """The horizon is known."""
        self._wanted = asyncio.Event()
        self._listeners: dict[str | None, set[Subscription]] = {}

    @property
    def position(self) -> int:
        """What has this number or a lower one is in the store, and will not be handed out."""
        return self._horizon.position if self._horizon else 0

    @contextmanager
    def listening(self, workflow_id: str | None) -> Generator[Subscription]:
        subscription = Subscription(workflow_id)
        self._listeners.setdefault(workflow_id, set()).add(subscription)
        self._wanted.set()
        if self._stopping.is_set():
            subscription.close()
        try:
            yield subscription
        finally:
            self._leave(subscription)

    def _leave(self, subscription: Subscription) -> None:
        listeners = self._listeners[subscription.workflow_id]
        listeners.discard(subscription)
        if not listeners:
            del self._listeners[subscription.workflow_id]
        if not self._listeners:
            self._wanted.clear()

    async def placed(self) -> None:
        """Wait until `position` means something; to be called while listening."""
        await self._placed.wait()

    async def run(self) -> None:
        """Until cancelled; listeners are sent away when the Manager stops."""
        self.is_running = True
        try:
            while not self._stopping.is_set():
                await self._pause(self._wanted)
                await self._serve()
        finally:
            self.is_running = False
            self._close()

    async def _serve(self) -> None:
        while self._listeners and not self._stopping.is_set():
            try:
                full = await self._look()
            except TryLater:
                await self._sleep(AWAY_SECONDS)
            else:
                await self._sleep(0 if full else self._poll_seconds)
        # Whoever listens next begins at what is the newest then.
        self._placed.clear()
        self._horizon = None

    async def _look(self) -> bool:
        """Whether there is more at once."""
        if self._horizon is None:
            await self._place()
            return True
        page = await self.source.read(self._horizon.position, limit=PAGE)
        # After a deletion of the newest rows SQLite gives their numbers anew.
        self._horizon.position = min(self._horizon.position, page.last_id)
        self._publish(self._horizon.admit(page))
        return len(page.entries) == PAGE

    async def _place(self) -> None:
        first = page = await self.source.read(None, limit=PAGE)
        while page.oldest < first.coming and not self._stopping.is_set():
            await self._sleep(self._poll_seconds)
            page = await self.source.read(None, limit=PAGE)
        self._horizon = Horizon(first.last_id)
        self._placed.set()

    def _publish(self, entries: Sequence[FeedEntry]) -> None:
        by_workflow: dict[str | None, list[FeedEntry]] = {None: list(entries)} if entries else {}
        for entry in entries:
            by_workflow.setdefault(entry.workflow_id, []).append(entry)
        for workflow_id, chosen in by_workflow.items():
            for subscription in self._listeners.get(workflow_id, ()):
                subscription.put(chosen)

    def _close(self) -> None:
        self._placed.set()
        for listeners in self._listeners.values():
            for subscription in listeners:
                subscription.close()

    async def _pause(self, event: asyncio.Event) -> None:
        """Wait for it, or for the end."""
        async with asyncio.TaskGroup() as tasks:
            waits = [tasks.create_task(event.wait()), tasks.create_task(self._stopping.wait())]
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            for wait in waits:
                wait.cancel()

    async def _sleep(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()

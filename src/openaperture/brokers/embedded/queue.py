"""One queue in memory: which messages are ready, and which consumer gets them.

The oldest messages of a durable queue are in memory, the rest only in the table: all up to `_loaded_to`
are ready here or in the hands of a consumer, and `_behind` counts those after it.
"""

import asyncio
from collections import deque
from collections.abc import Iterable
from heapq import heappop, heappush
from typing import Protocol

from openaperture.brokers.embedded.ledger import Ledger, Stored

MEMORY_LIMIT = 10_000
"""Messages per queue that are kept in memory though nobody takes them."""
READ_AT_ONCE = 1_000


class Taker(Protocol):
    """What a queue knows of a consumer."""

    @property
    def room(self) -> int:
        """How many more it may be given now."""
        ...

    def take(self, stored: Stored) -> None: ...

    def wake(self) -> None:
        """Look again whether there is something to read."""
        ...


class Queue:
    """A declared queue, or one for a single consumer that lives in memory alone (`ledger` is None)."""

    def __init__(self, name: str, ledger: Ledger | None, *, behind: int = 0, known_to: int = 0) -> None:
        """`behind` messages with ids up to `known_to` are in the table already."""
        self.name = name
        self._ledger = ledger
        self._ready: list[tuple[int, Stored]] = []
        self._takers: deque[Taker] = deque()
        self._behind = behind
        self._known_to = known_to
        self._loaded_to = 0
        self._reading = asyncio.Lock()

    @property
    def temporary(self) -> bool:
        return self._ledger is None

    @property
    def depth(self) -> int:
        return len(self._ready) + self._behind

    @property
    def is_full(self) -> bool:
        """Whether a temporary queue takes no more."""
        return self.temporary and len(self._ready) >= MEMORY_LIMIT

    def put(self, stored: Stored) -> None:
        """A new message, durable by now. The ids of a queue come in their order."""
        if self._behind or len(self._ready) >= MEMORY_LIMIT:
            self._behind += 1
            self._known_to = stored.id
            return
        self._loaded_to = stored.id
        heappush(self._ready, (stored.id, stored))
        self.dispatch()

    def put_back(self, stored: Iterable[Stored]) -> None:
        """Messages that a consumer does not want; they take their old places."""
        for each in stored:
            heappush(self._ready, (each.id, each))
        self.dispatch()

    def add(self, taker: Taker) -> None:
        self._takers.append(taker)
        self.dispatch()

    def remove(self, taker: Taker) -> None:
        self._takers.remove(taker)

    def dispatch(self) -> None:
        """Hand out what is ready, in turn, to those who have room."""
        without_room = 0
        while self._ready and without_room < len(self._takers):
            taker = self._takers[0]
            self._takers.rotate(-1)
            if taker.room > 0:
                taker.take(heappop(self._ready)[1])
                without_room = 0
            else:
                without_room += 1
        if self._behind and not self._ready:
            for taker in self._takers:
                taker.wake()

    async def refill(self) -> None:
        """Read the next messages from the table if memory has run out of them. Raises StoreUnavailable."""
        if self._ready or not self._behind or self._ledger is None:
            return
        async with self._reading:
            if self._ready or not self._behind:
                return
            found = await self._ledger.read(
                self.name, after=self._loaded_to, up_to=self._known_to, limit=READ_AT_ONCE
            )
            self._behind -= len(found)
            if found:
                self._loaded_to = found[-1].id
            self.put_back(found)

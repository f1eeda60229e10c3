"""Puts output back in the order in which its worker sent it: two orchestrators may store it in another one."""

from collections.abc import Iterable
from datetime import datetime

from openaperture.client.models import LogChunk

MOST_WAITING = 50
"""So many chunks of one attempt do not wait for one that is missing: it is lost."""


class OutputOrder:
    """Holds a chunk back while one before it is missing, which is a matter of milliseconds, or for ever.

    What comes after its turn is let through at once: late output is better than none.
    """

    def __init__(self) -> None:
        self._next: dict[str, int] = {}
        self._waiting: dict[str, dict[int, LogChunk]] = {}

    def admit(self, chunks: Iterable[LogChunk]) -> list[LogChunk]:
        """Those whose turn it is, with the ones that waited for them."""
        ready: list[LogChunk] = []
        for chunk in chunks:
            turn = self._next.setdefault(chunk.attempt, 1)
            if chunk.sequence < turn:
                ready.append(chunk)
                continue
            waiting = self._waiting.setdefault(chunk.attempt, {})
            waiting[chunk.sequence] = chunk
            if len(waiting) > MOST_WAITING:
                self._next[chunk.attempt] = min(waiting)
            ready += self._in_turn(chunk.attempt)
        return ready

    def release(self) -> list[LogChunk]:
        """All that waits, in order: something has happened that it must not come after."""
        ready: list[LogChunk] = []
        for attempt, waiting in self._waiting.items():
            while waiting:
                self._next[attempt] = min(waiting)
                ready += self._in_turn(attempt)
        return ready

    def _in_turn(self, attempt: str) -> list[LogChunk]:
        ready: list[LogChunk] = []
        while chunk := self._waiting[attempt].pop(self._next[attempt], None):
            self._next[attempt] += 1
            ready.append(chunk)
        return ready


def timed(chunks: Iterable[LogChunk]) -> list[tuple[datetime, LogChunk]]:
    """Chunks with times that keep their order when they are merged with others by time."""
    latest: dict[str, datetime] = {}
    told: list[tuple[datetime, LogChunk]] = []
    for chunk in chunks:
        latest[chunk.attempt] = max(chunk.at, latest.get(chunk.attempt, chunk.at))
        told.append((latest[chunk.attempt], chunk))
    return told

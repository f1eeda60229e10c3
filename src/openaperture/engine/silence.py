"""Keeps a queue that confirms nothing from holding up the others.

A queue may take messages and never confirm one: a quorum queue without a leader does (failure model, F19).
Each message to it then occupies its place in the relay's window for the whole time that a confirm may take.
So when one has run out of that time, only one at a time is tried there, until one is confirmed; the others
go back to the outbox at once.
"""

from openaperture.domain.errors import BrokerUnavailable, Unconfirmed
from openaperture.engine.ports import Deliver
from openaperture.ports import Clock, Message, Observer, OutboxRow

NEARLY = 0.9
"""A publish that took this part of its time has run out of it; a lost connection is told sooner."""


class Cautious:
    """Delivers as `deliver` does, but to silent queues one message at a time."""

    def __init__(self, deliver: Deliver, clock: Clock, observer: Observer, *, timeout_seconds: float) -> None:
        """`timeout_seconds` is how long `deliver` waits for a confirm."""
        self._deliver = deliver
        self._clock = clock
        self._observer = observer
        self._timeout_seconds = timeout_seconds
        self._silent: set[str] = set()
        self._tried: set[str] = set()
        """Silent queues that a message is trying just now."""

    async def __call__(self, row: OutboxRow, message: Message) -> None:
        """Raises as `deliver` does, and BrokerUnavailable for what was not even tried."""
        where = f"{row.queue} {row.route.way}" if row.route else row.queue
        if where in self._tried:
            raise BrokerUnavailable(f'queue "{row.queue}" confirms nothing; another message is trying it just now')
        if where not in self._silent:
            await self._attempt(row, message, where)
            return
        self._tried.add(where)
        try:
            await self._attempt(row, message, where)
        finally:
            self._tried.discard(where)

    async def _attempt(self, row: OutboxRow, message: Message, where: str) -> None:
        began_at = self._clock.monotonic()
        try:
            await self._deliver(row, message)
        except Unconfirmed:
            ran_out = self._clock.monotonic() - began_at >= NEARLY * self._timeout_seconds
            if ran_out and where not in self._silent:
                self._silent.add(where)
                self._observer.emit("queue.silent", queue=row.queue)
            raise
        if where in self._silent:
            self._silent.discard(where)
            self._observer.emit("queue.heard", queue=row.queue)

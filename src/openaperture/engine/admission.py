"""Whether new workflows may begin: not while the requests of those that run pile up unsent.

Each new one would add to the pile. What runs already goes on: answers of workers are always taken.
"""

from collections.abc import Awaitable, Callable
from contextlib import suppress

from openaperture.domain.errors import Overloaded, StoreUnavailable
from openaperture.ports import Clock, Observer

CHECK_SECONDS = 1.0
"""How old a look at the outbox may be."""
REOPEN = 0.8
"""Opens again at this part of the limit, so that it does not open and close with every message."""


class Admission:
    """One per process; the outbox is looked at when somebody asks."""

    def __init__(
        self, count_outbox: Callable[[], Awaitable[int]], clock: Clock, observer: Observer, *, limit: int
    ) -> None:
        """`limit`: how many messages may wait in the outbox before nothing new begins."""
        self._count_outbox = count_outbox
        self._clock = clock
        self._observer = observer
        self._limit = limit
        self._open = True
        self._unsent = 0
        self._looked_at: float | None = None

    async def is_open(self) -> bool:
        now = self._clock.monotonic()
        if self._looked_at is None or now - self._looked_at >= CHECK_SECONDS:
            self._looked_at = now
            # Nothing can begin without the database anyway: whoever goes on finds out.
            with suppress(StoreUnavailable):
                self._judge(await self._count_outbox())
        return self._open

    async def require(self) -> None:
        """Raises Overloaded while nothing new may begin."""
        if not await self.is_open():
            raise Overloaded(
                f"{self._unsent} messages wait to be sent, and nothing new begins above {self._limit}: try later"
            )

    def _judge(self, unsent: int) -> None:
        self._unsent = unsent
        is_open = unsent <= (self._limit if self._open else REOPEN * self._limit)
        if is_open != self._open:
            self._open = is_open
            if is_open:
                self._observer.emit("admission.opened", unsent=unsent)
            else:
                self._observer.emit("admission.closed", unsent=unsent)

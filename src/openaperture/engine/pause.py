"""Growing pauses between tries, so that a fault of something we depend on is not made worse by us."""

import random

from openaperture.ports import Clock


class Backoff:
    """0.2, 0.4, 0.8 … 5 s, each up to a fifth longer at random."""

    def __init__(self, clock: Clock, *, first_seconds: float = 0.2, longest_seconds: float = 5.0) -> None:
        self._clock = clock
        self._first = self._next = first_seconds
        self._longest = longest_seconds

    async def wait(self) -> None:
        await self._clock.sleep(self._next * random.uniform(1, 1.2))  # noqa: S311 - spreads load, guards nothing
        self._next = min(self._next * 2, self._longest)

    def reset(self) -> None:
        self._next = self._first

"""Growing pauses between tries, so that a fault of something we depend on is not made worse by us."""

import random


class Backoff:
    """0.2, 0.4, 0.8 … 5 s, each up to half shorter at random, so that a fleet does not come back in step."""

    def __init__(self, *, first_seconds: float = 0.2, longest_seconds: float = 5.0) -> None:
        self._first = self._next = first_seconds
        self._longest = longest_seconds

    def next_seconds(self) -> float:
        """How long to wait before the next try."""
        seconds, self._next = self._next, min(self._longest, self._next * 2)
        return seconds * random.uniform(0.5, 1.0)  # noqa: S311 - spreads load, guards nothing

    def reset(self) -> None:
        """The last try worked."""
        self._next = self._first

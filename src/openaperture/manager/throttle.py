"""A bound on failures: who guesses secrets has to wait, and how many guess costs no memory."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

WINDOW_SECONDS = 60.0
KEYS = 8_192
"""The longest untouched key is forgotten first: to be forgotten early one would have to fail from that
many other addresses within the minute."""


@dataclass(slots=True)
class _Count:
    failures: int
    since: float


class Throttle:
    """Counts failures by key, such as an address, in windows of a minute."""

    def __init__(self, *, limit: int, monotonic: Callable[[], float]) -> None:
        self._limit = limit
        self._monotonic = monotonic
        self._counts: OrderedDict[str, _Count] = OrderedDict()

    def wait_seconds(self, key: str) -> float:
        """How long this key has to wait; 0 when it need not."""
        count = self._current(key)
        if count is None or count.failures < self._limit:
            return 0.0
        return count.since + WINDOW_SECONDS - self._monotonic()

    def fail(self, key: str) -> None:
        count = self._current(key)
        if count is None:
            count = self._counts[key] = _Count(0, self._monotonic())
        count.failures += 1
        self._counts.move_to_end(key)
        while len(self._counts) > KEYS:
            self._counts.popitem(last=False)

    def _current(self, key: str) -> _Count | None:
        count = self._counts.get(key)
        if count is not None and self._monotonic() >= count.since + WINDOW_SECONDS:
            del self._counts[key]
            return None
        return count

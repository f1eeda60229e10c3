"""The output of a milestone within bounds: of a flood its beginning and its end are kept, the middle is counted.

Lines travel in messages, so they can leave only so fast; a burst beyond that would push out the lines that
matter most, the last ones.
"""

import time
from collections import deque
from collections.abc import Callable

BURST_LINES = 8_000
"""With the tail below what a context holds before it drops lines by itself."""
LINES_PER_SECOND = 1_000
MAX_LINES = 50_000
MAX_CHARACTERS = 4 * 1_048_576
TAIL_LINES = 200


class BoundedLog:
    """Passes lines on until they are too many; then keeps the last ones until there is room, or the end."""

    def __init__(
        self,
        log: Callable[[str], None],
        *,
        burst_lines: int = BURST_LINES,
        max_lines: int = MAX_LINES,
        max_characters: int = MAX_CHARACTERS,
        tail_lines: int = TAIL_LINES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._log = log
        self._clock = clock
        self._burst_lines = burst_lines
        self._room = float(burst_lines)
        """How many lines may go at this moment; grows with time."""
        self._room_at = clock()
        self._lines_left = max_lines
        self._characters_left = max_characters
        self._tail: deque[str] = deque(maxlen=tail_lines)
        self._held = 0
        """Lines since the last one that was passed on."""

    def add(self, line: str) -> None:
        self._grow_room()
        if self._held and self._room > len(self._tail) + 1 and self._lines_left > 0:
            self.close()
        if len(line) > self._characters_left:
            self._lines_left = 0  # from now on only the last lines count
        if self._held or self._room < 1 or self._lines_left < 1:
            self._held += 1
            self._tail.append(line)
        else:
            self._pass_on(line)

    def close(self) -> None:
        """Pass on what is held, after the number of the lines that are missing before it."""
        if missing := self._held - len(self._tail):
            self._pass_on(f"[{missing} lines are left out here: more than can be kept]")
        for line in self._tail:
            self._pass_on(line)
        self._tail.clear()
        self._held = 0

    def _pass_on(self, line: str) -> None:
        self._room -= 1
        self._lines_left -= 1
        self._characters_left -= len(line)
        self._log(line)

    def _grow_room(self) -> None:
        now = self._clock()
        self._room = min(float(self._burst_lines), self._room + (now - self._room_at) * LINES_PER_SECOND)
        self._room_at = now

"""The elapsed texts of the original, computed apart from the product, with room for the time that a test takes."""

import math
import re
from typing import Any

UNITS = (("second", 1, 60), ("minute", 60, 3_600), ("hour", 3_600, 86_400), ("day", 86_400, 604_800))
WEEK_SECONDS = 604_800
STEP_SECONDS = 0.05
_ELAPSED = re.compile(r"(\d+) (?:second|minute|hour|day|week)\(s\)")


def elapsed_text(seconds: float) -> str:
    """The unit is chosen by the exact value; the number is rounded, half up."""
    span = abs(seconds)
    for name, size, limit in UNITS:
        if span < limit:
            return f"{math.floor(span / size + 0.5)} {name}(s)"
    return f"{math.floor(span / WEEK_SECONDS + 0.5)} week(s)"


def texts_within(seconds: float, window_seconds: float) -> list[str]:
    """What `seconds` may read when it is looked at up to `window_seconds` later; the first is that of now."""
    steps = math.ceil(window_seconds / STEP_SECONDS)
    return list(dict.fromkeys(elapsed_text(seconds + step * STEP_SECONDS) for step in range(steps + 1)))


def is_elapsed(text: str) -> bool:
    return _ELAPSED.fullmatch(text) is not None


def may_read(expected: str, seen: Any, window_seconds: float) -> bool:
    """Whether `seen` is `expected`, or the same in seconds and no more later than the window is long."""
    if seen == expected:
        return True
    if not isinstance(seen, str) or not is_elapsed(seen) or not expected.endswith("second(s)"):
        return False
    return seen in texts_within(int(expected.split(maxsplit=1)[0]), window_seconds)

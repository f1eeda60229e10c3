"""The notation of the cases: JSON that says which Erlang type a value has on the wire.

    "text"  binary        {"$atom": "build"}  atom         null, true, false  the atoms of those names
    {..}    map with binary keys              {"$atomkeys": {..}}  map with atom keys
    {"$tuple": [..]}  tuple                   {"$bytes": "hex"}    binary that is no UTF-8 text

Expectations may hold patterns as well: `$any`, `$len`, `$ago`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from openaperture.codecs.etf import Atom, Key, Term
from tests.compat.elapsed import is_elapsed, may_read

CLOCK_SLACK_SECONDS = 1.0
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")


def to_term(value: Any, now: float) -> Term:
    """The term that a value of a case stands for. The fake clock of the cases stands at `now` (Unix seconds)."""
    match value:
        case {"$atom": name}:
            return Atom(name)
        case {"$ago": seconds}:
            return timestamp(now - seconds)
        case {"$rfc1123": seconds}:
            return rfc1123(now + seconds, value.get("zone", "UTC"))
        case {"$atomkeys": fields}:
            return atom_map(fields, now)
        case {"$binkeys": fields}:
            return to_term(fields, now)
        case dict():
            return {str(key): to_term(item, now) for key, item in value.items()}
        case list():
            return [to_term(item, now) for item in value]
        case None | bool() | int() | float() | str():
            return value
        case _:
            raise TypeError(f"a case holds {value!r}, for which there is no term")


def atom_map(fields: dict[str, Any], now: float) -> dict[Key, Term]:
    """A map with atom keys, as every message is on top."""
    return {Atom(key): to_term(item, now) for key, item in fields.items()}


def notation_of(term: Term) -> Any:
    """How a term that was seen reads in a case."""
    match term:
        case Atom(name=name):
            return {"$atom": name}
        case bytes():
            try:
                return term.decode()
            except UnicodeDecodeError:
                return {"$bytes": term.hex()}
        case tuple():
            return {"$tuple": [notation_of(item) for item in term]}
        case list():
            return [notation_of(item) for item in term]
        case dict() if term and all(isinstance(key, Atom) for key in term):
            return {
                "$atomkeys": {key.name: notation_of(item) for key, item in term.items() if isinstance(key, Atom)}
            }
        case dict():
            return {str(notation_of(key)): notation_of(item) for key, item in term.items()}
        case _:
            return term


def plain_of(value: Any, now: float) -> Any:
    """A value of a case as JSON of the Manager: atoms are their names."""
    match value:
        case {"$atom": name}:
            return name
        case {"$rfc1123": seconds}:
            return rfc1123(now + seconds, "UTC")
        case dict():
            return {key: plain_of(item, now) for key, item in value.items()}
        case list():
            return [plain_of(item, now) for item in value]
        case _:
            return value


def timestamp(moment: float) -> tuple[int, int, int]:
    """Erlang's now(): megaseconds, seconds, microseconds."""
    micros = round(moment * 1_000_000)
    return micros // 10**12, micros // 10**6 % 10**6, micros % 10**6


def rfc1123(moment: float, zone: str) -> str:
    """Independent of the locale, which strftime is not."""
    at = datetime.fromtimestamp(int(moment), UTC)
    day, month = DAYS[at.weekday()], MONTHS[at.month - 1]
    return f"{day}, {at.day:02} {month} {at.year} {at:%H:%M:%S} {zone}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Between when the message was delivered (the case's clock) and when its effect was seen, in Unix seconds."""

    start: float
    end: float

    @property
    def seconds(self) -> float:
        return max(0.0, self.end - self.start)


def differences(expected: Any, seen: Any, window: Window, at: str = "") -> Iterator[str]:
    """What of `expected` does not hold of `seen`, which may have more keys. Types count: 1 is not true."""
    match expected:
        case {"$atomkeys": fields}:
            inside = seen.get("$atomkeys") if isinstance(seen, dict) else None
            yield from _map_differences(fields, inside, window, at, "a map with atom keys")
        case dict() if not any(key.startswith("$") for key in expected):
            yield from _map_differences(expected, seen, window, at, "a map with text as keys")
        case list():
            yield from _list_differences(expected, seen, window, at)
        case _:
            if not _is_as_expected(expected, seen, window):
                yield f"{at}: expected {_meant(expected)}, seen {shortened(seen)}"


def _is_as_expected(expected: Any, seen: Any, window: Window) -> bool:
    match expected:
        case {"$any": True}:
            return True
        case {"$len": length}:
            return isinstance(seen, list) and len(seen) >= length
        case {"$ago": seconds}:
            return _is_time(seen, seconds, window)
        case str() if is_elapsed(expected):
            return may_read(expected, seen, window.seconds)
        case _:
            return type(seen) is type(expected) and bool(seen == expected)


def _meant(expected: Any) -> str:
    match expected:
        case {"$len": length}:
            return f"a list of at least {length}"
        case {"$ago": seconds}:
            return f"a timestamp of {seconds} s before the delivery"
        case _:
            return repr(expected)


def _map_differences(fields: dict[str, Any], seen: Any, window: Window, at: str, what: str) -> Iterator[str]:
    if not isinstance(seen, dict) or any(key.startswith("$") for key in seen):
        yield f"{at}: expected {what}, seen {shortened(seen)}"
        return
    for key, item in fields.items():
        if key not in seen:
            yield f"{at}.{key}: expected {item!r}, seen no such key"
        else:
            yield from differences(item, seen[key], window, f"{at}.{key}")


def _list_differences(items: list[Any], seen: Any, window: Window, at: str) -> Iterator[str]:
    if not isinstance(seen, list) or len(seen) != len(items):
        yield f"{at}: expected {items!r}, seen {shortened(seen)}"
        return
    for number, (item, other) in enumerate(zip(items, seen, strict=True)):
        yield from differences(item, other, window, f"{at}[{number}]")


def _is_time(seen: Any, seconds: float, window: Window) -> bool:
    match seen:
        case {"$tuple": [int(mega), int(rest), int(micro)]}:
            moment = mega * 1e6 + rest + micro / 1e6
        case _:
            return False
    if seconds:  # it was given so, and is passed on untouched
        return (mega, rest, micro) == timestamp(window.start - seconds)
    return window.start - CLOCK_SLACK_SECONDS <= moment <= window.end + CLOCK_SLACK_SECONDS


def shortened(seen: Any) -> str:
    """Enough of a value to recognise it in one line."""
    text = repr(seen)
    return text if len(text) <= 200 else f"{text[:200]}..."

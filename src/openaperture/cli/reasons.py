"""An explanation as lines for people: the sentence, until when it holds, and what belongs to it in words."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeAlias, cast

from openaperture.cli.untrusted import one_line
from openaperture.client.models import Explanation

Row: TypeAlias = Mapping[str, Any]

_UNTIL = {
    "approval": "fails if nobody has decided by",
    "backoff": "tried again at",
    "cancelling": "ends at the latest at",
    "lock": "fails if it has not got it by",
    "outbox": "tried again at",
    "pickup": "requested anew if nobody has taken it by",
    "scheduled": "goes on at",
    "undeliverable": "tried again at",
}
"""What the instant of an explanation means, by its code."""
_NAMES = {
    "again_at": "",  # the same as the instant above
    "approved_by": "approved so far by",
    "at_work": "run now",
    "backlog": "errands that wait in all",
    "inputs": "digest of what is approved",
    "last_taken_at": "last taken at",
    "last_worker": "last taken by",
    "locks": "lock",
    "pause": "pauses before the next milestone",
    "required": "approvals needed",
    "role": "group that approves",
    "routing_key": "routing key",
}
"""The names of details in words, where they are not words already; without any it is left out."""


def told(explanation: Explanation) -> Iterator[str]:
    yield f"{explanation.code}: {one_line(explanation.text)}"
    if explanation.until is not None:
        name = _UNTIL.get(explanation.code, "looked at again by itself at")
        yield f"{name}: {_instant(explanation.until)}"
    for key, value in explanation.details.items():
        name = _NAMES.get(key, key)
        yield from (f"{one_line(name)}: {one_line(text)}" for text in _texts(key, value) if name)


def _texts(key: str, value: Any) -> Iterator[str]:
    """A line for each; none for what is not there."""
    if key == "locks":
        yield from map(_lock, value)
    elif isinstance(value, Mapping):
        yield _fields(cast("Row", value))
    elif isinstance(value, Sequence) and not isinstance(value, str):
        rows = cast("list[Any]", value)
        if texts := [_fields(cast("Row", row)) if isinstance(row, Mapping) else str(row) for row in rows]:
            yield ", ".join(texts)
    elif value is not None:
        yield _scalar(value)


def _lock(lock: Row) -> str:
    if lock["holder"] is None:
        holder = "nobody has it"
    else:
        since = f" since {_scalar(lock['since'])}" if lock["since"] else ""
        holder = f"workflow {lock['holder']} has it{since}"
    kept = f", kept after its end: {lock['kept']}" if lock["kept"] else ""
    return f"{lock['name']}: {holder}{kept}; {lock['ahead'] or 'none'} before this one in the queue"


def _fields(fields: Row) -> str:
    told = ((name, value) for name, value in fields.items() if value is not None and value != "")
    return ", ".join(f"{name} {_scalar(value)}" for name, value in told)


def _scalar(value: Any) -> str:
    if isinstance(value, str):
        try:
            return _instant(datetime.fromisoformat(value)) if "T" in value else value
        except ValueError:
            return value
    return str(value)


def _instant(at: datetime) -> str:
    return f"{at.astimezone():%Y-%m-%d %H:%M:%S %z}"

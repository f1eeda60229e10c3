"""What was seen from outside: the only thing that the checker reads.

Written by the simulated broker and store as their tapes, by workers as their ledger of effects, and by those who
asked for something. Nothing here is the product's own opinion, except `Told`.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any, TypeVar
from zlib import crc32

from openaperture.domain.attempts import AttemptKey
from openaperture.domain.history import Entry
from openaperture.domain.workflow import Workflow
from openaperture.ports import OutboxRow


@dataclass(slots=True)
class Record:
    """Its place in `Journal.records` is its place in the order of things."""

    at: float = field(init=False, default=0.0)
    """Virtual seconds."""


@dataclass(slots=True)
class Saved(Record):
    """A change of one workflow became durable."""

    by: str
    before: Workflow | None
    """What was stored until now, read back from its stored form."""
    after: Workflow
    expected_version: int
    entries: Sequence[Entry]
    requested: Sequence[AttemptKey]
    """Attempts that were made or claimed."""
    ended: Mapping[AttemptKey, str]
    rows: Sequence[OutboxRow]
    message_ids: Sequence[str]


@dataclass(slots=True)
class RowGone(Record):
    """A row of the outbox was deleted."""

    by: str
    row_id: str


@dataclass(slots=True)
class Arrived(Record):
    """A copy of a message is on a queue."""

    by: str
    queue: str
    serial: int
    """Of this copy."""
    message_id: str | None
    body: bytes
    content_type: str | None


@dataclass(slots=True)
class Confirmed(Record):
    """Its publisher was told so."""

    by: str
    message_id: str | None


@dataclass(slots=True)
class Delivered(Record):
    """A consumer was handed a message."""

    by: str
    queue: str
    serial: int
    message_id: str | None
    body: bytes


@dataclass(slots=True)
class Settled(Record):
    """A consumer settled a delivery, whether the broker heard it or not."""

    by: str
    queue: str
    serial: int
    message_id: str | None
    how: str
    """ack | requeue | dead_letter"""
    counted: bool
    """False for one of a session that had ended: it settles nothing."""


@dataclass(slots=True)
class Began(Record):
    """The effect of a milestone began. Written by its worker at that moment."""

    worker: str
    workflow_id: str
    key: AttemptKey
    milestone: str


@dataclass(slots=True)
class Finished(Record):
    worker: str
    workflow_id: str
    key: AttemptKey
    how: str


@dataclass(slots=True)
class OldBegan(Record):
    """The same by a worker of the original, which knows its attempt by the time of the request only."""

    worker: str
    workflow_id: str
    milestone: str
    step_time: datetime | None


@dataclass(slots=True)
class OldFinished(Record):
    worker: str
    workflow_id: str
    milestone: str
    step_time: datetime | None
    how: str


@dataclass(slots=True)
class Recorded(Record):
    """The Manager elsewhere holds this of a workflow."""

    by: str
    workflow_id: str
    step: str
    error: bool
    completed: bool


@dataclass(slots=True)
class Asked(Record):
    """Somebody was told that what they asked for is safe: a confirm, or a verb that returned."""

    what: str
    workflow_id: str
    detail: str = ""


@dataclass(slots=True)
class Died(Record):
    who: str
    where: str


@dataclass(slots=True)
class ClockJumped(Record):
    seconds: float


@dataclass(slots=True)
class Phase(Record):
    name: str


@dataclass(slots=True)
class Told(Record):
    """An event that a process told its observer: only its counts (I9) and its defects are used."""

    by: str
    name: str
    details: Mapping[str, Any]


T = TypeVar("T", bound=Record)


class Journal:
    """All records, in the order in which things happened."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.now: Callable[[], float] = float

    def add(self, record: Record) -> None:
        record.at = self.now()
        self.records.append(record)

    def of(self, kind: type[T]) -> Iterator[tuple[int, T]]:
        """The records of one kind, each with its place."""
        return ((place, record) for place, record in enumerate(self.records) if isinstance(record, kind))

    def count(self) -> Counter[str]:
        return Counter(type(record).__name__ for record in self.records)

    def fingerprint(self) -> str:
        """The same for two runs only if they went the same way."""
        digest = hashlib.sha256()
        for record in self.records:
            digest.update(line_of(record).encode())
        return digest.hexdigest()[:16]

    def trace(self, about: str = "") -> Iterator[str]:
        """Lines for a person; those about one workflow only, if it is named."""
        for place, record in enumerate(self.records):
            line = line_of(record)
            if not about or about in line or isinstance(record, Died | Phase):
                yield f"{place:6} {line}"


def line_of(record: Record) -> str:
    """One line, with what tells two histories apart."""
    told = [f"{each.name}={_short(getattr(record, each.name))}" for each in fields(record) if each.name != "at"]
    return " ".join([f"{record.at:10.3f}", type(record).__name__, *told])


def _short(value: Any) -> str:
    match value:
        case bytes():
            return _short_body(value)
        case Workflow():
            live = ",".join(f"{a.key}@{a.worker or '?'}" for a in value.live)
            return f"{value.id}/v{value.version}/{value.state.value}/p{value.position}[{live}]"
        case OutboxRow():
            return value.id + ("(held)" if value.held else "")
        case Entry():
            return value.kind
        case Mapping():
            return "{" + ",".join(f"{_short(k)}:{_short(v)}" for k, v in value.items()) + "}"
        case list() | tuple():
            return "[" + ",".join(_short(each) for each in value) + "]"
        case datetime():
            return value.isoformat()
        case BaseException():
            return f"{type(value).__name__}({value})"
        case _:
            return str(value)


def _short_body(body: bytes) -> str:
    kind = body[:30].decode(errors="replace") if body[:9] == b'{"type":"' else ""
    return f"{kind}#{crc32(body):08x}"

"""The audit: who changed what, when and from where, as a chain in which no link can be altered unseen. Pure.

Each record carries the digest of the one before it, so a record that was changed, removed or put in
between breaks the chain from there on. Whoever can write to the database could compute the whole chain
anew, or cut off its end: against that a digest that was noted elsewhere is compared (`Mark`).
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256

GENESIS = "0" * 64
"""The digest before the first record."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deed:
    """What is to be recorded, before it has its place in the chain."""

    at: datetime
    who: str
    role: str
    address: str
    method: str
    path: str
    workflow_id: str | None = None
    details: Mapping[str, str]
    """Names of what was sent and, of what is no secret, the values."""
    status: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditRecord:
    """A link of the chain."""

    seq: int
    """1, 2, 3, … without a gap."""
    deed: Deed
    previous: str
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A place of the chain that somebody noted: the record `seq` had this digest."""

    seq: int
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Break:
    """Where the chain is broken, and how."""

    seq: int
    text: str


def linked(deed: Deed, seq: int, previous: str) -> AuditRecord:
    """The record of a deed at its place."""
    return AuditRecord(seq=seq, deed=deed, previous=previous, digest=_digest(deed, seq, previous))


class Chain:
    """Checks records in their order, from the first one on."""

    def __init__(self, mark: Mark | None = None) -> None:
        self._mark = mark
        self._seq = 0
        self._digest = GENESIS
        self._marked = mark is None

    @property
    def head(self) -> Mark:
        """The last record that was checked."""
        return Mark(seq=self._seq, digest=self._digest)

    def find_break(self, records: Iterable[AuditRecord]) -> Break | None:
        """The first record that does not fit to those before it; what follows it is not looked at."""
        for record in records:
            if (text := self._judge(record)) is not None:
                return Break(seq=record.seq, text=text)
            self._seq, self._digest = record.seq, record.digest
        return None

    def find_missing_mark(self) -> Break | None:
        """After the last record: whether the noted one was among them."""
        if self._marked or self._mark is None:
            return None
        return Break(seq=self._mark.seq, text="this record was noted elsewhere and is not there any more")

    def _judge(self, record: AuditRecord) -> str | None:
        if record.seq != self._seq + 1:
            return f"record {self._seq + 1} is missing"
        if record.previous != self._digest:
            return "it does not follow the record before it"
        if record.digest != _digest(record.deed, record.seq, record.previous):
            return "its content was changed"
        if self._mark is not None and record.seq == self._mark.seq:
            if record.digest != self._mark.digest:
                return "it is another one than was noted elsewhere"
            self._marked = True
        return None


def _digest(deed: Deed, seq: int, previous: str) -> str:
    """Of a JSON array, in which no field can borrow from its neighbour."""
    at = deed.at.astimezone(UTC).isoformat(timespec="microseconds")
    details = sorted(deed.details.items())
    fields = [previous, seq, at, deed.who, deed.role, deed.address, deed.method, deed.path]
    whole = [*fields, deed.workflow_id, details, deed.status]
    return sha256(json.dumps(whole, ensure_ascii=True, separators=(",", ":")).encode()).hexdigest()

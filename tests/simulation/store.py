"""A store in memory: the ports Store and Records, as a database keeps them and, with faults on, much worse.

`Disk` is what outlives processes. Rows are made and read by the product's own code (`stores/rows.py`), so that
what is stored went through the real encoders. Everything on the disk happens at once or not at all.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from contextvars import Context
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, TypeVar

from openaperture.database.tables import attempts as attempts_table
from openaperture.domain.errors import StoreFull, StoreUnavailable
from openaperture.domain.history import LogChunk
from openaperture.domain.workflow import TERMINAL, State, Workflow
from openaperture.ports import (
    ALL_LOGS,
    BEGUN_LIMIT,
    Change,
    CommitOutcome,
    Deferred,
    Due,
    HistoryEntry,
    Loaded,
    LockClaim,
    LockNews,
    LogFilter,
    Observer,
    OutboxRow,
    RowKind,
    Sighting,
    StoredLog,
    Trouble,
    WorkflowFilter,
    record_id,
)
from openaperture.stores.commit import Rows, rows_of
from openaperture.stores.rows import (
    Unreadable,
    entry_of,
    is_key,
    lines_of,
    outbox_row_of,
    plain_text,
    stand_in,
    workflow_of,
)
from openaperture.stores.statements import BARE_LEASE_SECONDS, OWNER_LEASE_SECONDS
from tests.simulation.faults import Gate, Weather
from tests.simulation.journal import Journal, RowGone, Saved
from tests.simulation.locks import Locks

T = TypeVar("T")
Row = dict[str, Any]


@dataclass(slots=True, eq=False)
class Stored:
    """A row of `workflows`, and what its document says."""

    row: Row
    workflow: Workflow | None
    """None when the document is unreadable."""
    why: str = ""


@dataclass(slots=True)
class Disk:
    """The tables."""

    journal: Journal
    now: Callable[[], datetime]
    workflows: dict[str, Stored] = field(default_factory=dict[str, Stored])
    under_way: dict[str, Stored] = field(default_factory=dict[str, Stored])
    """Those that have not ended: all that timers ever look at."""
    events: dict[str, list[Row]] = field(default_factory=lambda: defaultdict(list))
    attempts: dict[str, dict[str, Row]] = field(default_factory=lambda: defaultdict(dict))
    logs: dict[str, dict[tuple[str, int], Row]] = field(default_factory=lambda: defaultdict(dict))
    outbox: dict[str, Row] = field(default_factory=dict[str, Row])
    inbox: dict[str, datetime] = field(default_factory=dict[str, datetime])
    settings: dict[str, str] = field(default_factory=dict[str, str])
    locks: Locks = field(default_factory=Locks)
    begun: dict[str, int] = field(default_factory=dict[str, int])
    ids: int = 0

    def next_id(self) -> int:
        self.ids += 1
        return self.ids

    def put(self, row: Row) -> None:
        """Store a workflow's row, its document read back as a process would read it."""
        try:
            stored = Stored(row, workflow_of(row["document"]))
        except Unreadable as exc:
            stored = Stored(row, None, str(exc))
        self.workflows[row["id"]] = stored
        if row["state"] in TERMINAL:
            self.under_way.pop(row["id"], None)
        else:
            self.under_way[row["id"]] = stored

    # ------------------------------------------------------------------------------------------- commit

    def commit(self, changes: Sequence[tuple[Change, Rows]], owner: str, by: str) -> list[CommitOutcome]:
        """Each change whole or not at all. The locks that it frees are given on once all are written."""
        outcomes = [self._commit_one(change, rows, owner, by) for change, rows in changes]
        self.locks.grant(
            (name for _, rows in changes for command in rows.locks for name in command.names), self.now()
        )
        return outcomes

    def _commit_one(self, change: Change, rows: Rows, owner: str, by: str) -> CommitOutcome:
        stored = self.workflows.get(rows.id)
        version = stored.row["version"] if stored else 0
        if version != rows.expected_version:
            return CommitOutcome.CONFLICT
        if any(row["message_id"] in self.inbox for row in rows.inbox):
            return CommitOutcome.CONFLICT
        if not all(_is_text(row["text"]) for row in rows.events):
            return CommitOutcome.REFUSED
        if not self.locks.may_keep(rows.id, rows.locks):
            return CommitOutcome.REFUSED
        self._write(rows, owner)
        self._tell(change, stored, by)
        return CommitOutcome.SAVED

    def _write(self, rows: Rows, owner: str) -> None:
        now = self.now()
        self.put({**rows.workflow, "created_at": rows.workflow["created_at"] or now})
        self.events[rows.id] += [{**row, "id": self.next_id()} for row in rows.events]
        for row in rows.attempts:
            self.attempts[rows.id][row["attempt"]] = row
        for row in rows.logs:
            self.logs[rows.id].setdefault((row["attempt"], row["sequence"]), {**row, "id": self.next_id()})
        for row in rows.outbox:
            self._post(row, now, leased=bool(owner))
        self.locks.apply(rows.id, rows.locks, now)
        for row in rows.inbox:
            self.inbox[row["message_id"]] = now

    def _post(self, row: Row, now: datetime, *, leased: bool) -> None:
        known = self.outbox.get(row["id"])
        if known is not None:
            if row["kind"] == RowKind.RECORD.value:
                known["version"] = max(known["version"], row["version"])
            return
        seconds = BARE_LEASE_SECONDS if row["content_type"] is None else OWNER_LEASE_SECONDS
        due_at = now + timedelta(seconds=seconds if leased else 0.0)
        self.outbox[row["id"]] = {**row, "due_at": due_at, "inserted": self.next_id(), "last_error": None}

    def _tell(self, change: Change, before: Stored | None, by: str) -> None:
        after = self.workflows[change.workflow.id].workflow
        assert after is not None
        self.journal.add(
            Saved(
                by,
                before.workflow if before else None,
                after,
                change.expected_version,
                list(change.entries),
                [attempt.key for attempt in change.requested],
                {ended.attempt.key: ended.outcome for ended in change.ended},
                list(change.outbox),
                list(change.message_ids),
            )
        )

    # ------------------------------------------------------------------------------------------- outbox

    def due(self, limit: int) -> list[Row]:
        now = self.now()
        due = [row for row in self.outbox.values() if not row["held"] and row["due_at"] <= now]
        return sorted(due, key=lambda row: (row["due_at"], row["inserted"]))[:limit]

    def lease(self, row: Row, owner: str, seconds: float) -> None:
        row["leased_by"] = owner
        row["due_at"] = self.now() + timedelta(seconds=seconds)

    def delete(self, row_id: str, by: str) -> None:
        if self.outbox.pop(row_id, None) is not None:
            self.journal.add(RowGone(by, row_id))

    def settle_record(
        self, workflow_id: str, version: int, live: Collection[str], owner: str, seconds: float, by: str
    ) -> list[OutboxRow]:
        record = self.outbox.get(record_id(workflow_id))
        if record is not None and record["version"] <= version:
            self.delete(record["id"], by)
        freed: list[OutboxRow] = []
        for row in list(self.outbox.values()):
            if row["workflow_id"] != workflow_id or not row["held"] or row["version"] > version:
                continue
            if row["kind"] == RowKind.REQUEST.value and row["attempt"] not in live:
                self.delete(row["id"], by)
                continue
            row["held"] = False
            self.lease(row, owner, seconds)
            freed.append(outbox_row_of(_columns(row)))
        return freed


class Calls:
    """Calls to the disk through one process's gate, and what goes wrong with them."""

    def __init__(self, disk: Disk, gate: Gate, *, ahead_seconds: float = 0.0) -> None:
        self._disk = disk
        self._gate = gate
        self._ahead = timedelta(seconds=ahead_seconds)

    async def _read(self, call: str, work: Callable[[], T]) -> T:
        await self._gate.enter(call)
        if self._strikes("store_refuse"):
            raise StoreUnavailable("the store does not answer")
        found = self._in_time(work)
        await self._gate.leave(call)
        return found

    async def _write(self, call: str, work: Callable[[], T]) -> T:
        await self._gate.enter(call)
        if self._strikes("store_refuse"):
            raise StoreUnavailable("the store does not answer")
        if self._strikes("store_full"):
            raise StoreFull("the disk of the store is full")
        if self._strikes("store_late"):
            delay = self._gate.weather.chance.random() * 3.0
            asyncio.get_running_loop().call_later(delay, work, context=Context())
            raise StoreUnavailable("the connection was lost during a commit")
        done = self._in_time(work)
        if self._strikes("store_unknown"):
            raise StoreUnavailable("the connection was lost after a commit")
        await self._gate.leave(call)
        return done

    def _in_time(self, work: Callable[[], T]) -> T:
        """By this store's own clock."""
        if not self._ahead:
            return work()
        usual = self._disk.now
        self._disk.now = lambda: usual() + self._ahead
        try:
            return work()
        finally:
            self._disk.now = usual

    def _strikes(self, fault: str) -> bool:
        weather: Weather = self._gate.weather
        return self._gate.process is not None and weather.strikes(getattr(weather.faults, fault))


class SimulatedBegun(Calls):
    """The port Begun, for one process."""

    async def count(self, keys: Collection[str]) -> Mapping[str, int]:
        return await self._read("begun.count", lambda: {key: self._disk.begun.get(key, 0) for key in keys})

    async def begin(self, counts: Mapping[str, int]) -> None:
        def begin() -> None:
            for key, count in counts.items():
                self._disk.begun[key] = max(self._disk.begun.get(key, 0), min(count + 1, BEGUN_LIMIT))

        await self._write("begun.begin", begin)

    async def finish(self, keys: Collection[str]) -> None:
        def finish() -> None:
            for key in keys:
                self._disk.begun.pop(key, None)

        await self._write("begun.finish", finish)


class SimulatedStore(Calls):
    """The ports Store and Records, for one process."""

    def __init__(
        self,
        disk: Disk,
        gate: Gate,
        observer: Observer,
        *,
        ahead_seconds: float = 0.0,
        judges_deadlines: Callable[[], bool] = lambda: True,
    ) -> None:
        """`ahead_seconds`: its clock goes so much ahead, for tests of the contract.

        `judges_deadlines`: while it says no, no attempt is ever due, only waits are: the reaper is off.
        """
        super().__init__(disk, gate, ahead_seconds=ahead_seconds)
        self._observer = observer
        self._unreadable: dict[str, int] = {}
        self._judges_deadlines = judges_deadlines

    # ---------------------------------------------------------------------------------- load and commit

    async def load(self, ids: Collection[str], message_ids: Collection[str] = ()) -> Loaded:
        def load() -> Loaded:
            found = {
                key: stored for key in sorted(filter(is_key, ids)) if (stored := self._disk.workflows.get(key))
            }
            for key, stored in found.items():
                self._note_readable(key, stored)
            return Loaded(
                now=self._disk.now(),
                workflows={key: stored.workflow for key, stored in found.items() if stored.workflow is not None},
                handled=frozenset(key for key in message_ids if key in self._disk.inbox),
            )

        return await self._read("store.load", load)

    def _note_readable(self, key: str, stored: Stored) -> None:
        version = stored.row["version"]
        if stored.workflow is not None:
            self._unreadable.pop(key, None)
        elif self._unreadable.get(key) != version:
            self._unreadable[key] = version
            self._observer.emit("store.corrupt_workflow", workflow_id=key, error=stored.why)

    async def commit(self, changes: Sequence[Change], *, owner: str = "") -> list[CommitOutcome]:
        rows = [rows_of(change, owner) for change in changes]
        whole = [(change, row) for change, row in zip(changes, rows, strict=True) if row is not None]
        outcomes: list[CommitOutcome] = []
        if whole:
            outcomes = await self._write("store.commit", lambda: self._disk.commit(whole, owner, self._gate.name))
        judged = iter(outcomes)
        return [CommitOutcome.REFUSED if row is None else self._judged(row, next(judged)) for row in rows]

    def _judged(self, rows: Rows, outcome: CommitOutcome) -> CommitOutcome:
        hopeless = rows.expected_version == 0 and rows.id in self._unreadable
        return CommitOutcome.REFUSED if outcome is CommitOutcome.CONFLICT and hopeless else outcome

    # ------------------------------------------------------------------------------------------- outbox

    async def claim_outbox(self, owner: str, *, limit: int, lease_seconds: float) -> list[OutboxRow]:
        def claim() -> list[OutboxRow]:
            due = self._disk.due(limit)
            for row in due:
                self._disk.lease(row, owner, lease_seconds)
            return [outbox_row_of(_columns(row)) for row in due]

        return await self._write("store.claim_outbox", claim)

    async def claim_row(self, row_id: str, owner: str, *, lease_seconds: float) -> bool:
        def claim() -> bool:
            row = self._disk.outbox.get(row_id)
            if row is None or not (row["due_at"] <= self._disk.now() or row["leased_by"] == owner):
                return False
            self._disk.lease(row, owner, lease_seconds)
            return True

        return await self._write("store.claim_row", claim)

    async def settle_record(
        self, workflow_id: str, version: int, *, live: Collection[str], owner: str, lease_seconds: float
    ) -> list[OutboxRow]:
        return await self._write(
            "store.settle_record",
            lambda: self._disk.settle_record(workflow_id, version, live, owner, lease_seconds, self._gate.name),
        )

    async def settle_outbox(self, *, sent: Sequence[str], deferred: Sequence[Deferred] = ()) -> None:
        def settle() -> None:
            for row_id in sent:
                self._disk.delete(row_id, self._gate.name)
            for each in deferred:
                if (row := self._disk.outbox.get(each.id)) is not None:
                    row["due_at"] = self._disk.now() + timedelta(seconds=each.seconds)
                    row |= {"tries": row["tries"] + 1, "leased_by": None, "last_error": plain_text(each.error)}

        if sent or deferred:
            await self._write("store.settle_outbox", settle)

    # ---------------------------------------------------------------------------------- timers and care

    async def list_due(self, limit: int, *, after: Due | None = None) -> list[Due]:
        def due() -> list[Due]:
            now, judges = self._disk.now(), self._judges_deadlines()
            found = [
                Due(wake_at=wake_at, workflow_id=key)
                for key, stored in self._disk.under_way.items()
                if (wake_at := stored.row["wake_at"]) is not None
                and wake_at <= now
                and key not in self._unreadable
                if judges or stored.row["state"] != State.RUNNING
            ]
            return sorted(each for each in found if after is None or each > after)[:limit]

        return await self._read("store.list_due", due)

    async def list_stranded(self, limit: int) -> list[str]:
        def stranded() -> list[str]:
            posted = {row["workflow_id"] for row in self._disk.outbox.values()}
            found = [key for key, stored in self._disk.under_way.items() if _is_idle(stored) and key not in posted]
            return list(dict.fromkeys([*self._unreadable, *sorted(found)]))[:limit]

        return await self._read("store.list_stranded", stranded)

    async def list_lock_news(self, limit: int) -> list[LockNews]:
        return await self._read("store.list_lock_news", lambda: self._disk.locks.news(limit))

    async def tend_locks(self) -> int:
        def tend() -> int:
            return self._disk.locks.tend(lambda key: key in self._disk.under_way, self._disk.now())

        return await self._write("store.tend_locks", tend)

    async def prune(self, *, inbox_seconds: float, limit: int) -> int:
        def prune() -> int:
            before = self._disk.now() - timedelta(seconds=inbox_seconds)
            old = [key for key, at in self._disk.inbox.items() if at < before][:limit]
            for key in old:
                del self._disk.inbox[key]
            return len(old)

        return await self._write("store.prune", prune)

    async def get_or_create_setting(self, name: str, value: str) -> str:
        return await self._write("store.setting", lambda: self._disk.settings.setdefault(name, value))

    # ------------------------------------------------------------------------------------------- Records

    async def find_workflow(self, workflow_id: str) -> Workflow | None:
        def find() -> Workflow | None:
            stored = self._disk.workflows.get(workflow_id)
            return _shown(stored) if stored else None

        return await self._read("store.find_workflow", find)

    async def list_workflows(self, wanted: WorkflowFilter, *, limit: int) -> list[Workflow]:
        def listed() -> list[Workflow]:
            found = [stored for stored in self._disk.workflows.values() if _is_wanted(stored.row, wanted)]
            found.sort(key=lambda stored: (stored.row["created_at"], stored.row["id"]), reverse=True)
            return [_shown(stored) for stored in found[:limit]]

        return await self._read("store.list_workflows", listed)

    async def list_entries(self, workflow_id: str, *, after: int = 0, limit: int = 1000) -> list[HistoryEntry]:
        def listed() -> list[HistoryEntry]:
            rows = [row for row in self._disk.events.get(workflow_id, ()) if row["id"] > after][:limit]
            return [HistoryEntry(id=row["id"], entry=entry_of(_columns(row))) for row in rows]

        return await self._read("store.list_entries", listed)

    async def list_attempts(self, workflow_id: str) -> list[Mapping[str, Any]]:
        def listed() -> list[Mapping[str, Any]]:
            rows = list(self._disk.attempts.get(workflow_id, {}).values())
            rows.sort(key=lambda row: (row["generation"], row["position"], row["number"]))
            names = list(map(str, attempts_table.c.keys()))
            return [{name: _plain(row[name]) for name in names} for row in rows]

        return await self._read("store.list_attempts", listed)

    async def list_logs(
        self, workflow_id: str, wanted: LogFilter = ALL_LOGS, *, after: int = 0, limit: int = 1000
    ) -> list[StoredLog]:
        def listed() -> list[StoredLog]:
            return [each for each in self._logs_of(workflow_id, wanted) if each.id > after][:limit]

        return await self._read("store.list_logs", listed)

    async def list_last_logs(self, workflow_id: str, wanted: LogFilter, *, limit: int) -> list[StoredLog]:
        return await self._read("store.list_last_logs", lambda: self._logs_of(workflow_id, wanted)[-limit:])

    def _logs_of(self, workflow_id: str, wanted: LogFilter) -> list[StoredLog]:
        found = [
            StoredLog(id=row["id"], chunk=_chunk(row)) for row in self._disk.logs.get(workflow_id, {}).values()
        ]
        return [
            each
            for each in found
            if wanted.attempt in {None, each.chunk.attempt}
            and (wanted.first is None or each.chunk.sequence >= wanted.first)
            and (wanted.last is None or each.chunk.sequence <= wanted.last)
        ]

    async def list_troubles(self, ids: Collection[str]) -> Mapping[str, Trouble]:
        def listed() -> Mapping[str, Trouble]:
            rows = sorted(self._disk.outbox.values(), key=lambda row: -row["inserted"])
            return {
                row["workflow_id"]: Trouble(
                    kind=RowKind(row["kind"]), error=row["last_error"], again_at=row["due_at"]
                )
                for row in rows
                if row["workflow_id"] in ids and row["last_error"] and row["kind"] != RowKind.NOTICE.value
            }

        return await self._read("store.list_troubles", listed)

    async def list_locks(self, names: Collection[str] | None = None) -> list[LockClaim]:
        return await self._read("store.list_locks", lambda: self._disk.locks.shown(names))

    async def list_children(self, workflow_id: str) -> list[Workflow]:
        def listed() -> list[Workflow]:
            rows = [stored for stored in self._disk.workflows.values() if stored.row["parent_id"] == workflow_id]
            rows.sort(key=lambda stored: (stored.row["created_at"], stored.row["id"]))
            return [_shown(stored) for stored in rows]

        return await self._read("store.list_children", listed)

    async def find_sightings(self, milestones: Collection[str]) -> Mapping[str, Sighting]:
        def find() -> Mapping[str, Sighting]:
            rows = [row for rows in self._disk.attempts.values() for row in rows.values() if row["claimed_at"]]
            rows.sort(key=lambda row: row["claimed_at"])
            return {
                row["milestone"]: Sighting(worker=row["worker"], at=row["claimed_at"])
                for row in rows
                if row["milestone"] in milestones
            }

        return await self._read("store.find_sightings", find)

    async def count_outbox(self) -> int:
        return await self._read("store.count_outbox", lambda: len(self._disk.outbox))


def _columns(row: Row) -> Any:
    """As a row of the database is read: by the names of its columns."""
    return SimpleNamespace(**row)


def _shown(stored: Stored) -> Workflow:
    return stored.workflow or stand_in(_columns(stored.row), stored.why)


def _is_idle(stored: Stored) -> bool:
    return stored.row["wake_at"] is None and stored.row["state"] not in {State.CREATED, State.HELD, State.PAUSED}


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeError:
        return False
    return True


def _is_wanted(row: Row, wanted: WorkflowFilter) -> bool:
    return (
        (wanted.states is None or row["state"] in set(wanted.states))
        and (wanted.source_repo is None or _is_of_source(row, wanted.source_repo))
        and (wanted.deployment_repo is None or row["deployment_repo"] == wanted.deployment_repo)
        and (wanted.created_after is None or row["created_at"] > wanted.created_after)
        and (wanted.before is None or (row["created_at"], row["id"]) < wanted.before)
    )


def _is_of_source(row: Row, repo: str) -> bool:
    """The original knows a source repository by the deployment repository that is named after it."""
    return bool(row["source_repo"] == repo or row["deployment_repo"] == f"{repo}_docker")


def _chunk(row: Row) -> LogChunk:
    return LogChunk(
        attempt=row["attempt"],
        milestone=row["milestone"],
        sequence=row["sequence"],
        lines=lines_of(row["lines"]),
        at=row["at"],
    )


def _plain(value: Any) -> Any:
    return value.astimezone(UTC).isoformat() if isinstance(value, datetime) else value

"""The store on SQLite or PostgreSQL."""

from collections.abc import Callable, Collection, Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec
from sqlalchemy import Connection

from openaperture.database import Database
from openaperture.database.errors import Rejected
from openaperture.domain.workflow import Workflow
from openaperture.ports import (
    Change,
    CommitOutcome,
    Deferred,
    Due,
    Loaded,
    LockNews,
    Observer,
    OutboxRow,
    record_id,
)
from openaperture.stores.commit import Rows, commit, rows_of
from openaperture.stores.moment import Moment, process_time
from openaperture.stores.records import SqlRecords
from openaperture.stores.rows import Unreadable, is_key, outbox_row_of, plain_text, workflow_of
from openaperture.stores.statements import Statements

_RACED = {"workflows", "inbox"}
"""Tables in which a row that exists already means that somebody else was faster."""


class SqlStore(SqlRecords):
    """The ports Store and Records. Any number of stores may share a database."""

    def __init__(
        self, database: Database, *, observer: Observer, now: Callable[[], datetime] | None = None
    ) -> None:
        """`now` replaces the clock: by default the server's on PostgreSQL, that of this process on SQLite."""
        super().__init__(database)
        if now is None and database.dialect == "sqlite":
            now = process_time
        self._observer = observer
        self._statements = Statements(database.dialect, Moment(now))
        self._unreadable: dict[str, int] = {}
        """Workflows whose document could not be read, and the version that was so."""

    # ------------------------------------------------------------------------- load and commit

    async def load(self, ids: Collection[str], message_ids: Collection[str] = ()) -> Loaded:
        """See `Store.load`. A workflow with an unreadable document is left out, and told of once.

        So the others of its batch go on, and its row stays as it is: the version that wrote it may read
        it (failure model F49, I12). Until somebody mends it, it counts as stranded.
        """
        keys = {"ids": list(filter(is_key, ids)), "message_ids": list(filter(is_key, message_ids))}
        now, workflows, unreadable, handled = await self._database.read(
            lambda connection: _load(connection, self._statements, keys)
        )
        for workflow_id in workflows:
            self._unreadable.pop(workflow_id, None)
        for workflow_id, (version, why) in unreadable.items():
            if self._unreadable.get(workflow_id) != version:
                self._unreadable[workflow_id] = version
                self._observer.emit("store.corrupt_workflow", workflow_id=workflow_id, error=why)
        return Loaded(now=now, workflows=workflows, handled=handled)

    async def commit(self, changes: Sequence[Change], *, owner: str = "") -> list[CommitOutcome]:
        rows = [rows_of(change, owner) for change in changes]
        whole = [row for row in rows if row is not None]
        outcomes = iter(await self._commit(whole, leased=bool(owner)) if whole else [])
        return [CommitOutcome.REFUSED if row is None else self._judged(row, next(outcomes)) for row in rows]

    async def _commit(self, changes: Sequence[Rows], *, leased: bool) -> list[CommitOutcome]:
        """All in one transaction; if the database refuses that, each in one of its own."""
        try:
            return await self._database.write(
                lambda connection: commit(connection, self._statements, changes, leased=leased)
            )
        except Rejected as exc:
            if len(changes) == 1:
                return [CommitOutcome.CONFLICT if exc.duplicate_in in _RACED else CommitOutcome.REFUSED]
        return [outcome for change in changes for outcome in await self._commit([change], leased=leased)]

    def _judged(self, change: Rows, outcome: CommitOutcome) -> CommitOutcome:
        if outcome is CommitOutcome.CONFLICT and change.expected_version == 0 and change.id in self._unreadable:
            # It is there but cannot be loaded: deciding again, as after a conflict, would never end.
            return CommitOutcome.REFUSED
        return outcome

    # ---------------------------------------------------------------------------------- outbox

    async def claim_outbox(self, owner: str, *, limit: int, lease_seconds: float) -> list[OutboxRow]:
        lease = self._statements.lease_outbox(lease_seconds)

        def claim(connection: Connection) -> Sequence[Any]:
            due = connection.execute(self._statements.due_outbox, {"limit": limit}).all()
            if due:
                connection.execute(lease, {"ids": [row.id for row in due], "owner": owner})
            return due

        rows: list[OutboxRow] = []
        for row in await self._database.write(claim):
            try:
                rows.append(outbox_row_of(row))
            except (ValueError, msgspec.MsgspecError) as exc:
                # Of a newer version, or damaged: left to who can read it. The others go on (F49, I12).
                self._observer.emit(
                    "store.corrupt_row", row_id=row.id, workflow_id=row.workflow_id, error=str(exc)
                )
        return rows

    async def claim_row(self, row_id: str, owner: str, *, lease_seconds: float) -> bool:
        lease = self._statements.claim_row(lease_seconds)
        parameters = {"row_id": row_id, "owner": owner}
        return await self._database.write(lambda connection: connection.execute(lease, parameters).rowcount > 0)

    async def settle_record(
        self, workflow_id: str, version: int, *, live: Collection[str], owner: str, lease_seconds: float
    ) -> list[OutboxRow]:
        free = self._statements.free_held(lease_seconds)
        record = {"row_id": record_id(workflow_id), "recorded": version}
        waiting = {"workflow": workflow_id, "recorded": version}

        def settle(connection: Connection) -> list[OutboxRow]:
            connection.execute(self._statements.delete_record, record)
            connection.execute(self._statements.drop_void, {**waiting, "live": list(live)})
            freed = connection.execute(free, {**waiting, "owner": owner}).all()
            return [outbox_row_of(row) for row in freed]

        return await self._database.write(settle)

    async def settle_outbox(self, *, sent: Sequence[str], deferred: Sequence[Deferred] = ()) -> None:
        def settle(connection: Connection) -> None:
            if sent:
                connection.execute(self._statements.delete_outbox, {"ids": list(sent)})
            if deferred:
                now = connection.scalars(self._statements.now).one()
                self._statements.defer_outbox.run(connection, [_deferral(row, now) for row in deferred])

        if sent or deferred:
            await self._database.write(settle)

    # ------------------------------------------------------------------------- timers and care

    async def list_due(self, limit: int, *, after: Due | None = None) -> list[Due]:
        # An unreadable workflow stays due: without this it would be woken in vain twice a second.
        passed_over = self._unreadable.copy()
        parameters: dict[str, Any] = {"limit": limit + len(passed_over)}
        statement = self._statements.due
        if after is not None:
            parameters |= {"after_wake_at": after.wake_at, "after_id": after.workflow_id}
            statement = self._statements.due_after
        found = await self._database.read(lambda connection: connection.execute(statement, parameters).all())
        return [Due(wake_at=row.wake_at, workflow_id=row.id) for row in found if row.id not in passed_over][:limit]

    async def list_stranded(self, limit: int) -> list[str]:
        found = await self._database.read(
            lambda connection: connection.scalars(self._statements.stranded, {"limit": limit}).all()
        )
        return list(dict.fromkeys([*self._unreadable, *found]))[:limit]

    async def list_lock_news(self, limit: int) -> list[LockNews]:
        return await self._database.read(lambda connection: self._statements.lock_queues.news(connection, limit))

    async def tend_locks(self) -> int:
        return await self._database.write(self._statements.lock_queues.tend)

    async def prune(self, *, inbox_seconds: float, limit: int) -> int:
        def prune(connection: Connection) -> int:
            before = connection.scalars(self._statements.now).one() - timedelta(seconds=inbox_seconds)
            return connection.execute(self._statements.prune, {"before": before, "limit": limit}).rowcount

        return await self._database.write(prune)

    async def get_or_create_setting(self, name: str, value: str) -> str:
        """The stored value of that name; `value`, now stored, if there was none. The first writer wins."""

        def get_or_create(connection: Connection) -> str:
            connection.execute(self._statements.insert_setting, {"name": name, "value": value})
            stored: str = connection.scalars(self._statements.setting, {"name": name}).one()
            return stored

        return await self._database.write(get_or_create)


def _load(
    connection: Connection, statements: Statements, keys: dict[str, list[str]]
) -> tuple[datetime, dict[str, Workflow], dict[str, tuple[int, str]], frozenset[str]]:
    """The instant, the workflows, those that are unreadable (version, why), and the handled message ids."""
    workflows: dict[str, Workflow] = {}
    unreadable: dict[str, tuple[int, str]] = {}
    handled: set[str] = set()
    instants: list[datetime] = []
    for row in connection.execute(statements.load, keys):
        match row.what:
            case "workflow":
                try:
                    workflows[row.id] = workflow_of(row.document)
                except Unreadable as exc:
                    unreadable[row.id] = (row.version, str(exc))
            case "handled":
                handled.add(row.id)
            case _:
                instants.append(row.now)
    return instants[0], workflows, unreadable, frozenset(handled)


def _deferral(row: Deferred, now: datetime) -> dict[str, Any]:
    return {"id": row.id, "due_at": now + timedelta(seconds=row.seconds), "last_error": plain_text(row.error)}

"""The messaging directory in our own tables, by a table of what is listed."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeVar

import msgspec
from sqlalchemy import Connection, Row, Table, delete, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from openaperture.database import Database
from openaperture.database import tables as t
from openaperture.database.errors import Rejected
from openaperture.domain.errors import BadInput, Taken, UnknownEntry
from openaperture.ports import Fields, Listing
from openaperture.stores.moment import Moment, process_time
from openaperture.stores.rows import json_text

T = TypeVar("T")

_AS_JSON = frozenset({"workload", "data"})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reference:
    """A column that holds the id of an entry of another listing."""

    to: Listing
    owned: bool = False
    """The entry goes when the other one does; else the column is emptied."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Listed:
    """How one listing is kept."""

    table: Table
    key: tuple[str, ...] = ()
    """Columns of which no two entries have the same values."""
    references: Mapping[str, _Reference] = field(default_factory=dict[str, _Reference])


_LISTED: Mapping[Listing, _Listed] = {
    Listing.EXCHANGE: _Listed(
        table=t.exchanges,
        key=("name",),
        references={
            "failover_exchange_id": _Reference(to=Listing.EXCHANGE),
            "parent_exchange_id": _Reference(to=Listing.EXCHANGE),
        },
    ),
    Listing.BROKER: _Listed(
        table=t.brokers, key=("name",), references={"failover_broker_id": _Reference(to=Listing.BROKER)}
    ),
    Listing.CONNECTION: _Listed(
        table=t.broker_connections,
        key=("made_as",),
        references={"messaging_broker_id": _Reference(to=Listing.BROKER, owned=True)},
    ),
    Listing.RESTRICTION: _Listed(
        table=t.exchange_brokers,
        key=("messaging_exchange_id", "messaging_broker_id"),
        references={
            "messaging_exchange_id": _Reference(to=Listing.EXCHANGE, owned=True),
            "messaging_broker_id": _Reference(to=Listing.BROKER, owned=True),
        },
    ),
    Listing.CLUSTER: _Listed(
        table=t.clusters,
        key=("token_key",),
        references={"messaging_exchange_id": _Reference(to=Listing.EXCHANGE)},
    ),
    Listing.MODULE: _Listed(
        table=t.modules,
        key=("messaging_exchange_id", "hostname"),
        references={"messaging_exchange_id": _Reference(to=Listing.EXCHANGE, owned=True)},
    ),
    Listing.SYSTEM_EVENT: _Listed(table=t.system_events, key=("made_as",)),
}


_SHOWN_AS = {"token_key": "etcd_token", "made_as": "Idempotency-Key"}
"""Columns that those who send an entry know by another name."""


class SqlDirectory:
    """The port MessagingDirectory."""

    def __init__(self, database: Database, *, now: Callable[[], datetime] | None = None) -> None:
        """`now` replaces the clock: by default the server's on PostgreSQL, that of this process on SQLite."""
        self._database = database
        self._moment = Moment(process_time if now is None and database.dialect == "sqlite" else now)

    # -------------------------------------------------------------------------------------- reading

    async def list_rows(
        self, listing: Listing, *, since: datetime | None = None, limit: int | None = None, **wanted: Any
    ) -> list[Fields]:
        table = _LISTED[listing].table
        query = select(table).where(*_conditions(table, wanted)).order_by(table.c.id.desc())
        if since is not None:
            query = query.where(table.c.inserted_at > since)
        if limit is not None:
            query = query.limit(limit)
        try:
            found = await self._database.read(lambda connection: connection.execute(query).all())
        except Rejected:
            # Somebody asked for a value that no row can hold, such as a text with a NUL character.
            return []
        return [_fields(table, row) for row in reversed(found)]

    async def find_row(self, listing: Listing, **wanted: Any) -> Fields | None:
        found = await self.list_rows(listing, limit=1, **wanted)
        return found[0] if found else None

    # -------------------------------------------------------------------------------------- writing

    async def add(self, listing: Listing, fields: Fields, *, replacing: bool = False) -> int:
        listed = _LISTED[listing]
        now = self._moment.now()
        values = {**_stored(fields), "inserted_at": now, "updated_at": now}
        statement: Any = insert(listed.table).values(values)
        if replacing:
            statement = self._upsert(listed, values)

        def add(connection: Connection) -> int:
            _require_references(connection, listed, fields)
            row_id: int = connection.execute(statement.returning(listed.table.c.id)).scalar_one()
            return row_id

        return await self._write(listing, add)

    async def change(self, listing: Listing, row_id: int, fields: Fields) -> None:
        listed = _LISTED[listing]
        values = {**_stored(fields), "updated_at": self._moment.now()}
        changed = update(listed.table).where(listed.table.c.id == row_id).values(values)

        def change(connection: Connection) -> None:
            _require_references(connection, listed, fields)
            if not connection.execute(changed).rowcount:
                raise UnknownEntry(f"there is no {listing} {row_id}; it may have been removed just now")

        await self._write(listing, change)

    async def remove(self, listing: Listing, **wanted: Any) -> int:
        table = _LISTED[listing].table
        ids = select(table.c.id).where(*_conditions(table, wanted)).order_by(table.c.id).with_for_update()

        def remove(connection: Connection) -> int:
            doomed = list(connection.scalars(ids))
            for row_id in doomed:
                _let_go(connection, listing, row_id)
                connection.execute(delete(table).where(table.c.id == row_id))
            return len(doomed)

        return await self._write(listing, remove)

    async def _write(self, listing: Listing, work: Callable[[Connection], T]) -> T:
        try:
            return await self._database.write(work)
        except Rejected as exc:
            if exc.duplicate_in is not None:
                key = " and ".join(_SHOWN_AS.get(name, name) for name in _LISTED[listing].key)
                raise Taken(f"there is a {listing} with this {key} already; change it, or choose another") from exc
            raise BadInput(
                f"the database cannot store this {listing}: a value is not one that it can hold"
            ) from exc

    def _upsert(self, listed: _Listed, values: Mapping[str, Any]) -> Any:
        make = postgresql.insert if self._database.dialect == "postgresql" else sqlite.insert
        statement = make(listed.table).values(values)
        new = {name: statement.excluded[name] for name in values if name not in {*listed.key, "inserted_at"}}
        return statement.on_conflict_do_update(index_elements=list(listed.key), set_=new)


def _require_references(connection: Connection, listed: _Listed, fields: Fields) -> None:
    """Raise BadInput unless all that the fields refer to is there. It is locked, and so stays until the commit."""
    for column, reference in listed.references.items():
        row_id = fields.get(column)
        if row_id is None:
            continue
        there = select((table := _LISTED[reference.to].table).c.id).where(table.c.id == row_id)
        if connection.execute(there.with_for_update(read=True)).first() is None:
            raise BadInput(f"{column}: there is no {reference.to} {row_id}; add it first, or name another")


def _let_go(connection: Connection, listing: Listing, row_id: int) -> None:
    """Delete what belongs to an entry, and empty the columns that only name it."""
    for other in _LISTED.values():
        for column, reference in other.references.items():
            if reference.to is not listing:
                continue
            named = other.table.c[column] == row_id
            if reference.owned:
                connection.execute(delete(other.table).where(named))
            else:
                connection.execute(update(other.table).where(named).values({column: None}))


def _conditions(table: Table, wanted: Mapping[str, Any]) -> list[Any]:
    return [table.c[name] == value for name, value in wanted.items()]


def _stored(fields: Fields) -> dict[str, Any]:
    return {
        name: json_text(value) if name in _AS_JSON and value is not None else value
        for name, value in fields.items()
    }


def _fields(table: Table, row: Row[Any]) -> Fields:
    named = zip(map(str, table.c.keys()), row, strict=True)
    return {
        name: msgspec.json.decode(value) if name in _AS_JSON and value is not None else value
        for name, value in named
    }

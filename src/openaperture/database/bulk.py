"""One statement for many rows, without a layer that looks at each of them again and again.

PostgreSQL gets all rows as one JSON parameter, which `json_to_recordset` unpacks: one round trip and one
plan for any number of rows. SQLite gets them as tuples.
"""

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import (
    JSON,
    BindParameter,
    ColumnElement,
    Connection,
    Delete,
    Insert,
    LargeBinary,
    Table,
    Text,
    Update,
    bindparam,
    column,
    func,
    select,
)
from sqlalchemy.exc import DBAPIError

from openaperture.database.types import instant_text

Row = dict[str, Any]
"""Column -> value: texts, numbers, booleans, bytes, aware instants, None."""

_ROWS = "rows"
_encoder = msgspec.json.Encoder()


class Source:
    """Where in a statement the values of the row at hand are found, by the names of the columns."""

    def __init__(self, dialect: str, table: Table, columns: Sequence[str]) -> None:
        self.columns = columns
        self.as_json = dialect == "postgresql"
        self._values = _recordset(table, columns) if self.as_json else _parameters(table, columns)

    def __getitem__(self, name: str) -> ColumnElement[Any]:
        return self._values[name]

    def insert(self, statement: Insert, **computed: ColumnElement[Any]) -> Any:
        """`statement`, completed with the values of the rows and with the computed ones."""
        values = {**self._values, **computed}
        if self.as_json:
            return statement.from_select(list(values), select(*values.values()), include_defaults=False)
        return statement.values(values)


class Bulk:
    """An INSERT, UPDATE or DELETE over rows that all have the same columns."""

    def __init__(self, source: Source, build: Callable[[Source], Insert | Update | Delete]) -> None:
        self._source = source
        self._statement = build(source)
        self._sql = ""
        self._order: Sequence[str] = ()
        self._shared: Mapping[str, BindParameter[Any]] = {}
        """Parameters that are the same for all rows of a run, such as the instant."""

    def run(self, connection: Connection, rows: Sequence[Row]) -> None:
        """Nothing, for no rows."""
        if not rows:
            return
        if not self._sql:
            self._compile(connection)
        shared: Row = {name: parameter.effective_value for name, parameter in self._shared.items()}
        if self._source.as_json:
            connection.exec_driver_sql(self._sql, {_ROWS: _encoder.encode(rows).decode(), **shared})
            return
        order = self._order
        merged = (row | shared for row in rows)
        connection.exec_driver_sql(self._sql, [tuple(_stored(row[name]) for name in order) for row in merged])

    def _compile(self, connection: Connection) -> None:
        compiled: Any = self._statement.compile(dialect=connection.dialect)
        of_rows = {_ROWS, *self._source.columns}
        self._shared = {name: value for name, value in compiled.binds.items() if name not in of_rows}
        self._order = compiled.positiontup or ()
        self._sql = compiled.string


def run_all(connection: Connection, work: Sequence[tuple[Bulk, Sequence[Row]]]) -> None:
    """Run them in this order. PostgreSQL gets them in one go, and answers once."""
    with pipelined(connection):
        for bulk, rows in work:
            bulk.run(connection, rows)


@contextmanager
def pipelined(connection: Connection) -> Generator[None]:
    """Let statements without results go out together (libpq's pipeline mode)."""
    raw: Any = connection.connection.dbapi_connection
    if connection.dialect.name != "postgresql":
        yield
        return
    error: type[Exception] = connection.dialect.loaded_dbapi.Error
    try:
        with raw.pipeline():
            yield
    except error as exc:
        # Found out at the end of the pipeline, out of SQLAlchemy's sight: it has to be told that the connection
        # is dead, or it rolls back on it, and that error is nobody's.
        if raw.broken:
            connection.invalidate(exc)
        raise DBAPIError(None, None, exc, connection_invalidated=raw.broken) from exc


def _parameters(table: Table, columns: Sequence[str]) -> Mapping[str, ColumnElement[Any]]:
    return {name: bindparam(name, type_=table.c[name].type) for name in columns}


def _recordset(table: Table, columns: Sequence[str]) -> Mapping[str, ColumnElement[Any]]:
    binary = {name for name in columns if isinstance(table.c[name].type, LargeBinary)}
    fields = [column(name, Text() if name in binary else table.c[name].type) for name in columns]
    rows = func.json_to_recordset(bindparam(_ROWS, type_=JSON)).table_valued(*fields, name="record")
    record = rows.render_derived(with_types=True).c
    # JSON has no bytes: msgspec writes them in base64.
    return {name: func.decode(record[name], "base64") if name in binary else record[name] for name in columns}


def _stored(value: Any) -> Any:
    """As SQLite stores it."""
    return instant_text(value) if isinstance(value, datetime) else value

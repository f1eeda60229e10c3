"""The history of all workflows as one row of events."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, TextClause, func, literal, select, text

from openaperture.database import Database
from openaperture.database.tables import events
from openaperture.ports import FeedEntry, FeedPage, HistoryEntry
from openaperture.stores.rows import entry_of

_OLDEST = text("SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint")
_COMING = text("SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint")


class SqlFeed:
    """The port EventFeed.

    On PostgreSQL every statement has a snapshot of its own. So the oldest transaction is asked for before the
    rows: what ended before it is among them; and the coming one after them: who took a number is before it.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def read(self, after: int | None, *, limit: int) -> FeedPage:
        newest = select(func.coalesce(func.max(events.c.id), literal(0)))
        page = select(events).where(events.c.id > (after or 0)).order_by(events.c.id).limit(limit)

        def read(connection: Connection) -> FeedPage:
            oldest = self._transaction(connection, _OLDEST)
            last_id: int = connection.scalars(newest).one()
            rows: Sequence[Row[Any]] = () if after is None else connection.execute(page).all()
            coming = self._transaction(connection, _COMING)
            entries = [_entry_of(row) for row in rows]
            return FeedPage(entries=entries, last_id=last_id, oldest=oldest, coming=coming)

        return await self._database.read(read)

    def _transaction(self, connection: Connection, which: TextClause) -> int:
        if self._database.dialect == "sqlite":
            # One writes at a time, so numbers are seen in their order.
            return 0
        number: int = connection.scalars(which).one()
        return number


def _entry_of(row: Row[Any]) -> FeedEntry:
    return FeedEntry(workflow_id=row.workflow_id, row=HistoryEntry(id=row.id, entry=entry_of(row)))

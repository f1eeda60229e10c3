"""Which messages were begun and never finished: how often a message was at hand when its process ended.

Kept as rows of the inbox, `begun/<message>/<count>`, which nothing else can be called: the ids of handled
messages begin with that of their workflow. They are pruned with the others.
"""

from collections.abc import Collection, Mapping

from sqlalchemy import Connection, delete, select
from sqlalchemy.dialects import postgresql, sqlite

from openaperture.database import Database
from openaperture.database.tables import inbox
from openaperture.ports import BEGUN_LIMIT
from openaperture.stores.moment import Moment, process_time


class SqlBegun:
    """The port Begun."""

    def __init__(self, database: Database) -> None:
        self._database = database
        now = Moment(process_time if database.dialect == "sqlite" else None).now()
        dialect = sqlite if database.dialect == "sqlite" else postgresql
        self._insert = dialect.insert(inbox).values(at=now).on_conflict_do_nothing()

    async def count(self, keys: Collection[str]) -> Mapping[str, int]:
        wanted = _rows_of(keys)
        query = select(inbox.c.message_id).where(inbox.c.message_id.in_(wanted))
        found = await self._database.read(lambda connection: connection.scalars(query).all())
        return {key: sum(row in found for row in _rows_of([key])) for key in keys}

    async def begin(self, counts: Mapping[str, int]) -> None:
        rows = [{"message_id": _row(key, count + 1)} for key, count in counts.items() if count < BEGUN_LIMIT]

        def begin(connection: Connection) -> None:
            connection.execute(self._insert, rows)

        if rows:
            await self._database.write(begin)

    async def finish(self, keys: Collection[str]) -> None:
        done = delete(inbox).where(inbox.c.message_id.in_(_rows_of(keys)))

        def finish(connection: Connection) -> None:
            connection.execute(done)

        await self._database.write(finish)


def _rows_of(keys: Collection[str]) -> list[str]:
    return [_row(key, count + 1) for key in keys for count in range(BEGUN_LIMIT)]


def _row(key: str, count: int) -> str:
    return f"begun/{key}/{count}"

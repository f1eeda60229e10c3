"""Keys of requests, and the answers that were given."""

from collections.abc import Callable
from datetime import datetime
from typing import Any
from uuid import uuid4

import msgspec
from sqlalchemy import Connection, Row, delete, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite

from openaperture.database import Database
from openaperture.database.tables import request_keys
from openaperture.ports import KeptAnswer, KnownKey
from openaperture.stores.moment import Moment, process_time
from openaperture.stores.rows import json_text

KEPT_SECONDS = 86_400.0
FORGOTTEN_AT_ONCE = 200
"""Old rows that go with each new one, so that nobody else has to see to it."""

_PROCESS = uuid4().hex
"""Before each owner. A SQLite belongs to one process: what another one has leased there is leased by the dead."""

_headers_decoder = msgspec.json.Decoder(dict[str, str])
_row = request_keys.c


class SqlRequestKeys:
    """The port RequestKeys."""

    def __init__(self, database: Database, *, now: Callable[[], datetime] | None = None) -> None:
        """`now` replaces the clock: by default the server's on PostgreSQL, that of this process on SQLite."""
        self._database = database
        self._insert = postgresql.insert if database.dialect == "postgresql" else sqlite.insert
        self._moment = Moment(process_time if now is None and database.dialect == "sqlite" else now)

    async def begin(self, key: str, request: str, owner: str, *, lease_seconds: float) -> KnownKey:
        before = self._moment.after(-KEPT_SECONDS)
        oldest = select(_row.key).where(_row.at < before).order_by(_row.at).limit(FORGOTTEN_AT_ONCE)
        forget = delete(request_keys).where(_row.key.in_(oldest.scalar_subquery()))
        forget_this = delete(request_keys).where(_row.key == key, _row.at < before)
        new = self._insert(request_keys).values(key=key, request=request, at=self._moment.now())
        is_free = or_(_row.lease_until.is_(None), _row.lease_until <= self._moment.now())
        if self._database.dialect == "sqlite":
            is_free = or_(is_free, _row.owner.not_like(f"{_PROCESS}/%"))
        open_key = update(request_keys).where(_row.key == key, _row.request == request, _row.status.is_(None))
        lease = open_key.where(is_free).values(
            owner=f"{_PROCESS}/{owner}", lease_until=self._moment.after(lease_seconds)
        )
        stored = select(request_keys).where(_row.key == key)

        def write_down(connection: Connection) -> KnownKey:
            connection.execute(forget)
            connection.execute(forget_this)
            connection.execute(new.on_conflict_do_nothing())
            leased = connection.execute(lease).rowcount > 0
            return _known(connection.execute(stored).one(), leased=leased)

        return await self._database.write(write_down)

    async def settle(self, key: str, answer: KeptAnswer) -> None:
        kept = {"status": answer.status, "headers": json_text(answer.headers), "body": answer.body}
        settle = update(request_keys).where(_row.key == key, _row.status.is_(None)).values(**kept)
        await self._database.write(lambda connection: connection.execute(settle))

    async def release(self, key: str, owner: str) -> None:
        mine = update(request_keys).where(_row.key == key, _row.owner == f"{_PROCESS}/{owner}")
        release = mine.values(owner=None, lease_until=None)
        await self._database.write(lambda connection: connection.execute(release))


def _known(row: Row[Any], *, leased: bool) -> KnownKey:
    answer = None
    if row.status is not None:
        answer = KeptAnswer(status=row.status, headers=_headers_decoder.decode(row.headers), body=row.body)
    return KnownKey(request=row.request, at=row.at, answer=answer, leased=leased)

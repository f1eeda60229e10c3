"""The rows of the embedded broker: messages that outlive the process.

What is published and forgotten while a write is on its way goes along with the next one, as one insert
and one delete. To be forgotten late is harmless (a crash before it only redelivers), so that waits for
company: it costs no commit of its own while messages flow.
"""

import asyncio
import threading
from asyncio import Future
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import msgspec
from sqlalchemy import Connection, delete, func, insert, select
from sqlalchemy.dialects import sqlite

from openaperture.database import Database
from openaperture.database.bulk import Bulk, Row, Source
from openaperture.database.tables import queue_messages, queues
from openaperture.domain.errors import ConfigError, StoreUnavailable
from openaperture.ports import Message, Observer

FORGET_SECONDS = 0.05
"""How long an acked row waits for a write to go along with."""
FORGET_AT_ONCE = 1_000
RETRY_SECONDS = 1.0

_COLUMNS = [column.name for column in queue_messages.c]
_headers_decoder = msgspec.json.Decoder(dict[str, str])


@dataclass(slots=True, eq=False, kw_only=True)
class Stored:
    """A message in a queue."""

    id: int
    """Grows in the order of publishing."""
    queue: str
    message: Message
    redelivered: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """What an earlier process left: the declared queues, and how many messages each holds."""

    waiting: Mapping[str, int]
    last_id: int


class Ledger:
    """Reads and writes the rows. One ledger per database file: it counts the ids up."""

    def __init__(
        self, database: Database, observer: Observer, on_stored: Callable[[Sequence[Stored]], None]
    ) -> None:
        """`on_stored` is told of messages once they are durable, in the order of their ids."""
        if database.dialect != "sqlite":
            raise ConfigError(["the embedded broker needs a SQLite database; with PostgreSQL, use RabbitMQ"])
        self._database = database
        self._observer = observer
        self._on_stored = on_stored
        self._batch: _Batch | None = None
        self._forgotten: list[int] = []
        self._timer: asyncio.TimerHandle | None = None
        self._found_to = 0
        insertion, removal = Source("sqlite", queue_messages, _COLUMNS), Source("sqlite", queue_messages, ["id"])
        self._insert = Bulk(insertion, lambda row: row.insert(insert(queue_messages)))
        self._delete = Bulk(removal, lambda row: delete(queue_messages).where(queue_messages.c.id == row["id"]))

    async def open(self) -> Contents:
        def look(connection: Connection) -> Contents:
            counted = select(queue_messages.c.queue, func.count()).group_by(queue_messages.c.queue)
            counts = {row[0]: int(row[1]) for row in connection.execute(counted)}
            names = connection.scalars(select(queues.c.name)).all()
            last = connection.scalars(select(func.max(queue_messages.c.id))).one()
            return Contents(waiting={name: counts.get(name, 0) for name in names}, last_id=last or 0)

        contents = await self._database.read(look)
        self._found_to = contents.last_id
        return contents

    async def declare(self, names: Iterable[str]) -> None:
        rows = [{"name": name} for name in names]
        statement = sqlite.insert(queues).on_conflict_do_nothing()
        await self._database.write(lambda connection: connection.execute(statement, rows))

    async def read(self, queue: str, *, after: int, up_to: int, limit: int) -> list[Stored]:
        """Messages of a queue with `after` < id <= `up_to`, oldest first."""
        key = queue_messages.c
        query = (
            select(queue_messages)
            .where(key.queue == queue, key.id > after, key.id <= up_to)
            .order_by(key.id)
            .limit(limit)
        )

        def fetch(connection: Connection) -> list[Stored]:
            return [
                Stored(
                    id=row.id,
                    queue=queue,
                    message=Message(
                        body=row.body,
                        content_type=row.content_type,
                        message_id=row.message_id,
                        headers=_headers_decoder.decode(row.headers),
                    ),
                    # Of what an earlier process left we do not know which were delivered: all may have been.
                    redelivered=row.id <= self._found_to,
                )
                for row in connection.execute(query)
            ]

        return await self._database.read(fetch)

    def store(self, stored: Stored, *, instead_of: int | None = None) -> "Future[None]":
        """Write a message, in one transaction with the removal of row `instead_of`; done when durable.

        Raises UnicodeError, at once, when its texts cannot be stored. The future may be shared: shield it.
        """
        row = _row_of(stored)
        removed = self._take_forgotten()
        if instead_of is not None:
            removed.append(instead_of)
        return self._write(stored, row, removed)

    def forget(self, ids: Iterable[int]) -> None:
        """Remove rows, soon."""
        self._forgotten.extend(ids)
        if len(self._forgotten) >= FORGET_AT_ONCE:
            self._forget_now()
        elif self._timer is None and self._forgotten:
            self._timer = asyncio.get_running_loop().call_later(FORGET_SECONDS, self._forget_now)

    async def flush(self) -> None:
        """Write what waits. Raises StoreUnavailable."""
        if self._forgotten:
            await asyncio.shield(self._write(None, None, self._take_forgotten()))
        elif self._batch is not None:
            await asyncio.shield(self._batch.done)

    def _forget_now(self) -> None:
        removed = self._take_forgotten()
        try:
            if removed:
                self._write(None, None, removed)
        except StoreUnavailable as exc:
            self._observer.emit("broker.unforgotten", count=len(removed), error=exc)

    def _take_forgotten(self) -> list[int]:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        taken, self._forgotten = self._forgotten, []
        return taken

    def _write(self, stored: Stored | None, row: Row | None, removed: list[int]) -> "Future[None]":
        batch = self._batch
        if batch is None or not batch.add(stored, row, removed):
            batch = self._batch = _Batch(self._insert, self._delete)
            batch.add(stored, row, removed)
            batch.done = self._database.submit(batch.run)
            batch.done.add_done_callback(partial(self._settle, batch))
        return batch.done

    def _settle(self, batch: "_Batch", done: "Future[None]") -> None:
        """Before anybody who waits on the batch is told."""
        if self._batch is batch:
            self._batch = None
        error = None if done.cancelled() else done.exception()
        if error is None and not done.cancelled():
            self._on_stored(batch.stored)
            return
        if batch.removed:
            # Its messages are handled all the same: keep at it, or a restart would deliver them again.
            self._observer.emit("broker.unforgotten", count=len(batch.removed), error=error)
            self._forgotten.extend(batch.removed)
            if isinstance(error, StoreUnavailable) and self._timer is None:
                self._timer = done.get_loop().call_later(RETRY_SECONDS, self._forget_now)


class _Batch:
    """Rows that are waiting for the writer's thread; it takes those that are there when it comes."""

    done: "Future[None]"

    def __init__(self, insertion: Bulk, removal: Bulk) -> None:
        self.stored: list[Stored] = []
        self.removed: list[int] = []
        self._rows: list[Row] = []
        self._insertion = insertion
        self._removal = removal
        self._taken = False
        self._guard = threading.Lock()

    def add(self, stored: Stored | None, row: Row | None, removed: Iterable[int]) -> bool:
        """False when the writer's thread has been here already."""
        with self._guard:
            if self._taken:
                return False
            if stored is not None and row is not None:
                self.stored.append(stored)
                self._rows.append(row)
            self.removed.extend(removed)
            return True

    def run(self, connection: Connection) -> None:
        with self._guard:
            self._taken = True
        self._insertion.run(connection, self._rows)
        self._removal.run(connection, [{"id": row_id} for row_id in self.removed])


def _row_of(stored: Stored) -> Row:
    message = stored.message
    for value in (stored.queue, message.content_type, message.message_id):
        # A half surrogate pair would spoil the whole batch, in the writer's thread.
        (value or "").encode()
    return {
        "id": stored.id,
        "queue": stored.queue,
        "body": message.body,
        "content_type": message.content_type,
        "message_id": message.message_id,
        "headers": msgspec.json.encode(message.headers).decode() if message.headers else "{}",
    }

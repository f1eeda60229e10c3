"""SQLite: one file, one thread that writes, two that read.

Group commit: the writes that are waiting share one transaction, each under a savepoint of its own, and
all are answered after its one COMMIT. With `synchronous=FULL` the COMMIT, which waits for the disk, is
most of the cost of a write; the savepoints are almost free.
"""

import asyncio
import errno
import sqlite3
from asyncio import Future
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

from sqlalchemy import URL, Connection, Engine, QueuePool, create_engine, event

from openaperture.database import migrate
from openaperture.database.errors import full, translated, translating
from openaperture.database.owner import OwnerLock
from openaperture.database.url import describe, file_of
from openaperture.domain.errors import ConfigError, StoreFull, StoreUnavailable

T = TypeVar("T")
Work = Callable[[Connection], Any]

LARGEST_GROUP = 256
"""Writes per transaction, so that one of them waits for a bounded number of others."""
READERS = 2
LOCK_SECONDS = 3.0
"""How long another process may have the file before we give up."""
LOCK_POLL_SECONDS = 0.05
BUSY_SECONDS = 5.0
"""How long we wait for a lock on the file. Only a foreign tool can hold one."""
WAL_LIMIT_BYTES = 64 * 1_048_576
CACHE_KIBIBYTES = 16_384


class Sqlite:
    """The backend of `Database` for SQLite."""

    dialect: Literal["sqlite", "postgresql"] = "sqlite"

    def __init__(self, file: Path, lock: OwnerLock | None) -> None:
        self._where = f"the SQLite file {file}"
        self._lock = lock
        self._loop = asyncio.get_running_loop()
        self._queued: deque[tuple[Work, Future[Any]]] = deque()
        self._writing = False
        """A group is on its way, or about to be."""
        self._closed = False
        self._writer = _Writer(file)
        self._writer_thread = ThreadPoolExecutor(1, "sqlite-writer")
        self._readers = _engine(file, begin="BEGIN", connections=READERS)
        self._reader_threads = ThreadPoolExecutor(READERS, "sqlite-reader")

    @classmethod
    async def open(cls, url: URL, *, owner_lock: bool) -> "Sqlite":
        file = file_of(url)
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            # It holds the key of the attempt tokens: for its owner alone.
            file.touch(mode=0o600)
            lock = await _take_lock(file) if owner_lock else None
        except OSError as exc:
            if exc.errno == errno.ENOSPC:
                raise full(describe(url)) from exc
            raise ConfigError([f"{file} cannot be opened ({exc.strerror}); choose another path"]) from exc
        backend = cls(file, lock)
        try:
            await backend.write(lambda connection: migrate.upgrade(connection, describe(url)))
        except BaseException:
            await backend.close()
            raise
        return backend

    async def read(self, work: Callable[[Connection], T]) -> T:
        self._check_open()
        return await self._loop.run_in_executor(self._reader_threads, self._read, work)

    def _read(self, work: Callable[[Connection], T]) -> T:
        with translating(self._where), self._readers.begin() as connection:
            return work(connection)

    async def write(self, work: Callable[[Connection], T]) -> T:
        return await self.submit(work)

    def submit(self, work: Callable[[Connection], T]) -> "Future[T]":
        self._check_open()
        future: Future[T] = self._loop.create_future()
        self._queued.append((work, future))
        if not self._writing:
            self._writing = True
            # Not at once, so that what else this turn of the loop submits comes along.
            self._loop.call_soon(self._start_group)
        return future

    async def close(self) -> None:
        if self._closed:
            return
        last = self.submit(lambda _: None)
        self._closed = True
        try:
            with suppress(StoreUnavailable):
                await last
            # Readers first: the last connection to close empties the write-ahead log into the file.
            await self._loop.run_in_executor(self._reader_threads, self._readers.dispose)
            await self._loop.run_in_executor(self._writer_thread, self._writer.close)
        finally:
            self._reader_threads.shutdown(wait=False)
            self._writer_thread.shutdown(wait=False)
            if self._lock is not None:
                self._lock.release()

    def _check_open(self) -> None:
        if self._closed:
            raise StoreUnavailable(f"{self._where} was closed by this process")

    def _start_group(self) -> None:
        group: list[tuple[Work, Future[Any]]] = []
        while self._queued and len(group) < LARGEST_GROUP:
            work, future = self._queued.popleft()
            if not future.cancelled():
                group.append((work, future))
        self._writing = bool(group)
        if group:
            works = [work for work, _ in group]
            running = self._loop.run_in_executor(self._writer_thread, self._writer.run, works, self._where)
            running.add_done_callback(lambda done: self._finish_group(group, done))

    def _finish_group(self, group: Sequence[tuple[Work, Future[Any]]], done: Future[list[Any]]) -> None:
        # The next group first: its thread works while the callers of this one go on.
        self._start_group()
        for (_, future), outcome in zip(group, done.result(), strict=True):
            if future.cancelled():
                continue
            if isinstance(outcome, _Failed):
                future.set_exception(outcome.error)
            else:
                future.set_result(outcome)


async def _take_lock(file: Path) -> OwnerLock:
    """A short command may have the file for a moment: that is waited for. Raises ConfigError, OSError."""
    tries_left = int(LOCK_SECONDS / LOCK_POLL_SECONDS)
    while True:
        try:
            return OwnerLock.take(file)
        except ConfigError:
            if tries_left == 0:
                raise
        tries_left -= 1
        await asyncio.sleep(LOCK_POLL_SECONDS)


class _Failed:
    def __init__(self, error: Exception) -> None:
        self.error = error


class _Writer:
    """The writing connection. Used in the writer's thread only."""

    def __init__(self, file: Path) -> None:
        self._engine = _engine(file, begin="BEGIN IMMEDIATE", connections=1)

    def run(self, works: Sequence[Work], where: str) -> list[Any]:
        """Run them in one transaction; the outcome of each is its result or a _Failed, in their order."""
        try:
            with self._engine.begin() as connection:
                return [self._run_alone(connection, work, where) for work in works]
        except Exception as exc:  # noqa: BLE001 - becomes the outcome of each write of the group
            error = translated(exc, where)
            if not isinstance(error, StoreFull):
                self._engine.dispose()
            return [_Failed(error)] * len(works)

    def _run_alone(self, connection: Connection, work: Work, where: str) -> Any:
        """Run one so that its failure leaves the others of the group alone."""
        # Past SQLAlchemy, whose nested transactions cost more than most writes.
        raw = cast("sqlite3.Connection", connection.connection.dbapi_connection)
        raw.execute("SAVEPOINT one_write")
        try:
            outcome = work(connection)
        except Exception as exc:
            if not raw.in_transaction:
                # A full disk or a broken file has undone the whole group (sqlite.org, lang_transaction).
                raise
            raw.execute("ROLLBACK TO one_write")
            outcome = _Failed(translated(exc, where))
        raw.execute("RELEASE one_write")
        return outcome

    def close(self) -> None:
        self._engine.dispose()


def _engine(file: Path, *, begin: str, connections: int) -> Engine:
    engine = create_engine(
        "sqlite://",
        creator=lambda: _connect(file),
        poolclass=QueuePool,
        pool_size=connections,
        max_overflow=0,
    )

    # IMMEDIATE for the writer: a transaction that reads first and then writes can meet SQLITE_BUSY.
    @event.listens_for(engine, "begin")
    def begin_transaction(connection: Connection) -> None:  # pyright: ignore[reportUnusedFunction]  # SQLAlchemy calls it
        connection.exec_driver_sql(begin)

    return engine


def _connect(file: Path) -> sqlite3.Connection:
    # isolation_level None: the module sqlite3 begins no transactions of its own.
    connection = sqlite3.connect(file, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    try:
        _configure(connection, file)
    except BaseException:
        connection.close()
        raise
    return connection


def _configure(connection: sqlite3.Connection, file: Path) -> None:
    (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode != "wal":
        raise ConfigError([f"{file}: SQLite cannot keep a write-ahead log there; choose a local disk"])
    # FULL: a commit that was answered outlives a power cut (failure model, F50).
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute(f"PRAGMA journal_size_limit = {WAL_LIMIT_BYTES}")
    connection.execute(f"PRAGMA cache_size = -{CACHE_KIBIBYTES}")

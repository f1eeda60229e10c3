"""PostgreSQL: a small pool, a thread per connection, whole transactions repeated when that is safe.

A transaction is repeated only when it has surely not committed: a failure before its COMMIT was sent, or
one that the server itself reports as rolled back. A COMMIT whose answer never came may have committed
(failure model, finding 3), and says so as StoreUnavailable: the caller loads and looks.
"""

import asyncio
import os
import random
import socket
import threading
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any, Literal, TypeVar

import psycopg
from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError

from openaperture.database import migrate
from openaperture.database.errors import REPEATABLE, sqlstate_of, translated, translating, unavailable
from openaperture.database.url import describe
from openaperture.domain.errors import StoreUnavailable

T = TypeVar("T")

CONNECTIONS = 4
CONNECT_SECONDS = 5
STATEMENT_SECONDS = 15.0
CALL_SECONDS = 30.0
"""A call that takes longer is given up and its connection cut. A frozen server answers nothing at all."""
MIGRATION_SECONDS = 3_600.0
"""A new index on a big table takes its time."""
PAUSES_SECONDS = (0.02, 0.1, 0.3, 0.8)
"""Before each further try. Together they outlast a failover of connections, not a restart of the server:
that is for the callers, who back off."""

_CONNECT_ARGUMENTS = {
    "connect_timeout": CONNECT_SECONDS,
    "application_name": "openaperture",
    # A peer that vanished is noticed within half a minute, idle or not.
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
}


class _NotCommitted(Exception):
    """The transaction has surely not committed, and may be tried again. The cause is the driver's error."""


class Postgresql:
    """The backend of `Database` for PostgreSQL."""

    dialect: Literal["sqlite", "postgresql"] = "postgresql"

    def __init__(self, url: URL) -> None:
        self._where = describe(url)
        self._loop = asyncio.get_running_loop()
        self._engine = _engine(url)
        # One statement per transaction: BEGIN and COMMIT would be two more round trips.
        self._autocommit = self._engine.execution_options(isolation_level="AUTOCOMMIT")
        self._threads = ThreadPoolExecutor(CONNECTIONS, "postgresql")
        self._closed = False

    @classmethod
    async def open(cls, url: URL) -> "Postgresql":
        backend = cls(url)
        try:
            await backend._repeated(
                lambda call: backend._write(call, lambda connection: migrate.upgrade(connection, backend._where)),
                seconds=MIGRATION_SECONDS,
            )
        except BaseException:
            await backend.close()
            raise
        return backend

    async def read(self, work: Callable[[Connection], T]) -> T:
        return await self._repeated(lambda call: self._read(call, work))

    async def write(self, work: Callable[[Connection], T]) -> T:
        return await self._repeated(lambda call: self._write(call, work))

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        await asyncio.shield(self._loop.run_in_executor(None, self._shut_down))

    def _shut_down(self) -> None:
        self._threads.shutdown(wait=True)
        self._engine.dispose()

    async def _repeated(self, once: Callable[["_Call"], T], *, seconds: float = CALL_SECONDS) -> T:
        for pause in (*PAUSES_SECONDS, None):
            try:
                return await self._in_thread(once, seconds)
            except _NotCommitted as exc:
                if pause is None:
                    raise unavailable(self._where, exc.__cause__ or exc) from exc
            # Spread out, so that two that met in a deadlock do not meet again.
            await asyncio.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311 - spreads load, guards nothing
        raise AssertionError("the last try returns or raises")

    async def _in_thread(self, once: Callable[["_Call"], T], seconds: float) -> T:
        if self._closed:
            raise StoreUnavailable(f"{self._where}: this process has closed its connections")
        call = _Call()
        try:
            async with asyncio.timeout(seconds):
                return await self._loop.run_in_executor(self._threads, once, call)
        except TimeoutError as exc:
            call.cut()
            raise StoreUnavailable(
                f"{self._where} did not answer within {seconds:.0f} s; it may be frozen or overloaded"
            ) from exc

    def _read(self, call: "_Call", work: Callable[[Connection], T]) -> T:
        with self._connected(self._autocommit) as connection, call.using(connection), self._before_commit():
            return work(connection)

    def _write(self, call: "_Call", work: Callable[[Connection], T]) -> T:
        with self._connected(self._engine) as connection, call.using(connection):
            with self._before_commit():
                outcome = work(connection)
            with self._in_commit():
                connection.commit()
            return outcome

    def _connected(self, engine: Engine) -> Connection:
        try:
            return engine.connect()
        except DBAPIError as exc:
            raise _NotCommitted from exc

    @contextmanager
    def _before_commit(self) -> Generator[None]:
        """A failure in here is rolled back, whatever it was."""
        try:
            with translating(self._where):
                yield
        except Exception as exc:
            driver = exc.__cause__
            if isinstance(driver, DBAPIError) and (
                driver.connection_invalidated or sqlstate_of(driver) in REPEATABLE
            ):
                raise _NotCommitted from driver
            raise

    @contextmanager
    def _in_commit(self) -> Generator[None]:
        """A failure in here is rolled back only if the server says so."""
        try:
            yield
        except DBAPIError as exc:
            if sqlstate_of(exc) in REPEATABLE:
                raise _NotCommitted from exc
            if exc.connection_invalidated:
                raise StoreUnavailable(
                    f"{self._where} went away during a commit, whose outcome is unknown"
                ) from exc
            raise translated(exc, self._where) from exc


class _Call:
    """One use of a connection, which another thread can cut off."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._raw: psycopg.Connection[Any] | None = None
        self._cut = False

    def using(self, connection: Connection) -> "_Call":
        raw = connection.connection.dbapi_connection
        with self._guard:
            self._raw = raw if isinstance(raw, psycopg.Connection) else None
            if self._cut:
                raise _NotCommitted
        return self

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None:
        # Before the connection goes back to the pool, where it is somebody else's.
        with self._guard:
            self._raw = None

    def cut(self) -> None:
        """End the connection under the thread that waits on it, or keep the call from using one."""
        with self._guard:
            self._cut = True
            if self._raw is not None:
                with suppress(psycopg.Error, OSError), socket.socket(fileno=os.dup(self._raw.fileno())) as end:
                    end.shutdown(socket.SHUT_RDWR)


def _engine(url: URL) -> Engine:
    engine = create_engine(
        url,
        pool_size=CONNECTIONS,
        max_overflow=0,
        # A broken connection empties the pool, and its transaction is repeated: no ping before each use.
        pool_pre_ping=False,
        connect_args={key: value for key, value in _CONNECT_ARGUMENTS.items() if key not in url.query},
    )

    @event.listens_for(engine, "connect")
    def configure(raw: psycopg.Connection[Any], _: object) -> None:  # pyright: ignore[reportUnusedFunction]  # SQLAlchemy calls it
        # Not by libpq's `options`: those belong to the url, and not every connection pooler takes them.
        milliseconds = int(STATEMENT_SECONDS * 1000)
        for name, value in (
            ("statement_timeout", str(milliseconds)),
            ("idle_in_transaction_session_timeout", str(2 * milliseconds)),
            ("TimeZone", "UTC"),
            # A prepared statement keeps the plan that was best when the tables were small. Every query
            # here has an index made for it, so a scan is never the plan to keep.
            ("enable_seqscan", "off"),
            ("enable_hashjoin", "off"),
            ("enable_mergejoin", "off"),
            ("jit", "off"),
        ):
            raw.execute("SELECT set_config(%s, %s, false)", (name, value))
        raw.commit()

    return engine

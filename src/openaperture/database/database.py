"""A database as the parts above see it: functions that run SQL, in a transaction each, off the event loop."""

from asyncio import Future
from collections.abc import Callable
from typing import Literal, Protocol, TypeVar

from sqlalchemy import Connection

from openaperture.database import url as urls
from openaperture.database.sqlite import Sqlite

T = TypeVar("T")


class Backend(Protocol):
    """What each of the two does in its own way. See the methods of `Database`."""

    @property
    def dialect(self) -> Literal["sqlite", "postgresql"]: ...

    async def read(self, work: Callable[[Connection], T]) -> T: ...

    async def write(self, work: Callable[[Connection], T]) -> T: ...

    async def close(self) -> None: ...


class Database:
    """An open database whose schema is up to date."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    @classmethod
    async def open(cls, url: str, *, owner_lock: bool = True) -> "Database":
        """Open, creating the SQLite file when there is none, and bring the schema up to date.

        `owner_lock` keeps other processes off a SQLite file; only what never writes may do without.
        Raises ConfigError (unusable url, file in use, schema of a newer version), StoreUnavailable.
        """
        parsed = urls.parse(url)
        if parsed.drivername == "sqlite":
            return cls(await Sqlite.open(parsed, owner_lock=owner_lock))
        # Its driver takes a third of a second to import, which the embedded shape need not wait for.
        from openaperture.database.postgresql import Postgresql  # noqa: PLC0415

        return cls(await Postgresql.open(parsed))

    @property
    def dialect(self) -> Literal["sqlite", "postgresql"]:
        return self._backend.dialect

    async def read(self, work: Callable[[Connection], T]) -> T:
        """Run queries in a thread. On PostgreSQL each sees the database of its own instant.

        Raises StoreUnavailable.
        """
        return await self._backend.read(work)

    async def write(self, work: Callable[[Connection], T]) -> T:
        """Run `work` in a transaction in a thread; return when it is durable.

        `work` may be run more than once, so it must not touch anything but the connection. What it
        raises rolls its writes back, and comes out here.
        Raises StoreUnavailable (may have committed), StoreFull (has not), errors.Rejected.
        """
        return await self._backend.write(work)

    def submit(self, work: Callable[[Connection], T]) -> "Future[T]":
        """As `write`, without waiting. Only SQLite, where writes queue up for one thread, has it."""
        if not isinstance(self._backend, Sqlite):
            raise TypeError("only a SQLite database takes writes that nobody waits for")
        return self._backend.submit(work)

    async def close(self) -> None:
        """Finish the writes that were begun, then close the connections. Repeating it is harmless."""
        await self._backend.close()

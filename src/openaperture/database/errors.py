"""What the drivers' errors mean. The one table of it: SQLSTATE of PostgreSQL, result codes of SQLite.

our own bug (SQL that the database does not understand)   -> left as it is
the values can never be stored                            -> Rejected
no room on the disk                                       -> StoreFull
everything else: away, busy, overloaded, stopped          -> StoreUnavailable
"""

import sqlite3
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from sqlalchemy.exc import DBAPIError, InterfaceError, ProgrammingError

from openaperture.domain.errors import ConfigError, StoreFull, StoreUnavailable


class Rejected(Exception):
    """The database refused the values of a write, now and always. Nothing of the write was saved.

    Stays below the stores, which answer it with an outcome.
    """

    def __init__(self, text: str, *, duplicate_in: str | None = None) -> None:
        super().__init__(text)
        self.duplicate_in = duplicate_in
        """The table that has a row with such a key already; None when that is not the reason."""


REPEATABLE = frozenset({"40001", "40P01"})
"""serialization_failure, deadlock_detected: rolled back, and a new try may pass."""

_REJECTED_CLASSES = ("22", "23", "54")
"""data exception, integrity constraint violation, program limit exceeded (a key too long for its index)"""
_UNIQUE_VIOLATION = "23505"
_DISK_FULL = "53100"

_SQLITE_FULL = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_SHMSIZE}
_SQLITE_DAMAGED = {sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT}
_SQLITE_REJECTED = {sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_TOOBIG, sqlite3.SQLITE_MISMATCH}
_SQLITE_DUPLICATE = {sqlite3.SQLITE_CONSTRAINT_UNIQUE, sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY}


def sqlstate_of(exc: DBAPIError) -> str:
    """PostgreSQL Appendix A; empty when the server said nothing, as when the connection broke."""
    return getattr(exc.orig, "sqlstate", None) or ""


@contextmanager
def translating(where: str) -> Generator[None]:
    """Let our error out for one of the driver's. `where` names the database."""
    try:
        yield
    except Exception as exc:
        error = translated(exc, where)
        if error is exc:
            raise
        raise error from exc


def translated(exc: Exception, where: str) -> Exception:
    """Our error, its cause set, for one of the driver's; the same when it is none of theirs."""
    match exc:
        case UnicodeError() | OverflowError():
            error: Exception = Rejected(f"a value does not fit into a column: {exc}")
        case DBAPIError() if isinstance(exc.orig, sqlite3.Error):
            error = _from_sqlite(exc, exc.orig, where)
        case DBAPIError():
            error = _from_postgresql(exc, where)
        case _:
            return exc
    if error is not exc:
        error.__cause__ = exc
    return error


def _from_sqlite(exc: DBAPIError, orig: sqlite3.Error, where: str) -> Exception:
    code: int = getattr(orig, "sqlite_errorcode", 0)
    if code in _SQLITE_FULL:
        return full(where)
    if code & 0xFF in _SQLITE_REJECTED:
        # The message is "UNIQUE constraint failed: inbox.message_id".
        table = str(orig).rpartition(": ")[2].partition(".")[0] if code in _SQLITE_DUPLICATE else None
        return Rejected(str(orig), duplicate_in=table)
    if code & 0xFF in _SQLITE_DAMAGED:
        problem = f"{where} is damaged, or no database ({orig}); restore a backup, or move it away to begin anew"
        return ConfigError([problem])
    if code & 0xFF == sqlite3.SQLITE_ERROR or isinstance(exc, ProgrammingError | InterfaceError):
        return exc
    return StoreUnavailable(f"{where} cannot be used now ({orig}); trying again may help")


def _from_postgresql(exc: DBAPIError, where: str) -> Exception:
    state = sqlstate_of(exc)
    if state == _DISK_FULL:
        return full(where)
    # Without a SQLSTATE the driver itself refused a value, such as a text with a NUL character.
    if state.startswith(_REJECTED_CLASSES) or (not state and type(exc.orig).__name__ == "DataError"):
        diagnosis: Any = getattr(exc.orig, "diag", None)
        return Rejected(str(exc.orig), duplicate_in=diagnosis.table_name if state == _UNIQUE_VIOLATION else None)
    if isinstance(exc, ProgrammingError | InterfaceError):
        return exc
    return unavailable(where, exc)


def full(where: str) -> StoreFull:
    return StoreFull(f"the disk under {where} is full and nothing was saved; free some space and work goes on")


def unavailable(where: str, exc: BaseException) -> StoreUnavailable:
    said = " ".join(str(getattr(exc, "orig", None) or exc).split())
    if "authentication failed" in said or "does not exist" in said:
        return StoreUnavailable(f"{where} does not let us in ({said}); check user, password and database name")
    return StoreUnavailable(f"{where} does not answer ({said}); check that it runs and can be reached")

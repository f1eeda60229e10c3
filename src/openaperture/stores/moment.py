"""The store's clock, as SQL."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from sqlalchemy import ColumnElement, Interval, bindparam, func, literal

from openaperture.database.types import Instant


def process_time() -> datetime:
    return datetime.now(UTC)


class Moment:
    """What "now" is in a statement, found out each time that the statement runs.

    Many processes share a PostgreSQL, so its server's clock counts, read at the start of the statement:
    unlike clock_timestamp() that is stable, and a comparison with it can use an index. A SQLite belongs
    to one process, whose clock counts.
    """

    def __init__(self, clock: Callable[[], datetime] | None) -> None:
        """`clock` of this process, or None for that of the database server."""
        self._clock = clock

    def now(self) -> ColumnElement[datetime]:
        return self.after(0.0)

    def after(self, seconds: float) -> ColumnElement[datetime]:
        """That many seconds from now."""
        delay = timedelta(seconds=seconds)
        if (clock := self._clock) is not None:
            return bindparam(None, callable_=lambda: clock() + delay, type_=Instant(), unique=True)
        now = func.statement_timestamp(type_=Instant())
        return now.op("+", return_type=Instant())(literal(delay, Interval())) if seconds else now

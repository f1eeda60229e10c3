"""Column types that mean the same on both databases."""

from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from sqlalchemy import BigInteger, DateTime, Dialect, Integer, String
from sqlalchemy.types import TypeDecorator, TypeEngine

RowNumber = BigInteger().with_variant(Integer, "sqlite")
"""A key that the database counts up. SQLite counts up only what is called INTEGER."""


@lru_cache(maxsize=256)
def instant_text(instant: datetime) -> str:
    """How SQLite holds an instant. Cached, because a decision gives one instant to many rows."""
    if instant.tzinfo is None:
        raise ValueError(f"{instant!r} has no time zone")
    return instant.astimezone(UTC).isoformat(timespec="microseconds")


class Instant(TypeDecorator[datetime]):
    """An aware instant in UTC, to the microsecond.

    `timestamptz` on PostgreSQL; on SQLite ISO 8601 text of fixed width, which sorts by time and which a
    person can read. A naive datetime is refused: nobody knows what it means.
    """

    impl = DateTime(timezone=True)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if dialect.name == "sqlite":
            return dialect.type_descriptor(String(32))
        return dialect.type_descriptor(DateTime(timezone=True))

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        if value is None:
            return None
        text = instant_text(value)
        return text if dialect.name == "sqlite" else value.astimezone(UTC)

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        instant = datetime.fromisoformat(value) if dialect.name == "sqlite" else value
        return instant.astimezone(UTC)

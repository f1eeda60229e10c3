"""The database under the stores and the embedded broker: SQLite or PostgreSQL, one set of tables."""

from openaperture.database.database import Database

__all__ = ["Database"]

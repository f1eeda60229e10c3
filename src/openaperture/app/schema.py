"""Brings the schema of the database up to date, without starting anything."""

from openaperture.config import Settings
from openaperture.database import Database
from openaperture.database.migrate import NEWEST
from openaperture.domain.errors import ConfigError


async def upgrade(settings: Settings) -> str:
    """Returns the revision that the database has now. Raises ConfigError while a process has the SQLite file."""
    if not settings.database:
        raise ConfigError(["database is not set; write the one whose schema is to be brought up to date"])
    database = await Database.open(settings.database)
    await database.close()
    return NEWEST

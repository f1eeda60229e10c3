"""Which database a url means."""

from pathlib import Path

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from openaperture.domain.errors import ConfigError

_FORMS = 'write "sqlite:///path/to/file.db" or "postgresql://user:password@host:5432/name"'


def parse(url: str) -> URL:
    """The url with its driver. Raises ConfigError, which never repeats a password."""
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        raise ConfigError([f"the database url cannot be read; {_FORMS}"]) from None
    match parsed.drivername:
        case "sqlite":
            if not parsed.database or parsed.database == ":memory:" or parsed.query:
                raise ConfigError([f"a SQLite database needs a file, and takes no options; {_FORMS}"])
            return parsed
        case "postgresql" | "postgres" | "postgresql+psycopg":
            return parsed.set(drivername="postgresql+psycopg")
        case other:
            raise ConfigError([f'"{other}" is not a database that we know; {_FORMS}'])


def file_of(url: URL) -> Path:
    """The file of a SQLite url."""
    return Path(url.database or "").absolute()


def describe(url: URL) -> str:
    """How errors name the database: never with a password."""
    if url.drivername == "sqlite":
        return f"the SQLite file {file_of(url)}"
    return f"PostgreSQL at {url.host or 'localhost'}:{url.port or 5432}, database {url.database or url.username}"

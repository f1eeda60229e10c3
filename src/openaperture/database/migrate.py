"""Brings the schema up to date when a database is opened.

An empty database gets the tables at once and is marked with the newest revision; Alembic lifts an older
one (`lift.py`). A test holds both ways to the same schema.
"""

from sqlalchemy import Column, Connection, MetaData, String, Table, inspect, select, text

from openaperture.database.tables import metadata

NEWEST = "0006"
"""Revision of the schema in `tables.py`."""

_ADVISORY_LOCK = 0x6F61_7363_6865_6D61
"""Any number that nobody else uses: "oaschema" in ASCII."""

# As Alembic makes it.
_marks = Table("alembic_version", MetaData(), Column("version_num", String(32), primary_key=True))


def upgrade(connection: Connection, where: str) -> None:
    """Make the schema that of `tables.py`, in the transaction of `connection`.

    Raises ConfigError when a newer version of the product has been here.
    """
    if find_revision(connection) == NEWEST:
        return
    if connection.dialect.name == "postgresql":
        connection.execute(text("SET LOCAL statement_timeout = 0"))
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_LOCK})
    # Again, behind the lock: another process may just have done it. SQLite's writer is alone anyway.
    found = find_revision(connection)
    if found is None:
        metadata.create_all(connection, checkfirst=False)
        _marks.create(connection)
        connection.execute(_marks.insert().values(version_num=NEWEST))
    elif found != NEWEST:
        # Alembic takes most of a second to import, and is needed once per upgrade of the product.
        from openaperture.database import lift  # noqa: PLC0415

        lift.to_newest(connection, found, where, NEWEST)


def find_revision(connection: Connection) -> str | None:
    """The revision that the database is marked with; None for one that we have never seen."""
    if not inspect(connection).has_table(_marks.name):
        return None
    return connection.scalar(select(_marks.c.version_num))

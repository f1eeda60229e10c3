"""Applies the revisions that a database lacks. The only module that knows Alembic."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from openaperture.domain.errors import ConfigError


def configuration(connection: Connection | None = None) -> Config:
    """What Alembic needs to find the revisions, and the connection to apply them on."""
    config = Config()
    folder = Path(__file__).parent / "migrations"
    config.set_main_option("script_location", str(folder).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


def to_newest(connection: Connection, found: str, where: str, newest: str) -> None:
    """Lift the schema from revision `found`. Raises ConfigError when we do not know that revision."""
    config = configuration(connection)
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if found not in known:
        problem = (
            f"{where} has schema {found} of a newer version, and this one knows it up to {newest}; "
            "start the newer version, or restore the backup from before its first start"
        )
        raise ConfigError([problem])
    command.upgrade(config, "head")

"""Who serves a request that came with a key, and what entries were made by such a request."""

import sqlalchemy as sa
from alembic import op

from openaperture.database.types import Instant

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    # Without an owner anybody may do it, as processes of the version before still think.
    op.add_column("request_keys", sa.Column("owner", sa.Text))
    op.add_column("request_keys", sa.Column("lease_until", Instant))
    for table in ("broker_connections", "system_events"):
        op.add_column(table, sa.Column("made_as", sa.Text))
        op.create_index(f"{table}_made_once", table, ["made_as"], unique=True)

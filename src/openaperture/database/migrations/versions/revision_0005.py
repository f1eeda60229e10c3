"""Keys of requests, with the answers that were given to them; milestones and reasons to look for."""

import sqlalchemy as sa
from alembic import op

from openaperture.database.types import Instant

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    # What ended before is found by its other columns.
    op.add_column("workflows", sa.Column("plan", sa.Text))
    op.add_column("workflows", sa.Column("reason", sa.Text))
    op.create_table(
        "request_keys",
        sa.Column("key", sa.Text, primary_key=True),
        sa.Column("request", sa.Text, nullable=False),
        sa.Column("at", Instant, nullable=False),
        sa.Column("status", sa.Integer),
        sa.Column("headers", sa.Text),
        sa.Column("body", sa.LargeBinary),
    )
    op.create_index("request_keys_age", "request_keys", ["at"])

"""Locks, and which workflow another one repeats."""

import sqlalchemy as sa
from alembic import op

from openaperture.database.types import Instant, RowNumber

revision = "0002"
down_revision = "0001"

_STRANDED = "wake_at IS NULL AND state NOT IN ('created', 'completed', 'failed', 'cancelled', 'held', 'paused')"
_HOLDING = "state IN ('granted', 'held')"


def upgrade() -> None:
    op.add_column("workflows", sa.Column("parent_id", sa.Text))
    _create_partial_index("workflows_of_parent", "workflows", ["parent_id"], "parent_id IS NOT NULL")
    op.drop_index("workflows_stranded", "workflows")
    _create_partial_index("workflows_stranded", "workflows", ["id"], _STRANDED)
    _create_partial_index("attempts_taken", "attempts", ["milestone", "claimed_at"], "claimed_at IS NOT NULL")
    op.create_table(
        "locks",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("token", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "lock_claims",
        sa.Column("id", RowNumber, primary_key=True, autoincrement=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("workflow_id", sa.Text, nullable=False),
        sa.Column("when_locked", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("by", sa.Text),
        sa.Column("token", sa.BigInteger),
        sa.Column("asked_at", Instant, nullable=False),
        sa.Column("granted_at", Instant),
        sa.Column("lease_until", Instant),
        sa.Column("kept", sa.Text),
        sa.UniqueConstraint("name", "workflow_id", name="lock_claims_once"),
    )
    op.create_index("lock_claims_of_workflow", "lock_claims", ["workflow_id"])
    _create_partial_index("lock_claims_holder", "lock_claims", ["name"], _HOLDING, unique=True)


def _create_partial_index(name: str, table: str, columns: list[str], where: str, *, unique: bool = False) -> None:
    condition = sa.text(where)
    op.create_index(name, table, columns, unique=unique, sqlite_where=condition, postgresql_where=condition)

"""Clients, tokens and the audit."""

import sqlalchemy as sa
from alembic import op

from openaperture.database.types import Instant

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    _create_clients()
    _create_tokens()
    _create_audit()


def _create_clients() -> None:
    op.create_table(
        "clients",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("secret_hash", sa.Text, nullable=False),
        sa.Column("role", sa.Text, nullable=False),
        sa.Column("groups", sa.Text, nullable=False),
        sa.Column("created_at", Instant, nullable=False),
        sa.Column("created_by", sa.Text, nullable=False),
        sa.Column("disabled_at", Instant),
    )


def _create_tokens() -> None:
    op.create_table(
        "tokens",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("text_hash", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("role", sa.Text, nullable=False),
        sa.Column("groups", sa.Text, nullable=False),
        sa.Column("label", sa.Text, nullable=False),
        sa.Column("client_id", sa.Text),
        sa.Column("root", sa.Text),
        sa.Column("created_at", Instant, nullable=False),
        sa.Column("expires_at", Instant, nullable=False),
        sa.Column("used_at", Instant),
        sa.Column("revoked_at", Instant),
    )
    op.create_index("tokens_of_subject", "tokens", ["kind", "subject", "created_at"])
    op.create_index("tokens_expiry", "tokens", ["kind", "expires_at"])
    op.create_index("tokens_made_with", "tokens", ["root"])


def _create_audit() -> None:
    op.create_table(
        "audit",
        sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("at", Instant, nullable=False),
        sa.Column("who", sa.Text, nullable=False),
        sa.Column("role", sa.Text, nullable=False),
        sa.Column("address", sa.Text, nullable=False),
        sa.Column("method", sa.Text, nullable=False),
        sa.Column("path", sa.Text, nullable=False),
        sa.Column("workflow_id", sa.Text),
        sa.Column("details", sa.Text, nullable=False),
        sa.Column("status", sa.Integer, nullable=False),
        sa.Column("previous", sa.Text, nullable=False),
        sa.Column("digest", sa.Text, nullable=False),
    )

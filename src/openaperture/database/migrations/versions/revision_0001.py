"""The first tables."""

import sqlalchemy as sa
from alembic import op

from openaperture.database.types import Instant, RowNumber

revision = "0001"
down_revision = None

_STRANDED = "wake_at IS NULL AND state NOT IN ('created', 'completed', 'failed', 'cancelled', 'held')"


def upgrade() -> None:
    _create_workflows()
    _create_history()
    _create_mail()
    _create_embedded_broker()
    op.create_table(
        "settings",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("value", sa.Text, nullable=False),
    )


def _create_workflows() -> None:
    op.create_table(
        "workflows",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("current_step", sa.Text),
        sa.Column("source_repo", sa.Text),
        sa.Column("source_repo_git_ref", sa.Text),
        sa.Column("deployment_repo", sa.Text),
        sa.Column("deployment_repo_git_ref", sa.Text),
        sa.Column("source_commit_hash", sa.Text),
        sa.Column("created_at", Instant, nullable=False),
        sa.Column("updated_at", Instant, nullable=False),
        sa.Column("wake_at", Instant),
        sa.Column("document", sa.Text, nullable=False),
    )
    op.create_index("workflows_created", "workflows", ["created_at", "id"])
    op.create_index("workflows_state_created", "workflows", ["state", "created_at", "id"])
    _create_partial_index("workflows_due", "wake_at", "wake_at IS NOT NULL")
    _create_partial_index("workflows_stranded", "id", _STRANDED)


def _create_partial_index(name: str, column: str, where: str, *, table: str = "workflows") -> None:
    condition = sa.text(where)
    op.create_index(name, table, [column], sqlite_where=condition, postgresql_where=condition)


def _create_history() -> None:
    op.create_table(
        "events",
        sa.Column("id", RowNumber, primary_key=True, autoincrement=True),
        sa.Column("workflow_id", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("success", sa.Boolean, nullable=False),
        sa.Column("details", sa.Text, nullable=False),
        sa.Column("at", Instant, nullable=False),
    )
    op.create_index("events_of_workflow", "events", ["workflow_id", "id"])
    op.create_table(
        "attempts",
        sa.Column("workflow_id", sa.Text, primary_key=True),
        sa.Column("attempt", sa.Text, primary_key=True),
        sa.Column("generation", sa.Integer, nullable=False),
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("milestone", sa.Text, nullable=False),
        sa.Column("requested_at", Instant, nullable=False),
        sa.Column("worker", sa.Text),
        sa.Column("claimed_at", Instant),
        sa.Column("ended_at", Instant),
        sa.Column("outcome", sa.Text),
        sa.Column("message", sa.Text),
    )
    op.create_table(
        "logs",
        sa.Column("id", RowNumber, primary_key=True, autoincrement=True),
        sa.Column("workflow_id", sa.Text, nullable=False),
        sa.Column("attempt", sa.Text, nullable=False),
        sa.Column("sequence", sa.BigInteger, nullable=False),
        sa.Column("milestone", sa.Text, nullable=False),
        sa.Column("lines", sa.Text, nullable=False),
        sa.Column("at", Instant, nullable=False),
        sa.UniqueConstraint("workflow_id", "attempt", "sequence", name="logs_once"),
    )
    op.create_index("logs_of_workflow", "logs", ["workflow_id", "id"])


def _create_mail() -> None:
    op.create_table(
        "outbox",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("workflow_id", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("attempt", sa.Text, nullable=False),
        sa.Column("queue", sa.Text, nullable=False),
        sa.Column("route", sa.Text),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.Column("content_type", sa.Text),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("tries", sa.Integer, nullable=False),
        sa.Column("inserted_at", Instant, nullable=False),
        sa.Column("held", sa.Boolean, nullable=False),
        sa.Column("due_at", Instant, nullable=False),
        sa.Column("leased_by", sa.Text),
        sa.Column("last_error", sa.Text),
    )
    _create_partial_index("outbox_due", "due_at", "NOT held", table="outbox")
    op.create_index("outbox_of_workflow", "outbox", ["workflow_id"])
    op.create_table(
        "inbox",
        sa.Column("message_id", sa.Text, primary_key=True),
        sa.Column("at", Instant, nullable=False),
    )
    op.create_index("inbox_age", "inbox", ["at"])


def _create_embedded_broker() -> None:
    op.create_table("queues", sa.Column("name", sa.Text, primary_key=True))
    op.create_table(
        "queue_messages",
        sa.Column("id", RowNumber, primary_key=True, autoincrement=False),
        sa.Column("queue", sa.Text, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.Column("content_type", sa.Text),
        sa.Column("message_id", sa.Text),
        sa.Column("headers", sa.Text, nullable=False),
    )
    op.create_index("queue_messages_of_queue", "queue_messages", ["queue", "id"])

"""The messaging directory, system events, and records of workflows that run elsewhere."""

from typing import Any

import sqlalchemy as sa
from alembic import op

from openaperture.database.types import Instant, RowNumber

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    _create_exchanges()
    _create_brokers()
    _create_targets()
    _create_events()


def _number() -> sa.Column[Any]:
    return sa.Column("id", RowNumber, primary_key=True, autoincrement=True)


def _times() -> tuple[sa.Column[Any], sa.Column[Any]]:
    return sa.Column("inserted_at", Instant, nullable=False), sa.Column("updated_at", Instant, nullable=False)


def _create_exchanges() -> None:
    op.create_table(
        "exchanges",
        _number(),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("failover_exchange_id", sa.BigInteger),
        sa.Column("parent_exchange_id", sa.BigInteger),
        sa.Column("routing_key_fragment", sa.Text),
        *_times(),
        sa.UniqueConstraint("name", name="exchanges_named"),
    )
    op.create_table(
        "exchange_brokers",
        _number(),
        sa.Column("messaging_exchange_id", sa.BigInteger, nullable=False),
        sa.Column("messaging_broker_id", sa.BigInteger, nullable=False),
        *_times(),
        sa.UniqueConstraint("messaging_exchange_id", "messaging_broker_id", name="exchange_brokers_once"),
    )


def _create_brokers() -> None:
    op.create_table(
        "brokers",
        _number(),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("failover_broker_id", sa.BigInteger),
        *_times(),
        sa.UniqueConstraint("name", name="brokers_named"),
    )
    op.create_table(
        "broker_connections",
        _number(),
        sa.Column("messaging_broker_id", sa.BigInteger, nullable=False),
        sa.Column("username", sa.Text),
        sa.Column("password", sa.Text),
        sa.Column("host", sa.Text, nullable=False),
        sa.Column("port", sa.Integer),
        sa.Column("virtual_host", sa.Text),
        *_times(),
    )
    op.create_index("broker_connections_of_broker", "broker_connections", ["messaging_broker_id"])


def _create_targets() -> None:
    op.create_table(
        "clusters",
        _number(),
        sa.Column("etcd_token", sa.Text, nullable=False),
        sa.Column("token_key", sa.Text, nullable=False),
        sa.Column("name", sa.Text),
        sa.Column("hosting_provider_id", sa.BigInteger),
        sa.Column("allow_docker_builds", sa.Boolean, nullable=False),
        sa.Column("messaging_exchange_id", sa.BigInteger),
        *_times(),
        sa.UniqueConstraint("token_key", name="clusters_once"),
    )
    op.create_index("clusters_of_exchange", "clusters", ["messaging_exchange_id"])
    op.create_table(
        "modules",
        _number(),
        sa.Column("messaging_exchange_id", sa.BigInteger, nullable=False),
        sa.Column("hostname", sa.Text, nullable=False),
        sa.Column("type", sa.Text, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("workload", sa.Text, nullable=False),
        sa.Column("source_repo", sa.Text),
        sa.Column("source_repo_git_ref", sa.Text),
        sa.Column("deployment_repo", sa.Text),
        sa.Column("deployment_repo_git_ref", sa.Text),
        *_times(),
        sa.UniqueConstraint("messaging_exchange_id", "hostname", name="modules_once"),
    )


def _create_events() -> None:
    op.create_table(
        "system_events",
        _number(),
        sa.Column("type", sa.Text, nullable=False),
        sa.Column("severity", sa.Text, nullable=False),
        sa.Column("message", sa.Text),
        sa.Column("data", sa.Text),
        *_times(),
    )
    op.create_index("system_events_age", "system_events", ["inserted_at", "id"])
    op.create_table(
        "foreign_records",
        sa.Column("workflow_id", sa.Text, primary_key=True),
        sa.Column("document", sa.Text, nullable=False),
        sa.Column("updated_at", Instant, nullable=False),
    )

"""The tables. A change here needs a migration beside it: a test compares the two.

No foreign keys between these: every row is written by the one transaction that also writes its workflow,
and a check per row would be paid for at every milestone.
"""

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from openaperture.database.types import Instant, RowNumber

metadata = MetaData()

STRANDED = "wake_at IS NULL AND state NOT IN ('created', 'completed', 'failed', 'cancelled', 'held', 'paused')"
"""Invariant I8, but for the outbox: neither ended, nor a person's turn, nor with an instant to wake at.
The query and its partial index must say it in the same words, or the index is not used."""

workflows = Table(
    "workflows",
    metadata,
    Column("id", Text, primary_key=True),
    Column("version", BigInteger, nullable=False),
    Column("state", Text, nullable=False),
    Column("position", Integer, nullable=False),
    Column("current_step", Text),
    Column("source_repo", Text),
    Column("source_repo_git_ref", Text),
    Column("deployment_repo", Text),
    Column("deployment_repo_git_ref", Text),
    Column("source_commit_hash", Text),
    Column("created_at", Instant, nullable=False),
    Column("updated_at", Instant, nullable=False),
    Column("wake_at", Instant),
    Column("document", Text, nullable=False),
    Column("parent_id", Text),
    Column("plan", Text),
    Column("reason", Text),
    Index(
        "workflows_of_parent",
        "parent_id",
        sqlite_where=text("parent_id IS NOT NULL"),
        postgresql_where=text("parent_id IS NOT NULL"),
    ),
    Index("workflows_created", "created_at", "id"),
    Index("workflows_state_created", "state", "created_at", "id"),
    Index(
        "workflows_due",
        "wake_at",
        sqlite_where=text("wake_at IS NOT NULL"),
        postgresql_where=text("wake_at IS NOT NULL"),
    ),
    Index("workflows_stranded", "id", sqlite_where=text(STRANDED), postgresql_where=text(STRANDED)),
)
"""`document` is the whole `domain.workflow.Workflow` as JSON, and the truth; the columns are for filters.
`plan` is a JSON array of the names of its milestones."""

events = Table(
    "events",
    metadata,
    Column("id", RowNumber, primary_key=True, autoincrement=True),
    Column("workflow_id", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("text", Text, nullable=False),
    Column("success", Boolean, nullable=False),
    Column("details", Text, nullable=False),
    Column("at", Instant, nullable=False),
    Index("events_of_workflow", "workflow_id", "id"),
)
"""Append-only. `details` is a JSON object."""

attempts = Table(
    "attempts",
    metadata,
    Column("workflow_id", Text, primary_key=True),
    Column("attempt", Text, primary_key=True),
    Column("generation", Integer, nullable=False),
    Column("position", Integer, nullable=False),
    Column("number", Integer, nullable=False),
    Column("milestone", Text, nullable=False),
    Column("requested_at", Instant, nullable=False),
    Column("worker", Text),
    Column("claimed_at", Instant),
    Column("ended_at", Instant),
    Column("outcome", Text),
    Column("message", Text),
    Index(
        "attempts_taken",
        "milestone",
        "claimed_at",
        sqlite_where=text("claimed_at IS NOT NULL"),
        postgresql_where=text("claimed_at IS NOT NULL"),
    ),
)

outbox = Table(
    "outbox",
    metadata,
    Column("id", Text, primary_key=True),
    Column("workflow_id", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("attempt", Text, nullable=False),
    Column("queue", Text, nullable=False),
    Column("route", Text),
    Column("body", LargeBinary, nullable=False),
    Column("content_type", Text),
    Column("version", BigInteger, nullable=False),
    Column("tries", Integer, nullable=False),
    Column("inserted_at", Instant, nullable=False),
    Column("held", Boolean, nullable=False),
    Column("due_at", Instant, nullable=False),
    Column("leased_by", Text),
    Column("last_error", Text),
    Index("outbox_due", "due_at", sqlite_where=text("NOT held"), postgresql_where=text("NOT held")),
    Index("outbox_of_workflow", "workflow_id"),
)
"""A lease is `due_at` set to its end: one column, so that one index finds what may be done now, however
many rows are leased, deferred or held. `route` is a JSON object; `leased_by` is for people."""

inbox = Table(
    "inbox",
    metadata,
    Column("message_id", Text, primary_key=True),
    Column("at", Instant, nullable=False),
    Index("inbox_age", "at"),
)

logs = Table(
    "logs",
    metadata,
    Column("id", RowNumber, primary_key=True, autoincrement=True),
    Column("workflow_id", Text, nullable=False),
    Column("attempt", Text, nullable=False),
    Column("sequence", BigInteger, nullable=False),
    Column("milestone", Text, nullable=False),
    Column("lines", Text, nullable=False),
    Column("at", Instant, nullable=False),
    UniqueConstraint("workflow_id", "attempt", "sequence", name="logs_once"),
    Index("logs_of_workflow", "workflow_id", "id"),
)
"""`lines` is a JSON array of texts."""

locks = Table(
    "locks",
    metadata,
    Column("name", Text, primary_key=True),
    Column("token", BigInteger, nullable=False),
)
"""Every lock that was ever asked for. `token` counts how often it was given. Whoever changes the queue of a lock
locks its row here first, so that all see one queue."""

HOLDING = "state IN ('granted', 'held')"

lock_claims = Table(
    "lock_claims",
    metadata,
    Column("id", RowNumber, primary_key=True, autoincrement=True),
    Column("name", Text, nullable=False),
    Column("workflow_id", Text, nullable=False),
    Column("when_locked", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("by", Text),
    Column("token", BigInteger),
    Column("asked_at", Instant, nullable=False),
    Column("granted_at", Instant),
    Column("lease_until", Instant),
    Column("kept", Text),
    UniqueConstraint("name", "workflow_id", name="lock_claims_once"),
    Index("lock_claims_of_workflow", "workflow_id"),
    # The database itself lets nobody else in.
    Index("lock_claims_holder", "name", unique=True, sqlite_where=text(HOLDING), postgresql_where=text(HOLDING)),
)
"""A workflow's place in the queue of a lock. `state`: waiting, granted (it does not know yet, and has until
`lease_until` to hear of it), held, refused or superseded (by the workflow in `by`). `kept` says why a workflow
that has ended still holds it."""

request_keys = Table(
    "request_keys",
    metadata,
    Column("key", Text, primary_key=True),
    Column("request", Text, nullable=False),
    Column("at", Instant, nullable=False),
    Column("status", Integer),
    Column("headers", Text),
    Column("body", LargeBinary),
    Column("owner", Text),
    Column("lease_until", Instant),
    Index("request_keys_age", "at"),
)
"""What was sent with the header Idempotency-Key: digests of key and request, and the answer once there is one.
Until then it is done by `owner`, who has until `lease_until`."""

settings = Table(
    "settings",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", Text, nullable=False),
)
"""What is generated once per database, such as the key of the attempt tokens."""

clients = Table(
    "clients",
    metadata,
    Column("id", Text, primary_key=True),
    Column("secret_hash", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("groups", Text, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("created_by", Text, nullable=False),
    Column("disabled_at", Instant),
)
"""Never deleted, so that an id in the audit means one client. `groups` is a JSON array, here and below."""

tokens = Table(
    "tokens",
    metadata,
    Column("id", Text, primary_key=True),
    Column("text_hash", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("groups", Text, nullable=False),
    Column("label", Text, nullable=False),
    Column("client_id", Text),
    Column("root", Text),
    Column("created_at", Instant, nullable=False),
    Column("expires_at", Instant, nullable=False),
    Column("used_at", Instant),
    Column("revoked_at", Instant),
    Index("tokens_of_subject", "kind", "subject", "created_at"),
    Index("tokens_expiry", "kind", "expires_at"),
    Index("tokens_made_with", "root"),
)

audit = Table(
    "audit",
    metadata,
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("at", Instant, nullable=False),
    Column("who", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("address", Text, nullable=False),
    Column("method", Text, nullable=False),
    Column("path", Text, nullable=False),
    Column("workflow_id", Text),
    Column("details", Text, nullable=False),
    Column("status", Integer, nullable=False),
    Column("previous", Text, nullable=False),
    Column("digest", Text, nullable=False),
)
"""Append-only. `seq` has no gaps, and `digest` covers the row and the digest before it: `domain/audit.py`."""

queues = Table("queues", metadata, Column("name", Text, primary_key=True))
"""Declared queues of the embedded broker."""

queue_messages = Table(
    "queue_messages",
    metadata,
    Column("id", RowNumber, primary_key=True, autoincrement=False),
    Column("queue", Text, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("content_type", Text),
    Column("message_id", Text),
    Column("headers", Text, nullable=False),
    Index("queue_messages_of_queue", "queue", "id"),
)
"""Messages of the embedded broker. Its one process counts the ids up, in the order of publishing."""

# The messaging directory and what the Manager keeps beside it. All rows have the original's columns.


def _times() -> tuple[Column[Any], Column[Any]]:
    return Column("inserted_at", Instant, nullable=False), Column("updated_at", Instant, nullable=False)


def _number() -> Column[Any]:
    return Column("id", RowNumber, primary_key=True, autoincrement=True)


exchanges = Table(
    "exchanges",
    metadata,
    _number(),
    Column("name", Text, nullable=False),
    Column("failover_exchange_id", BigInteger),
    Column("parent_exchange_id", BigInteger),
    Column("routing_key_fragment", Text),
    *_times(),
    UniqueConstraint("name", name="exchanges_named"),
)

brokers = Table(
    "brokers",
    metadata,
    _number(),
    Column("name", Text, nullable=False),
    Column("failover_broker_id", BigInteger),
    *_times(),
    UniqueConstraint("name", name="brokers_named"),
)

broker_connections = Table(
    "broker_connections",
    metadata,
    _number(),
    Column("messaging_broker_id", BigInteger, nullable=False),
    Column("username", Text),
    Column("password", Text),
    Column("host", Text, nullable=False),
    Column("port", Integer),
    Column("virtual_host", Text),
    *_times(),
    Column("made_as", Text),
    Index("broker_connections_of_broker", "messaging_broker_id"),
    Index("broker_connections_made_once", "made_as", unique=True),
)
"""`made_as` follows from the Idempotency-Key of the request that made it, if it came with one."""

exchange_brokers = Table(
    "exchange_brokers",
    metadata,
    _number(),
    Column("messaging_exchange_id", BigInteger, nullable=False),
    Column("messaging_broker_id", BigInteger, nullable=False),
    *_times(),
    UniqueConstraint("messaging_exchange_id", "messaging_broker_id", name="exchange_brokers_once"),
)
"""Restrictions: an exchange is reached over these brokers alone."""

clusters = Table(
    "clusters",
    metadata,
    _number(),
    Column("etcd_token", Text, nullable=False),
    Column("token_key", Text, nullable=False),
    Column("name", Text),
    Column("hosting_provider_id", BigInteger),
    Column("allow_docker_builds", Boolean, nullable=False),
    Column("messaging_exchange_id", BigInteger),
    *_times(),
    UniqueConstraint("token_key", name="clusters_once"),
    Index("clusters_of_exchange", "messaging_exchange_id"),
)
"""`token_key` is the token in lower case: whoever looks for it may write it as they like."""

modules = Table(
    "modules",
    metadata,
    _number(),
    Column("messaging_exchange_id", BigInteger, nullable=False),
    Column("hostname", Text, nullable=False),
    Column("type", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("workload", Text, nullable=False),
    Column("source_repo", Text),
    Column("source_repo_git_ref", Text),
    Column("deployment_repo", Text),
    Column("deployment_repo_git_ref", Text),
    *_times(),
    UniqueConstraint("messaging_exchange_id", "hostname", name="modules_once"),
)
"""`workload` is JSON."""

system_events = Table(
    "system_events",
    metadata,
    _number(),
    Column("type", Text, nullable=False),
    Column("severity", Text, nullable=False),
    Column("message", Text),
    Column("data", Text),
    *_times(),
    Column("made_as", Text),
    Index("system_events_age", "inserted_at", "id"),
    Index("system_events_made_once", "made_as", unique=True),
)
"""`data` is JSON; `made_as` is as with connections."""

foreign_records = Table(
    "foreign_records",
    metadata,
    Column("workflow_id", Text, primary_key=True),
    Column("document", Text, nullable=False),
    Column("updated_at", Instant, nullable=False),
)
"""What an orchestrator elsewhere has put of a workflow that it runs: a JSON object of the original's fields."""

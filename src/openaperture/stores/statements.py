"""The SQL of the store, built once per store."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import (
    Column,
    ColumnElement,
    Delete,
    Insert,
    Select,
    String,
    Table,
    Text,
    Update,
    and_,
    any_,
    bindparam,
    case,
    cast,
    delete,
    exists,
    func,
    insert,
    literal_column,
    not_,
    null,
    or_,
    select,
    text,
    union_all,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from openaperture.database.bulk import Bulk, Source
from openaperture.database.tables import STRANDED, attempts, events, inbox, logs, outbox, settings, workflows
from openaperture.database.types import Instant
from openaperture.ports import RowKind
from openaperture.stores.locks import LockQueues
from openaperture.stores.moment import Moment

OWNER_LEASE_SECONDS = 5.0
"""How long new outbox rows are left to the process that wrote them and has them at hand."""
BARE_LEASE_SECONDS = 20.0
"""The same for Erlang terms, whose readers do not drop a second copy: longer than a publish may take."""

_WORKFLOW = [column.name for column in workflows.c if column.name != "updated_at"]
_EVENT = [column.name for column in events.c if column.name != "id"]
_ATTEMPT = [column.name for column in attempts.c]
_LOG = [column.name for column in logs.c if column.name != "id"]
_POST = [
    *("id", "workflow_id", "kind", "attempt", "queue", "route", "body", "content_type"),
    *("version", "held", "tries", "leased_by"),
]
"""Columns of the rows that are written; the clock of the database fills the others."""

Statement = Insert | Update | Delete


class Statements:
    """Statements with named parameters. Sets of keys are parameters called `ids` or `message_ids`."""

    def __init__(self, dialect: Literal["sqlite", "postgresql"], moment: Moment) -> None:
        self._dialect = dialect
        self._moment = moment
        now = moment.now()
        self.now = select(now)
        self._build_load()
        self._build_commit()
        self._build_outbox()
        wake_at, after_wake_at = workflows.c.wake_at, bindparam("after_wake_at", type_=workflows.c.wake_at.type)
        self.due = (
            select(workflows.c.id, wake_at)
            .where(wake_at <= now)
            .order_by(wake_at, workflows.c.id)
            .limit(bindparam("limit"))
        )
        # Not as a comparison of pairs: the index is on `wake_at` alone.
        self.due_after = self.due.where(
            wake_at >= after_wake_at, (wake_at > after_wake_at) | (workflows.c.id > bindparam("after_id"))
        )
        self.stranded = (
            select(workflows.c.id)
            .where(text(STRANDED), ~exists().where(outbox.c.workflow_id == workflows.c.id))
            .limit(bindparam("limit"))
        )
        old = select(inbox.c.message_id).where(inbox.c.at < bindparam("before")).limit(bindparam("limit"))
        self.prune = delete(inbox).where(inbox.c.message_id.in_(old.scalar_subquery()))
        self.insert_setting = self._insert(settings).on_conflict_do_nothing()
        self.lock_queues = LockQueues(dialect, moment)
        self.setting = select(settings.c.value).where(settings.c.name == bindparam("name"))

    def _build_load(self) -> None:
        """All that a batch needs, in one round trip: the instant, the workflows, the inbox."""
        nothing = cast(null(), Text)
        self.load = union_all(
            select(
                literal_column("'now'", String).label("what"),
                nothing.label("id"),
                nothing.label("document"),
                cast(null(), self._version_type()).label("version"),
                self._moment.now().label("now"),
            ),
            self._part("workflow", workflows.c.id, "ids", workflows.c.document, workflows.c.version),
            self._part("handled", inbox.c.message_id, "message_ids"),
        )

    def _version_type(self) -> Any:
        return workflows.c.version.type

    def _part(
        self, what: str, key: Column[str], keys: str, *more: ColumnElement[Any]
    ) -> "Select[str, str, Any, Any, datetime]":
        document, version = more or (cast(null(), Text), cast(null(), self._version_type()))
        chosen = select(literal_column(f"'{what}'", String), key, document, version, cast(null(), Instant()))
        return chosen.where(self.among(key, keys))

    def _build_commit(self) -> None:
        now = self._moment.now()
        self.lock = (
            select(workflows.c.id, workflows.c.version)
            .where(self.among(workflows.c.id, "ids"))
            # In one order everywhere, so that two batches cannot lock each other out.
            .order_by(workflows.c.id)
            .with_for_update()
        )
        self.insert_workflow = self._bulk(
            workflows,
            _WORKFLOW,
            lambda row: row.insert(
                insert(workflows), created_at=func.coalesce(row["created_at"], now), updated_at=now
            ),
        )
        self.update_workflow = self._bulk(
            workflows,
            _WORKFLOW,
            lambda row: (
                update(workflows)
                .where(workflows.c.id == row["id"])
                .values({name: row[name] for name in _WORKFLOW if name not in {"id", "created_at"}})
                .values(updated_at=now)
            ),
        )
        self.insert_event = self._bulk(events, _EVENT, lambda row: row.insert(insert(events)))
        self.upsert_attempt = self._bulk(attempts, _ATTEMPT, self._upsert_attempt)
        self.insert_log = self._bulk(
            logs, _LOG, lambda row: row.insert(self._insert(logs)).on_conflict_do_nothing()
        )
        self.insert_inbox = self._bulk(inbox, ["message_id"], lambda row: row.insert(insert(inbox), at=now))

    def _upsert_attempt(self, row: Source) -> Any:
        upsert = row.insert(self._insert(attempts))
        new = {name: upsert.excluded[name] for name in _ATTEMPT if name not in {"workflow_id", "attempt"}}
        return upsert.on_conflict_do_update(index_elements=["workflow_id", "attempt"], set_=new)

    def _build_outbox(self) -> None:
        now = self._moment.now()
        soon, later = self._moment.after(OWNER_LEASE_SECONDS), self._moment.after(BARE_LEASE_SECONDS)
        self.post_free = self._bulk(outbox, _POST, lambda row: self._post(row, now, due_at=now))
        self.post_leased = self._bulk(
            outbox,
            _POST,
            lambda row: self._post(row, now, due_at=case((row["content_type"].is_(None), later), else_=soon)),
        )
        self.due_outbox = (
            select(outbox)
            .where(outbox.c.due_at <= now, ~outbox.c.held)
            .order_by(outbox.c.due_at, outbox.c.inserted_at)
            .limit(bindparam("limit"))
            # What another relay is just taking is passed over, not waited for.
            .with_for_update(skip_locked=True)
        )
        self.delete_record = delete(outbox).where(
            outbox.c.id == bindparam("row_id"), outbox.c.version <= bindparam("recorded")
        )
        self.drop_void = delete(outbox).where(
            self._waited_for(),
            outbox.c.kind == RowKind.REQUEST.value,
            not_(self.among(outbox.c.attempt, "live")),
        )
        self.delete_outbox = delete(outbox).where(self.among(outbox.c.id, "ids"))
        self.defer_outbox = self._bulk(
            outbox,
            ["id", "due_at", "last_error"],
            lambda row: (
                update(outbox)
                .where(outbox.c.id == row["id"])
                .values(
                    tries=outbox.c.tries + 1,
                    due_at=row["due_at"],
                    leased_by=None,
                    last_error=row["last_error"],
                )
            ),
        )

    def _post(self, row: Source, now: ColumnElement[datetime], *, due_at: ColumnElement[datetime]) -> Any:
        """What is there already stays. That a newer version be recorded is noted, and its lease left alone."""
        post = row.insert(self._insert(outbox), inserted_at=now, due_at=due_at)
        return post.on_conflict_do_update(
            index_elements=["id"],
            set_={"version": post.excluded.version},
            where=and_(outbox.c.kind == RowKind.RECORD.value, outbox.c.version < post.excluded.version),
        )

    def claim_row(self, seconds: float) -> Any:
        """Lease the row `id` for `owner`, unless somebody else has it."""
        available = or_(outbox.c.due_at <= self._moment.now(), outbox.c.leased_by == bindparam("owner"))
        leased = update(outbox).where(outbox.c.id == bindparam("row_id"), available)
        return leased.values(due_at=self._moment.after(seconds), leased_by=bindparam("owner"))

    def free_held(self, seconds: float) -> Any:
        """Let go of what waited for a record of `workflow_id`, leased to `owner`; answers with the rows."""
        freed = update(outbox).where(self._waited_for())
        values: dict[str, Any] = {
            "held": False,
            "due_at": self._moment.after(seconds),
            "leased_by": bindparam("owner"),
        }
        return freed.values(**values).returning(*outbox.c)

    def _waited_for(self) -> ColumnElement[bool]:
        return and_(
            outbox.c.workflow_id == bindparam("workflow"), outbox.c.held, outbox.c.version <= bindparam("recorded")
        )

    def lease_outbox(self, seconds: float) -> Any:
        free_at = self._moment.after(seconds)
        leased = update(outbox).where(self.among(outbox.c.id, "ids"))
        return leased.values(due_at=free_at, leased_by=bindparam("owner"))

    def among(self, column: Column[str], name: str) -> ColumnElement[bool]:
        """`column` is one of the texts of the parameter `name`."""
        if self._dialect == "postgresql":
            # One statement whatever the number, so that the server prepares it once.
            return column == any_(bindparam(name, type_=postgresql.ARRAY(Text)))
        return column.in_(bindparam(name, expanding=True))

    def _bulk(self, table: Table, columns: Sequence[str], build: Callable[[Source], Statement]) -> Bulk:
        return Bulk(Source(self._dialect, table, columns), build)

    def _insert(self, table: Table) -> "postgresql.Insert | sqlite.Insert":
        return postgresql.insert(table) if self._dialect == "postgresql" else sqlite.insert(table)

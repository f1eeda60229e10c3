"""The reading side of the store, for people."""

from collections.abc import Callable, Collection, Mapping
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Row, Select, and_, case, func, or_, select, text

from openaperture.database import Database
from openaperture.database.errors import Rejected
from openaperture.database.tables import HOLDING, attempts, events, lock_claims, logs, outbox, workflows
from openaperture.domain.history import LogChunk
from openaperture.domain.workflow import Workflow
from openaperture.ports import (
    ALL_LOGS,
    HistoryEntry,
    LockClaim,
    LogFilter,
    RowKind,
    Sighting,
    StoredLog,
    Trouble,
    WorkflowFilter,
)
from openaperture.stores.rows import Unreadable, entry_of, json_text, lines_of, stand_in, workflow_of

T = TypeVar("T")


class SqlRecords:
    """The port Records. A workflow whose document is unreadable is shown as held, with the reason."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find_workflow(self, workflow_id: str) -> Workflow | None:
        found = await self._workflows(select(workflows).where(workflows.c.id == workflow_id))
        return found[0] if found else None

    async def list_workflows(self, wanted: WorkflowFilter, *, limit: int) -> list[Workflow]:
        newest_first = select(workflows).order_by(workflows.c.created_at.desc(), workflows.c.id.desc())
        return await self._workflows(_filtered(newest_first, wanted).limit(limit))

    async def _workflows(self, query: Select[Any]) -> list[Workflow]:
        return await self._rows(query, _workflow_of)

    async def list_entries(self, workflow_id: str, *, after: int = 0, limit: int = 1000) -> list[HistoryEntry]:
        query = (
            select(events)
            .where(events.c.workflow_id == workflow_id, events.c.id > after)
            .order_by(events.c.id)
            .limit(limit)
        )
        return await self._rows(query, lambda row: HistoryEntry(id=row.id, entry=entry_of(row)))

    async def list_attempts(self, workflow_id: str) -> list[Mapping[str, Any]]:
        key = attempts.c
        query = (
            select(attempts)
            .where(key.workflow_id == workflow_id)
            .order_by(key.generation, key.position, key.number)
        )
        return await self._rows(query, _plain)

    async def list_logs(
        self, workflow_id: str, wanted: LogFilter = ALL_LOGS, *, after: int = 0, limit: int = 1000
    ) -> list[StoredLog]:
        query = _logs_of(workflow_id, wanted).where(logs.c.id > after).order_by(logs.c.id)
        return await self._rows(query.limit(limit), _log_of)

    async def list_last_logs(self, workflow_id: str, wanted: LogFilter, *, limit: int) -> list[StoredLog]:
        query = _logs_of(workflow_id, wanted).order_by(logs.c.id.desc())
        return (await self._rows(query.limit(limit), _log_of))[::-1]

    async def list_troubles(self, ids: Collection[str]) -> Mapping[str, Trouble]:
        query = (
            select(outbox)
            .where(outbox.c.workflow_id.in_(list(ids)), outbox.c.last_error.is_not(None))
            # A note that waits holds nothing up, and would hide what does.
            .where(outbox.c.kind != RowKind.NOTICE.value)
            .order_by(outbox.c.inserted_at.desc())
        )
        found = await self._rows(query, lambda row: (row.workflow_id, _trouble_of(row)))
        return dict(found)

    async def list_locks(self, names: Collection[str] | None = None) -> list[LockClaim]:
        # The holder first, and then who is next.
        order = (lock_claims.c.name, case((text(HOLDING), 0), else_=1), lock_claims.c.id)
        query = select(lock_claims).order_by(*order)
        if names is not None:
            query = query.where(lock_claims.c.name.in_(list(names)))
        return await self._rows(query, _claim_of)

    async def list_children(self, workflow_id: str) -> list[Workflow]:
        children = select(workflows).where(workflows.c.parent_id == workflow_id)
        return await self._workflows(children.order_by(workflows.c.created_at, workflows.c.id))

    async def find_sightings(self, milestones: Collection[str]) -> Mapping[str, Sighting]:
        found: dict[str, Sighting] = {}
        for milestone in milestones:
            last = (
                select(attempts)
                .where(attempts.c.milestone == milestone, attempts.c.claimed_at.is_not(None))
                .order_by(attempts.c.claimed_at.desc())
                .limit(1)
            )
            for worker, at in await self._rows(last, lambda row: (row.worker, row.claimed_at)):
                found[milestone] = Sighting(worker=worker, at=at)
        return found

    async def count_outbox(self) -> int:
        query = select(func.count()).select_from(outbox)
        return await self._database.read(lambda connection: connection.scalars(query).one())

    async def _rows(self, query: Select[Any], read: Callable[[Row[Any]], T]) -> list[T]:
        try:
            return await self._database.read(lambda connection: [read(row) for row in connection.execute(query)])
        except Rejected:
            # Somebody asked for a text that no row can hold, such as one with a NUL character.
            return []


def _logs_of(workflow_id: str, wanted: LogFilter) -> Select[Any]:
    query = select(logs).where(logs.c.workflow_id == workflow_id)
    if wanted.attempt is not None:
        query = query.where(logs.c.attempt == wanted.attempt)
    if wanted.first is not None:
        query = query.where(logs.c.sequence >= wanted.first)
    if wanted.last is not None:
        query = query.where(logs.c.sequence <= wanted.last)
    return query


def _filtered(query: Select[Any], wanted: WorkflowFilter) -> Select[Any]:
    column = workflows.c
    if wanted.states is not None:
        query = query.where(column.state.in_(list(wanted.states)))
    if wanted.source_repo is not None:
        # The original knows a source repository by the deployment repository that is named after it.
        named_after = column.deployment_repo == f"{wanted.source_repo}_docker"
        query = query.where(or_(column.source_repo == wanted.source_repo, named_after))
    if wanted.deployment_repo is not None:
        query = query.where(column.deployment_repo == wanted.deployment_repo)
    if wanted.ref is not None:
        refs = (column.source_repo_git_ref, column.deployment_repo_git_ref)
        query = query.where(or_(*(ref == wanted.ref for ref in refs)))
    if wanted.milestone is not None:
        query = query.where(column.plan.contains(json_text(wanted.milestone), autoescape=True))
    if wanted.text is not None:
        query = query.where(_has_text(wanted.text))
    if wanted.created_after is not None:
        query = query.where(column.created_at > wanted.created_after)
    if wanted.created_before is not None:
        query = query.where(column.created_at < wanted.created_before)
    if wanted.before is not None:
        created_at, workflow_id = wanted.before
        older = and_(column.created_at == created_at, column.id < workflow_id)
        query = query.where(or_(column.created_at < created_at, older))
    return query


def _has_text(text: str) -> ColumnElement[bool]:
    searched = (
        *(workflows.c.source_repo, workflows.c.source_repo_git_ref, workflows.c.deployment_repo),
        *(workflows.c.deployment_repo_git_ref, workflows.c.reason, workflows.c.id),
    )
    return or_(*(func.lower(column).contains(text.lower(), autoescape=True) for column in searched))


def _workflow_of(row: Row[Any]) -> Workflow:
    try:
        return workflow_of(row.document)
    except Unreadable as exc:
        return stand_in(row, str(exc))


def _trouble_of(row: Row[Any]) -> Trouble:
    return Trouble(kind=RowKind(row.kind), error=row.last_error, again_at=row.due_at)


def _log_of(row: Row[Any]) -> StoredLog:
    chunk = LogChunk(
        attempt=row.attempt,
        milestone=row.milestone,
        sequence=row.sequence,
        lines=lines_of(row.lines),
        at=row.at,
    )
    return StoredLog(id=row.id, chunk=chunk)


def _claim_of(row: Row[Any]) -> LockClaim:
    return LockClaim(
        name=row.name,
        workflow_id=row.workflow_id,
        state=row.state,
        token=row.token,
        asked_at=row.asked_at,
        granted_at=row.granted_at,
        kept=row.kept,
    )


def _plain(row: Row[Any]) -> Mapping[str, Any]:
    # The names of columns are a text of SQLAlchemy's own, which not every encoder takes.
    values = zip(map(str, attempts.c.keys()), row, strict=True)
    return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in values}

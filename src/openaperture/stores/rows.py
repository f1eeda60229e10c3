"""How the values of the domain lie in the columns of the tables."""

from typing import Any

import msgspec
import sqlalchemy as sa

from openaperture.database.bulk import Row
from openaperture.domain.attempts import Attempt, Ended
from openaperture.domain.history import Entry
from openaperture.domain.releases import Release
from openaperture.domain.routes import Route
from openaperture.domain.workflow import State, Workflow
from openaperture.ports import Change, OutboxRow, RowKind

_encoder = msgspec.json.Encoder()
_workflow_decoder = msgspec.json.Decoder(Workflow)
_route_decoder = msgspec.json.Decoder(Route)
_lines_decoder = msgspec.json.Decoder(tuple[str, ...])
_details_decoder = msgspec.json.Decoder(dict[str, Any])


class Unreadable(Exception):
    """A stored document that is no workflow: damaged, or written by a version that we cannot read."""


MAX_KEY_BYTES = 1_024
"""A third of what fits into an index of PostgreSQL."""


def is_key(text: str) -> bool:
    """Whether both databases can hold it as a key. Ids of messages come from outside, as any bytes."""
    try:
        return "\x00" not in text and len(text.encode()) <= MAX_KEY_BYTES
    except UnicodeError:
        return False


def plain_text(text: str) -> str:
    """Without what a database cannot hold. For our own sentences, which may quote anything."""
    return text.encode(errors="replace").decode().replace("\x00", "\N{REPLACEMENT CHARACTER}")


def json_text(value: object) -> str:
    return _encoder.encode(value).decode()


def workflow_row(change: Change) -> Row:
    workflow = change.workflow
    release = workflow.release
    return {
        "id": workflow.id,
        "version": workflow.version,
        "state": workflow.state.value,
        "position": workflow.position,
        "current_step": workflow.current_milestone,
        "source_repo": release.source_repo,
        "source_repo_git_ref": release.source_repo_git_ref,
        "deployment_repo": release.deployment_repo,
        "deployment_repo_git_ref": release.deployment_repo_git_ref,
        "source_commit_hash": workflow.source_commit_hash,
        "wake_at": workflow.wake_at,
        "parent_id": workflow.lineage.parent_id if workflow.lineage else None,
        "plan": json_text(release.flat),
        "reason": workflow.reason or None,
        "document": json_text(workflow),
        "created_at": workflow.created_at,
    }


def workflow_of(document: str) -> Workflow:
    """Raises Unreadable. Fields that we do not know are ignored: a newer version may have written them."""
    try:
        return _workflow_decoder.decode(document)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as exc:
        raise Unreadable(str(exc)) from exc


def stand_in(row: sa.Row[Any], why: str) -> Workflow:
    """What people are shown for a row of `workflows` whose document is unreadable. Never saved."""
    reason = (
        f"the stored state of this workflow cannot be read ({why}), so nothing moves it; restore the column "
        f'"document" of row {row.id} of the table "workflows" from a backup, or run the version that wrote it'
    )
    release = Release(
        milestones=(),
        source_repo=row.source_repo,
        source_repo_git_ref=row.source_repo_git_ref,
        deployment_repo=row.deployment_repo,
        deployment_repo_git_ref=row.deployment_repo_git_ref,
    )
    return Workflow(
        id=row.id,
        version=row.version,
        release=release,
        state=State.HELD,
        created_at=row.created_at,
        reason=reason,
    )


def event_rows(change: Change) -> list[Row]:
    workflow_id = change.workflow.id
    return [
        {
            "workflow_id": workflow_id,
            "kind": entry.kind,
            "text": entry.text,
            "success": entry.success,
            "details": json_text(entry.details) if entry.details else "{}",
            "at": entry.at,
        }
        for entry in change.entries
    ]


def entry_of(row: sa.Row[Any]) -> Entry:
    details = _details_decoder.decode(row.details)
    return Entry(kind=row.kind, text=row.text, success=row.success, details=details, at=row.at)


def attempt_rows(change: Change) -> list[Row]:
    """One row per attempt, as it is after the whole change: one statement may not touch a row twice."""
    rows = {attempt.key: _attempt_row(change.workflow.id, attempt) for attempt in change.requested}
    for ended in change.ended:
        rows[ended.attempt.key] = _attempt_row(change.workflow.id, ended.attempt, ended)
    return list(rows.values())


def _attempt_row(workflow_id: str, attempt: Attempt, ended: Ended | None = None) -> Row:
    return {
        "workflow_id": workflow_id,
        "attempt": str(attempt.key),
        "generation": attempt.key.generation,
        "position": attempt.key.position,
        "number": attempt.key.number,
        "milestone": attempt.milestone,
        "requested_at": attempt.requested_at,
        "worker": attempt.worker,
        "claimed_at": attempt.claimed_at,
        "ended_at": ended.ended_at if ended else None,
        "outcome": ended.outcome if ended else None,
        "message": ended.message if ended else None,
    }


def log_rows(change: Change) -> list[Row]:
    return [
        {
            "workflow_id": change.workflow.id,
            "attempt": chunk.attempt,
            "sequence": chunk.sequence,
            "milestone": chunk.milestone,
            "lines": json_text(chunk.lines),
            "at": chunk.at,
        }
        for chunk in change.logs
    ]


def lines_of(text: str) -> tuple[str, ...]:
    return _lines_decoder.decode(text)


def outbox_rows(change: Change, owner: str) -> list[Row]:
    return [
        {
            "id": row.id,
            "workflow_id": row.workflow_id,
            "kind": row.kind.value,
            "attempt": row.attempt,
            "queue": row.queue,
            "route": json_text(row.route) if row.route else None,
            "version": row.version,
            "held": row.held,
            "body": row.body,
            "content_type": row.content_type,
            "tries": row.tries,
            "leased_by": owner or None,
        }
        for row in change.outbox
    ]


def outbox_row_of(row: sa.Row[Any]) -> OutboxRow:
    return OutboxRow(
        id=row.id,
        workflow_id=row.workflow_id,
        kind=RowKind(row.kind),
        attempt=row.attempt,
        queue=row.queue,
        route=_route_decoder.decode(row.route) if row.route else None,
        version=row.version,
        held=bool(row.held),
        body=row.body,
        content_type=row.content_type,
        tries=row.tries,
    )

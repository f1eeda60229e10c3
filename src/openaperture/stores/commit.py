"""The write behind `SqlStore.commit`: many changes, one transaction, a fixed number of statements."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import msgspec
from sqlalchemy import Connection

from openaperture.database.bulk import Row, run_all
from openaperture.domain.commands import LockCommand
from openaperture.ports import Change, CommitOutcome
from openaperture.stores.locks import LockQueues
from openaperture.stores.rows import attempt_rows, event_rows, is_key, log_rows, outbox_rows, workflow_row
from openaperture.stores.statements import Statements


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """A change as rows, made before the transaction so that it is short."""

    id: str
    expected_version: int
    workflow: Row
    events: list[Row]
    attempts: list[Row]
    logs: list[Row]
    outbox: list[Row]
    inbox: list[Row]
    locks: Sequence[LockCommand]


def rows_of(change: Change, owner: str) -> Rows | None:
    """None when the change cannot be stored: an impossible key, or no form as JSON."""
    locks = [name for command in change.locks for name in command.names]
    if not all(map(is_key, (change.workflow.id, *change.message_ids, *locks))):
        return None
    try:
        return Rows(
            id=change.workflow.id,
            expected_version=change.expected_version,
            workflow=workflow_row(change),
            events=event_rows(change),
            attempts=attempt_rows(change),
            logs=log_rows(change),
            outbox=outbox_rows(change, owner),
            inbox=[{"message_id": message_id} for message_id in change.message_ids],
            locks=change.locks,
        )
    except (UnicodeError, msgspec.MsgspecError, TypeError, OverflowError, RecursionError):
        return None


def commit(
    connection: Connection, statements: Statements, changes: Sequence[Rows], *, leased: bool
) -> list[CommitOutcome]:
    """Write those whose expected version is the stored one.

    Raises Rejected when the database refuses a value: then nothing is written, and the caller repeats
    the changes one by one.
    """
    found = connection.execute(statements.lock, {"ids": [change.id for change in changes]})
    stored: dict[str, int] = {row.id: row.version for row in found}
    current = [change for change in changes if stored.get(change.id, 0) == change.expected_version]
    # By id here too: two batches that insert the same rows then wait for each other in one direction only.
    current.sort(key=lambda change: change.id)
    # What claims a lock that it does not have, by now or ever, is refused: deciding again would claim it again.
    believed = current
    if any(change.locks for change in believed):
        current = _with_locks(connection, statements.lock_queues, believed)
    fresh = [change.workflow for change in current if change.expected_version == 0]
    known = [change.workflow for change in current if change.expected_version != 0]
    post = statements.post_leased if leased else statements.post_free
    # Ids of events and logs are given while the workflow is locked, so along one workflow they grow in
    # the order of the commits, and a reader who continues after the last id misses nothing.
    run_all(
        connection,
        (
            (statements.insert_workflow, fresh),
            (statements.update_workflow, known),
            (statements.insert_event, _flat(change.events for change in current)),
            (statements.upsert_attempt, _flat(change.attempts for change in current)),
            (statements.insert_log, _flat(change.logs for change in current)),
            (post, _flat(change.outbox for change in current)),
            (statements.insert_inbox, _flat(change.inbox for change in current)),
        ),
    )
    outcomes = dict.fromkeys((change.id for change in believed), CommitOutcome.REFUSED)
    outcomes |= dict.fromkeys((change.id for change in current), CommitOutcome.SAVED)
    return [outcomes.get(change.id, CommitOutcome.CONFLICT) for change in changes]


def _with_locks(connection: Connection, queues: LockQueues, changes: Sequence[Rows]) -> list[Rows]:
    """Those whose locks are as they believe; what they ask of locks is done."""
    names = {name for change in changes for command in change.locks for name in command.names}
    queues.lock_rows(connection, names)
    sound = [change for change in changes if queues.may_keep(connection, change.id, change.locks)]
    for change in sound:
        queues.apply(connection, change.id, change.locks)
    queues.grant(connection, names)
    return sound


def _flat(groups: Iterable[list[Row]]) -> list[Row]:
    return [row for group in groups for row in group]

"""What a decision asks for, as rows of the outbox: requests, notes for people, the Manager's record."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from openaperture.domain.commands import Decision
from openaperture.domain.notes import Note, email_of, notes_of, prefix_of, rooms_of, with_log
from openaperture.domain.workflow import State, Wire, Workflow
from openaperture.engine.ports import NoticeWriter
from openaperture.engine.requests import RequestBuilder
from openaperture.ports import OutboxRow, RowKind, record_id

NOTES_QUEUE = "notifications_hipchat"
EMAIL_QUEUE = "notifications_email"


class OutboxWriter:
    """Stateless but for its settings."""

    def __init__(
        self,
        requests: RequestBuilder,
        *,
        notices: NoticeWriter | None = None,
        ui_url: str | None = None,
        records: bool = False,
    ) -> None:
        """`notices`: tell a Notifications module; None tells nobody. `records`: a Manager elsewhere has to

        know a workflow before anything is asked of a worker.
        """
        self._requests = requests
        self._notices = notices
        self._ui_url = ui_url
        self._records = records

    def write(self, before: Workflow, decision: Decision, now: datetime) -> tuple[Decision, list[OutboxRow]]:
        """The decision, its workflow's log continued, and the rows. Their version is not known here yet."""
        rows: list[OutboxRow] = []
        workflow = decision.workflow
        if self._records or self._notices is not None or workflow.wire is Wire.TERMS:
            notes = notes_of(workflow, decision.entries, now)
            email = email_of(workflow, self._ui_url) if self._notices and not before.ended else None
            if email is not None:
                notes.append(Note(text=f"e-mail sent to {', '.join(email.addresses)}"))
            workflow = with_log(workflow, notes)
            if self._notices is not None:
                rows += [self._note_row(self._notices, workflow, note) for note in notes]
                rows += (
                    [self._row(self._notices, workflow, EMAIL_QUEUE, self._notices.email(email))] if email else []
                )
        rows += [self._requests.build(workflow, dispatch.attempt, now) for dispatch in decision.dispatches]
        return (decision if workflow is decision.workflow else replace(decision, workflow=workflow)), rows

    def complete(self, after: Workflow, rows: Sequence[OutboxRow], version: int) -> list[OutboxRow]:
        """The rows of one change of a workflow: named, versioned, and held until the Manager knows of it."""
        named = [
            replace(row, id=row.id or f"{after.id}.{version}.{number}", version=version)
            for number, row in enumerate(rows)
        ]
        if not self._records:
            return named
        waiting = [row for row in named if _waits_for_record(row)]
        if waiting or after.state is not State.RUNNING:
            named = [replace(row, held=_waits_for_record(row)) for row in named]
            row_id = record_id(after.id)
            named.append(OutboxRow(id=row_id, workflow_id=after.id, kind=RowKind.RECORD, version=version))
        return named

    def _note_row(self, notices: NoticeWriter, workflow: Workflow, note: Note) -> OutboxRow:
        body = notices.note(
            success=note.success, prefix=prefix_of(workflow), text=note.text, rooms=rooms_of(workflow)
        )
        return self._row(notices, workflow, NOTES_QUEUE, body)

    def _row(self, notices: NoticeWriter, workflow: Workflow, queue: str, body: bytes) -> OutboxRow:
        return OutboxRow(
            id="",
            workflow_id=workflow.id,
            kind=RowKind.NOTICE,
            queue=queue,
            body=body,
            content_type=notices.content_type,
        )


def _waits_for_record(row: OutboxRow) -> bool:
    """Notes may go out at once; what makes somebody do something, or tells of the end, may not."""
    return row.kind is RowKind.REQUEST or row.queue == EMAIL_QUEUE

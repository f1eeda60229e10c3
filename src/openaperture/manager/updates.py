"""PUT of a workflow, as orchestrators, workers and people of the original do it.

    nobody has begun it, and no step is named     what it asks for is changed
    nobody has begun it, and a step is named      an orchestrator elsewhere runs it: its record is kept
    it is recorded by one elsewhere               the record is replaced, unless that would take it back
    our engine runs it                            it moves by its own rules; `workflow_error` is a cancel

What would take a workflow back behind a newer state is refused: a cancel that was made, an end that was reached,
or a log that was longer. Then 409 is the answer, and nothing is changed.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from openaperture.domain.errors import WrongState
from openaperture.domain.releases import Release
from openaperture.domain.workflow import State, Workflow
from openaperture.engine.revisions import Revisions
from openaperture.engine.verbs import Verbs
from openaperture.manager.views import step_of
from openaperture.ports import Fields, ForeignRecords


class Updates:
    """What a PUT means, by who runs the workflow."""

    def __init__(self, verbs: Verbs, revisions: Revisions, foreign: ForeignRecords) -> None:
        self._verbs = verbs
        self._revisions = revisions
        self._foreign = foreign

    async def put(self, workflow: Workflow, fields: Fields, by: str) -> None:
        """`fields` are the original's, those that were sent. Raises WrongState."""
        record = (await self._foreign.find_foreign([workflow.id])).get(workflow.id)
        if record is None and workflow.state is not State.CREATED:
            await self._of_ours(workflow, fields, by)
        elif record is None and not _tells_of_a_run(fields):
            await self._of_unstarted(workflow, fields, by)
        else:
            await self._of_foreign(workflow, record or {}, fields)

    async def _of_ours(self, workflow: Workflow, fields: Fields, by: str) -> None:
        if fields.get("workflow_error"):
            if workflow.state is State.COMPLETED:
                raise _back(workflow, "it has completed without an error")
            if not workflow.ended and workflow.state is not State.CANCELLING:
                await self._verbs.cancel(workflow.id, by=by, reason="workflow_error was set")
            return
        if workflow.state in {State.FAILED, State.CANCELLED, State.CANCELLING}:
            raise _back(workflow, "its workflow_error is true")
        if bool(fields.get("workflow_completed", workflow.ended)) is not workflow.ended:
            raise _back(workflow, "it has ended" if workflow.ended else "it has not ended")
        step = step_of(workflow)
        if fields.get("current_step", step) != step:
            raise _back(workflow, f'it is at "{step}"')

    async def _of_unstarted(self, workflow: Workflow, fields: Fields, by: str) -> None:
        if fields.get("workflow_error"):
            await self._verbs.cancel(workflow.id, by=by, reason="workflow_error was set")
            return
        await self._revisions.revise(workflow.id, lambda release: _revised(release, fields), by)

    async def _of_foreign(self, workflow: Workflow, record: Fields, fields: Fields) -> None:
        known = {name: value for name, value in record.items() if name != "updated_at"}
        going_back = _way_back(workflow, known, fields)
        if going_back is None:
            await self._foreign.put_foreign(workflow.id, {**known, **fields})
        elif fields.get("workflow_error"):
            # A cancel by somebody who has seen an older state: that alone counts.
            await self._foreign.put_foreign(workflow.id, {**known, "workflow_error": True})
        else:
            raise _back(workflow, going_back)


def _tells_of_a_run(fields: Fields) -> bool:
    """An orchestrator always names a step, if only an empty one; people who edit a row leave it null."""
    return fields.get("current_step") is not None or bool(fields.get("workflow_completed"))


def _way_back(workflow: Workflow, record: Fields, fields: Fields) -> str | None:
    """Why these fields are older than what is known; None when they are not."""
    merged = {**record, **fields}
    if workflow.state is State.CANCELLED and not merged.get("workflow_error"):
        return "it was cancelled"
    for name in ("workflow_error", "workflow_completed"):
        if record.get(name) and not merged.get(name):
            return f"its {name} is true"
    return "its event_log has gone on" if _is_cut(_log(merged), _log(record)) else None


def _log(fields: Fields) -> list[str]:
    return fields.get("event_log") or []


def _is_cut(told: list[str], known: list[str]) -> bool:
    """Whether it is the beginning of a longer one. One that lost its oldest lines is none: logs are bounded."""
    return len(told) < len(known) and known[: len(told)] == told


def _back(workflow: Workflow, why: str) -> WrongState:
    return WrongState(
        f"workflow {workflow.id} is not taken back: {why}; read it again, and send what follows from there"
    )


def _revised(release: Release, fields: Fields) -> Release:
    changed: Mapping[str, Any] = {
        name: value for name, value in fields.items() if name in Release.__dataclass_fields__
    }
    flat = tuple(changed.get("milestones", release.flat) or ())
    # Who sends back what was read knows nothing of groups, and does not mean to take them apart.
    milestones = release.milestones if flat == release.flat else flat
    return replace(release, **{**changed, "milestones": milestones})

"""PUT of a workflow, as orchestrators, workers and people of the original do it.

    nobody has begun it, and no step is named     what it asks for is changed
    nobody has begun it, and a step is named      an orchestrator elsewhere runs it: its record is kept
    it is recorded by one elsewhere               the record is replaced, unless that would take it back
    our engine runs it                            it moves by its own rules; `workflow_error` is a cancel

What would take a workflow back behind a newer state is refused: a cancel that was made, an end that was reached,
or a log that was longer. Then 409 is the answer, and nothing is changed.

Programs change nothing that our engine runs or will run: that is for people. An orchestrator elsewhere begins
records and replaces them, and of a worker only the log counts. Else 403 is the answer.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from openaperture.domain.access import LADDER, Identity, Role
from openaperture.domain.errors import Contested, NotAllowed, WrongState
from openaperture.domain.releases import Release
from openaperture.domain.workflow import State, Workflow
from openaperture.manager.follow import Follower
from openaperture.manager.parts import Parts
from openaperture.manager.views import step_of
from openaperture.ports import Fields

MAX_ROUNDS = 16
"""Of so many that put the same workflow at once, each gets through: in each round one does."""


class Updates:
    """What a PUT means, by who runs the workflow and who sends it."""

    def __init__(self, parts: Parts, follower: Follower) -> None:
        self._verbs = parts.verbs
        self._revisions = parts.revisions
        self._foreign = parts.foreign
        self._follower = follower

    async def put(self, workflow_id: str, fields: Fields, by: Identity) -> None:
        """`fields` are the original's, those that were sent.

        Raises UnknownWorkflow, WrongState, NotAllowed, Contested.
        """
        for _ in range(MAX_ROUNDS):
            workflow = await self._follower.get_workflow(workflow_id)
            record = (await self._foreign.find_foreign([workflow.id])).get(workflow.id)
            if record is None and workflow.state is not State.CREATED:
                return await self._of_ours(workflow, fields, by)
            if record is None and not _tells_of_a_run(fields):
                return await self._of_unstarted(workflow, fields, by)
            if await self._of_foreign(workflow, record, fields, by):
                return None
            # It was changed since it was read, and what this one means has to be judged anew.
        raise Contested(f"workflow {workflow_id} is being changed by others without pause; try again")

    async def _of_ours(self, workflow: Workflow, fields: Fields, by: Identity) -> None:
        if fields.get("workflow_error"):
            if workflow.state is State.COMPLETED:
                raise _back(workflow, "it has completed without an error")
            if not workflow.ended and workflow.state is not State.CANCELLING:
                _require_person(workflow, by, "cancel it")
                await self._verbs.cancel(workflow.id, by=by.name, reason="workflow_error was set")
            return
        if workflow.state in {State.FAILED, State.CANCELLED, State.CANCELLING}:
            raise _back(workflow, "its workflow_error is true")
        if bool(fields.get("workflow_completed", workflow.ended)) is not workflow.ended:
            raise _back(workflow, "it has ended" if workflow.ended else "it has not ended")
        step = step_of(workflow)
        if fields.get("current_step", step) != step:
            raise _back(workflow, f'it is at "{step}"')

    async def _of_unstarted(self, workflow: Workflow, fields: Fields, by: Identity) -> None:
        _require_person(workflow, by, "change or cancel it before it starts")
        if fields.get("workflow_error"):
            await self._verbs.cancel(workflow.id, by=by.name, reason="workflow_error was set")
            return
        await self._revisions.revise(workflow.id, lambda release: _revised(release, fields), by.name)

    async def _of_foreign(self, workflow: Workflow, record: Fields | None, fields: Fields, by: Identity) -> bool:
        """False when it was changed meanwhile, and nothing was done."""
        if by.role is Role.WORKER:
            fields = _told_by_worker(workflow, record, fields)
        known = {name: value for name, value in (record or {}).items() if name != "updated_at"}
        going_back = _way_back(workflow, known, fields)
        if going_back is None:
            merged = {**known, **fields}
        elif fields.get("workflow_error"):
            # A cancel by somebody who has seen an older state: that alone counts.
            merged = {**known, "workflow_error": True}
        else:
            raise _back(workflow, going_back)
        return await self._foreign.put_foreign(workflow.id, merged, version=workflow.version, known=record)


def _require_person(workflow: Workflow, by: Identity, deed: str) -> None:
    if by.role not in LADDER:
        raise NotAllowed(
            f'workflow {workflow.id} is not run by an orchestrator elsewhere, so "{by.name}", with the role '
            f"{by.role}, may not {deed}; that needs the role {Role.OPERATOR}"
        )


def _told_by_worker(workflow: Workflow, record: Fields | None, fields: Fields) -> Fields:
    """What counts of a worker's save: its lines of the log. Builders of the original send the whole row with it.

    Raises NotAllowed when the save says more than a worker has to say.
    """
    if record is None:
        raise NotAllowed(
            f"workflow {workflow.id} is recorded by no orchestrator elsewhere, and a worker does not begin a "
            f"record; orchestrators need a client with the role {Role.ORCHESTRATOR}"
        )
    for name in ("workflow_error", "workflow_completed"):
        if fields.get(name) and not record.get(name):
            raise NotAllowed(f"workflow {workflow.id}: a worker does not set {name}; it answers its orchestrator")
    return {name: value for name, value in fields.items() if name == "event_log"}


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

"""What people can do to a workflow, through the same path as every message."""

from uuid import uuid4

from openaperture.domain import events as e
from openaperture.domain.errors import UnknownWorkflow, WrongState
from openaperture.domain.moves import MOVES, accepts
from openaperture.domain.workflow import Release, Workflow
from openaperture.engine.decider import Decider, Outcome
from openaperture.engine.intake import Item
from openaperture.ports import Records

_VERBS: dict[type[e.Event], str] = {
    e.StartRequested: "started",
    e.CancelRequested: "cancelled",
    e.Resolved: "resolved",
}


class Verbs:
    """Durable when a method returns. Raises UnknownWorkflow, WrongState, StoreUnavailable."""

    def __init__(self, decider: Decider, records: Records) -> None:
        self._decider = decider
        self._records = records

    async def create(self, workflow_id: str | None, release: Release) -> str:
        """Store a workflow; nothing runs yet. Creating the same again changes nothing.

        Raises WrongState when the id belongs to a workflow that asks for something else.
        """
        chosen = workflow_id or str(uuid4())
        outcomes = await self._decider.apply(
            [Item(workflow_id=chosen, event=e.Created(), seed=Workflow(id=chosen, release=release))]
        )
        if outcomes[0] is not Outcome.APPLIED:
            raise WrongState(f"workflow {chosen} could not be stored; the log of the orchestrator says why")
        if workflow_id is not None and (await self._get(chosen)).release != release:
            raise WrongState(
                f"workflow {chosen} exists already and asks for something else; choose another id, or none"
            )
        return chosen

    async def start(self, workflow_id: str, by: str) -> Workflow:
        """Run a created workflow. `by` is who asked, for the audit."""
        return await self._apply(workflow_id, e.StartRequested(by=by))

    async def cancel(self, workflow_id: str, by: str, reason: str = "") -> Workflow:
        """End it: at once, or after its worker had a moment to stop."""
        return await self._apply(workflow_id, e.CancelRequested(by=by, reason=reason))

    async def resolve(self, workflow_id: str, resolution: e.Resolution, by: str, reason: str = "") -> Workflow:
        """Say what became of a held milestone."""
        return await self._apply(workflow_id, e.Resolved(resolution=resolution, by=by, reason=reason))

    async def _apply(self, workflow_id: str, event: e.Event) -> Workflow:
        workflow = await self._get(workflow_id)
        if not accepts(workflow.state, event):
            raise WrongState(_why_not(workflow, event))
        outcomes = await self._decider.apply([Item(workflow_id=workflow_id, event=event)])
        if outcomes[0] is not Outcome.APPLIED:
            raise WrongState(f"workflow {workflow_id} could not be changed; the log of the orchestrator says why")
        return await self._get(workflow_id)

    async def _get(self, workflow_id: str) -> Workflow:
        workflow = await self._records.find_workflow(workflow_id)
        if workflow is None:
            raise UnknownWorkflow(f'there is no workflow {workflow_id}; "openaperture list" shows those that are')
        return workflow


def _why_not(workflow: Workflow, event: e.Event) -> str:
    fitting = [verb for kind, verb in _VERBS.items() if kind in MOVES[workflow.state]]
    what = f"it can be {' or '.join(fitting)}" if fitting else "nothing can be done to it any more"
    return f"workflow {workflow.id} is {workflow.state} and cannot be {_VERBS[type(event)]}; {what}"

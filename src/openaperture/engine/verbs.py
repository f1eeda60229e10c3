"""What people can do to a workflow, through the same path as every message."""

from collections.abc import Mapping
from uuid import uuid4

from openaperture.domain import events as e
from openaperture.domain.decide import held_step, objection_to, objection_to_forcing
from openaperture.domain.errors import NotAllowed, UnknownWorkflow, WrongState
from openaperture.domain.lineage import Repeat, successor_of
from openaperture.domain.milestones import MilestoneKind
from openaperture.domain.moves import MOVES, accepts
from openaperture.domain.releases import Release
from openaperture.domain.workflow import State, Workflow
from openaperture.engine.admission import Admission
from openaperture.engine.decider import Decider, Outcome
from openaperture.engine.intake import Item
from openaperture.ports import Records

_VERBS: dict[type[e.Event], str] = {
    e.StartRequested: "started",
    e.CancelRequested: "cancelled",
    e.PauseRequested: "paused",
    e.ResumeRequested: "resumed",
    e.Voted: "approved or rejected",
    e.Resolved: "resolved",
}


class Verbs:
    """Durable when a method returns. Raises UnknownWorkflow, WrongState, NotAllowed, StoreUnavailable.

    `by` is who asks, for the history of the workflow.
    """

    def __init__(
        self,
        decider: Decider,
        records: Records,
        kinds: Mapping[str, MilestoneKind],
        *,
        admission: Admission | None = None,
    ) -> None:
        """While `admission` is closed, nothing is started."""
        self._admission = admission
        self._decider = decider
        self._records = records
        self.kinds = kinds

    # ------------------------------------------------------------------------------ begin and repeat

    async def create(self, workflow_id: str | None, release: Release, by: str) -> str:
        """Store a workflow; nothing runs yet. Creating the same again changes nothing.

        Raises WrongState when the id belongs to a workflow that asks for something else.
        """
        chosen = workflow_id or str(uuid4())
        seed = Workflow(id=chosen, release=release, created_by=by)
        await self._decide(Item(workflow_id=chosen, event=e.Created(), seed=seed))
        if workflow_id is not None and (await self._get(chosen)).release != release:
            raise WrongState(
                f"workflow {chosen} exists already and asks for something else; choose another id, or none"
            )
        return chosen

    async def start(self, workflow_id: str, by: str) -> Workflow:
        """Run a created workflow. Raises TryLater while nothing new may begin."""
        if self._admission is not None:
            await self._admission.require()
        return await self._apply(workflow_id, e.StartRequested(by=by))

    async def repeat(
        self,
        workflow_id: str,
        repeat: Repeat,
        by: str,
        *,
        milestone: str | None = None,
        newest: bool = False,
        new_id: str | None = None,
    ) -> Workflow:
        """Store and start a workflow that does this one, which has ended, again; see `domain.lineage`.

        With `new_id`, doing it again changes nothing.
        """
        chosen = new_id or str(uuid4())
        ended = await self._get(workflow_id)
        seed = successor_of(ended, repeat, chosen, by, milestone=milestone, newest=newest)
        known = await self._records.find_workflow(chosen)
        if known is None:
            if self._admission is not None:
                await self._admission.require()
            # Both or neither: it is never stored without being started.
            events = (e.Created(), e.StartRequested(by=by))
            await self._decide(*(Item(workflow_id=chosen, event=event, seed=seed) for event in events))
        elif known.lineage != seed.lineage:
            raise WrongState(f"workflow {chosen} exists already and is something else; choose another id, or none")
        return await self._get(chosen)

    # ----------------------------------------------------------------------------------- control

    async def cancel(self, workflow_id: str, by: str, reason: str = "", *, force: bool = False) -> Workflow:
        """End it: at once, or after its worker had a moment to stop. With `force` at once in any case."""
        return await self._apply(workflow_id, e.CancelRequested(by=by, reason=reason, force=force))

    async def pause(self, workflow_id: str, by: str, reason: str = "") -> Workflow:
        """Begin nothing more; what runs may end."""
        return await self._apply(workflow_id, e.PauseRequested(by=by, reason=reason))

    async def resume(self, workflow_id: str, by: str, reason: str = "") -> Workflow:
        """Go on."""
        workflow = await self._get(workflow_id)
        if workflow.pause is None and not workflow.ended:
            raise WrongState(
                f"workflow {workflow_id} is {workflow.state} and not paused; there is nothing to resume"
            )
        return await self._apply(workflow_id, e.ResumeRequested(by=by, reason=reason))

    async def resolve(self, workflow_id: str, resolved: e.Resolved) -> Workflow:
        """Say what became of a held milestone."""
        workflow = await self._get(workflow_id)
        if workflow.state is State.HELD and held_step(workflow, resolved.milestone) is None:
            held = ", ".join(step.milestone for step in workflow.steps if step.unknown)
            raise WrongState(f"workflow {workflow_id} is held at {held}; say which one is meant")
        return await self._apply(workflow_id, resolved)

    async def vote(self, workflow_id: str, vote: e.Voted) -> Workflow:
        """Approve or reject. Raises NotAllowed when this person has no say in it."""
        workflow = await self._get(workflow_id)
        if objection := objection_to(workflow, vote, self.kinds):
            waits = any(step.wait is not None and step.wait.code == "approval" for step in workflow.steps)
            raise NotAllowed(objection) if waits else WrongState(objection)
        return await self._apply(workflow_id, vote)

    async def release_lock(self, name: str, by: str, reason: str = "", *, force: bool = False) -> str:
        """Take a lock away from whoever has it; returns the id of that workflow. The next in the queue gets it.

        Without `force` not from one at whose milestone a worker may be: two would be at the same thing.
        """
        holder = next((claim for claim in await self._records.list_locks([name]) if claim.holds), None)
        if holder is None:
            raise WrongState(f'nobody has the lock "{name}"; "openaperture locks" shows those that are taken')
        objection = objection_to_forcing(await self._get(holder.workflow_id))
        if objection and not force:
            raise WrongState(objection)
        await self._apply(holder.workflow_id, e.LockForced(name=name, by=by, reason=reason, force=force))
        after = await self._records.list_locks([name])
        if any(claim.holds and claim.workflow_id == holder.workflow_id for claim in after):
            raise WrongState(f'workflow {holder.workflow_id} is just being given the lock "{name}"; try again')
        return holder.workflow_id

    # ------------------------------------------------------------------------------------ pieces

    async def _apply(self, workflow_id: str, event: e.Event) -> Workflow:
        workflow = await self._get(workflow_id)
        if not accepts(workflow.state, event):
            raise WrongState(_why_not(workflow, event))
        await self._decide(Item(workflow_id=workflow_id, event=event))
        return await self._get(workflow_id)

    async def _decide(self, *items: Item) -> None:
        outcomes = await self._decider.apply(items)
        if any(outcome is not Outcome.APPLIED for outcome in outcomes):
            workflow_id = items[0].workflow_id
            raise WrongState(f"workflow {workflow_id} could not be changed; the log of the orchestrator says why")

    async def _get(self, workflow_id: str) -> Workflow:
        workflow = await self._records.find_workflow(workflow_id)
        if workflow is None:
            raise UnknownWorkflow(f'there is no workflow {workflow_id}; "openaperture list" shows those that are')
        return workflow


def _why_not(workflow: Workflow, event: e.Event) -> str:
    fitting = [verb for kind, verb in _VERBS.items() if kind in MOVES[workflow.state] and _has_use(workflow, kind)]
    what = f"it can be {' or '.join(fitting)}" if fitting else "it has ended, and can only be run again as another"
    return f"workflow {workflow.id} is {workflow.state} and cannot be {_VERBS[type(event)]}; {what}"


def _has_use(workflow: Workflow, kind: type[e.Event]) -> bool:
    """Whether it would change anything now."""
    if kind is e.Voted:
        return any(step.wait is not None and step.wait.code == "approval" for step in workflow.steps)
    if kind in {e.PauseRequested, e.ResumeRequested}:
        return (workflow.pause is None) is (kind is e.PauseRequested)
    return True

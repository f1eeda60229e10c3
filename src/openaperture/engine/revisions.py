"""Changes of what a workflow asks for, while it has not started: after that it never changes."""

from collections.abc import Callable
from dataclasses import replace

from openaperture.domain.errors import BadInput, StoreUnavailable, UnknownWorkflow, WrongState
from openaperture.domain.history import Entry
from openaperture.domain.releases import Release
from openaperture.domain.workflow import State
from openaperture.ports import Change, CommitOutcome, Store

MAX_ROUNDS = 8
Revise = Callable[[Release], Release]


class Revisions:
    """Durable when a method returns. Raises UnknownWorkflow, WrongState, StoreUnavailable."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def revise(self, workflow_id: str, revise: Revise, by: str) -> None:
        """Replace the release of a workflow that has not started. The same again changes nothing."""
        for _ in range(MAX_ROUNDS):
            change = await self._change(workflow_id, revise, by)
            if change is None:
                return
            [outcome] = await self._store.commit([change])
            match outcome:
                case CommitOutcome.SAVED:
                    return
                case CommitOutcome.REFUSED:
                    raise BadInput(f"workflow {workflow_id} cannot be stored with what it is to ask for now")
                case CommitOutcome.CONFLICT:
                    continue
        raise StoreUnavailable(f"workflow {workflow_id} is being changed by others without pause; try again")

    async def _change(self, workflow_id: str, revise: Revise, by: str) -> Change | None:
        """None when there is nothing to change."""
        loaded = await self._store.load([workflow_id])
        workflow = loaded.workflows.get(workflow_id)
        if workflow is None:
            raise UnknownWorkflow(f'there is no workflow {workflow_id}; "openaperture list" shows those that are')
        if workflow.state is not State.CREATED:
            raise WrongState(f"workflow {workflow_id} is {workflow.state}: what it asks for is settled by now")
        release = revise(workflow.release)
        if release == workflow.release:
            return None
        entry = Entry(kind="workflow.revised", text=f"what it asks for was changed by {by}", at=loaded.now)
        authors = tuple(sorted({*workflow.written_by, by}))
        revised = replace(workflow, release=release, written_by=authors, version=workflow.version + 1)
        return Change(workflow=revised, expected_version=workflow.version, entries=(entry,))

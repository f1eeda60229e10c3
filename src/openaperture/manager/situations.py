"""Collects what `explain` needs to know, for many workflows at once."""

from collections.abc import Mapping, Sequence

from openaperture.domain.milestones import MilestoneKind
from openaperture.domain.workflow import State, Workflow
from openaperture.manager.explain import Situation
from openaperture.ports import LockClaim, Records, Sighting, Trouble


class Situations:
    """Asks the records only for what some of the workflows have use for."""

    def __init__(self, records: Records, kinds: Mapping[str, MilestoneKind]) -> None:
        self._records = records
        self._kinds = kinds

    async def of_many(self, workflows: Sequence[Workflow]) -> list[Situation]:
        """In their order; without what takes a query for each."""
        under_way = [workflow for workflow in workflows if not workflow.ended]
        troubles = await self._records.list_troubles([workflow.id for workflow in under_way]) if under_way else {}
        claims = await self._claims_of(under_way)
        return [self._situation(workflow, troubles.get(workflow.id), claims) for workflow in workflows]

    async def of_one(self, workflow: Workflow) -> Situation:
        trouble = (await self._records.list_troubles([workflow.id])).get(workflow.id)
        claims = await self._claims_of([workflow])
        unclaimed = [attempt.milestone for attempt in workflow.live if attempt.worker is None]
        sightings = await self._records.find_sightings(unclaimed) if unclaimed else {}
        backlog = await self._records.count_outbox() if trouble else 0
        return self._situation(workflow, trouble, claims, sightings, backlog)

    async def _claims_of(self, workflows: Sequence[Workflow]) -> list[LockClaim]:
        waiting = [workflow for workflow in workflows if workflow.state is State.WAITING and workflow.wait]
        names = {name for workflow in waiting for name in workflow.release.locks}
        return await self._records.list_locks(names) if names else []

    def _situation(
        self,
        workflow: Workflow,
        trouble: Trouble | None,
        claims: Sequence[LockClaim],
        sightings: Mapping[str, Sighting] | None = None,
        backlog: int = 0,
    ) -> Situation:
        mine = [claim for claim in claims if claim.name in workflow.release.locks]
        return Situation(
            kinds=self._kinds, trouble=trouble, claims=mine, sightings=sightings or {}, backlog=backlog
        )

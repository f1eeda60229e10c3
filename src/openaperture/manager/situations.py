"""Collects what `explain` needs to know, for many workflows at once."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

from openaperture.domain.milestones import MilestoneKind, kind_of
from openaperture.domain.workflow import State, Workflow
from openaperture.manager.explain import Situation
from openaperture.ports import Errand, LockClaim, Records, Sighting, Traffic

SLOW = timedelta(seconds=5)
"""An errand that waits longer is worth a word, also when nothing has gone wrong with it."""
COUNTED_AT_WORK = 100


class Situations:
    """Asks the records only for what some of the workflows have use for."""

    def __init__(self, records: Records, traffic: Traffic, kinds: Mapping[str, MilestoneKind]) -> None:
        self._records = records
        self._traffic = traffic
        self._kinds = kinds

    async def of_many(self, workflows: Sequence[Workflow]) -> list[Situation]:
        """In their order; without what takes a query for each."""
        under_way = [workflow for workflow in workflows if not workflow.ended]
        troubles = await self._records.list_troubles([workflow.id for workflow in under_way])
        claims = await self._claims_of(under_way)
        return [
            Situation(kinds=self._kinds, trouble=troubles.get(workflow.id), claims=_of(workflow, claims))
            for workflow in workflows
        ]

    async def of_one(self, workflow: Workflow) -> Situation:
        trouble = (await self._records.list_troubles([workflow.id])).get(workflow.id)
        errand = None if workflow.ended else await self._slow_errand(workflow)
        unclaimed = [attempt.milestone for attempt in workflow.live if attempt.worker is None]
        return Situation(
            kinds=self._kinds,
            trouble=trouble,
            errand=errand,
            claims=_of(workflow, await self._claims_of([workflow])),
            sightings=await self._records.find_sightings(unclaimed),
            at_work={name: await self._at_work_beside(name) for name in unclaimed},
            backlog=await self._records.count_outbox() if trouble or errand else 0,
        )

    async def _slow_errand(self, workflow: Workflow) -> Errand | None:
        errand = await self._traffic.find_errand(workflow.id)
        return errand if errand is not None and errand.since < datetime.now(UTC) - SLOW else None

    async def _at_work_beside(self, milestone: str) -> Sequence[Sighting]:
        """What the workers of its queue are at."""
        queue = kind_of(self._kinds, milestone).queue
        same = {
            milestone,
            *(kind.name for kind in self._kinds.values() if queue is not None and kind.queue == queue),
        }
        return await self._traffic.list_at_work(same, limit=COUNTED_AT_WORK)

    async def _claims_of(self, workflows: Sequence[Workflow]) -> list[LockClaim]:
        waiting = [workflow for workflow in workflows if workflow.state is State.WAITING and workflow.wait]
        names = {name for workflow in waiting for name in workflow.release.locks}
        return await self._records.list_locks(names) if names else []


def _of(workflow: Workflow, claims: Sequence[LockClaim]) -> list[LockClaim]:
    return [claim for claim in claims if claim.name in workflow.release.locks]

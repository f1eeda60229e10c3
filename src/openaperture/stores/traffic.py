"""What is under way by now, for those who look why something waits."""

from collections.abc import Collection

from sqlalchemy import select

from openaperture.database import Database
from openaperture.database.tables import attempts, outbox, workflows
from openaperture.domain.workflow import State
from openaperture.ports import Errand, RowKind, Sighting

_AT_WORK = (State.RUNNING.value, State.CANCELLING.value)
"""States of workflows whose workers are known to be at it."""


class SqlTraffic:
    """The port Traffic."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def list_at_work(self, milestones: Collection[str], *, limit: int) -> list[Sighting]:
        # By way of the workflows that run: of attempts there are as many as there ever were.
        query = (
            select(attempts.c.worker, attempts.c.claimed_at)
            .join(workflows, workflows.c.id == attempts.c.workflow_id)
            .where(
                workflows.c.state.in_(_AT_WORK),
                attempts.c.milestone.in_(list(milestones)),
                attempts.c.claimed_at.is_not(None),
                attempts.c.ended_at.is_(None),
            )
            .order_by(attempts.c.claimed_at.desc(), attempts.c.worker)
            .limit(limit)
        )
        return await self._database.read(
            lambda connection: [
                Sighting(worker=row.worker, at=row.claimed_at) for row in connection.execute(query)
            ]
        )

    async def find_errand(self, workflow_id: str) -> Errand | None:
        query = (
            select(outbox.c.kind, outbox.c.inserted_at)
            .where(outbox.c.workflow_id == workflow_id, outbox.c.kind != RowKind.NOTICE.value)
            .order_by(outbox.c.inserted_at)
            .limit(1)
        )
        row = await self._database.read(lambda connection: connection.execute(query).first())
        return None if row is None else Errand(kind=RowKind(row.kind), since=row.inserted_at)

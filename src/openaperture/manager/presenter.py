"""One workflow as an answer: with its attempts, its history and those that repeat it."""

from datetime import UTC, datetime

from fastapi import Response

from openaperture.domain.workflow import Workflow
from openaperture.manager.answers import answer
from openaperture.manager.foreign_views import as_recorded
from openaperture.manager.parts import Parts
from openaperture.manager.situations import Situations
from openaperture.manager.views import workflow_of

MAX_ENTRIES = 1_000
"""Of the history, shown with a workflow; the rest is at `/events`."""


class Presenter:
    """Reads what belongs to a workflow, and shows it."""

    def __init__(self, parts: Parts) -> None:
        self._records = parts.records
        self._foreign = parts.foreign
        self.situations = Situations(parts.records, parts.traffic, parts.verbs.kinds)

    async def show(self, workflow: Workflow, *, status: int = 200, location: str | None = None) -> Response:
        entries = await self._records.list_entries(workflow.id, limit=MAX_ENTRIES)
        attempts = await self._records.list_attempts(workflow.id)
        children = [child.id for child in await self._records.list_children(workflow.id)]
        about = await self.situations.of_one(workflow)
        record = (await self._foreign.find_foreign([workflow.id])).get(workflow.id)
        shown = workflow_of(
            workflow, datetime.now(UTC), about, entries=entries, attempts=attempts, children=children
        )
        response = answer(
            as_recorded(shown, workflow, record), headers={"location": location} if location else None
        )
        response.status_code = status
        return response

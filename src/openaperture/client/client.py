"""The Manager's routes as methods."""

from collections.abc import Sequence
from datetime import datetime
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import httpx
import msgspec

from openaperture.client.access import AccessCalls
from openaperture.client.control import ControlCalls
from openaperture.client.directory import DirectoryCalls
from openaperture.client.models import (
    Attempt,
    EventPage,
    LogPage,
    NewWorkflow,
    Workflow,
    WorkflowPage,
    WorkflowSummary,
)
from openaperture.client.transport import Transport, path_of

MAX_WAIT_SECONDS = 30.0
"""The longest that a Manager holds a long poll."""

P = TypeVar("P", EventPage, LogPage)


class ManagerClient:
    """A session with a Manager. Use it with `async with`.

    Every method raises BadInput (the request cannot be used), UnknownWorkflow, WrongState,
    AccessRefused, ManagerUnavailable, UnusableAnswer; their texts are meant for people.
    """

    def __init__(self, url: str, token: str, transport: httpx.AsyncBaseTransport | None = None) -> None:
        """`transport` replaces the network, for a Manager in this process. Raises ConfigError."""
        self._transport = Transport(url, token, transport)
        self.control = ControlCalls(self._transport)
        """Decisions of people, and locks."""
        self.directory = DirectoryCalls(self._transport)
        """Brokers, exchanges, clusters, modules."""
        self.access = AccessCalls(self._transport)
        """Tokens, clients and the audit."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._transport.close()

    # -------------------------------------------------------------------------- create and start

    async def create(self, new: NewWorkflow) -> str:
        """Store a workflow without starting it; returns its id. Repeating it with the same id is harmless."""
        chosen = msgspec.structs.replace(new, id=new.id or str(uuid4()))
        # With an id of our own the request may be sent again when its outcome is unknown.
        response = await self._transport.post("/workflows", chosen, repeatable=True)
        return response.headers.get("location", "").rpartition("/")[2] or str(chosen.id)

    async def execute(self, workflow_id: str) -> None:
        """Start a created workflow."""
        await self._transport.post(path_of(workflow_id, "/execute"), {})

    async def submit(self, new: NewWorkflow) -> str:
        """Create and start; returns the id."""
        workflow_id = await self.create(new)
        await self.execute(workflow_id)
        return workflow_id

    # ---------------------------------------------------------------------------------- reading

    async def get_workflow(self, workflow_id: str) -> Workflow:
        """The workflow with its attempts and the texts of its history."""
        return await self._transport.get(path_of(workflow_id), Workflow)

    async def list_workflows(
        self,
        *,
        states: Sequence[str] = (),
        source_repo: str | None = None,
        deployment_repo: str | None = None,
        ref: str | None = None,
        milestone: str | None = None,
        text: str | None = None,
        created_after: datetime | None = None,
        created_before: datetime | None = None,
        lookback_hours: float = 0,
        limit: int = 50,
        cursor: str | None = None,
    ) -> WorkflowPage:
        """Newest first. `lookback_hours` of 0 means all; `cursor` is the `next_cursor` of the page before."""
        wanted = {
            "state": ",".join(states) or None,
            "source_repo": source_repo,
            "deployment_repo": deployment_repo,
            "ref": ref,
            "milestone": milestone,
            "text": text,
            "created_after": created_after.isoformat() if created_after else None,
            "created_before": created_before.isoformat() if created_before else None,
            "lookback": f"{lookback_hours:g}",
            "limit": limit,
            "cursor": cursor,
        }
        response = await self._transport.fetch("/workflows", wanted)
        workflows = self._transport.read(response, list[WorkflowSummary])
        return WorkflowPage(workflows=workflows, next_cursor=_next_cursor(response))

    async def list_events(
        self, workflow_id: str, after: int = 0, wait_seconds: float = 0, *, limit: int = 1000
    ) -> EventPage:
        """History after the event `after`.

        With `wait_seconds` (30 at most) and nothing new it waits for something new, or for the end.
        """
        return await self._page(path_of(workflow_id, "/events"), after, wait_seconds, limit, EventPage)

    async def list_logs(
        self,
        workflow_id: str,
        after: int = 0,
        wait_seconds: float = 0,
        *,
        limit: int = 100,
        attempt: str | None = None,
        tail: int | None = None,
    ) -> LogPage:
        """Workers' output after the chunk `after`, waited for as in `list_events`.

        Of one attempt, if asked; with `tail` the last so many lines instead.
        """
        more = {"attempt": attempt, "tail": tail}
        return await self._page(path_of(workflow_id, "/logs"), after, wait_seconds, limit, LogPage, **more)

    async def _page(
        self, path: str, after: int, wait_seconds: float, limit: int, kind: type[P], **more: str | int | None
    ) -> P:
        wait = min(wait_seconds, MAX_WAIT_SECONDS)
        wanted = {"after": after, "limit": limit, "wait": f"{wait:g}" if wait > 0 else None, **more}
        return self._transport.read(await self._transport.fetch(path, wanted, wait_seconds=wait), kind)

    async def list_attempts(self, workflow_id: str) -> list[Attempt]:
        """All attempts, oldest first."""
        return await self._transport.get(path_of(workflow_id, "/attempts"), list[Attempt])

    # ------------------------------------------------------------------------------------ verbs

    async def cancel(self, workflow_id: str, reason: str = "", *, force: bool = False) -> Workflow:
        """End it; returns the workflow as it is then (`cancelling` while its worker has a moment to stop)."""
        return await self._verb(path_of(workflow_id, "/cancel"), {"reason": reason, "force": force})

    async def resolve(
        self, workflow_id: str, resolution: str, reason: str = "", *, milestone: str | None = None
    ) -> Workflow:
        """Say what became of a held milestone: `worked`, `failed`, or do it `again`."""
        body = {"resolution": resolution, "reason": reason, "milestone": milestone}
        return await self._verb(path_of(workflow_id, "/resolve"), body)

    async def _verb(self, path: str, body: dict[str, Any]) -> Workflow:
        return self._transport.read(await self._transport.post_once(path, body), Workflow)


def _next_cursor(response: httpx.Response) -> str | None:
    query = urlsplit(response.links.get("next", {}).get("url", "")).query
    return parse_qs(query).get("cursor", [None])[0]

"""What people decide about workflows, and about locks, as methods."""

from typing import Any
from urllib.parse import quote

from openaperture.client.models import Explanation, Lock, Workflow
from openaperture.client.transport import Transport, path_of


class ControlCalls:
    """Raises what every method of `ManagerClient` raises. Verbs carry a key: they are done once, if at all."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def explain(self, workflow_id: str) -> Explanation:
        """Why it stands where it stands."""
        return await self._transport.get(path_of(workflow_id, "/explain"), Explanation)

    async def pause(self, workflow_id: str, reason: str = "") -> Workflow:
        """Begin nothing more."""
        return await self._verb(workflow_id, "pause", {"reason": reason})

    async def resume(self, workflow_id: str, reason: str = "") -> Workflow:
        return await self._verb(workflow_id, "resume", {"reason": reason})

    async def approve(
        self, workflow_id: str, *, milestone: str | None = None, inputs: str | None = None, reason: str = ""
    ) -> Workflow:
        """`inputs` is the digest of what was looked at, from the explanation."""
        body = {"milestone": milestone, "inputs": inputs, "reason": reason}
        return await self._verb(workflow_id, "approve", body)

    async def reject(
        self, workflow_id: str, *, milestone: str | None = None, inputs: str | None = None, reason: str = ""
    ) -> Workflow:
        body = {"milestone": milestone, "inputs": inputs, "reason": reason}
        return await self._verb(workflow_id, "reject", body)

    # Each of these returns another workflow, which has been started.

    async def retry(self, workflow_id: str, *, newest: bool = False) -> Workflow:
        """From the milestone that failed. `newest` releases what the refs point to by now."""
        return await self._verb(workflow_id, "retry", {"newest": newest})

    async def rerun(self, workflow_id: str, milestone: str, *, newest: bool = False) -> Workflow:
        """From a milestone that it got to."""
        return await self._verb(workflow_id, "rerun", {"milestone": milestone, "newest": newest})

    async def again(self, workflow_id: str, *, newest: bool = False) -> Workflow:
        """From its beginning."""
        return await self._verb(workflow_id, "again", {"newest": newest})

    async def list_locks(self) -> list[Lock]:
        """Those that somebody has or waits for."""
        return await self._transport.get("/locks", list[Lock])

    async def release_lock(self, name: str, reason: str = "", *, force: bool = False) -> Lock:
        """Take it away from the workflow that has it; the next in its queue gets it."""
        path = f"/locks/{quote(name, safe='')}/release"
        response = await self._transport.post_once(path, {"reason": reason, "force": force})
        return self._transport.read(response, Lock)

    async def _verb(self, workflow_id: str, verb: str, body: dict[str, Any]) -> Workflow:
        response = await self._transport.post_once(path_of(workflow_id, f"/{verb}"), body)
        return self._transport.read(response, Workflow)

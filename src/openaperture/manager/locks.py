"""The routes of locks: who has which, who waits for it, and to take one away."""

from collections.abc import Sequence
from itertools import groupby

from fastapi import FastAPI, Request, Response

from openaperture.client.models import Lock, LockPlace
from openaperture.engine.verbs import Verbs
from openaperture.manager.access import name_of
from openaperture.manager.answers import answer
from openaperture.manager.parts import Parts
from openaperture.manager.requests import ForceBody
from openaperture.ports import LockClaim, Records

_NO_REASON = ForceBody()


class LockRoutes:
    """What the API does with locks. Names may hold slashes."""

    def __init__(self, parts: Parts) -> None:
        self._verbs: Verbs = parts.verbs
        self._records: Records = parts.records

    def add_to(self, app: FastAPI) -> None:
        app.add_api_route("/locks", self.list_locks, methods=["GET"], response_model=None)
        path = "/locks/{lock_name:path}/release"
        app.add_api_route(path, self.release, methods=["POST"], response_model=None)

    async def list_locks(self) -> Response:
        """Those that somebody has or waits for, by name."""
        return answer(locks_of(await self._records.list_locks()))

    async def release(self, request: Request, lock_name: str, body: ForceBody = _NO_REASON) -> Response:
        """Take it away from whoever has it, who goes on without; the next in the queue gets it."""
        await self._verbs.release_lock(lock_name, name_of(request), body.reason, force=body.force)
        left = locks_of(await self._records.list_locks([lock_name]))
        return answer(left[0] if left else Lock(name=lock_name))


def locks_of(claims: Sequence[LockClaim]) -> list[Lock]:
    """`claims` are in the order of their names, the holder of each first."""
    return [_lock_of(name, list(queue)) for name, queue in groupby(claims, key=lambda claim: claim.name)]


def _lock_of(name: str, queue: Sequence[LockClaim]) -> Lock:
    return Lock(
        name=name,
        holder=next((_place_of(claim) for claim in queue if claim.holds), None),
        waiting=[_place_of(claim) for claim in queue if claim.state == "waiting"],
    )


def _place_of(claim: LockClaim) -> LockPlace:
    return LockPlace(
        workflow_id=claim.workflow_id,
        asked_at=claim.asked_at,
        granted_at=claim.granted_at,
        token=claim.token,
        kept=claim.kept,
    )

"""The routes of what people decide about a workflow: cancel, pause, resume, resolve, vote, and do it again."""

from fastapi import FastAPI, Request, Response

from openaperture.domain.access import Role
from openaperture.domain.decide.approvals import EVERYTHING
from openaperture.domain.events import Resolution, Resolved, Voted
from openaperture.domain.lineage import Repeat
from openaperture.domain.workflow import Workflow
from openaperture.manager.access import identity_of, name_of
from openaperture.manager.answers import answer
from openaperture.manager.explain import explain
from openaperture.manager.follow import Follower
from openaperture.manager.idempotency import id_from_key
from openaperture.manager.parts import Parts
from openaperture.manager.presenter import Presenter
from openaperture.manager.requests import (
    AgainBody,
    ForceBody,
    ReasonBody,
    RerunBody,
    ResolveBody,
    VoteBody,
)

_NO_REASON = ReasonBody()
_AT_ONCE = ForceBody()
_PINNED = AgainBody()
_PLAIN_VOTE = VoteBody()


class ControlRoutes:
    """Each verb is a decision of the engine, durable when it is answered, and in the history with who made it."""

    def __init__(self, parts: Parts, follower: Follower, presenter: Presenter) -> None:
        self._verbs = parts.verbs
        self._follower = follower
        self._presenter = presenter

    def add_to(self, app: FastAPI) -> None:
        for method, path, handler in (
            ("POST", "cancel", self.cancel),
            ("POST", "pause", self.pause),
            ("POST", "resume", self.resume),
            ("POST", "resolve", self.resolve),
            ("POST", "approve", self.approve),
            ("POST", "reject", self.reject),
            ("POST", "retry", self.retry),
            ("POST", "rerun", self.rerun),
            ("POST", "again", self.again),
            ("GET", "explain", self.explain),
        ):
            route = f"/workflows/{{workflow_id}}/{path}"
            app.add_api_route(route, handler, methods=[method], response_model=None)

    async def explain(self, workflow_id: str) -> Response:
        """Why it stands where it stands."""
        workflow = await self._follower.get_workflow(workflow_id)
        return answer(explain(workflow, await self._presenter.situations.of_one(workflow)))

    # ------------------------------------------------------------------------------ on the way

    async def cancel(self, request: Request, workflow_id: str, body: ForceBody = _AT_ONCE) -> Response:
        by = name_of(request)
        return await self._show(await self._verbs.cancel(workflow_id, by, body.reason, force=body.force))

    async def pause(self, request: Request, workflow_id: str, body: ReasonBody = _NO_REASON) -> Response:
        return await self._show(await self._verbs.pause(workflow_id, name_of(request), body.reason))

    async def resume(self, request: Request, workflow_id: str, body: ReasonBody = _NO_REASON) -> Response:
        return await self._show(await self._verbs.resume(workflow_id, name_of(request), body.reason))

    async def resolve(self, request: Request, workflow_id: str, body: ResolveBody) -> Response:
        resolution = Resolution(body.resolution)
        said = Resolved(resolution=resolution, by=name_of(request), reason=body.reason, milestone=body.milestone)
        return await self._show(await self._verbs.resolve(workflow_id, said))

    async def approve(self, request: Request, workflow_id: str, body: VoteBody = _PLAIN_VOTE) -> Response:
        return await self._vote(request, workflow_id, body, approves=True)

    async def reject(self, request: Request, workflow_id: str, body: VoteBody = _PLAIN_VOTE) -> Response:
        return await self._vote(request, workflow_id, body, approves=False)

    async def _vote(self, request: Request, workflow_id: str, body: VoteBody, *, approves: bool) -> Response:
        vote = Voted(
            approves=approves,
            by=name_of(request),
            groups=_groups_of(request),
            reason=body.reason,
            milestone=body.milestone,
            inputs=body.inputs,
        )
        return await self._show(await self._verbs.vote(workflow_id, vote))

    async def _show(self, workflow: Workflow) -> Response:
        return await self._presenter.show(workflow)

    # ------------------------------------------------------------------------ as another workflow

    async def retry(self, request: Request, workflow_id: str, body: AgainBody = _PINNED) -> Response:
        """From the milestone that failed."""
        return await self._repeat(request, workflow_id, Repeat.RETRY, newest=body.newest)

    async def rerun(self, request: Request, workflow_id: str, body: RerunBody) -> Response:
        """From a milestone that it got to."""
        return await self._repeat(request, workflow_id, Repeat.RERUN, milestone=body.milestone, newest=body.newest)

    async def again(self, request: Request, workflow_id: str, body: AgainBody = _PINNED) -> Response:
        """From its beginning."""
        return await self._repeat(request, workflow_id, Repeat.AGAIN, newest=body.newest)

    async def _repeat(
        self,
        request: Request,
        workflow_id: str,
        repeat: Repeat,
        *,
        milestone: str | None = None,
        newest: bool = False,
    ) -> Response:
        new_id = id_from_key(request)
        made = await self._verbs.repeat(
            workflow_id, repeat, name_of(request), milestone=milestone, newest=newest, new_id=new_id
        )
        return await self._presenter.show(made, status=201, location=f"/workflows/{made.id}")


def _groups_of(request: Request) -> frozenset[str]:
    """What whoever asks is a member of, for votes: an admin of everything."""
    identity = identity_of(request)
    if identity is None:
        return frozenset()
    return frozenset({EVERYTHING}) if identity.role is Role.ADMIN else identity.groups

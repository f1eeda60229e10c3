"""The routes of workflows."""

import base64
from datetime import UTC, datetime, timedelta
from typing import Annotated
from urllib.parse import urlencode

from fastapi import FastAPI, Query, Request, Response
from pydantic import AfterValidator

from openaperture.domain.errors import BadInput, WrongState
from openaperture.domain.workflow import State, Workflow
from openaperture.manager.access import known_identity_of, name_of
from openaperture.manager.answers import HEADERS, answer, done
from openaperture.manager.follow import MAX_WAIT_SECONDS, Follower, Span
from openaperture.manager.foreign_views import as_recorded
from openaperture.manager.idempotency import id_from_key
from openaperture.manager.overrides import overridden
from openaperture.manager.parts import Parts
from openaperture.manager.plans import check_plan
from openaperture.manager.presenter import Presenter
from openaperture.manager.requests import CreateBody, ExecuteBody, UpdateBody, utc
from openaperture.manager.streams import Streams, wants_stream
from openaperture.manager.updates import Updates
from openaperture.manager.views import attempts_of, summary_of
from openaperture.ports import LogFilter, WorkflowFilter

MAX_PAGE = 1_000
MAX_LOG_CHUNKS = 200
"""A chunk may have hundreds of kilobytes."""

After = Annotated[int, Query(ge=0, le=2**63 - 1)]
Limit = Annotated[int, Query(ge=1, le=MAX_PAGE)]
LogLimit = Annotated[int, Query(ge=1, le=MAX_LOG_CHUNKS)]
Seconds = Annotated[float, Query(ge=0, le=MAX_WAIT_SECONDS, allow_inf_nan=False)]
Hours = Annotated[float, Query(le=1_000_000, allow_inf_nan=False)]
Sequence = Annotated[int, Query(ge=1, le=2**53)]
Tail = Annotated[int, Query(ge=1, le=10_000)]
Words = Annotated[str, Query(max_length=256)]
When = Annotated[datetime, AfterValidator(utc)]
DEFAULT_LOOKBACK_HOURS = 24.0

_NO_OVERRIDES = ExecuteBody()


class WorkflowRoutes:
    """What the API does with workflows. Errors are raised as ours and answered in one place."""

    def __init__(self, parts: Parts, follower: Follower, presenter: Presenter, streams: Streams) -> None:
        self._verbs = parts.verbs
        self._records = parts.records
        self._revisions = parts.revisions
        self._foreign = parts.foreign
        self._updates = Updates(parts, follower)
        self._follower = follower
        self._presenter = presenter
        self._streams = streams

    def add_to(self, app: FastAPI) -> None:
        for method, path, handler in (
            ("GET", "", self.list_workflows),
            ("POST", "", self.create),
            ("GET", "/{workflow_id}", self.show),
            ("PUT", "/{workflow_id}", self.update),
            ("DELETE", "/{workflow_id}", self.delete),
            ("POST", "/{workflow_id}/execute", self.execute),
            ("GET", "/{workflow_id}/events", self.list_events),
            ("GET", "/{workflow_id}/logs", self.list_logs),
            ("GET", "/{workflow_id}/attempts", self.list_attempts),
        ):
            app.add_api_route(f"/workflows{path}", handler, methods=[method], response_model=None)

    # ---------------------------------------------------------------------------------- reading

    async def list_workflows(
        self,
        *,
        request: Request,
        lookback: Hours | None = None,
        source_repo: str = "",
        deployment_repo: str = "",
        state: str = "",
        ref: str = "",
        milestone: str = "",
        text: Words = "",
        created_after: When | None = None,
        created_before: When | None = None,
        limit: Limit = MAX_PAGE,
        cursor: str = "",
    ) -> Response:
        """Newest first. Where there are more, the header `Link` says how to ask for them."""
        now = datetime.now(UTC)
        wanted = WorkflowFilter(
            states=_states(state) if state else None,
            source_repo=source_repo or None,
            deployment_repo=deployment_repo or None,
            ref=ref or None,
            milestone=milestone or None,
            text=text or None,
            created_after=_later(
                created_after, _since(lookback, now, bounded=bool(created_after or created_before))
            ),
            created_before=created_before,
            before=_position(cursor) if cursor else None,
        )
        found = await self._records.list_workflows(wanted, limit=limit + 1)
        page = found[:limit]
        headers = {"link": _next_link(request, page[-1])} if len(found) > limit else None
        ids = [workflow.id for workflow in page]
        situations = await self._presenter.situations.of_many(page)
        recorded = await self._foreign.find_foreign(ids)
        summaries = [summary_of(workflow, now, about) for workflow, about in zip(page, situations, strict=True)]
        shown = [
            as_recorded(summary, workflow, recorded.get(workflow.id), with_log=False)
            for workflow, summary in zip(page, summaries, strict=True)
        ]
        return answer(shown, headers=headers)

    async def show(self, workflow_id: str) -> Response:
        return await self._presenter.show(await self._follower.get_workflow(workflow_id))

    async def list_events(
        self, request: Request, workflow_id: str, after: After = 0, limit: Limit = MAX_PAGE, wait: Seconds = 0
    ) -> Response:
        if wants_stream(request):
            return await self._streams.of_workflow(request, workflow_id, after)
        span = Span(after=after, limit=limit, wait_seconds=wait)
        return answer(await self._follower.list_events(workflow_id, span, request.is_disconnected))

    async def list_logs(
        self,
        *,
        request: Request,
        workflow_id: str,
        after: After = 0,
        limit: LogLimit = 100,
        wait: Seconds = 0,
        attempt: str = "",
        first: Sequence | None = None,
        last: Sequence | None = None,
        tail: Tail | None = None,
    ) -> Response:
        wanted = LogFilter(attempt=attempt or None, first=first, last=last)
        if tail is not None:
            page = await self._follower.list_last_lines(workflow_id, wanted, tail, limit=MAX_LOG_CHUNKS)
            return answer(page)
        span = Span(after=after, limit=limit, wait_seconds=wait)
        return answer(await self._follower.list_logs(workflow_id, span, request.is_disconnected, wanted))

    async def list_attempts(self, workflow_id: str) -> Response:
        await self._follower.get_workflow(workflow_id)
        return answer(attempts_of(await self._records.list_attempts(workflow_id)))

    # ------------------------------------------------------------------------------------ verbs

    async def create(self, request: Request, body: CreateBody) -> Response:
        release = body.release()
        check_plan(release, self._verbs.kinds)
        chosen = body.id or id_from_key(request)
        workflow_id = await self._verbs.create(chosen, release, by=name_of(request))
        return done(201, f"/workflows/{workflow_id}")

    async def execute(self, request: Request, workflow_id: str, body: ExecuteBody = _NO_OVERRIDES) -> Response:
        workflow = await self._follower.get_workflow(workflow_id)
        if await self._foreign.find_foreign([workflow.id]):
            raise WrongState(
                f"workflow {workflow_id} was started by an orchestrator elsewhere, which records it here"
            )
        if workflow.state is State.CREATED:
            await self._revisions.revise(workflow_id, lambda release: overridden(release, body), name_of(request))
        await self._verbs.start(workflow_id, by=name_of(request))
        return done(202, f"/workflows/{workflow_id}")

    async def update(self, request: Request, workflow_id: str, body: UpdateBody) -> Response:
        await self._updates.put(workflow_id, body.fields(), known_identity_of(request))
        return done(204, f"/workflows/{workflow_id}")

    async def delete(self, workflow_id: str) -> Response:
        """Of one that runs nothing may be deleted: its worker would answer to nobody."""
        workflow = await self._follower.get_workflow(workflow_id)
        record = (await self._foreign.find_foreign([workflow.id])).get(workflow.id, {})
        runs_elsewhere = bool(record) and not (record.get("workflow_completed") or record.get("workflow_error"))
        may_go = workflow.ended or (workflow.state is State.CREATED and not runs_elsewhere)
        if not may_go or not await self._foreign.delete_workflow(workflow_id, workflow.version):
            raise WrongState(f"workflow {workflow_id} is under way and cannot be deleted; cancel it first")
        return Response(status_code=204, headers=HEADERS)


def _since(lookback: float | None, now: datetime, *, bounded: bool) -> datetime | None:
    """As in the original the last day, unless something else is asked for."""
    hours = 0.0 if lookback is None and bounded else lookback
    hours = DEFAULT_LOOKBACK_HOURS if hours is None else hours
    return now - timedelta(hours=hours) if hours > 0 else None


def _later(*instants: datetime | None) -> datetime | None:
    return max((at for at in instants if at is not None), default=None)


def _states(text: str) -> list[str]:
    states = [name.strip() for name in text.split(",")]
    if unknown := [name for name in states if name not in set(State)]:
        raise BadInput(f'state: "{unknown[0][:64]}" is none; the states are {", ".join(State)}')
    return states


# A cursor is the place of the last workflow of a page, so pages neither skip nor repeat when new ones come.


def _next_link(request: Request, last: Workflow) -> str:
    if last.created_at is None:
        raise AssertionError(f"workflow {last.id} is stored and has no created_at")
    cursor = base64.urlsafe_b64encode(f"{last.created_at.isoformat()} {last.id}".encode()).decode()
    query = {**request.query_params, "cursor": cursor}
    return f'<{request.url.path}?{urlencode(query)}>; rel="next"'


def _position(cursor: str) -> tuple[datetime, str]:
    try:
        created_at, _, workflow_id = base64.urlsafe_b64decode(cursor).decode().partition(" ")
        return datetime.fromisoformat(created_at).astimezone(UTC), workflow_id
    except (ValueError, OverflowError) as exc:
        raise BadInput("cursor: it is not one of ours; take it from the header Link of the page before") from exc

"""The application put together: routes, the checks before them, and errors in one shape."""

import asyncio
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from openaperture.domain.errors import OpenApertureError, StoreUnavailable
from openaperture.manager.access import Access, identity_of
from openaperture.manager.answers import answer
from openaperture.manager.bodies import Bodies
from openaperture.manager.boundary import Boundary
from openaperture.manager.brokers import BrokerRoutes
from openaperture.manager.clusters import ClusterRoutes
from openaperture.manager.control import ControlRoutes
from openaperture.manager.exchanges import ExchangeRoutes
from openaperture.manager.feed import Feed
from openaperture.manager.follow import Follower
from openaperture.manager.idempotency import Idempotency
from openaperture.manager.locks import LockRoutes
from openaperture.manager.modules import ModuleRoutes
from openaperture.manager.parts import Parts
from openaperture.manager.presenter import Presenter
from openaperture.manager.problems import problems_of
from openaperture.manager.refusals import refuse, refuse_for, refuse_problems, refuse_route
from openaperture.manager.streams import Streams
from openaperture.manager.system_events import SystemEventRoutes
from openaperture.manager.workflows import WorkflowRoutes
from openaperture.ports import Observer


def build(parts: Parts, *, token: str, version: str, observer: Observer | None) -> FastAPI:
    """See `openaperture.manager.create_app`. `app.state.stopping` is an event that ends open long polls."""
    # No pages that load scripts from elsewhere, and no redirects from "/x/" to "/x".
    app = FastAPI(
        title="OpenAperture Manager",
        version=version,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        exception_handlers=_handlers(observer),
    )
    app.state.stopping = asyncio.Event()
    _add_status(app, version)
    follower, presenter = Follower(parts.records, app.state.stopping), Presenter(parts)
    app.state.feed = Feed(parts.feed, app.state.stopping)
    streams = app.state.streams = Streams(app.state.feed, parts.records, follower)
    streams.add_to(app)
    WorkflowRoutes(parts, follower, presenter, streams).add_to(app)
    ControlRoutes(parts, follower, presenter).add_to(app)
    LockRoutes(parts).add_to(app)
    for routes in (ExchangeRoutes, BrokerRoutes, ClusterRoutes, ModuleRoutes, SystemEventRoutes):
        routes(parts.directory).add_to(app)
    # The last one added is the first to see a request.
    app.add_middleware(Idempotency, keys=parts.request_keys, observer=observer)
    app.add_middleware(Bodies)
    app.add_middleware(Access, token=token)
    app.add_middleware(Boundary, observer=observer)
    return app


def _add_status(app: FastAPI, version: str) -> None:
    async def show_status(request: Request) -> Response:
        """That the Manager runs. Its version is for those with a token."""
        known = {"version": version} if identity_of(request) else {}
        return answer({"status": "ok", **known})

    app.add_api_route("/status", show_status, methods=["GET"], response_model=None)


def _handlers(observer: Observer | None) -> dict[Any, Any]:
    async def on_error(request: Request, exc: OpenApertureError) -> Response:
        if isinstance(exc, StoreUnavailable) and observer is not None:
            observer.emit("manager.waiting", method=request.method, path=request.url.path, error=exc)
        return refuse_for(exc)

    async def on_invalid(request: Request, exc: RequestValidationError) -> Response:
        return refuse_problems(problems_of(request, exc))

    async def on_http(request: Request, exc: HTTPException) -> Response:
        if exc.status_code in {404, 405}:
            return refuse_route(request, exc)
        return refuse(exc.status_code, "bad_request", f"the request was refused: {exc.detail}")

    return {OpenApertureError: on_error, RequestValidationError: on_invalid, HTTPException: on_http}

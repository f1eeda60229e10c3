"""The application put together: routes, the checks before them, and errors in one shape."""

import asyncio
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from openaperture.domain.errors import OpenApertureError, StoreUnavailable
from openaperture.manager.access import FAILURES_PER_ADDRESS, Access, identity_of
from openaperture.manager.accounts import AccountRoutes
from openaperture.manager.answers import answer
from openaperture.manager.audit import Audit
from openaperture.manager.bodies import Bodies
from openaperture.manager.boundary import Boundary
from openaperture.manager.brokers import BrokerRoutes
from openaperture.manager.clusters import ClusterRoutes
from openaperture.manager.control import ControlRoutes
from openaperture.manager.credentials import SecretChecker
from openaperture.manager.exchanges import ExchangeRoutes
from openaperture.manager.feed import Feed
from openaperture.manager.follow import Follower
from openaperture.manager.gate import Gate
from openaperture.manager.headers import SecurityHeaders
from openaperture.manager.idempotency import Idempotency
from openaperture.manager.identities import Identities
from openaperture.manager.locks import LockRoutes
from openaperture.manager.login import CODES_PER_ADDRESS, LoginRoutes
from openaperture.manager.modules import ModuleRoutes
from openaperture.manager.oauth import PATH as TOKEN_PATH
from openaperture.manager.oauth import OAuthRoutes
from openaperture.manager.openapi import add_document
from openaperture.manager.parts import Parts
from openaperture.manager.peers import Peers
from openaperture.manager.policy import POLICIES, Policies
from openaperture.manager.presenter import Presenter
from openaperture.manager.problems import problems_of
from openaperture.manager.refusals import refuse, refuse_for, refuse_problems, refuse_route
from openaperture.manager.sealing import Seal
from openaperture.manager.streams import Streams
from openaperture.manager.system_events import SystemEventRoutes
from openaperture.manager.throttle import Throttle
from openaperture.manager.workflows import WorkflowRoutes
from openaperture.ports import Observer, Records, RequestKeys


def build(parts: Parts, *, gate: Gate, version: str, observer: Observer | None) -> FastAPI:
    """See `openaperture.manager.create_app`. `app.state.stopping` is an event that ends open long polls."""
    app = _bare(version, observer)
    app.state.stopping = asyncio.Event()
    _add_status(app, version)
    _add_readiness(app, parts.records)
    follower, presenter = Follower(parts.records, parts.foreign, app.state.stopping), Presenter(parts)
    app.state.feed = Feed(parts.feed, app.state.stopping)
    streams = app.state.streams = Streams(app.state.feed, parts.records, follower)
    streams.add_to(app)
    WorkflowRoutes(parts, follower, presenter, streams).add_to(app)
    ControlRoutes(parts, follower, presenter).add_to(app)
    LockRoutes(parts).add_to(app)
    add_document(app)
    for routes in (ExchangeRoutes, BrokerRoutes, ClusterRoutes, ModuleRoutes, SystemEventRoutes):
        routes(parts.directory).add_to(app)
    _add_components(app)
    _guard(app, gate, parts.request_keys, observer)
    return app


def _guard(app: FastAPI, gate: Gate, keys: RequestKeys, observer: Observer | None) -> None:
    """The routes of identities, and the checks before every route."""
    identities = Identities(gate.store, local_token=gate.local_token, now=gate.now, elsewhere=gate.provider)
    peers = Peers(proxies=gate.proxies, public_url=gate.public_url)
    checker = SecretChecker()
    AccountRoutes(gate.store, identities, checker, gate.now).add_to(app)
    OAuthRoutes(
        gate.store, checker, peers, now=gate.now, monotonic=gate.monotonic, token_seconds=gate.token_seconds
    ).add_to(app)
    seal = Seal(gate.login_key)
    codes = Throttle(limit=CODES_PER_ADDRESS, monotonic=gate.monotonic)
    LoginRoutes(gate.store, identities, peers, seal, provider=gate.provider, now=gate.now, codes=codes).add_to(app)
    policies = Policies(POLICIES)
    policies.check(app.routes)
    # The last one added is the first to see a request.
    app.add_middleware(Idempotency, keys=keys, observer=observer)
    app.add_middleware(Bodies, forms={TOKEN_PATH})
    app.add_middleware(
        Access,
        identities=identities,
        policies=policies,
        peers=peers,
        failures=Throttle(limit=FAILURES_PER_ADDRESS, monotonic=gate.monotonic),
        observer=observer,
    )
    app.add_middleware(Boundary, observer=observer)
    app.add_middleware(Audit, store=gate.store, peers=peers, now=gate.now, observer=observer)
    app.add_middleware(SecurityHeaders, https=(gate.public_url or "").startswith("https:"))


def _bare(version: str, observer: Observer | None) -> FastAPI:
    # No pages that load scripts from elsewhere, and no redirects from "/x/" to "/x".
    return FastAPI(
        title="OpenAperture Manager",
        version=version,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        exception_handlers=_handlers(observer),
    )


def _add_status(app: FastAPI, version: str) -> None:
    async def show_status(request: Request) -> Response:
        """That the Manager runs. Its version is for those with a token."""
        known = {"version": version} if identity_of(request) else {}
        return answer({"status": "ok", **known})

    app.add_api_route("/status", show_status, methods=["GET"], response_model=None)


def _add_readiness(app: FastAPI, records: Records) -> None:
    async def show_readiness() -> Response:
        """That requests can be answered: the database is there. 503 while it is not."""
        await records.count_outbox()
        return answer({"status": "ready"})

    app.add_api_route("/ready", show_readiness, methods=["GET"], response_model=None)


def _add_components(app: FastAPI) -> None:
    async def list_components() -> Response:
        """Builders of the original ask where to send their output to, and stop without a list."""
        return answer([])

    app.add_api_route("/system_components", list_components, methods=["GET"], response_model=None)


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

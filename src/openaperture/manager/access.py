"""Who may do what: decided here, before anything of a request but its head is read."""

from collections.abc import Mapping
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from openaperture.domain.access import Identity
from openaperture.domain.errors import OpenApertureError
from openaperture.manager.identities import Grant, Identities
from openaperture.manager.peers import Peers
from openaperture.manager.policy import Policies, Policy, find_route
from openaperture.manager.refusals import refuse, refuse_for, slow_down
from openaperture.manager.throttle import Throttle
from openaperture.ports import Observer

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
"""RFC 9110, 9.2.1: they change nothing."""


FAILURES_PER_ADDRESS = 100
"""Bearers that are not good, within a minute. Many, as a program whose token has expired is no guesser."""


class Access:
    """Middleware: puts who asks into the state of the request, or refuses.

    An address that showed too many bad bearers is not listened to for a while, but for bearers that have been
    good here before: others behind the same proxy go on.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        identities: Identities,
        policies: Policies,
        peers: Peers,
        failures: Throttle,
        observer: Observer | None,
    ) -> None:
        self._app = app
        self._identities = identities
        self._policies = policies
        self._peers = peers
        self._failures = failures
        self._observer = observer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        try:
            refusal = await self._judge(scope)
        except OpenApertureError as exc:
            refusal = refuse_for(exc)
        await (refusal or self._app)(scope, receive, send)

    async def _judge(self, scope: Scope) -> Response | None:
        """The refusal; None lets the request on. What exists is told to those alone whom we know."""
        headers = Headers(scope=scope)
        state: dict[str, Any] = scope.setdefault("state", {})
        wait_seconds = self._wait_seconds(scope, headers)
        grant = state["grant"] = await self._identify(scope, headers) if wait_seconds == 0 else None
        found = find_route(scope["app"].routes, scope)
        policy = self._enter(state, found, scope["method"])
        if grant is None and (found is None or policy is None or policy.minimum is not None):
            if wait_seconds > 0:
                return slow_down(wait_seconds)
            return self._unknown(scope, await self._identities.find_end(headers))
        if found is not None and not (policy and policy.allows(grant.identity if grant else None)):
            return _forbidden(scope["method"], found[0].path, grant, policy)
        if scope["method"] not in SAFE_METHODS and not self._is_own_idea(scope, headers, grant):
            text = "the request comes from a page of another site, and is not carried out"
            return refuse(403, "foreign_origin", text)
        return None

    def _wait_seconds(self, scope: Scope, headers: Headers) -> float:
        if not self._identities.is_guess(headers):
            return 0.0
        return self._failures.wait_seconds(self._peers.address_of(scope))

    async def _identify(self, scope: Scope, headers: Headers) -> Grant | None:
        grant = await self._identities.identify(headers)
        if grant is None and "authorization" in headers:
            self._failures.fail(self._peers.address_of(scope))
        return grant

    def _enter(
        self, state: dict[str, Any], found: tuple[APIRoute, Mapping[str, str]] | None, method: str
    ) -> Policy | None:
        if found is None:
            return None
        state["path_params"] = found[1]
        policy = state["policy"] = self._policies.of(found[0], method)
        return policy

    def _unknown(self, scope: Scope, end: str | None) -> Response:
        if self._observer is not None:
            address = self._peers.address_of(scope)
            self._observer.emit("access.refused", address=address, method=scope["method"], path=scope["path"])
        headers = {"www-authenticate": "Bearer"}
        if end is not None:
            text = f"the access token {end}; make another one, or log in again"
            return refuse(401, "token_ended", text, headers=headers)
        text = 'a valid access token is needed; send it as "Authorization: Bearer <token>"'
        return refuse(401, "unauthorized", text, headers=headers)

    def _is_own_idea(self, scope: Scope, headers: Headers, grant: Grant | None) -> bool:
        """Whether no foreign page is behind it. Programs send no Origin; with a cookie there has to be proof."""
        origin = headers.get("origin")
        if origin is not None:
            return origin == self._peers.origin_of(scope)
        return grant is None or not grant.by_cookie or headers.get("sec-fetch-site") == "same-origin"


def _forbidden(method: str, path: str, grant: Grant | None, policy: Policy | None) -> Response:
    who = f'"{grant.identity.name}" is {grant.identity.role}' if grant else "nobody is known"
    needed = f"needs the role {policy.minimum}" if policy and policy.minimum else "is open to nobody"
    return refuse(403, "forbidden", f"{method} {path} {needed}, and {who}; ask an admin for a token that has it")


def name_in(scope: Scope) -> str | None:
    """Who asks, for what stands before the routes; None when nobody is known."""
    grant: Grant | None = scope.get("state", {}).get("grant")
    return None if grant is None else grant.identity.name


def grant_of(request: Request) -> Grant | None:
    """Who asks and by what; None when nobody showed a good token."""
    grant: Grant | None = request.state.grant
    return grant


def identity_of(request: Request) -> Identity | None:
    """Who asks; None when nobody showed a good token."""
    grant = grant_of(request)
    return None if grant is None else grant.identity


def known_identity_of(request: Request) -> Identity:
    """Who asks, on a route that is not public."""
    identity = identity_of(request)
    if identity is None:
        raise AssertionError(f"{request.url.path} is not public, and nobody is known")
    return identity


def name_of(request: Request) -> str:
    """Who asks, for a history, on a route that is not public."""
    return known_identity_of(request).name

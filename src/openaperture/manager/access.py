"""Who may do what. Everything is refused but what is public by its exact path or comes with the token."""

import re
from hashlib import sha256
from hmac import compare_digest

from fastapi import Request
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from openaperture.manager.refusals import refuse

PUBLIC = frozenset({"/status"})
"""Exact paths: no prefix or suffix ever decides."""
IDENTITY = "local"
"""Who the holder of the token is, in the history of workflows. There is one token, so one identity."""

_BEARER = re.compile(r"\s*(?:oauth\s+)?bearer\s+(?:access_token=)?(\S+)\s*", re.IGNORECASE)
"""Also as the original's clients write it: `Bearer access_token=...`."""


class Access:
    """Middleware: puts the identity into the state of the request, or answers 401."""

    def __init__(self, app: ASGIApp, *, token: str) -> None:
        self._app = app
        self._digest = _digest(token)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        known = self._is_known(Headers(scope=scope))
        scope.setdefault("state", {})["identity"] = IDENTITY if known else None
        if known or scope["path"] in PUBLIC:
            await self._app(scope, receive, send)
            return
        text = 'a valid access token is needed; send it as "Authorization: Bearer <token>"'
        await refuse(401, "unauthorized", text, headers={"www-authenticate": "Bearer"})(scope, receive, send)

    def _is_known(self, headers: Headers) -> bool:
        given = headers.getlist("authorization")
        shown = _BEARER.fullmatch(given[0]) if len(given) == 1 else None
        # Digests have one length, so the time that the comparison takes says nothing of the token.
        return shown is not None and compare_digest(_digest(shown[1]), self._digest)


def identity_of(request: Request) -> str | None:
    """Who asks; None when nobody showed a token."""
    identity: str | None = request.state.identity
    return identity


def name_in(scope: Scope) -> str | None:
    """Who asks, for what stands before the routes; None when nobody is known."""
    identity: str | None = scope.get("state", {}).get("identity")
    return identity


def name_of(request: Request) -> str:
    """Who asks, for a history, on a route that is not public."""
    identity = identity_of(request)
    if identity is None:
        raise AssertionError(f"{request.url.path} is not public, and nobody is known")
    return identity


def _digest(token: str) -> bytes:
    return sha256(token.encode()).digest()

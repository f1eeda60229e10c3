"""Logging in with a browser: to the login service and back, for a cookie, or for a token of a terminal."""

import re
from base64 import urlsafe_b64encode
from collections.abc import Callable
from datetime import datetime, timedelta
from hashlib import sha256
from hmac import compare_digest
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request, Response
from pydantic import Field

from openaperture.client import access_models as shown
from openaperture.domain.access import Identity, Role, Token, TokenKind
from openaperture.manager.access import grant_of
from openaperture.manager.answers import answer
from openaperture.manager.claims import BadLogin
from openaperture.manager.credentials import TokenText, hash_of, new_token
from openaperture.manager.identities import SESSION_COOKIES, Identities
from openaperture.manager.oidc import OidcProvider
from openaperture.manager.peers import Peers
from openaperture.manager.refusals import refuse, slow_down
from openaperture.manager.requests import Strict
from openaperture.manager.sealing import CODE_LASTS, LOGIN_LASTS, Seal
from openaperture.manager.throttle import Throttle
from openaperture.ports import AccessStore

CALLBACK = "/login/callback"
LOGIN_COOKIE = "openaperture-login"
SESSION_LASTS = timedelta(hours=12)
TERMINAL_LASTS = timedelta(days=30)
CODES_PER_ADDRESS = 10
"""Codes that are no good, within a minute."""
_HOME = "/"
_PATH = re.compile(r"/(?!/)[\x21-\x5b\x5d-\x7e]{0,500}")
"""A path on this very host: `//host` and `/\\\\host` lead elsewhere."""

Port = Annotated[int, Query(ge=1, le=65_535)]
Text = Annotated[str, Query(max_length=4_096)]
Challenge = Annotated[str, Query(pattern=r"^([A-Za-z0-9_-]{43})?$")]


class CodeBody(Strict):
    """What a terminal shows for the token of the login that it began."""

    code: Annotated[str, Field(max_length=8_192)]
    verifier: Annotated[str, Field(min_length=32, max_length=128)]


class LoginRoutes:
    """The login of people. Without a login service they are there and say so."""

    def __init__(
        self,
        store: AccessStore,
        identities: Identities,
        peers: Peers,
        seal: Seal,
        *,
        provider: OidcProvider | None,
        now: Callable[[], datetime],
        codes: Throttle,
    ) -> None:
        """`codes` counts those that were no good."""
        self._store = store
        self._identities = identities
        self._peers = peers
        self._seal = seal
        self._provider = provider
        self._now = now
        self._codes = codes

    def add_to(self, app: FastAPI) -> None:
        app.add_api_route("/login", self.begin, methods=["GET"], response_model=None)
        app.add_api_route(CALLBACK, self.finish, methods=["GET"], response_model=None)
        app.add_api_route("/login/token", self.give_token, methods=["POST"], response_model=None)
        app.add_api_route("/logout", self.end, methods=["POST"], response_model=None)

    async def begin(
        self,
        request: Request,
        onward: Annotated[Text, Query(alias="next")] = _HOME,
        port: Port | None = None,
        challenge: Challenge = "",
    ) -> Response:
        """To the login service. With `port` and `challenge` it is for a terminal on the user's machine."""
        if self._provider is None:
            return _no_service()
        if not _PATH.fullmatch(onward):
            return refuse(400, "bad_request", "next: it is no path of this Manager; write one such as /")
        if (port is None) != (not challenge):
            return refuse(400, "bad_request", "port, challenge: a terminal sends both; leave out both otherwise")
        begun = await self._provider.begin(self._callback(request))
        kept = {
            "state": begun.state,
            "nonce": begun.nonce,
            "verifier": begun.verifier,
            "next": onward,
            "port": port,
            "challenge": challenge,
        }
        response = _redirect(begun.url)
        sealed = await self._seal.seal("login", kept, self._now() + LOGIN_LASTS)
        self._set_cookie(request, response, LOGIN_COOKIE, sealed, LOGIN_LASTS, path="/login")
        return response

    async def finish(self, request: Request, state: Text = "", code: Text = "", error: Text = "") -> Response:
        """Back from the login service."""
        if self._provider is None:
            return _no_service()
        kept = await self._seal.open("login", request.cookies.get(LOGIN_COOKIE, ""), self._now())
        if kept is None or not compare_digest(state.encode(), str(kept["state"]).encode()):
            return refuse(400, "bad_login", "this login was not begun here, or took too long; open /login again")
        if error or not code:
            return refuse(403, "login_refused", "the login service did not let you in; open /login to try again")
        try:
            identity = await self._provider.finish(
                code, verifier=kept["verifier"], nonce=kept["nonce"], redirect_uri=self._callback(request)
            )
        except BadLogin as exc:
            return refuse(403, "login_refused", str(exc))
        request.state.actor = identity
        response = await self._let_in(request, identity, kept)
        response.delete_cookie(LOGIN_COOKIE, path="/login")
        return response

    async def give_token(self, request: Request, body: CodeBody) -> Response:
        """The token of a login that a terminal began."""
        address = self._peers.address_of(request.scope)
        if (wait_seconds := self._codes.wait_seconds(address)) > 0:
            return slow_down(wait_seconds)
        kept = await self._seal.open("terminal", body.code, self._now())
        if kept is None or not compare_digest(_challenge_of(body.verifier), str(kept["challenge"])):
            self._codes.fail(address)
            return refuse(403, "login_refused", "this code is over, or of another login; begin anew")
        identity = Identity(name=kept["name"], role=Role(kept["role"]), groups=frozenset(kept["groups"]))
        request.state.actor = identity
        made, token = await self._made(TokenKind.PERSONAL, identity, TERMINAL_LASTS, label="login of a terminal")
        return answer(
            shown.TokenMade(
                id=token.id,
                name=identity.name,
                role=identity.role.value,
                groups=sorted(identity.groups),
                label=token.label,
                created_at=token.created_at,
                expires_at=token.expires_at,
                token=made.text,
            )
        )

    async def end(self, request: Request) -> Response:
        """End the session of this browser."""
        grant = grant_of(request)
        if grant is None or grant.token is None or not grant.by_cookie:
            return refuse(400, "bad_request", "there is no session to end; a token is not logged out but revoked")
        await self._revoke(grant.token)
        response = Response(status_code=204)
        for name in SESSION_COOKIES:
            response.delete_cookie(name, path="/", secure=name.startswith("__Host-"))
        return response

    # ------------------------------------------------------------------------------------- pieces

    async def _let_in(self, request: Request, identity: Identity, kept: dict[str, Any]) -> Response:
        if kept["port"] is not None:
            document = {
                "name": identity.name,
                "role": identity.role.value,
                "groups": sorted(identity.groups),
                "challenge": kept["challenge"],
            }
            code = await self._seal.seal("terminal", document, self._now() + CODE_LASTS)
            # The code is of no use without the verifier, which never left the terminal.
            return _redirect(f"http://127.0.0.1:{kept['port']}/?code={code}")
        before = grant_of(request)
        if before is not None and before.by_cookie and before.token is not None:
            # Whoever knew the session of before does not come along into this one.
            await self._revoke(before.token)
        made, _ = await self._made(TokenKind.SESSION, identity, SESSION_LASTS, label="")
        response = _redirect(kept["next"])
        name = SESSION_COOKIES[0 if self._peers.is_secure(request.scope) else 1]
        self._set_cookie(request, response, name, made.text, SESSION_LASTS, path="/")
        return response

    async def _made(
        self, kind: TokenKind, identity: Identity, lasts: timedelta, *, label: str
    ) -> tuple[TokenText, Token]:
        now, made = self._now(), new_token(kind)
        token = Token(
            id=made.id,
            text_hash=hash_of(made.text),
            kind=kind,
            identity=identity,
            label=label,
            created_at=now,
            expires_at=now + lasts,
        )
        await self._store.add_token(token)
        return made, token

    async def _revoke(self, token: Token) -> None:
        await self._store.revoke_token(token.id, self._now())
        self._identities.forget(token.id)

    def _callback(self, request: Request) -> str:
        return self._peers.origin_of(request.scope) + CALLBACK

    def _set_cookie(
        self, request: Request, response: Response, name: str, value: str, lasts: timedelta, *, path: str
    ) -> None:
        response.set_cookie(
            name,
            value,
            max_age=int(lasts.total_seconds()),
            path=path,
            secure=self._peers.is_secure(request.scope),
            httponly=True,
            # Strict would leave the cookie at home on the way back from the login service.
            samesite="lax",
        )


def _redirect(url: str) -> Response:
    return Response(status_code=303, headers={"location": url})


def _no_service() -> Response:
    text = "no login service is configured; use a personal token, or ask an admin to set manager.oidc"
    return refuse(404, "no_login", text)


def _challenge_of(verifier: str) -> str:
    """RFC 7636, S256."""
    return urlsafe_b64encode(sha256(verifier.encode()).digest()).rstrip(b"=").decode()

"""OAuth2 client credentials (RFC 6749, 4.4): as JSON, like the original's clients send them, or as a form."""

import base64
import binascii
import math
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, cast
from urllib.parse import parse_qsl, unquote_plus

import msgspec
from fastapi import FastAPI, Request, Response

from openaperture.domain.access import Client, Identity, Role, Token, TokenKind
from openaperture.manager.answers import HEADERS
from openaperture.manager.credentials import SecretChecker, hash_of, new_token
from openaperture.manager.peers import Peers
from openaperture.manager.throttle import Throttle
from openaperture.ports import AccessStore

PATH = "/oauth/token"
FAILURES_PER_ADDRESS = 10
FAILURES_PER_CLIENT = 30
"""More, because others can make them: somebody who knows an id could lock its owner out."""
_MAX_FIELDS = 16
_MAX_TEXT = 1_024
_PRUNED = 50
_KEPT = timedelta(days=1)


class OAuthError(Exception):
    """An answer in the form of RFC 6749, 5.2."""

    def __init__(self, code: str, text: str, status: int = 400, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(text)
        self.code = code
        self.status = status
        self.headers = headers or {}


class OAuthRoutes:
    """Gives access tokens to clients."""

    def __init__(
        self,
        store: AccessStore,
        checker: SecretChecker,
        peers: Peers,
        *,
        now: Callable[[], datetime],
        monotonic: Callable[[], float],
        token_seconds: float,
    ) -> None:
        self._store = store
        self._checker = checker
        self._peers = peers
        self._now = now
        self._token_seconds = token_seconds
        self._addresses = Throttle(limit=FAILURES_PER_ADDRESS, monotonic=monotonic)
        self._clients = Throttle(limit=FAILURES_PER_CLIENT, monotonic=monotonic)

    def add_to(self, app: FastAPI) -> None:
        app.add_api_route(PATH, self.give_token, methods=["POST"], response_model=None)

    async def give_token(self, request: Request) -> Response:
        """An access token for a client's id and secret."""
        try:
            fields = _fields_of(await request.body(), request.headers.get("content-type", ""))
            client_id, secret = _credentials_of(fields, request.headers.get("authorization"))
            request.state.sent = {"client_id": client_id, "scope": fields.get("scope", "")}
            client = await self._checked(client_id, secret, self._peers.address_of(request.scope))
            identity = _narrowed(client, fields.get("scope", ""))
            request.state.actor = identity
            return await self._granted(client, identity)
        except OAuthError as exc:
            return _answer({"error": exc.code, "error_description": str(exc)}, exc.status, exc.headers)

    async def _checked(self, client_id: str, secret: str, address: str) -> Client:
        """One answer, after one time, whatever of the two is wrong or disabled."""
        keys = ((self._addresses, address), (self._clients, client_id))
        # Asked when it is one's turn, not before: else many that come at once would all be tried.
        async with self._checker.turn:
            wait = max(throttle.wait_seconds(key) for throttle, key in keys)
            if wait > 0:
                headers = {"retry-after": str(math.ceil(wait))}
                text = "too many failures; wait, and check the client's id and secret"
                raise OAuthError("slow_down", text, 429, headers)
            client = await self._store.find_client(client_id)
            fits = await self._checker.check(secret, client.secret_hash if client else None)
            if client is None or not fits or client.disabled_at is not None:
                for throttle, key in keys:
                    throttle.fail(key)
                headers = {"www-authenticate": 'Basic realm="openaperture"'}
                raise OAuthError("invalid_client", "this client id and secret are not accepted", 401, headers)
        return client

    async def _granted(self, client: Client, identity: Identity) -> Response:
        now, made = self._now(), new_token(TokenKind.ACCESS)
        token = Token(
            id=made.id,
            text_hash=hash_of(made.text),
            kind=TokenKind.ACCESS,
            identity=identity,
            client_id=client.id,
            created_at=now,
            expires_at=now + timedelta(seconds=self._token_seconds),
        )
        await self._store.add_token(token)
        await self._store.prune_tokens(now - _KEPT, limit=_PRUNED)
        document = {
            "access_token": made.text,
            "token_type": "Bearer",
            "expires_in": int(self._token_seconds),
            "scope": identity.role.value,
        }
        return _answer(document, 200)


def _answer(document: Mapping[str, Any], status: int, headers: Mapping[str, str] | None = None) -> Response:
    return Response(
        msgspec.json.encode(document),
        status_code=status,
        media_type="application/json",
        headers={**HEADERS, "pragma": "no-cache", **(headers or {})},
    )


def _fields_of(body: bytes, content_type: str) -> dict[str, str]:
    """The fields of a JSON object or of a form. Raises OAuthError."""
    try:
        if content_type.partition(";")[0].strip().lower() == "application/x-www-form-urlencoded":
            pairs: list[tuple[str, object]] = list(
                parse_qsl(body.decode(), strict_parsing=True, max_num_fields=_MAX_FIELDS)
            )
        else:
            document = msgspec.json.decode(body)
            pairs = list(cast("dict[str, object]", document).items()) if isinstance(document, dict) else []
    except (ValueError, RecursionError) as exc:
        raise OAuthError("invalid_request", "the body is neither a JSON object nor a form") from exc
    fields = {name: value for name, value in pairs if isinstance(value, str) and len(value) <= _MAX_TEXT}
    if len(fields) != len(pairs):
        raise OAuthError("invalid_request", "a field is there twice, too long, or no text")
    if fields.get("grant_type") != "client_credentials":
        raise OAuthError("unsupported_grant_type", "grant_type has to be client_credentials")
    return fields


def _credentials_of(fields: Mapping[str, str], authorization: str | None) -> tuple[str, str]:
    """From the body or by HTTP Basic, and not by both (RFC 6749, 2.3). Raises OAuthError."""
    client_id, secret = fields.get("client_id", ""), fields.get("client_secret", "")
    scheme, _, encoded = (authorization or "").partition(" ")
    if scheme.lower() == "basic":
        basic_id, basic_secret = _basic(encoded)
        if secret or client_id not in {"", basic_id}:
            raise OAuthError("invalid_request", "the client's secret is there twice; send it once")
        client_id, secret = basic_id, basic_secret
    if not client_id or not secret:
        raise OAuthError("invalid_request", "client_id and client_secret are needed")
    return client_id, secret


def _basic(encoded: str) -> tuple[str, str]:
    try:
        decoded = base64.b64decode(encoded.strip(), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError) as exc:
        raise OAuthError("invalid_request", "the header Authorization cannot be decoded") from exc
    client_id, _, secret = decoded.partition(":")
    return unquote_plus(client_id)[:_MAX_TEXT], unquote_plus(secret)[:_MAX_TEXT]


def _narrowed(client: Client, scope: str) -> Identity:
    """The client's identity, or with less power where `scope` names a smaller role."""
    wanted = scope.split()
    if not wanted:
        return client.identity
    if len(wanted) > 1 or wanted[0] not in set(Role) or not client.role.covers(Role(wanted[0])):
        roles = ", ".join(role for role in Role if client.role.covers(role))
        raise OAuthError("invalid_scope", f"scope has to be one of {roles}")
    identity = client.identity
    return Identity(name=identity.name, role=Role(wanted[0]), groups=identity.groups)

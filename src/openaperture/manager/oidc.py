"""The login service: OpenID Connect, authorization code flow with PKCE. Its address is the operator's word."""

import asyncio
import secrets
from base64 import urlsafe_b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from hmac import compare_digest
from typing import Any, TypeVar
from urllib.parse import urlencode, urlsplit

import httpx
import msgspec

from openaperture.client.answers import NotAnAnswer, parse, read_body
from openaperture.client.oauth import is_loopback
from openaperture.domain.access import Identity
from openaperture.domain.errors import LoginUnavailable
from openaperture.manager.claims import BadLogin, ClaimRules, identity_of, key_id_of, verified

T = TypeVar("T")
REQUEST_SECONDS = 10.0
MAX_ANSWER_BYTES = 1_048_576
KEYS_SECONDS = 3_600.0
"""After that long the keys are fetched again, so that one that was withdrawn is no longer accepted."""
REFETCH_SECONDS = 30.0
"""A key that we do not know has them fetched at once, but so often at most: anybody can make one up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OidcOptions:
    """What the operator says of the login service."""

    issuer: str
    client_secret: str | None = field(repr=False)
    scopes: Sequence[str]
    rules: ClaimRules


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """A login under way: where the browser goes, and what has to come back with it."""

    url: str
    state: str
    nonce: str
    verifier: str


class _Discovery(msgspec.Struct, kw_only=True):
    """OpenID Connect Discovery 1.0, 4.2: what we need of it."""

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str


class _Keys(msgspec.Struct, kw_only=True):
    keys: list[dict[str, Any]]


class _Tokens(msgspec.Struct, kw_only=True):
    id_token: str


class OidcProvider:
    """Sends people to log in, and judges what they bring back."""

    def __init__(self, options: OidcOptions, *, monotonic: Callable[[], float]) -> None:
        self._options = options
        self._rules = options.rules
        self._monotonic = monotonic
        self._lock = asyncio.Lock()
        self._discovery: _Discovery | None = None
        self._keys: list[dict[str, Any]] = []
        self._fetched_at = float("-inf")

    async def begin(self, redirect_uri: str) -> Begun:
        """Raises LoginUnavailable."""
        discovery = await self._discovered()
        state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
        challenge = urlsafe_b64encode(sha256(verifier.encode()).digest()).rstrip(b"=").decode()
        query = {
            "response_type": "code",
            "client_id": self._rules.client_id,
            "redirect_uri": redirect_uri,
            "scope": " ".join(self._options.scopes),
            "state": state,
            "nonce": nonce,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        joint = "&" if urlsplit(discovery.authorization_endpoint).query else "?"
        url = f"{discovery.authorization_endpoint}{joint}{urlencode(query)}"
        return Begun(url=url, state=state, nonce=nonce, verifier=verifier)

    async def finish(self, code: str, *, verifier: str, nonce: str, redirect_uri: str) -> Identity:
        """Who logged in. Raises BadLogin, LoginUnavailable."""
        discovery = await self._discovered()
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": redirect_uri,
            "code_verifier": verifier,
            "client_id": self._rules.client_id,
        }
        if self._options.client_secret is not None:
            form["client_secret"] = self._options.client_secret
        claims = await self._claims((await self._ask(discovery.token_endpoint, _Tokens, form)).id_token)
        shown = claims.get("nonce")
        if not isinstance(shown, str) or not compare_digest(shown.encode(), nonce.encode()):
            raise BadLogin("the token belongs to another login; begin anew")
        return identity_of(claims, self._rules)

    async def find_identity(self, text: str) -> Identity | None:
        """Of a token that a program shows as its bearer. Raises LoginUnavailable."""
        try:
            return identity_of(await self._claims(text), self._rules)
        except BadLogin:
            return None

    async def _claims(self, text: str) -> Mapping[str, Any]:
        algorithm, key_id = key_id_of(text)
        keys = await self._keys_for(key_id)
        issuer = (await self._discovered()).issuer
        return verified(text, algorithm, keys, issuer=issuer, client_id=self._rules.client_id)

    # ------------------------------------------------------------------------ what it says of itself

    async def _discovered(self) -> _Discovery:
        async with self._lock:
            if self._discovery is None:
                url = f"{self._options.issuer.rstrip('/')}/.well-known/openid-configuration"
                found = await self._ask(url, _Discovery)
                if found.issuer.rstrip("/") != self._options.issuer.rstrip("/"):
                    raise self._unavailable(f"it calls itself {found.issuer[:200]}; correct manager.oidc.issuer")
                for endpoint in (found.authorization_endpoint, found.token_endpoint, found.jwks_uri):
                    self._check(endpoint)
                self._discovery = found
            return self._discovery

    def _check(self, url: str) -> None:
        """Codes, secrets and keys go over TLS, unless they stay on this machine."""
        parts = urlsplit(url)
        if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(url)):
            raise self._unavailable(f"it names {url[:200]}, which is no https:// address")

    async def _keys_for(self, key_id: str | None) -> list[dict[str, Any]]:
        discovery = await self._discovered()
        async with self._lock:
            age = self._monotonic() - self._fetched_at
            if age >= KEYS_SECONDS or (age >= REFETCH_SECONDS and not self._known(key_id)):
                self._keys = (await self._ask(discovery.jwks_uri, _Keys)).keys
                self._fetched_at = self._monotonic()
            return self._known(key_id)

    def _known(self, key_id: str | None) -> list[dict[str, Any]]:
        signing = [key for key in self._keys if key.get("use", "sig") == "sig" and key.get("kty") != "oct"]
        return signing if key_id is None else [key for key in signing if key.get("kid") == key_id]

    async def _ask(self, url: str, kind: type[T], form: Mapping[str, str] | None = None) -> T:
        """Redirects are not followed: what we send is for the address that was named."""
        method = "GET" if form is None else "POST"
        headers = {"accept": "application/json", "accept-encoding": "identity"}
        try:
            async with (
                asyncio.timeout(REQUEST_SECONDS),
                httpx.AsyncClient(
                    headers=headers, trust_env=not is_loopback(url), timeout=REQUEST_SECONDS
                ) as http,
                http.stream(method, url, data=form) as response,
            ):
                body = await read_body(response, limit_bytes=MAX_ANSWER_BYTES)
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError, NotAnAnswer) as exc:
            # Without the cause: the request that it carries holds the code and our secret.
            raise self._unavailable(f"it cannot be asked ({type(exc).__name__})") from None
        if form is not None and response.status_code in {400, 401, 403}:
            raise BadLogin("the login service does not confirm this login; begin anew")
        if response.status_code != 200:
            raise self._unavailable(f"it answered {response.status_code}")
        try:
            return parse(body, kind)
        except NotAnAnswer:
            raise self._unavailable("its answer is none of OpenID Connect") from None

    def _unavailable(self, why: str) -> LoginUnavailable:
        return LoginUnavailable(f"the login service {self._options.issuer} cannot be used: {why}")

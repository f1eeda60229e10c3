"""From what a request shows to who sends it: the local token, tokens of the store, a login elsewhere."""

import re
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeVar

from starlette.datastructures import Headers
from starlette.requests import cookie_parser

from openaperture.domain.access import LOCAL_NAME, Identity, Role, Token, TokenKind
from openaperture.manager.credentials import hash_of, parse_token, same
from openaperture.manager.oidc import OidcProvider
from openaperture.ports import AccessStore

T = TypeVar("T")

CACHED = timedelta(seconds=2)
"""How long what the store said of a token counts, so how long a revoked one may still be accepted by
another process of the Manager."""
CACHE_ENTRIES = 4_096
FAMILIAR_ENTRIES = 8_192
USE_NOTED = timedelta(minutes=1)
"""The use of a token is noted so often at most: a write for every request would cost more than the rest."""
SESSION_COOKIES = ("__Host-openaperture", "openaperture")
"""With and without TLS. The browser itself sees to it that the first was set by us, over TLS."""

_BEARER = re.compile(r"\s*(?:oauth\s+)?bearer\s+(?:access_token=)?(\S+)\s*", re.IGNORECASE)
"""Also as the original's clients write it: `Bearer access_token=...`."""
_LOCAL = Identity(name=LOCAL_NAME, role=Role.ADMIN)


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """Who asks, and what they showed."""

    identity: Identity
    token: Token | None = None
    """None for the local token and for a token of a login elsewhere."""
    by_cookie: bool = False
    """Sent by the browser on its own: what it asks for may be somebody else's idea."""


class Identities:
    """Knows who a request is from. Asks the store once per token and moment."""

    def __init__(
        self,
        store: AccessStore,
        *,
        local_token: str,
        now: Callable[[], datetime],
        elsewhere: OidcProvider | None = None,
    ) -> None:
        self._store = store
        self._local_token = local_token
        self._now = now
        self._elsewhere = elsewhere
        self._cache: OrderedDict[str, tuple[datetime, Token]] = OrderedDict()
        self._familiar: OrderedDict[str, None] = OrderedDict()
        """Hashes of bearers that were good when they were last shown here."""

    async def identify(self, headers: Headers) -> Grant | None:
        """None for nobody that we know. Raises StoreUnavailable.

        A bearer is looked at alone: who sends one does not want to be taken for somebody else.
        """
        if "authorization" not in headers:
            return await self._by_cookie(headers)
        text = _bearer_of(headers)
        grant = None if text is None else await self._by_bearer(text)
        if text is not None and grant is not None:
            _remember(self._familiar, hash_of(text), None, FAMILIAR_ENTRIES)
        return grant

    def is_guess(self, headers: Headers) -> bool:
        """Whether a bearer is shown that has never been good here. Costs nothing, and asks nobody."""
        text = _bearer_of(headers)
        if text is None:
            return "authorization" in headers
        return not same(text, self._local_token) and hash_of(text) not in self._familiar

    def forget(self, token_id: str) -> None:
        """A token was revoked here: it is refused here at once."""
        for text_hash, (_, token) in list(self._cache.items()):
            if token_id in {token.id, token.root}:
                del self._cache[text_hash]

    def forget_client(self, client_id: str) -> None:
        for text_hash, (_, token) in list(self._cache.items()):
            if token.client_id == client_id:
                del self._cache[text_hash]

    async def find_end(self, headers: Headers) -> str | None:
        """Why the bearer is not accepted any more, where it was once. Only who has its text is told."""
        given = headers.getlist("authorization")
        shown = _BEARER.fullmatch(given[0]) if len(given) == 1 else None
        token = None if shown is None else await self._stored(shown[1])
        if token is None or token.kind is TokenKind.SESSION:
            return None
        if token.revoked_at is not None:
            return f"was revoked on {token.revoked_at:%Y-%m-%d %H:%M} UTC"
        return f"has expired on {token.expires_at:%Y-%m-%d %H:%M} UTC" if token.expires_at <= self._now() else None

    async def _by_bearer(self, text: str) -> Grant | None:
        if same(text, self._local_token):
            return Grant(identity=_LOCAL)
        token = await self._find(text)
        if token is not None:
            return None if token.kind is TokenKind.SESSION else Grant(identity=token.identity, token=token)
        if self._elsewhere is None or parse_token(text) is not None:
            return None
        identity = await self._elsewhere.find_identity(text)
        return None if identity is None else Grant(identity=identity)

    async def _by_cookie(self, headers: Headers) -> Grant | None:
        cookies = cookie_parser(headers.get("cookie", ""))
        text = next((cookies[name] for name in SESSION_COOKIES if name in cookies), "")
        token = await self._find(text)
        if token is None or token.kind is not TokenKind.SESSION:
            return None
        return Grant(identity=token.identity, token=token, by_cookie=True)

    async def _find(self, text: str) -> Token | None:
        """The token if it is good now."""
        if parse_token(text) is None:
            return None
        now, text_hash = self._now(), hash_of(text)
        token = self._cached(text_hash, now)
        if token is None:
            token = await self._stored(text)
            if token is None:
                return None
            token = await self._noted(token, now)
            _remember(self._cache, text_hash, (now, token), CACHE_ENTRIES)
        return token if token.is_good(now) else None

    async def _stored(self, text: str) -> Token | None:
        """The token with that very text, good or not."""
        parsed = parse_token(text)
        token = None if parsed is None else await self._store.find_token(parsed[1])
        if parsed is None or token is None or token.kind is not parsed[0]:
            return None
        return token if same(token.text_hash, hash_of(text)) else None

    def _cached(self, text_hash: str, now: datetime) -> Token | None:
        kept = self._cache.get(text_hash)
        return kept[1] if kept is not None and kept[0] <= now < kept[0] + CACHED else None

    async def _noted(self, token: Token, now: datetime) -> Token:
        is_fresh = token.used_at is not None and now < token.used_at + USE_NOTED
        if token.is_good(now) and not is_fresh:
            await self._store.touch_token(token.id, now)
        return token


def _bearer_of(headers: Headers) -> str | None:
    given = headers.getlist("authorization")
    shown = _BEARER.fullmatch(given[0]) if len(given) == 1 else None
    return None if shown is None else shown[1]


def _remember(entries: OrderedDict[str, T], key: str, value: T, limit: int) -> None:
    """The longest untouched goes first."""
    entries[key] = value
    entries.move_to_end(key)
    while len(entries) > limit:
        entries.popitem(last=False)

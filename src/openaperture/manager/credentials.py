"""Texts that open something: how they are made, recognised and compared. None is ever stored.

    oap_<id>_<secret>   a personal token     oaa_…   an access token of a client     oas_…   a session
    ocs_<secret>        the secret of a client

The id finds the row; the secret has 256 random bits. Of tokens SHA-256 is stored, which is enough for
texts that nobody can guess; of client secrets scrypt.
"""

import asyncio
import re
import secrets
from base64 import b64decode, b64encode
from dataclasses import dataclass
from hashlib import scrypt, sha256
from hmac import compare_digest

from openaperture.domain.access import TokenKind

SECRET_BYTES = 32
_LETTERS = {TokenKind.PERSONAL: "p", TokenKind.ACCESS: "a", TokenKind.SESSION: "s"}
_KINDS = {letter: kind for kind, letter in _LETTERS.items()}
_TOKEN = re.compile(r"oa([pas])_([0-9a-f]{16})_[A-Za-z0-9_-]{43}")

_COST = 2**14
_BLOCK = 8
"""With the cost above: 16 MiB and some 50 ms for each check."""
_SALT_BYTES = 16
_DIGEST_BYTES = 32
_MEMORY_BYTES = 64 * 1_048_576
_CHECKS_AT_ONCE = 2
"""More would only take memory and processors from those who are let in already."""


@dataclass(frozen=True, slots=True)
class TokenText:
    """A new token: what its owner gets, once."""

    id: str
    text: str

    def __repr__(self) -> str:
        return f"TokenText({self.id})"


def new_token(kind: TokenKind, wanted_id: str | None = None) -> TokenText:
    """`wanted_id` has 16 hexadecimal digits; None lets chance choose."""
    token_id = wanted_id or secrets.token_hex(8)
    return TokenText(token_id, f"oa{_LETTERS[kind]}_{token_id}_{secrets.token_urlsafe(SECRET_BYTES)}")


def parse_token(text: str) -> tuple[TokenKind, str] | None:
    """Kind and id; None for what is no token of ours."""
    found = _TOKEN.fullmatch(text)
    return (_KINDS[found[1]], found[2]) if found else None


def hash_of(text: str) -> str:
    """Of a token."""
    return sha256(text.encode()).hexdigest()


def same(one: str, other: str) -> bool:
    """Compared by digests: the time that it takes says nothing of either text."""
    return compare_digest(sha256(one.encode()).digest(), sha256(other.encode()).digest())


def new_client_secret() -> str:
    return f"ocs_{secrets.token_urlsafe(SECRET_BYTES)}"


class SecretChecker:
    """scrypt off the event loop, a few at a time."""

    def __init__(self) -> None:
        self.turn = asyncio.Semaphore(_CHECKS_AT_ONCE)
        """Held around each of the methods."""
        # Of no secret at all, but as costly to check as any.
        self._nobodys = _form(secrets.token_bytes(_SALT_BYTES), secrets.token_bytes(_DIGEST_BYTES))

    async def hash(self, secret: str) -> str:
        return await asyncio.to_thread(_hashed, secret)

    async def check(self, secret: str, stored: str | None) -> bool:
        """Takes as long for a client that does not exist, whose hash is None."""
        fits = await asyncio.to_thread(_fits, secret, stored or self._nobodys)
        return fits and stored is not None


def _hashed(secret: str) -> str:
    salt = secrets.token_bytes(_SALT_BYTES)
    return _form(salt, _derived(secret, salt, _COST, _BLOCK))


def _form(salt: bytes, digest: bytes) -> str:
    return f"scrypt${_COST}${_BLOCK}${_text(salt)}${_text(digest)}"


def _fits(secret: str, stored: str) -> bool:
    """The parameters are those of the stored hash, so that they can be raised later."""
    _, cost, block, salt, digest = stored.split("$")
    return compare_digest(_derived(secret, b64decode(salt), int(cost), int(block)), b64decode(digest))


def _derived(secret: str, salt: bytes, cost: int, block: int) -> bytes:
    return scrypt(secret.encode(), salt=salt, n=cost, r=block, p=1, maxmem=_MEMORY_BYTES, dklen=_DIGEST_BYTES)


def _text(raw: bytes) -> str:
    return b64encode(raw).decode()

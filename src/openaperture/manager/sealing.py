"""Small documents that go through a browser and come back: readable there, and changed by nobody."""

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime, timedelta
from hashlib import sha256
from hmac import compare_digest, digest
from typing import Any, cast


class Seal:
    """Any Manager on the same database opens what another one has sealed."""

    def __init__(self, key: Callable[[], Awaitable[str]]) -> None:
        """`key` fetches the key that all share; it is asked once."""
        self._fetch = key
        self._key: bytes | None = None

    async def seal(self, purpose: str, document: Mapping[str, Any], until: datetime) -> str:
        """Text for a url or a cookie. What was sealed for one purpose opens for no other."""
        whole = {**document, "purpose": purpose, "until": until.timestamp()}
        body = urlsafe_b64encode(json.dumps(whole).encode()).decode()
        return f"{body}.{await self._mac(body)}"

    async def open(self, purpose: str, text: str, now: datetime) -> dict[str, Any] | None:
        """None for what is not ours, is over, or was meant for something else."""
        body, _, mac = text.partition(".")
        if not text.isascii() or not compare_digest(mac, await self._mac(body)):
            return None
        document = cast("dict[str, Any]", json.loads(urlsafe_b64decode(body)))
        if document.pop("purpose") != purpose or document.pop("until") <= now.timestamp():
            return None
        return document

    async def _mac(self, body: str) -> str:
        if self._key is None:
            self._key = (await self._fetch()).encode()
        return digest(self._key, body.encode(), sha256).hex()


LOGIN_LASTS = timedelta(minutes=10)
"""Time to find one's password, and the second factor."""
CODE_LASTS = timedelta(minutes=1)

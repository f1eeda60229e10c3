"""Bodies are read here, within bounds and strictly, before any route sees them."""

import asyncio
from collections.abc import Collection

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from openaperture.codecs import json
from openaperture.domain.errors import BadMessage
from openaperture.manager.refusals import refuse

READ_SECONDS = 30.0
"""How long a client may take to send its body."""
_DISCARDED_BYTES = 16 * json.MAX_BYTES
"""So much of a body that is too large is read all the same: a client that is still sending when the
connection is closed would not see the answer."""
_WITHOUT_BODY = frozenset({"GET", "HEAD"})


class Refused(Exception):
    """A body that no route shall see: status, code and text of the answer."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class Gone(Exception):
    """The client went away in the middle of its body."""


class Bodies:
    """Middleware: hands on a body that is JSON, of a size and a depth that we take.

    What was sent is left in the state of the request, for the audit.
    """

    def __init__(self, app: ASGIApp, *, forms: Collection[str]) -> None:
        """`forms` are the exact paths that take an HTML form as well."""
        self._app = app
        self._forms = forms

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in _WITHOUT_BODY:
            await self._app(scope, receive, send)
            return
        try:
            body = await _read(receive)
            scope["state"]["sent"] = _parsed(body, Headers(scope=scope), forms=scope["path"] in self._forms)
        except Gone:
            return
        except Refused as exc:
            # The rest of the body is not read: without this the server would take it for a request.
            close = {"connection": "close"} if exc.status in {408, 413} else {}
            await refuse(exc.status, exc.code, str(exc), headers=close)(scope, receive, send)
            return
        await self._app(scope, _replay(body, receive), send)


async def _read(receive: Receive) -> bytes:
    body = bytearray()
    size = 0
    more = True
    try:
        async with asyncio.timeout(READ_SECONDS):
            while more and size <= _DISCARDED_BYTES:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise Gone
                size += len(chunk := message.get("body", b""))
                body += chunk if size <= json.MAX_BYTES else b""
                more = message.get("more_body", False)
    except TimeoutError as exc:
        text = f"the body did not arrive within {READ_SECONDS:.0f} s; send it again"
        raise Refused(408, "timeout", text) from exc
    if size > json.MAX_BYTES:
        raise Refused(413, "too_large", f"the body has more than {json.MAX_BYTES} bytes; send less")
    return bytes(body)


def _parsed(body: bytes, headers: Headers, *, forms: bool) -> object:
    """What the body says; None for none, and for a form, which its route reads."""
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if not body or (forms and kind == "application/x-www-form-urlencoded"):
        return None
    if kind != "application/json":
        text = f'the body is "{kind[:100]}"; send JSON, with the header "Content-Type: application/json"'
        raise Refused(415, "unsupported_media_type", text)
    try:
        return json.parse(body)
    except BadMessage as exc:
        raise Refused(400, "bad_request", f"the body cannot be used: {exc}") from exc


def _replay(body: bytes, receive: Receive) -> Receive:
    """A channel that gives the body once, and then whatever comes."""
    unread = True

    async def receive_again() -> Message:
        nonlocal unread
        if unread:
            unread = False
            return {"type": "http.request", "body": body, "more_body": False}
        return await receive()

    return receive_again

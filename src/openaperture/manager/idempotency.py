"""The header Idempotency-Key: a POST that is sent again is not done again.

  1. the key is written down with a digest of the request, and leased, before anything is done
  2. the request is done; what it makes is given an id that follows from the key
  3. the answer is kept, and then sent; a request with the same key is answered with it

While one Manager has the lease, all others wait for its answer. A crash between 2 and 3 leaves a key without an
answer: when the lease has run out the request is done again, and what makes something finds it made by its id.
A refusal is not kept: nothing was done, and the next try is judged anew.
"""

import asyncio
import re
from collections.abc import Awaitable
from hashlib import sha256
from typing import Any
from uuid import UUID, uuid4, uuid5
from weakref import WeakValueDictionary

from fastapi import Request, Response
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from openaperture.domain.errors import OpenApertureError, StoreUnavailable
from openaperture.manager.access import name_in
from openaperture.manager.answers import HEADERS
from openaperture.manager.refusals import refuse, refuse_for, shown_once
from openaperture.ports import KeptAnswer, KnownKey, Observer, RequestKeys

_KEY = re.compile(r"[!-~]{1,255}")
"""Printable ASCII without blanks."""
_NAMESPACE = UUID("5e0a7c1e-2f4b-4c55-9d0b-6f1f6a3b7f10")
"""Of the ids that follow from keys; any UUID that nobody else uses."""
_SHOWN_ONCE = frozenset({"/tokens", "/clients"})
"""Their answers hold a secret, of which the database keeps a digest alone."""
_KEPT_HEADERS = frozenset({"location", "content-type"})

LEASE_SECONDS = 60.0
WORK_SECONDS = 40.0
"""For doing a request. What it left to the database then ends before the lease does: a statement is cut off after
a quarter of a minute."""
WAIT_SECONDS = 10.0
PAUSES_SECONDS = (0.05, 0.1, 0.2, 0.4, *(1.0,) * 9)
"""Between looks at a key that another Manager has leased; together some WAIT_SECONDS."""
RETRY_SECONDS = 5
"""What we tell clients to wait when their request is still being done."""


class Idempotency:
    """Middleware, behind the one that knows who asks."""

    def __init__(self, app: ASGIApp, *, keys: RequestKeys, observer: Observer | None) -> None:
        self._app = app
        self._keys = keys
        self._observer = observer
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        """Of requests with one key here, the second waits for the first without asking the database."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        given = _key_of(scope)
        caller = name_in(scope)
        if given is None or caller is None:
            await self._app(scope, receive, send)
        elif not _KEY.fullmatch(given):
            text = "the header Idempotency-Key is not 1 to 255 printable characters without blanks; send a UUID"
            await refuse(400, "bad_request", text)(scope, receive, send)
        else:
            await self._in_turn(_digest(caller, given), scope, receive, send)

    async def _in_turn(self, key: str, scope: Scope, receive: Receive, send: Send) -> None:
        turn = self._turns.setdefault(key, asyncio.Lock())
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                await turn.acquire()
        except TimeoutError:
            await _in_progress()(scope, receive, send)
            return
        try:
            await self._once(key, scope, receive, send)
        finally:
            turn.release()

    async def _once(self, key: str, scope: Scope, receive: Receive, send: Send) -> None:
        body = await _body_of(receive)
        request = _digest(scope["path"], scope["query_string"].decode("latin-1"), body.hex())
        owner = uuid4().hex
        try:
            begun = await self._begin(key, request, owner)
        except OpenApertureError as exc:
            await refuse_for(exc)(scope, receive, send)
            return
        if begun.request != request:
            text = "this Idempotency-Key was sent with another request before; choose a new key"
            await refuse(409, "key_reused", text)(scope, receive, send)
        elif begun.answer is not None:
            await _replayed(begun.answer)(scope, receive, send)
        elif not begun.leased:
            await _in_progress()(scope, receive, send)
        else:
            scope["state"]["id_from_key"] = str(uuid5(_NAMESPACE, f"{key} {begun.at.isoformat()}"))
            await self._do(key, owner, scope, _given(body, receive), send)

    async def _begin(self, key: str, request: str, owner: str) -> KnownKey:
        """Leased to us, or answered. Neither when somebody else is at it for longer than we wait."""
        for pause in PAUSES_SECONDS:
            begun = await self._keys.begin(key, request, owner, lease_seconds=LEASE_SECONDS)
            if begun.leased or begun.answer is not None or begun.request != request:
                return begun
            await asyncio.sleep(pause)
        return await self._keys.begin(key, request, owner, lease_seconds=LEASE_SECONDS)

    async def _do(self, key: str, owner: str, scope: Scope, receive: Receive, send: Send) -> None:
        """Where it is cut short, a thread may still be at it: then the lease is left to run out."""
        answered = _Recorder()
        release = self._keys.release
        try:
            in_time = await self._finish(scope, receive, answered)
        except Exception:
            await self._unless_away(release(key, owner), scope)
            raise
        if not in_time:
            await _too_slow()(scope, receive, send)
            return
        if not (200 <= answered.status < 300 and await self._keep(key, answered, scope)):
            await self._unless_away(release(key, owner), scope)
        for message in answered.messages:
            await send(message)

    async def _finish(self, scope: Scope, receive: Receive, answered: "_Recorder") -> bool:
        limit = asyncio.timeout(WORK_SECONDS)
        try:
            async with limit:
                await self._app(scope, receive, answered)
        except TimeoutError:
            if not limit.expired():
                raise
        return not limit.expired()

    async def _keep(self, key: str, answered: "_Recorder", scope: Scope) -> bool:
        # Without the database it was done all the same, and that is what the client has to know.
        return await self._unless_away(
            self._keys.settle(key, _secret_free(answered.answer(), scope["path"])), scope
        )

    async def _unless_away(self, write: Awaitable[None], scope: Scope) -> bool:
        try:
            await write
        except StoreUnavailable as exc:
            if self._observer is not None:
                self._observer.emit("manager.waiting", method=scope["method"], path=scope["path"], error=exc)
            return False
        return True


class _Recorder:
    """Takes an answer instead of sending it."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.status = 0

    async def __call__(self, message: Message) -> None:
        self.messages.append(message)
        self.status = message.get("status", self.status)

    def answer(self) -> KeptAnswer:
        sent: list[tuple[bytes, bytes]] = list(self.messages[0]["headers"])
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in sent}
        body = b"".join(message.get("body", b"") for message in self.messages)
        kept = {name: value for name, value in headers.items() if name in _KEPT_HEADERS}
        return KeptAnswer(status=self.status, headers=kept, body=body)


def id_from_key(request: Request) -> str | None:
    """The id, a UUID, of what a POST with a key makes; None without one: any will do."""
    made: str | None = getattr(request.state, "id_from_key", None)
    return made


def _key_of(scope: Scope) -> str | None:
    if scope["type"] != "http" or scope["method"] != "POST":
        return None
    return Headers(scope=scope).get("idempotency-key")


def _digest(*parts: str) -> str:
    return sha256("\0".join(parts).encode()).hexdigest()


async def _body_of(receive: Receive) -> bytes:
    """Whole and of a bounded size: the middleware before has seen to that."""
    message = await receive()
    body: bytes = message.get("body", b"")
    return body


def _given(body: bytes, receive: Receive) -> Receive:
    unread = [body]

    async def receive_again() -> Message:
        if unread:
            return {"type": "http.request", "body": unread.pop(), "more_body": False}
        return await receive()

    return receive_again


def _replayed(answer: KeptAnswer) -> Response:
    response = Response(answer.body, status_code=answer.status)
    headers: MutableHeaders = response.headers
    if not answer.body:
        del headers["content-length"]
    headers.update({**HEADERS, **answer.headers, "idempotency-replayed": "true"})
    return response


def _in_progress() -> Response:
    text = "a request with this Idempotency-Key is still being done; send it again to get the answer"
    return refuse(409, "in_progress", text, headers={"retry-after": str(RETRY_SECONDS)})


def _too_slow() -> Response:
    text = "it took too long, and whether it was done is not known; send it again with the same Idempotency-Key"
    return refuse(503, "unavailable", text, headers={"retry-after": str(RETRY_SECONDS)})


def _secret_free(answer: KeptAnswer, path: str) -> KeptAnswer:
    if path not in _SHOWN_ONCE:
        return answer
    headers: dict[str, Any] = {"content-type": "application/json"}
    return KeptAnswer(status=409, headers=headers, body=bytes(shown_once("what it made").body))

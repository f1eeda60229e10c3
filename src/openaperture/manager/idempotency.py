"""The header Idempotency-Key: a POST that is sent again is not done again.

  1. the key is written down with a digest of the request, before anything is done
  2. the request is done; what makes a workflow gives it an id that follows from the key
  3. the answer is kept, and then sent; a request with the same key is answered with it

A crash between 2 and 3 leaves a key without an answer, and the request is done again. What makes a workflow makes
the same one then. The other verbs change nothing a second time, or say that the state does not fit any more.
A refusal is not kept: nothing was done, and the next try is judged anew.
"""

import asyncio
import re
from hashlib import sha256
from typing import Any
from uuid import UUID, uuid5
from weakref import WeakValueDictionary

from fastapi import Request, Response
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from openaperture.domain.errors import OpenApertureError, StoreUnavailable
from openaperture.manager.access import name_in
from openaperture.manager.answers import HEADERS
from openaperture.manager.refusals import refuse, refuse_for
from openaperture.ports import KeptAnswer, KnownKey, Observer, RequestKeys

_KEY = re.compile(r"[!-~]{1,255}")
"""Printable ASCII without blanks."""
_NAMESPACE = UUID("5e0a7c1e-2f4b-4c55-9d0b-6f1f6a3b7f10")
"""Of the ids that follow from keys; any UUID that nobody else uses."""
_SHOWN_ONCE = frozenset({"/tokens", "/clients"})
"""Their answers hold a secret, of which the database keeps a digest alone."""
_KEPT_HEADERS = frozenset({"location", "content-type"})


class Idempotency:
    """Middleware, behind the one that knows who asks."""

    def __init__(self, app: ASGIApp, *, keys: RequestKeys, observer: Observer | None) -> None:
        self._app = app
        self._keys = keys
        self._observer = observer
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        """Of requests with one key, the second waits for the answer of the first."""

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
        async with turn:
            body = await _body_of(receive)
            request = _digest(scope["path"], scope["query_string"].decode("latin-1"), body.hex())
            try:
                begun = await self._keys.begin(key, request)
            except OpenApertureError as exc:
                await refuse_for(exc)(scope, receive, send)
                return
            if begun.request != request:
                text = "this Idempotency-Key was sent with another request before; choose a new key"
                await refuse(409, "key_reused", text)(scope, receive, send)
            elif begun.answer is not None:
                await _replayed(begun.answer)(scope, receive, send)
            else:
                await self._do(key, begun, scope, _given(body, receive), send)

    async def _do(self, key: str, begun: KnownKey, scope: Scope, receive: Receive, send: Send) -> None:
        scope["state"]["new_workflow_id"] = str(uuid5(_NAMESPACE, f"{key} {begun.at.isoformat()}"))
        answered = _Recorder()
        await self._app(scope, receive, answered)
        if 200 <= answered.status < 300:
            await self._keep(key, answered, scope)
        for message in answered.messages:
            await send(message)

    async def _keep(self, key: str, answered: "_Recorder", scope: Scope) -> None:
        try:
            await self._keys.settle(key, _secret_free(answered.answer(), scope["path"]))
        except StoreUnavailable as exc:
            # It was done, and that is what the client has to know.
            if self._observer is not None:
                self._observer.emit("manager.waiting", method=scope["method"], path=scope["path"], error=exc)


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


def new_workflow_id(request: Request) -> str | None:
    """The id of what a POST with a key makes; None without one: any will do."""
    made: str | None = getattr(request.state, "new_workflow_id", None)
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


def _secret_free(answer: KeptAnswer, path: str) -> KeptAnswer:
    if path not in _SHOWN_ONCE:
        return answer
    text = "this was done before, and the secret in its answer is shown once; revoke it and make another"
    refusal = refuse(409, "shown_once", text)
    headers: dict[str, Any] = {"content-type": "application/json"}
    return KeptAnswer(status=409, headers=headers, body=bytes(refusal.body))

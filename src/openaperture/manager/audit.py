"""Every request that may change something leaves one record: who, when, from where, what, and how it ended.

The record is durable before the client is answered. Requests that show no good token leave none, since
anybody could fill the disk with them; they are told to the observer instead.
"""

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import cast

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from openaperture.domain.access import Identity
from openaperture.domain.audit import Deed
from openaperture.domain.errors import OpenApertureError
from openaperture.manager.access import SAFE_METHODS
from openaperture.manager.identities import Grant
from openaperture.manager.peers import Peers
from openaperture.manager.policy import Policy
from openaperture.manager.refusals import refuse
from openaperture.ports import AccessStore, Observer

MAX_PATH = 300
MAX_VALUE = 200
MAX_FIELDS = 40
MASK = "***"

_SECRET = re.compile(r"token|secret|passw|authorization|key|credential|verifier|^code$|^state$", re.IGNORECASE)
_URL_PASSWORD = re.compile(r"(?<=://)([^/@\s:]*):[^/@\s]+@")


class Audit:
    """Middleware around everything that decides on the status of an answer."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        store: AccessStore,
        peers: Peers,
        now: Callable[[], datetime],
        observer: Observer | None,
    ) -> None:
        self._app = app
        self._store = store
        self._peers = peers
        self._now = now
        self._observer = observer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope.setdefault("state", {})
        is_lost = False

        async def send_on(message: Message) -> None:
            nonlocal is_lost
            is_start = message["type"] == "http.response.start"
            # An answer that promises nothing need not be taken back.
            if is_start and not await self._record(scope, message) and message["status"] < 500:
                is_lost = True
                text = (
                    "what was asked for may have been done, and could not be recorded; look before you ask again"
                )
                await refuse(503, "unrecorded", text)(scope, receive, send)
            elif not is_lost:
                await send(message)

        await self._app(scope, receive, send_on)

    async def _record(self, scope: Scope, answer: Message) -> bool:
        """False when the record was due and could not be written."""
        identity = _actor_of(scope)
        if identity is None or not _is_recorded(scope):
            return True
        deed = Deed(
            at=self._now(),
            who=identity.name,
            role=identity.role.value,
            address=self._peers.address_of(scope),
            method=scope["method"],
            path=_plain(scope["path"])[:MAX_PATH],
            workflow_id=_workflow_of(scope, answer),
            details=described(scope["state"].get("sent")),
            status=answer["status"],
        )
        try:
            await self._store.append_audit(deed)
        except OpenApertureError as exc:
            if self._observer is not None:
                self._observer.emit(
                    "audit.unwritten",
                    who=deed.who,
                    address=deed.address,
                    method=deed.method,
                    path=deed.path,
                    status=deed.status,
                    error=exc,
                )
            return False
        return True


def _actor_of(scope: Scope) -> Identity | None:
    """Who shows a good token, or whom the route let in."""
    actor: Identity | None = scope["state"].get("actor")
    grant: Grant | None = scope["state"].get("grant")
    return actor or (grant.identity if grant else None)


def _is_recorded(scope: Scope) -> bool:
    policy: Policy | None = scope["state"].get("policy")
    return scope["method"] not in SAFE_METHODS or (policy is not None and policy.audited)


def _workflow_of(scope: Scope, answer: Message) -> str | None:
    """Of a path that names one; of a new one, from where the answer says that it is."""
    named = scope["state"].get("path_params", {}).get("workflow_id")
    if named is not None:
        return _plain(named)[:MAX_VALUE]
    location = Headers(raw=answer.get("headers", [])).get("location", "")
    return location.removeprefix("/workflows/") if location.startswith("/workflows/") else None


def described(sent: object) -> dict[str, str]:
    """What was sent, for the record: names, and values that are short, plain and no secret."""
    if not isinstance(sent, Mapping):
        return {}
    fields = list(cast("Mapping[str, object]", sent).items())[:MAX_FIELDS]
    return {_plain(name)[:MAX_VALUE]: _described(name, value) for name, value in fields}


def _described(name: str, value: object) -> str:
    if _SECRET.search(name):
        return MASK
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case str():
            return _masked(value)
        case int() | float():
            return str(value)
        case list():
            items = cast("list[object]", value)
            plain = all(isinstance(item, str | int) for item in items)
            return _masked(", ".join(str(item) for item in items)) if plain else f"({len(items)} items)"
        case _:
            # Deeper fields may hold anything, and their names no longer say what is secret.
            return "(object)"


def _masked(text: str) -> str:
    return _plain(_URL_PASSWORD.sub(r"\1:***@", text))[:MAX_VALUE]


def _plain(text: str) -> str:
    """No control characters, and nothing that a database could not take."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)

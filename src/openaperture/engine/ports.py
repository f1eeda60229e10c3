"""What the engine is given to speak on the wire."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from msgspec import Struct

from openaperture.domain.messages import AnyCallback, OriginalMessage, StartMessage
from openaperture.domain.notes import Email
from openaperture.domain.routes import Need, Route
from openaperture.engine.tokens import TokenMint
from openaperture.ports import Message, OutboxRow

Encode = Callable[[Struct], bytes]
EncodeWorkflow = Callable[[Mapping[str, Any]], bytes]
"""The fields of a message of the original, as Erlang terms."""
Decode = Callable[[Message], StartMessage | OriginalMessage | AnyCallback]
"""Raises BadMessage, and nothing else."""
Deliver = Callable[[OutboxRow, Message], Awaitable[None]]
"""Publish the message of a row where it belongs. Raises as `Broker.publish` does, and ManagerUnavailable."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wire:
    """How messages are written, read and proven."""

    mint: TokenMint
    encode: Encode
    encode_workflow: EncodeWorkflow
    decode: Decode


class NoticeWriter(Protocol):
    """Writes messages for Notifications modules: as Erlang terms for the original's, as JSON for ours."""

    @property
    def content_type(self) -> str | None: ...

    def note(self, *, success: bool, prefix: str, text: str, rooms: Sequence[str] | None) -> bytes: ...

    def email(self, email: Email) -> bytes: ...


class Routes(Protocol):
    """Finds where workers are. Raises RouteRefused, and ManagerUnavailable when nobody can tell now."""

    async def route(self, need: Need) -> Route: ...

    async def route_directly(self, exchange_id: str | int, broker_id: str | int, queue: str) -> Route: ...


class Register(Protocol):
    """The Manager elsewhere that holds the Workflows. Raises ManagerUnavailable, AccessRefused, UnusableAnswer."""

    async def find_workflow(self, workflow_id: str) -> Mapping[str, Any] | None: ...

    async def put_workflow(self, workflow_id: str, fields: Mapping[str, Any]) -> None:
        """Raises also UnknownWorkflow and BadInput."""
        ...

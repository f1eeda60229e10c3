"""A client of the original OpenAperture's Manager, for those parts of it that an orchestrator needs.

Every method raises ManagerUnavailable (try again later; what was asked for may or may not have been done),
AccessRefused, UnusableAnswer, and BadInput where it sends something. The texts are meant for people.
"""

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar
from uuid import UUID

import httpx

from openaperture.client.oauth import TokenSource
from openaperture.client.original_transport import Answer, OriginalTransport, Repeat, addressable
from openaperture.client.rows import BrokerRow, Cluster, Connection, Exchange, Id, Module, Restriction
from openaperture.domain.errors import BadInput, UnknownWorkflow
from openaperture.ports import Clock

T = TypeVar("T")

_FOR_BUILDS = {"allow_docker_builds": "true"}
"""The Manager knows this filter with this value alone."""


class OriginalManager:
    """A session with an original Manager. Use it with `async with`, or `close` it."""

    def __init__(
        self, url: str, tokens: TokenSource, clock: Clock, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        """Takes over `tokens` and closes it too. `transport` replaces the network. Raises ConfigError."""
        self._transport = OriginalTransport(url, tokens, clock, transport)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        await self._transport.close()

    # ------------------------------------------------------------------------------------ workflows

    async def find_workflow(self, workflow_id: str) -> Mapping[str, Any] | None:
        """The row as the Manager has it, its JSON columns as lists and mappings."""
        # The original answers 500, as if it were ill, to an id that is no UUID.
        if not _is_uuid(workflow_id):
            return None
        return await self._find(("workflows", workflow_id), dict[str, Any])

    async def put_workflow(self, workflow_id: str, fields: Mapping[str, Any]) -> None:
        """Replace the row; what `fields` leaves out stays, null erases. Raises UnknownWorkflow.

        After ManagerUnavailable it may be stored or not: read it again before the next try. It is not
        sent twice here, because a change that somebody made in between would be lost.
        """
        unknown = UnknownWorkflow(
            f'the Manager has no workflow "{workflow_id[:64]}"; it may have been deleted there'
        )
        if not addressable(workflow_id):
            raise unknown
        answer = await self._transport.ask("PUT", ("workflows", workflow_id), body=fields, repeat=Repeat.UNDONE)
        match answer.status:
            case 204:
                return
            case 404:
                raise unknown
            case 409:
                raise self._transport.refused(answer)
            case _:
                raise self._transport.unusable(answer)

    # ------------------------------------------------------------------------------------ directory

    async def find_exchange(self, exchange_id: Id) -> Exchange | None:
        return await self._find(("messaging", "exchanges", exchange_id), Exchange)

    async def list_exchange_brokers(self, exchange_id: Id) -> list[Restriction] | None:
        """The brokers that an exchange is restricted to; empty means any. None: no such exchange."""
        return await self._find(("messaging", "exchanges", exchange_id, "brokers"), list[Restriction])

    async def list_exchange_clusters(
        self, exchange_id: Id, *, allow_docker_builds: bool = False
    ) -> list[Cluster] | None:
        """Clusters of one exchange, or those of them that build. None: no such exchange."""
        segments = ("messaging", "exchanges", exchange_id, "clusters")
        return await self._find(segments, list[Cluster], _FOR_BUILDS if allow_docker_builds else None)

    async def list_exchange_modules(self, exchange_id: Id) -> list[Module] | None:
        """Workers that have registered in an exchange. None: no such exchange."""
        return await self._find(("messaging", "exchanges", exchange_id, "modules"), list[Module])

    async def list_clusters(self, *, allow_docker_builds: bool = False) -> list[Cluster]:
        """All clusters, or those that build."""
        query = _FOR_BUILDS if allow_docker_builds else None
        return await self._find(("clusters",), list[Cluster], query) or []

    async def find_cluster(self, etcd_token: str) -> Cluster | None:
        return await self._find(("clusters", etcd_token), Cluster, shown="/clusters/…")

    async def find_broker(self, broker_id: Id) -> BrokerRow | None:
        return await self._find(("messaging", "brokers", broker_id), BrokerRow)

    async def list_broker_connections(self, broker_id: Id) -> list[Connection] | None:
        """Ways to connect to a broker, with passwords. None: no such broker."""
        return await self._find(("messaging", "brokers", broker_id, "connections"), list[Connection])

    # -------------------------------------------------------------------------- modules and events

    async def register_module(
        self,
        exchange_id: Id,
        *,
        hostname: str,
        module_type: str,
        status: str = "active",
        workload: Sequence[Any] = (),
    ) -> None:
        """Make a process known in an exchange. Repeating it replaces the entry of that host."""
        body = {"hostname": hostname, "type": module_type, "status": status, "workload": list(workload)}
        answer = await self._post(("messaging", "exchanges", exchange_id, "modules"), body)
        if answer.status == 404:
            raise BadInput(f"the Manager has no exchange {exchange_id}; check exchange_id")
        if answer.status != 201:
            raise self._transport.unusable(answer)

    async def remove_module(self, exchange_id: Id, hostname: str) -> None:
        """Forget a process. It is no error when it is not known."""
        segments = ("messaging", "exchanges", exchange_id, "modules", hostname)
        if not addressable(*segments):
            return
        answer = await self._transport.ask("DELETE", segments)
        if answer.status not in {204, 404}:
            raise self._transport.unusable(answer)

    async def post_system_event(
        self, *, event_type: str, severity: str, message: str, data: Mapping[str, Any], unique: bool = True
    ) -> None:
        """Tell the operators. With `unique`, one with the same type and data within an hour counts as told."""
        body = {"type": event_type, "severity": severity, "message": message, "data": data, "unique": unique}
        # One that is not unique would be there twice if it were sent again.
        answer = await self._post(("system_events",), body, Repeat.FREELY if unique else Repeat.UNDONE)
        if answer.status not in {201, 409}:
            raise self._transport.unusable(answer)

    async def _post(self, segments: tuple[object, ...], body: object, repeat: Repeat = Repeat.FREELY) -> Answer:
        if not addressable(*segments):
            raise BadInput(f"{segments[-2]!r:.64} is no id that a Manager has")
        return await self._transport.ask("POST", segments, body=body, repeat=repeat)

    async def _find(
        self,
        segments: tuple[object, ...],
        kind: type[T],
        query: Mapping[str, str] | None = None,
        *,
        shown: str | None = None,
    ) -> T | None:
        """GET; None when there is no such thing."""
        if not addressable(*segments):
            return None
        answer = await self._transport.ask("GET", segments, query=query, shown=shown)
        if answer.status == 404:
            return None
        if answer.status != 200:
            raise self._transport.unusable(answer)
        return self._transport.read(answer, kind)


def _is_uuid(text: str) -> bool:
    try:
        UUID(text)
    except ValueError:
        return False
    return True

"""The Manager's messaging directory as methods: brokers, exchanges, clusters, modules."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from openaperture.client.transport import Transport

BROKERS = "/messaging/brokers"
EXCHANGES = "/messaging/exchanges"
CLUSTERS = "/clusters"

Row = dict[str, Any]
"""The fields of an entry, named as in the original."""


class DirectoryCalls:
    """Raises what every method of `ManagerClient` raises. `path` is one of the above, or of `modules_of`."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def list_rows(self, path: str) -> list[Row]:
        return await self._transport.get(path, list[Row])

    async def add(self, path: str, fields: Mapping[str, Any]) -> str:
        """Returns the last part of the new entry's address: its id, token or host name."""
        given = {name: value for name, value in fields.items() if value is not None}
        response = await self._transport.post_once(path, given)
        location: str = response.headers.get("location", "")
        return location.rpartition("/")[2]

    async def remove(self, path: str, key: str) -> None:
        await self._transport.delete(f"{path}/{quote(key, safe='')}")


def modules_of(exchange_id: int | str) -> str:
    return f"{EXCHANGES}/{quote(str(exchange_id), safe='')}/modules"


def connections_of(broker_id: str) -> str:
    return f"{BROKERS}/{quote(broker_id, safe='')}/connections"

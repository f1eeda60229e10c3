"""The routes of exchanges, of the brokers that they are restricted to, and of their clusters."""

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Response

from openaperture.domain.errors import BadInput
from openaperture.domain.exchanges import Place, places_of, rooted, would_enclose_itself
from openaperture.manager.answers import answer, done
from openaperture.manager.clusters import clusters_of
from openaperture.manager.directory_bodies import ExchangeBody, RestrictionBody
from openaperture.manager.entries import get_entry, gone, shown
from openaperture.ports import Fields, Listing, MessagingDirectory

_PATH = "/messaging/exchanges"
_FIELDS = (
    *("id", "name", "failover_exchange_id", "parent_exchange_id", "routing_key_fragment"),
    *("routing_key", "root_exchange_name", "inserted_at", "updated_at"),
)
_RESTRICTION = ("id", "messaging_exchange_id", "messaging_broker_id", "inserted_at", "updated_at")


class ExchangeRoutes:
    """What the API does with exchanges."""

    def __init__(self, directory: MessagingDirectory) -> None:
        self._directory = directory

    def add_to(self, app: FastAPI) -> None:
        for method, path, handler in (
            ("GET", "", self.list_exchanges),
            ("POST", "", self.create),
            ("GET", "/{exchange_id}", self.show),
            ("PUT", "/{exchange_id}", self.update),
            ("DELETE", "/{exchange_id}", self.delete),
            ("GET", "/{exchange_id}/brokers", self.list_restrictions),
            ("POST", "/{exchange_id}/brokers", self.restrict),
            ("DELETE", "/{exchange_id}/brokers", self.lift_restrictions),
            ("GET", "/{exchange_id}/clusters", self.list_clusters),
        ):
            app.add_api_route(f"{_PATH}{path}", handler, methods=[method], response_model=None)

    async def list_exchanges(self) -> Response:
        rows = await self._directory.list_rows(Listing.EXCHANGE)
        places = places_of(rows)
        return answer([_view(row, places) for row in rows])

    async def show(self, exchange_id: str) -> Response:
        row = await get_entry(self._directory, Listing.EXCHANGE, exchange_id)
        return answer(_view(row, await self._all_places()))

    async def create(self, body: ExchangeBody) -> Response:
        number = await self._directory.add(Listing.EXCHANGE, body.model_dump())
        return done(201, f"{_PATH}/{number}")

    async def update(self, exchange_id: str, body: ExchangeBody) -> Response:
        """What the body leaves out stays as it is."""
        row = await get_entry(self._directory, Listing.EXCHANGE, exchange_id)
        if would_enclose_itself(await self._all_places(), row["id"], body.parent_exchange_id):
            raise BadInput(
                f"parent_exchange_id: exchange {body.parent_exchange_id} lies within exchange "
                f"{exchange_id} itself; name one outside"
            )
        await self._directory.change(Listing.EXCHANGE, row["id"], body.model_dump(exclude_unset=True))
        return done(204, f"{_PATH}/{exchange_id}")

    async def delete(self, exchange_id: str) -> Response:
        row = await get_entry(self._directory, Listing.EXCHANGE, exchange_id)
        await self._directory.remove(Listing.EXCHANGE, id=row["id"])
        return gone()

    # --------------------------------------------------------------------- restrictions, clusters

    async def list_restrictions(self, exchange_id: str) -> Response:
        row = await get_entry(self._directory, Listing.EXCHANGE, exchange_id)
        found = await self._directory.list_rows(Listing.RESTRICTION, messaging_exchange_id=row["id"])
        return answer([shown(restriction, _RESTRICTION) for restriction in found])

    async def restrict(self, exchange_id: str, body: RestrictionBody) -> Response:
        row = await get_entry(self._directory, Listing.EXCHANGE, exchange_id)
        fields = {"messaging_exchange_id": row["id"], "messaging_broker_id": body.messaging_broker_id}
        await self._directory.add(Listing.RESTRICTION, fields)
        return done(201, f"{_PATH}/{exchange_id}/brokers")

    async def lift_restrictions(self, exchange_id: str) -> Response:
        row = await get_entry(self._directory, Listing.EXCHANGE, exchange_id)
        await self._directory.remove(Listing.RESTRICTION, messaging_exchange_id=row["id"])
        return gone()

    async def list_clusters(self, exchange_id: str, allow_docker_builds: str = "") -> Response:
        row = await get_entry(self._directory, Listing.EXCHANGE, exchange_id)
        return await clusters_of(self._directory, allow_docker_builds, messaging_exchange_id=row["id"])

    async def _all_places(self) -> Mapping[int, Place]:
        return places_of(await self._directory.list_rows(Listing.EXCHANGE))


def _view(row: Fields, places: Mapping[int, Place]) -> Mapping[str, Any]:
    # An exchange that was added since the list was read stands for itself.
    found = rooted({row["id"]: places_of([row])[row["id"]], **places}, row["id"])
    more = {"routing_key": found.routing_key, "root_exchange_name": found.root_name}
    return shown({**row, **more}, _FIELDS)

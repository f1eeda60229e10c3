"""The routes of brokers and of how to connect to them."""

from fastapi import FastAPI, Request, Response

from openaperture.domain.access import Role
from openaperture.domain.errors import BadInput
from openaperture.manager.access import identity_of
from openaperture.manager.answers import answer, done
from openaperture.manager.directory_bodies import BrokerBody, ConnectionBody
from openaperture.manager.entries import add_once, get_entry, gone, shown
from openaperture.ports import Listing, MessagingDirectory

_PATH = "/messaging/brokers"
_FIELDS = ("id", "name", "failover_broker_id", "inserted_at", "updated_at")
_CONNECTION = (
    *("id", "messaging_broker_id", "username", "password", "host", "port", "virtual_host"),
    *("inserted_at", "updated_at"),
)


class BrokerRoutes:
    """What the API does with brokers."""

    def __init__(self, directory: MessagingDirectory) -> None:
        self._directory = directory

    def add_to(self, app: FastAPI) -> None:
        for method, path, handler in (
            ("GET", "", self.list_brokers),
            ("POST", "", self.create),
            ("GET", "/{broker_id}", self.show),
            ("PUT", "/{broker_id}", self.update),
            ("DELETE", "/{broker_id}", self.delete),
            ("GET", "/{broker_id}/connections", self.list_connections),
            ("POST", "/{broker_id}/connections", self.connect),
            ("DELETE", "/{broker_id}/connections", self.disconnect),
        ):
            app.add_api_route(f"{_PATH}{path}", handler, methods=[method], response_model=None)

    async def list_brokers(self) -> Response:
        rows = await self._directory.list_rows(Listing.BROKER)
        return answer([shown(row, _FIELDS) for row in rows])

    async def show(self, broker_id: str) -> Response:
        return answer(shown(await get_entry(self._directory, Listing.BROKER, broker_id), _FIELDS))

    async def create(self, body: BrokerBody) -> Response:
        number = await self._directory.add(Listing.BROKER, body.model_dump())
        return done(201, f"{_PATH}/{number}")

    async def update(self, broker_id: str, body: BrokerBody) -> Response:
        """What the body leaves out stays as it is."""
        row = await get_entry(self._directory, Listing.BROKER, broker_id)
        if body.failover_broker_id == row["id"]:
            raise BadInput("failover_broker_id: a broker cannot stand in for itself; name another one")
        await self._directory.change(Listing.BROKER, row["id"], body.model_dump(exclude_unset=True))
        return done(204, f"{_PATH}/{broker_id}")

    async def delete(self, broker_id: str) -> Response:
        row = await get_entry(self._directory, Listing.BROKER, broker_id)
        await self._directory.remove(Listing.BROKER, id=row["id"])
        return gone()

    # -------------------------------------------------------------------------------- connections

    async def list_connections(self, request: Request, broker_id: str) -> Response:
        """With the passwords in clear, as the original's workers need them, for those who connect."""
        row = await get_entry(self._directory, Listing.BROKER, broker_id)
        found = await self._directory.list_rows(Listing.CONNECTION, messaging_broker_id=row["id"])
        hidden = {} if _may_connect(request) else {"password": None}
        return answer([shown({**connection, **hidden}, _CONNECTION) for connection in found])

    async def connect(self, request: Request, broker_id: str, body: ConnectionBody) -> Response:
        row = await get_entry(self._directory, Listing.BROKER, broker_id)
        fields = {"messaging_broker_id": row["id"], **body.model_dump()}
        await add_once(self._directory, Listing.CONNECTION, fields, request)
        return done(201, f"{_PATH}/{broker_id}/connections")

    async def disconnect(self, broker_id: str) -> Response:
        row = await get_entry(self._directory, Listing.BROKER, broker_id)
        await self._directory.remove(Listing.CONNECTION, messaging_broker_id=row["id"])
        return gone()


def _may_connect(request: Request) -> bool:
    """Whether whoever asks connects to brokers: an orchestrator, a worker, or who looks after them."""
    identity = identity_of(request)
    return identity is not None and identity.role in {Role.WORKER, Role.ORCHESTRATOR, Role.ADMIN}

"""The routes of modules: worker processes that have made themselves known in an exchange."""

from urllib.parse import quote

from fastapi import FastAPI, Response

from openaperture.manager.answers import answer, done
from openaperture.manager.directory_bodies import ModuleBody
from openaperture.manager.entries import get_entry, gone, shown, unknown
from openaperture.ports import Fields, Listing, MessagingDirectory

_PATH = "/messaging/exchanges/{exchange_id}/modules"
_FIELDS = (
    *("id", "messaging_exchange_id", "hostname", "type", "status", "workload"),
    *("source_repo", "source_repo_git_ref", "deployment_repo", "deployment_repo_git_ref"),
    *("inserted_at", "updated_at"),
)


class ModuleRoutes:
    """What the API does with modules. There is one per host in an exchange."""

    def __init__(self, directory: MessagingDirectory) -> None:
        self._directory = directory

    def add_to(self, app: FastAPI) -> None:
        for method, path, handler in (
            ("GET", "", self.list_modules),
            ("POST", "", self.register),
            ("GET", "/{hostname}", self.show),
            ("DELETE", "/{hostname}", self.delete),
        ):
            app.add_api_route(f"{_PATH}{path}", handler, methods=[method], response_model=None)

    async def list_modules(self, exchange_id: str) -> Response:
        exchange = await get_entry(self._directory, Listing.EXCHANGE, exchange_id)
        rows = await self._directory.list_rows(Listing.MODULE, messaging_exchange_id=exchange["id"])
        return answer([shown(row, _FIELDS) for row in rows])

    async def show(self, exchange_id: str, hostname: str) -> Response:
        return answer(shown(await self._get(exchange_id, hostname), _FIELDS))

    async def register(self, exchange_id: str, body: ModuleBody) -> Response:
        """Also a sign of life: the same again renews `updated_at`."""
        exchange = await get_entry(self._directory, Listing.EXCHANGE, exchange_id)
        fields = {"messaging_exchange_id": exchange["id"], **body.model_dump()}
        await self._directory.add(Listing.MODULE, fields, replacing=True)
        return done(201, f"/messaging/exchanges/{exchange_id}/modules/{quote(body.hostname, safe='')}")

    async def delete(self, exchange_id: str, hostname: str) -> Response:
        row = await self._get(exchange_id, hostname)
        await self._directory.remove(Listing.MODULE, id=row["id"])
        return gone()

    async def _get(self, exchange_id: str, hostname: str) -> Fields:
        exchange = await get_entry(self._directory, Listing.EXCHANGE, exchange_id)
        wanted = {"messaging_exchange_id": exchange["id"], "hostname": hostname}
        found = await self._directory.find_row(Listing.MODULE, **wanted)
        if found is None:
            raise unknown(Listing.MODULE, hostname)
        return found

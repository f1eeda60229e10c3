"""The routes of clusters, which something is built in or deployed to."""

from typing import Any

from fastapi import FastAPI, Response

from openaperture.domain.errors import BadInput
from openaperture.manager.answers import answer, done
from openaperture.manager.directory_bodies import ClusterBody, ClusterChange
from openaperture.manager.entries import gone, shown, unknown
from openaperture.ports import Fields, Listing, MessagingDirectory

_PATH = "/clusters"
_FIELDS = (
    *("id", "etcd_token", "name", "hosting_provider_id", "allow_docker_builds", "messaging_exchange_id"),
    *("inserted_at", "updated_at"),
)


class ClusterRoutes:
    """What the API does with clusters. Tokens are compared without regard to case."""

    def __init__(self, directory: MessagingDirectory) -> None:
        self._directory = directory

    def add_to(self, app: FastAPI) -> None:
        for method, path, handler in (
            ("GET", "", self.list_clusters),
            ("POST", "", self.register),
            ("GET", "/{etcd_token}", self.show),
            ("PUT", "/{etcd_token}", self.update),
            ("DELETE", "/{etcd_token}", self.delete),
        ):
            app.add_api_route(f"{_PATH}{path}", handler, methods=[method], response_model=None)

    async def list_clusters(self, allow_docker_builds: str = "") -> Response:
        return await clusters_of(self._directory, allow_docker_builds)

    async def show(self, etcd_token: str) -> Response:
        return answer(shown(await self._get(etcd_token), _FIELDS))

    async def register(self, body: ClusterBody) -> Response:
        """The one create with a body in its answer: the original says so."""
        key = body.etcd_token.lower()
        builds = bool(body.allow_docker_builds)
        fields = {**body.model_dump(), "token_key": key, "allow_docker_builds": builds}
        number = await self._directory.add(Listing.CLUSTER, fields)
        created = answer(f"Registered id {number}", headers={"location": f"{_PATH}/{body.etcd_token}"})
        created.status_code = 201
        return created

    async def update(self, etcd_token: str, body: ClusterChange) -> Response:
        """What the body leaves out stays as it is."""
        row = await self._get(etcd_token)
        fields = body.model_dump(exclude_unset=True)
        if fields.get("allow_docker_builds", False) is None:
            raise BadInput("allow_docker_builds: is null; send true or false, or leave it out")
        await self._directory.change(Listing.CLUSTER, row["id"], fields)
        return done(204, f"{_PATH}/{row['etcd_token']}")

    async def delete(self, etcd_token: str) -> Response:
        row = await self._get(etcd_token)
        await self._directory.remove(Listing.CLUSTER, id=row["id"])
        return gone()

    async def _get(self, etcd_token: str) -> Fields:
        found = await self._directory.find_row(Listing.CLUSTER, token_key=etcd_token.lower())
        if found is None:
            raise unknown(Listing.CLUSTER, etcd_token)
        return found


async def clusters_of(directory: MessagingDirectory, allow_docker_builds: str, **wanted: Any) -> Response:
    """As in the original the filter counts when it is "true", and any other value filters nothing."""
    if allow_docker_builds == "true":
        wanted["allow_docker_builds"] = True
    rows = await directory.list_rows(Listing.CLUSTER, **wanted)
    return answer([shown(row, _FIELDS) for row in rows])

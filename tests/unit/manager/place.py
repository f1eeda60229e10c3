"""A Manager's API over a real store, and what workers and people do to its workflows."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI

from openaperture.client import ManagerClient
from openaperture.codecs import json as json_codec
from openaperture.codecs import terms
from openaperture.domain import events as e
from openaperture.domain.attempts import AttemptKey
from openaperture.domain.milestones import table_of
from openaperture.engine.decider import Decider
from openaperture.engine.intake import Item
from openaperture.engine.outbox import OutboxWriter
from openaperture.engine.requests import Identity, RequestBuilder
from openaperture.engine.revisions import Revisions
from openaperture.engine.tokens import TokenMint
from openaperture.engine.verbs import Verbs
from openaperture.manager import create_app
from openaperture.manager.gate import Gate
from openaperture.manager.parts import Parts
from openaperture.manager.streams import Streams
from openaperture.ports import Address
from openaperture.stores.access import SqlAccess
from openaperture.stores.directory import SqlDirectory
from openaperture.stores.feed import SqlFeed
from openaperture.stores.foreign import SqlForeign
from openaperture.stores.request_keys import SqlRequestKeys
from openaperture.stores.sql import SqlStore
from openaperture.stores.traffic import SqlTraffic
from tests.contract.stores import Opened, Told, opened

TOKEN = "a-token-of-the-tests"
RELEASE = {"source_repo": "acme/shop", "source_repo_git_ref": "v1", "milestones": ["build", "deploy"]}
WORKER = "worker-1"


class StepClock:
    """A clock that goes on when told."""

    def __init__(self) -> None:
        self._begun = datetime.now(UTC)
        self.seconds = 0.0

    def now(self) -> datetime:
        return self._begun + timedelta(seconds=self.seconds)

    def monotonic(self) -> float:
        return self.seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """The API, the parts under it, and two ways to talk to it."""

    app: FastAPI
    store: SqlStore
    directory: SqlDirectory
    access: SqlAccess
    clock: StepClock
    """That of the Manager's tokens."""
    decider: Decider
    told: Told
    http: httpx.AsyncClient
    """Requests as anybody writes them, with the token."""
    client: ManagerClient

    @property
    def streams(self) -> Streams:
        streams: Streams = self.app.state.streams
        return streams

    async def create(self, **fields: Any) -> str:
        response = await self.http.post("/workflows", json=RELEASE | fields)
        assert response.status_code == 201, response.text
        return response.headers["location"].removeprefix("/workflows/")

    async def start(self, **fields: Any) -> str:
        workflow_id = await self.create(**fields)
        assert (await self.http.post(f"/workflows/{workflow_id}/execute")).status_code == 202
        return workflow_id

    async def show(self, workflow_id: str) -> dict[str, Any]:
        shown: dict[str, Any] = (await self.http.get(f"/workflows/{workflow_id}")).json()
        return shown

    async def tell(self, workflow_id: str, *events: e.Event) -> None:
        await self.decider.apply([Item(workflow_id=workflow_id, event=event) for event in events])

    async def hold(self, **fields: Any) -> str:
        """A workflow whose deploy was interrupted, so that a person has to say what happened."""
        workflow_id = await self.start(milestones=["deploy"], **fields)
        lost = e.MilestoneFailed(key=key(), worker=WORKER, message="it was stopped", interrupted=True)
        await self.tell(workflow_id, e.Claimed(key=key(), worker=WORKER), lost)
        return workflow_id

    async def pause(self) -> str:
        workflow_id = await self.start()
        assert (await self.http.post(f"/workflows/{workflow_id}/pause")).status_code == 200
        return workflow_id

    async def ask(self) -> str:
        """A workflow that waits for an approval."""
        return await self.start(milestones=["approval", "deploy"])

    async def fail(self, **fields: Any) -> str:
        """A workflow whose first milestone has failed for good."""
        workflow_id = await self.start(milestone_options={"build": {"max_attempts": 1}}, **fields)
        broken = e.MilestoneFailed(key=key(), worker=WORKER, message="exit code 2")
        await self.tell(workflow_id, e.Claimed(key=key(), worker=WORKER), broken)
        return workflow_id

    async def lock(self, name: str) -> str:
        """A workflow that has a lock, and knows it."""
        workflow_id = await self.start(locks=[name])
        for news in await self.store.list_lock_news(10):
            await self.tell(news.workflow_id, news.event)
        return workflow_id


def key(position: int = 0, number: int = 1) -> AttemptKey:
    return AttemptKey(generation=0, position=position, number=number)


@asynccontextmanager
async def opened_manager(folder: Path, **access_options: Any) -> AsyncGenerator[Place]:
    async with (
        opened(f"sqlite:///{folder / 'manager.db'}") as database,
        manager_over(database, **access_options) as place,
    ):
        yield place


@asynccontextmanager
async def manager_over(database: Opened, **access_options: Any) -> AsyncGenerator[Place]:
    """One of any number of Managers over this database."""
    store = database.store()
    directory = SqlDirectory(database.database)
    kinds = table_of()
    identity = Identity(callback=Address(routing_key="callbacks"))
    requests = RequestBuilder(identity, TokenMint("key"), kinds, json_codec.encode, terms.encode_workflow)
    decider = Decider(store, OutboxWriter(requests), kinds, database.told)
    clock = StepClock()
    access = SqlAccess(database.database)
    gate = Gate(
        store=access,
        local_token=TOKEN,
        login_key=lambda: store.get_or_create_setting("login_key", "a-key-of-the-tests"),
        now=clock.now,
        monotonic=clock.monotonic,
        **access_options,
    )
    app = create_app(
        Parts(
            verbs=Verbs(decider, store, kinds),
            revisions=Revisions(store),
            records=store,
            directory=directory,
            foreign=SqlForeign(database.database),
            request_keys=SqlRequestKeys(database.database),
            feed=SqlFeed(database.database),
            traffic=SqlTraffic(database.database),
        ),
        gate=gate,
        version="1.2.3",
        observer=database.told,
    )
    transport = httpx.ASGITransport(app=app)
    headers = {"authorization": f"Bearer {TOKEN}"}
    async with (
        httpx.AsyncClient(transport=transport, base_url="http://manager", headers=headers) as http,
        ManagerClient("http://manager", TOKEN, transport=transport) as client,
    ):
        yield Place(
            app=app,
            store=store,
            directory=directory,
            access=access,
            clock=clock,
            decider=decider,
            told=database.told,
            http=http,
            client=client,
        )

"""The Manager's API of a process: in memory for the process itself, served for others."""

import secrets
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from importlib.metadata import version

import httpx

from openaperture.app.access import gate_of
from openaperture.app.core import Core
from openaperture.client import ManagerClient
from openaperture.engine.decider import Decider
from openaperture.engine.revisions import Revisions
from openaperture.engine.verbs import Verbs
from openaperture.manager import create_app
from openaperture.manager.parts import Parts
from openaperture.manager.server import ManagerServer
from openaperture.stores.feed import SqlFeed
from openaperture.stores.foreign import SqlForeign
from openaperture.stores.request_keys import SqlRequestKeys
from openaperture.stores.traffic import SqlTraffic


class Api:
    """The API over one store. This process itself comes in by a random token of its own."""

    def __init__(self, core: Core, decider: Decider) -> None:
        self.token = secrets.token_urlsafe(32)
        self.app = create_app(
            Parts(
                verbs=Verbs(decider, core.store, core.kinds, admission=core.admission()),
                revisions=Revisions(core.store),
                records=core.store,
                directory=core.directory,
                foreign=SqlForeign(core.database),
                request_keys=SqlRequestKeys(core.database),
                feed=SqlFeed(core.database),
                traffic=SqlTraffic(core.database),
            ),
            gate=gate_of(core, self.token),
            version=version("openaperture"),
            observer=core.observer,
        )

    def server(self, *, host: str, port: int) -> ManagerServer:
        return ManagerServer(self.app, host=host, port=port)

    @asynccontextmanager
    async def client(self) -> AsyncGenerator[ManagerClient]:
        """Without a server: the same requests, handed over in memory."""
        transport = httpx.ASGITransport(app=self.app)
        async with ManagerClient("http://manager", self.token, transport=transport) as client:
            yield client

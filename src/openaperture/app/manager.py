"""The Manager's API of a process: in memory for the process itself, served for others, and where they find it."""

import fcntl
import json
import os
import secrets
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TextIO

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

SESSION_FILE = "manager.json"
"""Where a running `up` says how to reach it; readable by its owner alone."""


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Announced:
    """How to reach a running `up`."""

    url: str
    token: str
    pid: int


def find_running(data_dir: Path) -> Announced | None:
    """The `up` that runs on this data folder; a file left behind by a killed one is ignored."""
    try:
        with (data_dir / SESSION_FILE).open(encoding="utf-8") as file:
            if _is_free(file):
                return None
            fields = json.load(file)
        return Announced(url=fields["url"], token=fields["token"], pid=fields["pid"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _is_free(file: TextIO) -> bool:
    """Whether its writer is gone: the kernel frees the lock however a process ends. A pid may be reused."""
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def announced(data_dir: Path, url: str, token: str) -> Generator[None]:
    """Let commands find this process while the block lasts."""
    path = data_dir / SESSION_FILE
    path.unlink(missing_ok=True)
    fields = {"url": url, "token": token, "pid": os.getpid()}
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        json.dump(fields, file)
        file.flush()
        try:
            yield
        finally:
            path.unlink(missing_ok=True)

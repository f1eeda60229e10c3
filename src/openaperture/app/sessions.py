"""The Manager's API for the length of one command."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from openaperture.app.core import open_core
from openaperture.app.manager import Api, find_running
from openaperture.app.processes import whole
from openaperture.client import ManagerClient
from openaperture.config import Settings
from openaperture.observability.logs import open_log

LOG_FILE = "openaperture.log"
"""Log of a command, whose terminal belongs to what it shows."""


@asynccontextmanager
async def manager_session(settings: Settings) -> AsyncGenerator[ManagerClient]:
    """The API of the `up` that runs on this data folder, else on the database itself."""
    if (running_up := find_running(settings.data_dir)) is not None:
        async with ManagerClient(running_up.url, running_up.token) as client:
            yield client
        return
    log = open_log(settings.data_dir / LOG_FILE)
    async with open_core(settings, log) as core, Api(core, core.decider()).client() as client:
        yield client


@asynccontextmanager
async def running(settings: Settings) -> AsyncGenerator[ManagerClient]:
    """An orchestrator and a worker in this process for as long as the block lasts, and the API to them.

    It is served as well, so that other commands can look and cancel: this process has the database to itself.
    """
    log = open_log(settings.data_dir / LOG_FILE)
    async with whole(settings, log, host="127.0.0.1", port=0) as process, asyncio.TaskGroup() as tasks:
        tasks.create_task(process.supervisor.run())
        try:
            async with process.api.client() as client:
                yield client
        finally:
            process.supervisor.stop()

"""The Manager's API for the length of one command.

A command that talks to a Manager elsewhere needs no database, no web framework and no engine: what it takes to
be the Manager, or to drive a release, is imported only by the commands that do so. They start in half the time.
"""

# ruff: noqa: PLC0415  imports inside functions are what this file is about

import asyncio
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from openaperture.app.announcement import find_running
from openaperture.client import ManagerClient
from openaperture.client.kept_tokens import KeptTokens, default_file
from openaperture.config import Settings
from openaperture.domain.errors import ConfigError
from openaperture.observability.logs import open_log

LOG_FILE = "openaperture.log"
"""Log of a command, whose terminal belongs to what it shows."""


@asynccontextmanager
async def manager_session(settings: Settings) -> AsyncGenerator[ManagerClient]:
    """The API of the Manager that the settings name, else of the `up` here, else of the database."""
    if settings.manager.url is not None:
        async with ManagerClient(settings.manager.url, _token_for(settings, settings.manager.url)) as client:
            yield client
        return
    if (running_up := find_running(settings.data_dir)) is not None:
        async with ManagerClient(running_up.url, running_up.token) as client:
            yield client
        return
    from openaperture.app.core import open_core
    from openaperture.app.manager import Api

    log = open_log(settings.data_dir / LOG_FILE)
    async with open_core(settings, log) as core, Api(core, core.decider()).client() as client:
        yield client


def _token_for(settings: Settings, url: str) -> str:
    """That of the settings, else the one that `openaperture login` kept. Raises ConfigError."""
    if settings.manager.token is not None:
        return settings.manager.token.get_secret_value()
    kept = KeptTokens(default_file(os.environ)).find(url)
    if kept is None:
        problem = (
            f'there is no token for the Manager at {url}; run "openaperture login {url}", or set manager.token'
        )
        raise ConfigError([problem])
    return kept


@asynccontextmanager
async def running(settings: Settings) -> AsyncGenerator[ManagerClient]:
    """An orchestrator and a worker in this process for as long as the block lasts, and the API to them.

    It is served as well, so that other commands can look and cancel: this process has the database to itself.
    """
    from openaperture.app.processes import whole

    log = open_log(settings.data_dir / LOG_FILE)
    async with whole(settings, log, host="127.0.0.1", port=0) as process, asyncio.TaskGroup() as tasks:
        tasks.create_task(process.supervisor.run())
        try:
            async with process.api.client() as client:
                yield client
        finally:
            process.supervisor.stop()

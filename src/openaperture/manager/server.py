"""The Manager's API on a socket."""

import asyncio
import socket
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from openaperture.domain.errors import ConfigError
from openaperture.manager.feed import Feed

if TYPE_CHECKING:
    import uvicorn
    from fastapi import FastAPI

GRACE_SECONDS = 5.0
"""How long requests may take to finish when the server stops."""
HEAD_SECONDS = 10.0
"""How long the head of a request may take to arrive."""
MAX_CONNECTIONS = 1_000
"""Further ones are answered with 503 at once: what is open must not use up the process."""
_BACKLOG = 1_024


class ManagerServer:
    """Serves an app of `create_app`. Clients may connect from the constructor on; they wait for `run`."""

    def __init__(self, app: "FastAPI", *, host: str, port: int, head_seconds: float = HEAD_SECONDS) -> None:
        """Bind. `port` 0 takes a free one. Raises ConfigError."""
        self._stopping: asyncio.Event = app.state.stopping
        self._feed: Feed = app.state.feed
        self._socket = _bound(host, port)
        self.url = _url_of(host, self._socket.getsockname()[1])
        """Where this host reaches it."""
        self._server = _server_of(app, head_seconds)
        self._down = asyncio.Event()
        self._running = False

    async def run(self) -> None:
        """Serve until drained or cancelled."""
        if self._stopping.is_set():
            return
        self._running = True
        try:
            async with asyncio.TaskGroup() as tasks:
                feeding = tasks.create_task(self._feed.run())
                await self._server.serve(sockets=[self._socket])
                feeding.cancel()
        finally:
            self._close()
            self._down.set()

    async def drain(self) -> None:
        """Take nothing more, end long polls and streams, finish the requests; return when all is closed."""
        self._stopping.set()
        self._server.should_exit = True
        if self._running:
            await self._down.wait()
        else:
            self._socket.close()

    def _close(self) -> None:
        """Let go of the sockets, which the server does by itself unless it was cancelled."""
        for listener in getattr(self._server, "servers", ()):
            listener.close()
        self._socket.close()
        for task in list(self._server.server_state.tasks):
            task.cancel()
        for connection in list(self._server.server_state.connections):
            connection.shutdown()


def _server_of(app: "FastAPI", head_seconds: float) -> "uvicorn.Server":
    # Here, because a command that needs no server need not wait for the import.
    import uvicorn  # noqa: PLC0415

    from openaperture.manager.patience import BoundedH11Protocol  # noqa: PLC0415 - it imports the server too

    class Protocol(BoundedH11Protocol):
        """With the patience of this server."""

    Protocol.head_seconds = head_seconds

    class Server(uvicorn.Server):
        """Leaves the signals to the supervisor of the process."""

        @contextmanager
        def capture_signals(self) -> Generator[None, None, None]:
            yield

    config = uvicorn.Config(
        app,
        http=Protocol,
        limit_concurrency=MAX_CONNECTIONS,
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="error",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=_BACKLOG,
        timeout_graceful_shutdown=int(GRACE_SECONDS),
    )
    return Server(config)


def _bound(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except (OSError, OverflowError) as exc:
        raise ConfigError([f"manager.host, manager.port: cannot listen on {host}, port {port}: {exc}"]) from exc


def _url_of(host: str, port: int) -> str:
    """A server on all addresses is reached on this host by the loopback one."""
    name = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - a key, not bound
    return f"http://[{name}]:{port}" if ":" in name else f"http://{name}:{port}"

"""A proxy in front of PostgreSQL that can lose one thing: the answer to a COMMIT, or the COMMIT itself.

It knows of the protocol only how a COMMIT looks: a simple query, whose text ends with a zero byte.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit

from tests.tcp_proxy import TcpProxy, serving

_COMMIT = b"COMMIT\x00"
_CHUNK_BYTES = 65_536


class PostgresProxy(TcpProxy):
    """Made by `postgres_proxy`. What TcpProxy offers for AMQP methods has no meaning here."""

    def __init__(self, host: str, port: int) -> None:
        super().__init__(host, port)
        self.lost = 0
        """So many commits were interfered with."""
        self.delay_seconds = 0.0
        """How late every answer of the server comes."""
        self._to_lose = 0
        self._arrive = True
        self._silent: set[asyncio.StreamWriter] = set()
        """Connections to the server whose next answer is lost, and the connection with it."""

    def lose_commits(self, count: int, *, arrive: bool) -> None:
        """Reset the connection instead of answering the next commits; forward those that shall `arrive`."""
        self._to_lose, self._arrive = count, arrive

    async def _copy_up(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while chunk := await reader.read(_CHUNK_BYTES):
                await self._flowing.wait()
                if self._to_lose and _COMMIT in chunk:
                    self._to_lose -= 1
                    self.lost += 1
                    if not self._arrive:
                        break
                    self._silent.add(writer)
                writer.write(chunk)
                await writer.drain()
        if self._flowing.is_set() and writer not in self._silent:
            self._abort(writer)

    async def _copy_down(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upward = next(up for down, up in self._pairs if down is writer)
        with suppress(ConnectionError):
            while chunk := await reader.read(_CHUNK_BYTES):
                await self._flowing.wait()
                if upward in self._silent:
                    # The server has answered, so the commit is durable; nobody hears of it.
                    self._silent.discard(upward)
                    break
                if self.delay_seconds:
                    await asyncio.sleep(self.delay_seconds)
                writer.write(chunk)
                await writer.drain()
        if self._flowing.is_set():
            self._abort(upward)

    def _abort(self, upward: asyncio.StreamWriter) -> None:
        """Reset both ends of one connection; the others go on."""
        for pair in [pair for pair in self._pairs if pair[1] is upward]:
            for end in pair:
                end.transport.abort()


@asynccontextmanager
async def postgres_proxy(target_url: str) -> AsyncGenerator[PostgresProxy, None]:
    """Run a proxy in front of the server of `target_url`."""
    parts = urlsplit(target_url)
    async with serving(PostgresProxy(parts.hostname or "127.0.0.1", parts.port or 5432)) as proxy:
        yield proxy

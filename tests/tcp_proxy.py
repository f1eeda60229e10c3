"""A TCP proxy whose connections a test can cut, stall or thin out, to aim at one moment of a protocol.

It understands just enough AMQP 0-9-1 to know which method a frame holds.
"""

import asyncio
import struct
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from typing import TypeVar
from urllib.parse import urlsplit, urlunsplit

BASIC_PUBLISH = (60, 40)
"""Class and method number, as in the AMQP 0-9-1 specification."""
BASIC_CANCEL = (60, 30)
BASIC_ACK = (60, 80)
BASIC_NACK = (60, 120)

_HEADER = struct.Struct(">BHL")
_METHOD_FRAME = 1

AmqpMethod = tuple[int, int]
AnyProxy = TypeVar("AnyProxy", bound="TcpProxy")


class TcpProxy:
    """Forwards loopback connections to one server. Made by `tcp_proxy`."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._pairs: set[tuple[asyncio.StreamWriter, asyncio.StreamWriter]] = set()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._refusing = False
        self._dropped: set[AmqpMethod] = set()
        self._swallowed: set[AmqpMethod] = set()
        self._cut_on: AmqpMethod | None = None
        self._renamed: dict[AmqpMethod, AmqpMethod] = {}
        self._seen: list[AmqpMethod] = []
        self._news = asyncio.Condition()
        self.port = 0

    def url(self, url: str) -> str:
        """The same url, through the proxy."""
        parts = urlsplit(url)
        credentials = parts.netloc.rpartition("@")[0]
        return urlunsplit(parts._replace(netloc=f"{credentials}@127.0.0.1:{self.port}"))

    def cut(self) -> None:
        """Reset every open connection."""
        for pair in list(self._pairs):
            for writer in pair:
                writer.transport.abort()

    def refuse(self) -> None:
        """Cut, and accept no connection until `accept`."""
        self._refusing = True
        self.cut()

    def accept(self) -> None:
        self._refusing = False

    def stall(self) -> None:
        """Forward nothing, in either direction, but keep the connections open."""
        self._flowing.clear()

    def flow(self) -> None:
        self._flowing.set()

    def drop(self, *methods: AmqpMethod) -> None:
        """Swallow these methods on their way from the server."""
        self._dropped = set(methods)

    def swallow(self, *methods: AmqpMethod) -> None:
        """Lose these methods on their way to the server. Only such as no content follows."""
        self._swallowed = set(methods)

    def rename(self, method: AmqpMethod, to: AmqpMethod) -> None:
        """Pass one method of the server on as another one, whose arguments must start alike."""
        self._renamed[method] = to

    def say(self, payload: bytes) -> None:
        """Tell every client a method on channel 0, as if the server had: class, method, arguments."""
        for client, _ in self._pairs:
            client.write(_HEADER.pack(_METHOD_FRAME, 0, len(payload)) + payload + b"\xce")

    def cut_on(self, method: AmqpMethod) -> None:
        """When the server next sends this method, swallow it and reset all connections."""
        self._cut_on = method

    async def seen(self, method: AmqpMethod, times: int = 1) -> None:
        """Wait until this many of the method went by, dropped ones included."""
        async with asyncio.timeout(10), self._news:
            await self._news.wait_for(lambda: self._seen.count(method) >= times)

    async def emptied(self) -> None:
        """Wait until no connection is open."""
        async with asyncio.timeout(10), self._news:
            await self._news.wait_for(lambda: not self._pairs)

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._refusing:
            writer.transport.abort()
            return
        up_reader, up_writer = await asyncio.open_connection(*self._target)
        pair = (writer, up_writer)
        self._pairs.add(pair)
        async with self._news:
            self._news.notify_all()
        try:
            async with asyncio.TaskGroup() as directions:
                directions.create_task(self._copy_up(reader, up_writer))
                directions.create_task(self._copy_down(up_reader, writer))
        finally:
            self._pairs.discard(pair)
            for end in pair:
                end.transport.abort()
            async with self._news:
                self._news.notify_all()

    async def _copy_up(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """What the client says, until either end is gone."""
        await self._forward(reader, writer, lambda method: method not in self._swallowed, greeting=8)

    async def _copy_down(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """What the server says."""
        await self._forward(reader, writer, self._passes, greeting=0)

    async def _forward(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        passes: Callable[[AmqpMethod | None], bool],
        *,
        greeting: int,
    ) -> None:
        """Copy frame by frame. `greeting` is the length of the protocol header that the client sends first."""
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            writer.write(await reader.readexactly(greeting))
            while True:
                head = await reader.readexactly(_HEADER.size)
                kind, _, size = _HEADER.unpack(head)
                rest = await reader.readexactly(size + 1)
                await self._flowing.wait()
                method = struct.unpack(">HH", rest[:4]) if kind == _METHOD_FRAME else None
                if passes(method):
                    renamed = self._renamed.get(method) if method else None
                    writer.write(head + (struct.pack(">HH", *renamed) + rest[4:] if renamed else rest))
                    await writer.drain()
                async with self._news:
                    self._seen.extend([method] if method else [])
                    self._news.notify_all()
        if self._flowing.is_set():
            writer.transport.abort()

    def _passes(self, method: AmqpMethod | None) -> bool:
        """Whether a frame of the server goes on to the client."""
        if method is not None and method == self._cut_on:
            self._cut_on = None
            self.cut()
            return False
        return method not in self._dropped


@asynccontextmanager
async def tcp_proxy(target_url: str) -> AsyncGenerator[TcpProxy, None]:
    """Run a proxy in front of the server of `target_url`."""
    parts = urlsplit(target_url)
    async with serving(TcpProxy(parts.hostname or "127.0.0.1", parts.port or 5672)) as proxy:
        yield proxy


@asynccontextmanager
async def serving(proxy: AnyProxy) -> AsyncGenerator[AnyProxy, None]:
    """Run this proxy."""
    server = await asyncio.start_server(proxy.handle, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        proxy.flow()
        proxy.cut()
        await proxy.emptied()

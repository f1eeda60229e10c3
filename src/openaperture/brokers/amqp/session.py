"""A connection that comes back: connect, stay until it ends, back off, connect again."""

import asyncio
from contextlib import suppress

from pika import URLParameters
from pika.exceptions import AMQPConnectionError

from openaperture.brokers.amqp.connection import Connection
from openaperture.domain.errors import BrokerUnavailable
from openaperture.ports import Observer
from openaperture.runtime.backoff import Backoff

LONG_ENOUGH_SECONDS = 5.0
"""A session that lived this long was a good one: the next backoff starts small again."""


async def wait_for_event(event: asyncio.Event, timeout_seconds: float) -> None:
    """Wait for the event, or so long."""
    with suppress(TimeoutError):
        async with asyncio.timeout(timeout_seconds):
            await event.wait()


class Session:
    """Keeps one connection to the broker alive in `run`, and hands out the live one."""

    def __init__(self, parameters: URLParameters, *, purpose: str, observer: Observer) -> None:
        self._parameters = parameters
        self._observer = observer
        # Never the url: it may hold a password.
        self._labels = {"server": f"{parameters.host}:{parameters.port}", "purpose": purpose}
        self._heartbeat = int(parameters.heartbeat or 0)  # type: ignore[arg-type]  # set by us, a number
        self._current: Connection | None = None
        self._problem = "it was not tried yet"
        self._changed = asyncio.Event()
        self._closing = asyncio.Event()

    async def run(self) -> None:
        """Reconnect until closed or cancelled."""
        backoff = Backoff()
        loop = asyncio.get_running_loop()
        while not self._closing.is_set():
            connected_at = loop.time()
            self._problem = await self._connect_and_stay()
            if self._closing.is_set():
                return
            if loop.time() - connected_at > LONG_ENOUGH_SECONDS:
                backoff.reset()
            delay = backoff.next_seconds()
            self._observer.emit(
                "broker.disconnected", **self._labels, reason=self._problem, retry_in_seconds=delay
            )
            await wait_for_event(self._closing, delay)

    async def connection(self, timeout_seconds: float) -> Connection:
        """Wait for a live connection. Raises BrokerUnavailable, also once closed."""
        try:
            async with asyncio.timeout(timeout_seconds):
                while not self._closing.is_set():
                    if self._current is not None and self._current.is_open:
                        return self._current
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError as exc:
            raise BrokerUnavailable(f"no connection to {self._labels['server']}: {self._problem}") from exc
        raise BrokerUnavailable(f"the connection to {self._labels['server']} was closed")

    @property
    def problem(self) -> str:
        """Why nothing can be sent just now, in words."""
        if self._current is None:
            return self._problem
        return self._current.blocked_reason or "the broker did not answer in time"

    async def close(self) -> None:
        """Close the connection in order and let `run` return."""
        self._closing.set()
        self._changed.set()
        if self._current is not None:
            await self._current.close()

    async def _connect_and_stay(self) -> str:
        """One session, from connecting to its end; answers why it ended."""
        try:
            connection = await Connection.open(self._parameters, on_blocked=self._on_blocked)
        except TimeoutError:
            return "the broker did not answer in time"
        except AMQPConnectionError as exc:
            return str(exc)
        self._current = connection
        try:
            if self._closing.is_set():
                await connection.close()
                return "closed"
            self._changed.set()
            self._observer.emit("broker.connected", **self._labels)
            return await self._stay(connection)
        finally:
            self._current = None
            connection.cut()

    async def _stay(self, connection: Connection) -> str:
        """Until the connection ends. A peer that is silent for 1.5 heartbeats is taken for dead.

        pika notices too, but only after one to two of its windows, up to 50 s with a heartbeat of 20 s.
        Ticks are counted, not seconds: a process that was stopped for a while must read what came
        meanwhile before it judges.
        """
        heard, silent_ticks = connection.bytes_received, 0
        tick_seconds = self._heartbeat / 4 or None
        while not connection.ended.done():
            await asyncio.wait([connection.ended], timeout=tick_seconds)
            silent_ticks = silent_ticks + 1 if connection.bytes_received == heard else 0
            heard = connection.bytes_received
            if silent_ticks >= 6 and not connection.ended.done():
                connection.cut()
                return f"the broker was silent for {silent_ticks * self._heartbeat / 4:.0f} s"
        return connection.ended.result()

    def _on_blocked(self, connection: Connection) -> None:
        if connection.unblocked.is_set():
            self._observer.emit("broker.unblocked", **self._labels)
        else:
            self._observer.emit("broker.blocked", **self._labels, reason=connection.blocked_reason)

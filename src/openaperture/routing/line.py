"""One broker object of the pool, from its first use to its end."""

import asyncio
from urllib.parse import urlsplit

from openaperture.ports import Address, Broker, Clock, Message


class Line:
    """Runs a broker until it is retired and its last publish has ended."""

    def __init__(self, url: str, broker: Broker, clock: Clock, *, broker_id: str) -> None:
        self.url = url
        self.broker_id = broker_id
        self.server = urlsplit(url).netloc.rpartition("@")[2]
        """Host and port, for texts: the url holds a password."""
        self._broker = broker
        self._clock = clock
        self._used_at = clock.monotonic()
        self._in_flight = 0
        self._retired = False
        self._over = asyncio.Event()

    def __repr__(self) -> str:
        return f"Line(broker_id={self.broker_id!r}, server={self.server!r})"

    @property
    def retired(self) -> bool:
        return self._retired

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(self._run())
            await self._over.wait()
            await self._broker.close()
            running.cancel()

    async def publish(self, address: Address, message: Message, *, timeout_seconds: float) -> None:
        """See `Broker.publish`."""
        self._in_flight += 1
        try:
            await self._broker.publish(address, message, timeout_seconds=timeout_seconds)
        finally:
            self._in_flight -= 1
            self._used_at = self._clock.monotonic()
            self._end_if_unused()

    def retire(self, *, now: bool = False) -> None:
        """Close it as soon as nothing is under way on it, or at once. It takes what comes until then."""
        self._retired = True
        if now:
            self._over.set()
        self._end_if_unused()

    def idle_seconds(self) -> float:
        """0 while something is under way."""
        return 0.0 if self._in_flight else self._clock.monotonic() - self._used_at

    async def _run(self) -> None:
        await self._broker.run()

    def _end_if_unused(self) -> None:
        if self._retired and not self._in_flight:
            self._over.set()

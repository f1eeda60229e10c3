"""Owns every task of a process: starts the services, stops them in order, forces them when told twice.

The first SIGTERM or SIGINT drains: services are asked, in their order, to take nothing more and to finish
what they have, within one grace period. The second, or the end of the grace period, cancels. A service
that raises ends the process: what must not end it, it handles itself.
"""

import asyncio
import signal
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from openaperture.ports import Observer

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A loop that runs until it is drained. `drain` returns quickly or when the service is done."""

    name: str
    run: Callable[[], Awaitable[None]]
    drain: Callable[[], Awaitable[None]]


class Supervisor:
    """Runs services until told to stop. Give the services in the order in which they drain.

    A service that others need while they finish (the relay, then the broker) comes after them.
    """

    def __init__(self, services: Sequence[Service], observer: Observer, *, grace_seconds: float) -> None:
        self._services = services
        self._observer = observer
        self._grace_seconds = grace_seconds
        self._stop = asyncio.Event()
        self._force = asyncio.Event()

    def stop(self) -> None:
        """Drain; called again, force."""
        (self._force if self._stop.is_set() else self._stop).set()

    async def run(self, *, handle_signals: bool = False) -> None:
        """Run all services until stopped. Raises what a service raised."""
        loop = asyncio.get_running_loop()
        for number in _SIGNALS if handle_signals else ():
            loop.add_signal_handler(number, self.stop)
        try:
            async with asyncio.TaskGroup() as tasks:
                running = {s.name: tasks.create_task(_run(s), name=s.name) for s in self._services}
                await self._stop.wait()
                self._observer.emit("process.draining", grace_seconds=self._grace_seconds)
                await self._drain(tasks, running)
                for task in running.values():
                    task.cancel()
        finally:
            for number in _SIGNALS if handle_signals else ():
                loop.remove_signal_handler(number)

    async def _drain(self, tasks: asyncio.TaskGroup, running: dict[str, asyncio.Task[None]]) -> None:
        draining = tasks.create_task(self._drain_in_order(running), name="drain")
        forced = tasks.create_task(self._forced(), name="force")
        await asyncio.wait({draining, forced}, timeout=self._grace_seconds, return_when=asyncio.FIRST_COMPLETED)
        if not draining.done():
            self._observer.emit("process.forced", running=[n for n, t in running.items() if not t.done()])
        draining.cancel()
        forced.cancel()

    async def _forced(self) -> None:
        await self._force.wait()

    async def _drain_in_order(self, running: dict[str, asyncio.Task[None]]) -> None:
        for service in self._services:
            await service.drain()
            await asyncio.wait({running[service.name]})


async def _run(service: Service) -> None:
    await service.run()

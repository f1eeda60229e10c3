"""Our place among the modules of the exchange: registered at start, and heard of every 30 seconds after."""

from collections.abc import Awaitable, Callable

from openaperture.domain.errors import ConfigError, OpenApertureError
from openaperture.ports import Clock, Observer

HEARTBEAT_SECONDS = 30.0
REGISTRATIONS = 2
"""Tries, as in the original: an orchestrator that nobody knows of does not start."""


class Membership:
    """Registers this process, and sends its heartbeats."""

    def __init__(
        self,
        register: Callable[[], Awaitable[None]],
        beat: Callable[[], Awaitable[None]],
        clock: Clock,
        observer: Observer,
    ) -> None:
        self._register = register
        self._beat = beat
        self._clock = clock
        self._observer = observer
        self._stopping = False

    async def join(self) -> None:
        """Make this process known. Raises ConfigError when the Manager refuses twice."""
        for tries_left in reversed(range(REGISTRATIONS)):
            try:
                await self._register()
            except OpenApertureError as exc:
                if tries_left == 0:
                    problem = f"this orchestrator cannot be registered with the Manager: {exc}"
                    raise ConfigError([problem]) from exc
                self._observer.emit("membership.refused", error=exc)
            else:
                return

    async def run(self) -> None:
        """Send heartbeats until drained."""
        slept = 0.0
        while not self._stopping:
            await self._clock.sleep(1.0)
            slept += 1.0
            if slept >= HEARTBEAT_SECONDS:
                slept = 0.0
                await self._send()

    async def drain(self) -> None:
        self._stopping = True

    async def _send(self) -> None:
        try:
            await self._beat()
        except OpenApertureError as exc:
            self._observer.emit("membership.unheard", error=exc)

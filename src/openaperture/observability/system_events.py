"""What operators of the original look at: the Manager's system events. One more subscriber of our events.

Told are the events that a person has to look into. A text never holds a message's body or a secret: it is the
sentence that the log has as well. A Manager that is away is not waited for: what does not fit is dropped.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from openaperture.domain.errors import OpenApertureError
from openaperture.observability.logs import shown
from openaperture.ports import Observer

TOLD = frozenset(
    {
        "decision.failed",
        "decision.refused",
        "message.parked",
        "record.refused",
        "relay.failed",
        "store.corrupt_workflow",
        "workflow.stranded",
    }
)
MAX_WAITING = 100
MAX_TEXT_CHARACTERS = 2_000

Post = Callable[[str], Awaitable[None]]


class SystemEvents:
    """An Observer that passes everything on, and tells the Manager of some."""

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self._waiting: asyncio.Queue[str | None] = asyncio.Queue(MAX_WAITING)

    def emit(self, name: str, /, **details: Any) -> None:
        self._observer.emit(name, **details)
        if name in TOLD and not self._waiting.full():
            told = ", ".join(f"{key}: {shown(key, value)}" for key, value in details.items())
            self._waiting.put_nowait(f"{name}: {told}"[:MAX_TEXT_CHARACTERS])

    async def run(self, post: Post) -> None:
        """Post what is told, by `post`, until drained."""
        while (text := await self._waiting.get()) is not None:
            try:
                await post(text)
            except OpenApertureError as exc:
                self._observer.emit("system_event.unsent", error=exc)

    async def drain(self) -> None:
        if self._waiting.full():
            self._waiting.get_nowait()
        self._waiting.put_nowait(None)

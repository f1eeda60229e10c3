"""Follows one release: its history and its output, told in the order of their times.

A long poll for each tells when there is something new; then both are read up to date and merged, so that the
lines of a milestone stand between its begin and its end. A Manager that is away is asked again until it is
back; after a while the view says so.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Protocol, TypeVar

from openaperture.cli.sequence import OutputOrder, timed
from openaperture.client.models import Event, EventPage, LogChunk, LogPage, Workflow
from openaperture.domain.errors import TryLater

LONG_POLL_SECONDS = 20.0
AWAY_AFTER_SECONDS = 5.0
"""A Manager that is away for longer is worth a word."""
_FIRST_RETRY_SECONDS = 0.2
_LAST_RETRY_SECONDS = 2.0

Answer = TypeVar("Answer")


class Source(Protocol):
    """Where the release is read from; the session of a command, or a test's own."""

    async def get_workflow(self, workflow_id: str) -> Workflow: ...

    async def list_events(self, workflow_id: str, *, after: int, wait_seconds: float) -> EventPage: ...

    async def list_logs(self, workflow_id: str, *, after: int, wait_seconds: float) -> LogPage: ...


class View(Protocol):
    """What is told of a release. Calls come from one task at a time, in order."""

    def tell(self, event: Event) -> None: ...

    def tell_output(self, chunk: LogChunk) -> None: ...

    def tell_away(self, reason: str) -> None:
        """The Manager has been away for a while; it is asked again until it is back."""
        ...

    def tell_back(self) -> None: ...


class Follower:
    """Tells a view of one release until it has ended or is held."""

    def __init__(
        self, source: Source, workflow_id: str, view: View, *, away_after_seconds: float = AWAY_AFTER_SECONDS
    ) -> None:
        self._source = source
        self._id = workflow_id
        self._view = view
        self._away_after_seconds = away_after_seconds
        self._last_event = 0
        self._last_output = 0
        self._order = OutputOrder()
        self._telling = asyncio.Lock()
        self._done = asyncio.Event()
        self._away_since: float | None = None
        self._told_away = False

    async def follow(self) -> Workflow:
        """Returns the workflow as it stands when it has ended or is held."""
        await self._catch_up()
        if not self._done.is_set():
            async with asyncio.TaskGroup() as tasks:
                loops = [tasks.create_task(self._wake_by_history()), tasks.create_task(self._wake_by_output())]
                await self._done.wait()
                for loop in loops:
                    loop.cancel()
        return await self._ask(lambda: self._source.get_workflow(self._id))

    async def tell_so_far(self) -> Workflow:
        """Tell what is known by now, and wait for nothing."""
        await self._catch_up()
        return await self._ask(lambda: self._source.get_workflow(self._id))

    async def _wake_by_history(self) -> None:
        while not self._done.is_set():
            page = await self._read_history(LONG_POLL_SECONDS)
            if page.events or page.ended:
                await self._catch_up()

    async def _wake_by_output(self) -> None:
        ended = False
        while not ended:
            page = await self._read_output(LONG_POLL_SECONDS)
            ended = page.ended
            if page.chunks:
                await self._catch_up()

    async def _catch_up(self) -> None:
        """Tell all that is there and was not told yet, whichever of the two polls saw it first."""
        async with self._telling:
            chunks = self._order.admit(await self._new_output())
            page = await self._read_history(0.0)
            self._last_event = page.last_id
            if page.events:
                # What was stored together with these events, or just before.
                chunks += [*self._order.admit(await self._new_output()), *self._order.release()]
            self._tell_in_order(page.events, chunks)
            if page.ended or await self._is_held(page.events):
                self._done.set()

    async def _is_held(self, events: Sequence[Event]) -> bool:
        """Held events of the past may be over: the workflow itself says how it stands."""
        if not any(event.kind == "workflow.held" for event in events):
            return False
        workflow = await self._ask(lambda: self._source.get_workflow(self._id))
        return workflow.state == "held"

    async def _new_output(self) -> list[LogChunk]:
        chunks: list[LogChunk] = []
        while (page := await self._read_output(0.0)).chunks:
            chunks += page.chunks
            self._last_output = page.last_id
        return chunks

    async def _read_history(self, wait_seconds: float) -> EventPage:
        return await self._ask(
            lambda: self._source.list_events(self._id, after=self._last_event, wait_seconds=wait_seconds)
        )

    async def _read_output(self, wait_seconds: float) -> LogPage:
        return await self._ask(
            lambda: self._source.list_logs(self._id, after=self._last_output, wait_seconds=wait_seconds)
        )

    def _tell_in_order(self, events: Sequence[Event], chunks: Sequence[LogChunk]) -> None:
        # Both carry the time of the store. Of one instant, output comes first: its milestone's end follows it.
        everything: list[tuple[datetime, Event | LogChunk]] = [*timed(chunks), *((e.at, e) for e in events)]
        for _, told in sorted(everything, key=lambda timed_one: timed_one[0]):
            if isinstance(told, Event):
                self._view.tell(told)
            else:
                self._view.tell_output(told)

    async def _ask(self, question: Callable[[], Awaitable[Answer]]) -> Answer:
        """Ask until there is an answer; only what trying again can help is tried again."""
        pause_seconds = _FIRST_RETRY_SECONDS
        while True:
            try:
                answer = await question()
            except TryLater as exc:
                self._note_away(str(exc))
                await asyncio.sleep(pause_seconds)
                pause_seconds = min(_LAST_RETRY_SECONDS, pause_seconds * 2)
            else:
                self._note_back()
                return answer

    def _note_away(self, reason: str) -> None:
        now = asyncio.get_running_loop().time()
        self._away_since = now if self._away_since is None else self._away_since
        if not self._told_away and now - self._away_since >= self._away_after_seconds:
            self._told_away = True
            self._view.tell_away(reason)

    def _note_back(self) -> None:
        self._away_since = None
        if self._told_away:
            self._told_away = False
            self._view.tell_back()

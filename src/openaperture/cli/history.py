"""Commands that read what has happened: the events of a release, and the output of its workers."""

import sys
from collections.abc import Awaitable, Callable

import msgspec

from openaperture.cli.echoes import Echoes
from openaperture.cli.exits import ExitCode
from openaperture.cli.follower import LONG_POLL_SECONDS
from openaperture.cli.interrupts import Interrupted, until_interrupted
from openaperture.cli.session import Session, open_session
from openaperture.cli.speech import answer
from openaperture.cli.terminal import Style, show_json
from openaperture.cli.untrusted import one_line, output_line
from openaperture.client.models import Event, EventPage, LogChunk, LogPage
from openaperture.config import Settings

EventPages = Callable[[int, float], Awaitable[EventPage]]
LogPages = Callable[[int, float], Awaitable[LogPage]]


async def print_events(settings: Settings, given_id: str, style: Style, *, follow: bool) -> ExitCode:
    """The history; with `follow` on to its end, in JSON a line for each event then."""
    async with open_session(settings) as session:
        workflow_id = await session.find_id(given_id)
        follow = follow and session.is_driven
        if style is Style.JSON and not follow:
            events: list[Event] = []
            await _read_events(session, workflow_id, events.append, follow=False)
            show_json(events)
            return ExitCode.COMPLETED
        tell = _write_json if style is Style.JSON else _EventWriter().tell
        return await _interruptible(_read_events(session, workflow_id, tell, follow=follow))


async def print_output(
    settings: Settings, given_id: str, style: Style, *, follow: bool, attempt: str | None, tail: int | None
) -> ExitCode:
    """The output of one attempt, or the last lines of all; with `follow` on to the end."""
    async with open_session(settings) as session:
        workflow_id = await session.find_id(given_id)
        reader = _LogReader(session, workflow_id, attempt)
        follow = follow and session.is_driven
        if style is Style.JSON and not follow:
            chunks: list[LogChunk] = []
            await reader.read(chunks.append, tail, follow=False)
            show_json(chunks)
            return ExitCode.COMPLETED
        tell = _write_json if style is Style.JSON else _write_chunk
        return await _interruptible(reader.read(tell, tail, follow=follow))


async def _interruptible(reading: Awaitable[None]) -> ExitCode:
    try:
        await until_interrupted(_awaited(reading))
    except Interrupted as stop:
        return stop.exit_code
    return ExitCode.COMPLETED


async def _awaited(reading: Awaitable[None]) -> None:
    await reading


async def _read_events(session: Session, workflow_id: str, tell: Callable[[Event], None], *, follow: bool) -> None:
    after, wait_seconds = 0, LONG_POLL_SECONDS if follow else 0.0
    while True:
        page = await session.list_events(workflow_id, after=after, wait_seconds=wait_seconds)
        for event in page.events:
            tell(event)
        after = page.last_id
        if page.ended or not (follow or page.events):
            return


class _LogReader:
    """Reads output page by page."""

    def __init__(self, session: Session, workflow_id: str, attempt: str | None) -> None:
        self._session = session
        self._id = workflow_id
        self._attempt = attempt

    async def read(self, tell: Callable[[LogChunk], None], tail: int | None, *, follow: bool) -> None:
        after, wait_seconds = 0, 0.0
        while True:
            page = await self._session.list_logs(
                self._id, after=after, wait_seconds=wait_seconds, attempt=self._attempt, tail=tail
            )
            for chunk in page.chunks:
                tell(chunk)
            after = page.last_id
            was_tail, tail = tail is not None, None
            wait_seconds = LONG_POLL_SECONDS if follow else 0.0
            if page.ended or not (follow or page.chunks) or (was_tail and not follow):
                return


def _write_json(told: Event | LogChunk) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(told) + b"\n")
    sys.stdout.buffer.flush()


class _EventWriter:
    """A line for each event that says something new."""

    def __init__(self) -> None:
        self._echoes = Echoes()

    def tell(self, event: Event) -> None:
        if not self._echoes.is_one(event):
            answer(f"{event.at.astimezone():%Y-%m-%d %H:%M:%S}  {one_line(event.text)}")


def _write_chunk(chunk: LogChunk) -> None:
    for line in chunk.lines:
        answer(f"{one_line(chunk.milestone)} | {output_line(line)}")

"""Long polls: an answer that waits until there is something to say.

The store is asked again after growing pauses. A poll ends early when the client is gone or the Manager
stops, so none outlives its use.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Generic, TypeVar

import msgspec

from openaperture.client.models import Event, EventPage, LogChunk, LogPage
from openaperture.domain.errors import UnknownWorkflow
from openaperture.domain.workflow import TERMINAL, State, Workflow
from openaperture.manager.views import chunk_of, event_of
from openaperture.ports import ALL_LOGS, ForeignRecords, HistoryEntry, LogFilter, Records, StoredLog

MAX_WAIT_SECONDS = 30.0
FIRST_PAUSE_SECONDS = 0.05
LONGEST_PAUSE_SECONDS = 0.5
ENDINGS = frozenset(f"workflow.{state}" for state in TERMINAL)

T = TypeVar("T")
Gone = Callable[[], Awaitable[bool]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Which part of a history is asked for, and how long to wait for it."""

    after: int
    limit: int
    wait_seconds: float


@dataclass(frozen=True, slots=True)
class _Seen(Generic[T]):
    rows: list[T]
    ended: bool


class Follower:
    """Pages of events and output of one workflow, waited for if asked."""

    def __init__(self, records: Records, foreign: ForeignRecords, stopping: asyncio.Event) -> None:
        self._records = records
        self._foreign = foreign
        self._stopping = stopping

    async def get_workflow(self, workflow_id: str) -> Workflow:
        """Raises UnknownWorkflow."""
        workflow = await self._records.find_workflow(workflow_id)
        if workflow is None:
            raise UnknownWorkflow(
                f'there is no workflow {workflow_id[:128]}; "openaperture list" shows those that are'
            )
        return workflow

    async def has_ended(self, workflow: Workflow) -> bool:
        """Also when it ran elsewhere: for our engine such a one never began."""
        if workflow.state is not State.CREATED:
            return workflow.ended
        record = (await self._foreign.find_foreign([workflow.id])).get(workflow.id, {})
        return bool(record.get("workflow_completed"))

    async def list_events(self, workflow_id: str, span: Span, gone: Gone) -> EventPage:
        ended = await self.has_ended(await self.get_workflow(workflow_id))

        async def look() -> _Seen[HistoryEntry]:
            # The end is an event itself, written with the state: nothing else need be asked for.
            rows = await self._records.list_entries(workflow_id, after=span.after, limit=span.limit)
            return _Seen(rows, ended or any(row.entry.kind in ENDINGS for row in rows))

        seen = await self._follow(look, span, gone)
        events: list[Event] = [event_of(row) for row in seen.rows]
        return EventPage(
            events=events, last_id=seen.rows[-1].id if seen.rows else span.after, ended=_is_end(seen, span)
        )

    async def list_logs(self, workflow_id: str, span: Span, gone: Gone, wanted: LogFilter = ALL_LOGS) -> LogPage:
        async def look() -> _Seen[StoredLog]:
            # First the state: output that is older than the end cannot be missed then.
            ended = await self.has_ended(await self.get_workflow(workflow_id))
            rows = await self._records.list_logs(workflow_id, wanted, after=span.after, limit=span.limit)
            return _Seen(rows, ended)

        seen = await self._follow(look, span, gone)
        chunks: list[LogChunk] = [chunk_of(row) for row in seen.rows]
        return LogPage(
            chunks=chunks, last_id=seen.rows[-1].id if seen.rows else span.after, ended=_is_end(seen, span)
        )

    async def list_last_lines(self, workflow_id: str, wanted: LogFilter, lines: int, *, limit: int) -> LogPage:
        """The last so many lines, of at most `limit` chunks."""
        ended = (await self.get_workflow(workflow_id)).ended
        chunks: list[LogChunk] = []
        left = lines
        for row in reversed(await self._records.list_last_logs(workflow_id, wanted, limit=limit)):
            if left <= 0:
                break
            chunk = chunk_of(row)
            chunks.insert(0, msgspec.structs.replace(chunk, lines=chunk.lines[-left:]))
            left -= len(chunk.lines)
        return LogPage(chunks=chunks, last_id=chunks[-1].id if chunks else 0, ended=ended)

    async def _follow(self, look: Callable[[], Awaitable[_Seen[T]]], span: Span, gone: Gone) -> _Seen[T]:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + span.wait_seconds
        pause_seconds = FIRST_PAUSE_SECONDS
        while True:
            seen = await look()
            left_seconds = deadline - loop.time()
            if seen.rows or seen.ended or left_seconds <= 0 or self._stopping.is_set() or await gone():
                return seen
            with suppress(TimeoutError):
                async with asyncio.timeout(min(pause_seconds, left_seconds)):
                    await self._stopping.wait()
            pause_seconds = min(pause_seconds * 1.5, LONGEST_PAUSE_SECONDS)


def _is_end(seen: _Seen[T], span: Span) -> bool:
    return seen.ended and len(seen.rows) < span.limit

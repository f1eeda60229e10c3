"""Following a release through a source that answers as the test says."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

import pytest

from openaperture.cli.follower import Follower
from openaperture.client.models import Event, EventPage, LogChunk, LogPage, Workflow
from openaperture.domain.errors import ManagerUnavailable, UnknownWorkflow
from tests.unit.cli.told import ID, chunk, event, workflow

Told = TypeVar("Told", Event, LogChunk)


@dataclass
class Release:
    """A source in memory: long polls wait until the test tells something more."""

    state: str = "running"
    events: list[Event] = field(default_factory=list[Event])
    chunks: list[LogChunk] = field(default_factory=list[LogChunk])
    faults: list[Exception] = field(default_factory=list[Exception])
    waiting: asyncio.Event = field(default_factory=asyncio.Event)
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    @property
    def ended(self) -> bool:
        return self.state in {"completed", "failed", "cancelled"}

    async def happen(self, *told: Event | LogChunk, state: str | None = None) -> None:
        """Several things at once, as one transaction would store them."""
        async with self.changed:
            self.events += [one for one in told if isinstance(one, Event)]
            self.chunks += [one for one in told if isinstance(one, LogChunk)]
            self.state = state or self.state
            self.changed.notify_all()

    async def get_workflow(self, workflow_id: str) -> Workflow:
        return workflow(self.state)

    async def list_events(self, workflow_id: str, *, after: int, wait_seconds: float) -> EventPage:
        new = await self._new(lambda: [one for one in self.events if one.id > after], wait_seconds)
        return EventPage(events=new, last_id=max([after, *(one.id for one in new)]), ended=self.ended)

    async def list_logs(self, workflow_id: str, *, after: int, wait_seconds: float) -> LogPage:
        new = await self._new(lambda: [one for one in self.chunks if one.id > after][:2], wait_seconds)
        return LogPage(chunks=new, last_id=max([after, *(one.id for one in new)]), ended=self.ended)

    async def _new(self, read: Callable[[], list[Told]], wait_seconds: float) -> list[Told]:
        if self.faults:
            raise self.faults.pop(0)
        if wait_seconds and not self.ended:
            async with self.changed:
                self.waiting.set()
                await self.changed.wait_for(lambda: read() or self.ended)
        return read()


class Notebook:
    """A view that writes down what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def tell(self, event: Event) -> None:
        self.told.append(event.text)

    def tell_output(self, chunk: LogChunk) -> None:
        self.told += chunk.lines

    def tell_away(self, reason: str) -> None:
        self.told.append(f"away: {reason}")

    def tell_back(self) -> None:
        self.told.append("back")


async def follow(release: Release, notebook: Notebook, *, away_after_seconds: float = 60) -> Workflow:
    return await Follower(release, ID, notebook, away_after_seconds=away_after_seconds).follow()


async def test_a_release_of_the_past_is_told_in_the_order_of_its_times() -> None:
    release, notebook = Release(state="completed"), Notebook()
    release.events = [event(1, "milestone.claimed", "taken"), event(5, "milestone.completed", "done")]
    release.chunks = [chunk(n, f"line {n}", seconds=n) for n in (2, 3, 4)]

    ended = await follow(release, notebook)

    assert ended.state == "completed"
    assert notebook.told == ["taken", "line 2", "line 3", "line 4", "done"]


async def test_output_of_the_same_instant_comes_before_the_end_of_its_milestone() -> None:
    release, notebook = Release(state="completed"), Notebook()
    release.events = [event(4, "milestone.completed", "done")]
    release.chunks = [chunk(1, "the last line", seconds=4)]
    await follow(release, notebook)
    assert notebook.told == ["the last line", "done"]


async def test_what_happens_while_it_is_followed_is_told_once_and_in_order() -> None:
    release, notebook = Release(), Notebook()
    async with asyncio.TaskGroup() as tasks:
        following = tasks.create_task(follow(release, notebook))
        await release.waiting.wait()
        await release.happen(chunk(1, "first line", seconds=2), event(1, "milestone.claimed", "taken"))
        release.waiting.clear()
        await release.waiting.wait()
        await release.happen(
            chunk(2, "last line", seconds=3),
            event(4, "milestone.completed", "done"),
            event(5, "workflow.completed", "completed"),
            state="completed",
        )
    assert following.result().state == "completed"
    assert notebook.told == ["taken", "first line", "last line", "done", "completed"]


async def test_a_held_release_ends_the_following() -> None:
    release, notebook = Release(state="held"), Notebook()
    release.events = [event(1, "workflow.held", "held"), event(2, "callback.late", "late")]
    assert (await follow(release, notebook)).state == "held"


async def test_a_release_that_was_held_once_and_goes_on_is_followed_on() -> None:
    release, notebook = Release(), Notebook()
    release.events = [event(1, "workflow.held", "held"), event(2, "milestone.regained", "back at it")]
    async with asyncio.TaskGroup() as tasks:
        following = tasks.create_task(follow(release, notebook))
        await release.waiting.wait()
        await release.happen(event(3, "workflow.completed", "completed"), state="completed")
    assert following.result().state == "completed"
    assert notebook.told == ["held", "back at it", "completed"]


async def test_a_manager_that_is_away_is_asked_again_and_nothing_is_told_twice() -> None:
    release, notebook = Release(state="completed"), Notebook()
    release.events = [event(1, "workflow.completed", "completed")]
    release.faults = [ManagerUnavailable("nobody answers")]
    await follow(release, notebook)
    assert notebook.told == ["completed"]


async def test_a_long_absence_is_told_once_and_so_is_the_return() -> None:
    release, notebook = Release(state="completed"), Notebook()
    release.events = [event(1, "workflow.completed", "completed")]
    release.faults = [ManagerUnavailable("nobody answers"), ManagerUnavailable("still nobody")]
    await follow(release, notebook, away_after_seconds=0)
    assert notebook.told == ["away: nobody answers", "back", "completed"]


async def test_what_trying_again_cannot_help_ends_the_following() -> None:
    release = Release(faults=[UnknownWorkflow("there is no such workflow")])
    with pytest.raises(UnknownWorkflow):
        await follow(release, Notebook())


async def test_what_is_known_by_now_is_told_without_waiting() -> None:
    release, notebook = Release(), Notebook()
    release.events = [event(1, "workflow.started", "started")]
    standing = await Follower(release, ID, notebook).tell_so_far()
    assert standing.state == "running"
    assert notebook.told == ["started"]

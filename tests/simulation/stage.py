"""The stage for golden scenarios: a script for everybody, and crashes exactly where they are wanted."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from random import Random
from typing import Any

from openaperture.codecs import json as json_codec
from openaperture.domain import messages as m
from openaperture.domain.errors import BadInput, MilestoneFailed, NotAllowed, TryLater
from openaperture.domain.events import Resolution, Resolved, Voted
from openaperture.domain.lineage import Repeat
from openaperture.domain.releases import Release
from openaperture.domain.workflow import TERMINAL, State, Workflow
from openaperture.worker import Context
from tests.simulation.broker import SimulatedBroker
from tests.simulation.checker import judge
from tests.simulation.faults import CALM, Faults, Weather
from tests.simulation.journal import Asked, Died, Journal
from tests.simulation.loop import Process, SimulationLoop, simulated
from tests.simulation.orders import publish_until_confirmed
from tests.simulation.world import Shape, Site, World

OTHER = "5f0c8f0e-2a43-4d53-8f0b-6a2d8c1e9b77"
THIRD = "c2a6d1b4-91e7-4b0a-8a53-7e4f02d6c5e9"
WORKFLOW = "0b5c1a52-7d0f-4d0e-9d6b-3f6f4c1f2a10"
LONGEST_SECONDS = 3_600.0
HANDLER_SECONDS = 0.5
STUBBORN_SECONDS = 160.0
WATCH_SECONDS = 2.0
PATIENCE = 20
"""Looks at something held before the person acts unasked."""
ENDED = tuple(sorted(TERMINAL))
ALONE = Shape(poll_seconds=4.0, restart_seconds=3.0)


Milestones = str | tuple[str, ...]


class Stage:
    """What acts are written in. A director that dies begins its act anew: each step may be repeated."""

    def __init__(self, site: Site) -> None:
        self.world = site.world
        self._site = site
        self._verbs = site.verbs()
        self._broker = site.broker()

    @property
    def broker(self) -> SimulatedBroker:
        return self._broker

    def workflow(self, who: str = WORKFLOW) -> Workflow | None:
        """As it lies on the disk."""
        stored = self.world.disk.workflows.get(who)
        return stored.workflow if stored else None

    async def start(self, *milestones: Milestones, copy: int = 0, who: str = WORKFLOW, **fields: Any) -> None:
        """By a message, until the broker has it."""
        entries: Any = [each if isinstance(each, str) else list(each) for each in milestones]
        body = json_codec.encode(m.StartMessage(id=who, milestones=entries, **fields))
        await self.say(body, f"start.{who}.{copy}")
        self.world.journal.add(Asked("start", who))

    async def say(self, body: bytes, message_id: str) -> None:
        await publish_until_confirmed(self._broker, body, message_id)

    async def create(self, *milestones: str, **fields: Any) -> None:
        release = Release(milestones=milestones, **fields)
        await self._until_done(lambda: self._verbs.create(WORKFLOW, release, "ann"))
        self.world.journal.add(Asked("create", WORKFLOW))

    async def start_created(self) -> None:
        await self._until_done(lambda: self._verbs.start(WORKFLOW, "ann"))

    async def cancel(self, who: str = WORKFLOW) -> None:
        await self._until_done(lambda: self._verbs.cancel(who, "ann"))

    async def pause(self) -> None:
        await self._until_done(lambda: self._verbs.pause(WORKFLOW, "ann"))

    async def resume(self) -> None:
        await self._until_done(lambda: self._verbs.resume(WORKFLOW, "ann"))

    async def vote(self, by: str, *, approves: bool) -> None:
        vote = Voted(approves=approves, by=by, groups=frozenset({"ops", "approver"}))
        await self._until_done(lambda: self._verbs.vote(WORKFLOW, vote))

    async def repeat(self, repeat: Repeat, milestone: str | None = None) -> None:
        """As OTHER."""
        await self._until_done(
            lambda: self._verbs.repeat(WORKFLOW, repeat, "ann", milestone=milestone, new_id=OTHER)
        )

    async def release_kept_lock(self, name: str) -> None:
        """Of the workflow, if it has ended and still has it."""
        workflow = self.workflow()
        if workflow is not None and workflow.keeps_locks:
            await self._until_done(lambda: self._verbs.release_lock(name, "ann", force=True))

    async def take_lock_away(self, name: str) -> None:
        """From whoever has it."""
        await self._until_done(lambda: self._verbs.release_lock(name, "ann"))

    async def resolve(self, resolution: Resolution, who: str = WORKFLOW) -> None:
        await self._until_done(lambda: self._resolve_one(resolution, who))

    async def _resolve_one(self, resolution: Resolution, who: str) -> None:
        workflow = self.workflow(who)
        held = [step.milestone for step in workflow.steps if step.unknown] if workflow else []
        if held:
            await self._verbs.resolve(who, Resolved(resolution=resolution, by="ann", milestone=held[0]))

    async def _until_done(self, verb: Callable[[], Awaitable[Any]]) -> None:
        """As people do it: again while it cannot be done now; not at all when it fits no more."""
        while True:
            with suppress(BadInput, NotAllowed):
                try:
                    await verb()
                except TryLater:
                    await asyncio.sleep(1.0)
                    continue
            return

    async def until(self, *states: State, claimed: bool = False, who: str = WORKFLOW) -> None:
        """Until it is in one of these states, and its attempt in somebody's hands if wanted; or has ended."""
        while True:
            workflow = self.workflow(who)
            if workflow is not None:
                held = any(attempt.worker for attempt in workflow.live)
                if workflow.ended or (workflow.state in states and (held or not claimed)):
                    return
            await asyncio.sleep(0.3)


Act = Callable[[Stage], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One story and how it may end."""

    name: str
    act: Act
    ends: Sequence[str]
    """How it ends when nothing crashes; the first. With crashes in it, any of them."""
    moods: Mapping[str, Sequence[str]] = field(default_factory=dict[str, Sequence[str]])
    """Milestone -> what its handler does at its first, second … call: ok | fail | late_fail | hang | die | deaf |
    deaf_long | long | stubborn | overrun.

    Then ok."""
    resolution: Resolution = Resolution.WORKED
    """What a person says of whatever is held."""
    others: Mapping[str, Sequence[str]] = field(default_factory=dict[str, Sequence[str]])
    """How other workflows of it end, in the same way."""
    shape: Shape = ALONE
    queues: Sequence[str] = ()
    """Declared at the start, beside the usual ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Performance:
    """How one performance of a scenario went."""

    passes: int
    state: State | None
    violations: Sequence[str]
    journal: Journal


def perform(
    scenario: Scenario, *, crash_at: tuple[int, ...] = (), seed: int = 0, faults: Faults = CALM
) -> Performance:
    """Play it once, with crashes at these passes. With a `seed` what is ready runs in any order."""
    chance = Random(seed)
    with simulated(chance, in_order=not seed) as loop:
        return _perform(scenario, loop, Weather(chance, faults=faults, crash_at=crash_at))


def _perform(scenario: Scenario, loop: SimulationLoop, weather: Weather) -> Performance:
    journal = Journal()
    world = World(
        loop=loop,
        weather=weather,
        shape=scenario.shape,
        script=Scripted(loop, scenario.moods, journal),
        journal=journal,
    )
    for queue in scenario.queues:
        world.declare(queue)
    world.start_all()
    acted: list[str] = []

    async def direct(site: Site) -> None:
        await scenario.act(Stage(site))
        acted.append("the act")
        await asyncio.Event().wait()

    async def watch(site: Site) -> None:
        """A person who looks after what is held once the act is over, or has left it held for long."""
        stage = Stage(site)
        turns: Counter[str] = Counter()
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            held = [key for key, stored in world.disk.under_way.items() if stored.row["state"] == State.HELD]
            turns = Counter({key: turns[key] + 1 for key in held})
            for workflow_id in held:
                if acted or turns[workflow_id] > PATIENCE:
                    await stage.resolve(scenario.resolution, workflow_id)

    world.start("director", direct)
    world.start("watch", watch, crashes=False)

    def is_over() -> bool:
        return bool(acted) and WORKFLOW in world.disk.workflows and not world.disk.under_way and world.is_quiet

    loop.run_until(loop.time() + LONGEST_SECONDS, is_over)
    passes = weather.passes
    stored = world.disk.workflows.get(WORKFLOW)
    state = State(stored.row["state"]) if stored else None
    found = judge(journal, world.disk, world.server, loop)
    for workflow_id, ends in {WORKFLOW: scenario.ends, **scenario.others}.items():
        ended = world.disk.workflows.get(workflow_id)
        how = str(ended.row["state"]) if ended else "never stored"
        allowed = ends if weather.crash_at or weather.faults != CALM else ends[:1]
        if how not in allowed:
            found.append(f"end: {scenario.name} ended as {how}, and not as {', '.join(allowed)}")
    return Performance(passes=passes, state=state, violations=found, journal=journal)


class Scripted:
    """Handlers that do at each call what the scenario says."""

    def __init__(self, loop: SimulationLoop, moods: Mapping[str, Sequence[str]], journal: Journal) -> None:
        self._loop = loop
        self._journal = journal
        self._left = {milestone: list(each) for milestone, each in moods.items()}

    async def __call__(self, context: Context, process: Process) -> Mapping[str, str] | None:
        left = self._left.get(context.milestone)
        mood = left.pop(0) if left else "ok"
        await asyncio.sleep(HANDLER_SECONDS)
        match mood:
            case "fail":
                raise MilestoneFailed("as the scenario wants it")
            case "hang":
                await asyncio.sleep(1_000.0)
            case "late_fail":
                await asyncio.sleep(25.0)
                raise MilestoneFailed("as the scenario wants it, after a while")
            case "stubborn":
                await self._be_stubborn(STUBBORN_SECONDS)
            case "overrun":
                # It stands still over the end of its time, and does not hear that it has to stop.
                await asyncio.sleep(57.0)
                self._loop.freeze(process, 60.0)
                await self._be_stubborn(STUBBORN_SECONDS - 57.0)
            case "die":
                self._journal.add(Died(process.name, "as the scenario wants it"))
                process.kill()
                await asyncio.sleep(0)
            case "deaf":
                # Stands still for longer than its lease, and then goes on as if nothing had been.
                self._loop.freeze(process, 40.0)
                await asyncio.sleep(0)
            case "deaf_long":
                # The same, and there is still much to do.
                self._loop.freeze(process, 40.0)
                await asyncio.sleep(0)
                await asyncio.sleep(20.0)
            case "long":
                await asyncio.sleep(45.0)
            case _:
                pass
        return {"made": context.milestone}

    async def _be_stubborn(self, seconds: float) -> None:
        """Go on, whoever tells it to stop."""
        until = self._loop.time() + seconds
        while (left := until - self._loop.time()) > 0:
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(left)

"""The stage for golden scenarios: one workflow, a script for everybody, and crashes exactly where they are wanted."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from random import Random
from typing import Any

from openaperture.codecs import json as json_codec
from openaperture.domain import messages as m
from openaperture.domain.errors import MilestoneFailed, TryLater, WrongState
from openaperture.domain.events import Resolution, Resolved
from openaperture.domain.releases import Release
from openaperture.domain.workflow import TERMINAL, State, Workflow
from openaperture.worker import Context
from tests.simulation.broker import SimulatedBroker
from tests.simulation.checker import judge
from tests.simulation.faults import CALM, Faults, Weather
from tests.simulation.journal import Asked, Journal
from tests.simulation.load import publish_until_confirmed
from tests.simulation.loop import Process, SimulationLoop, simulated
from tests.simulation.world import Shape, Site, World

WORKFLOW = "0b5c1a52-7d0f-4d0e-9d6b-3f6f4c1f2a10"
LONGEST_SECONDS = 3_600.0
HANDLER_SECONDS = 0.5
WATCH_SECONDS = 2.0
ENDED = tuple(sorted(TERMINAL))
ALONE = Shape(poll_seconds=4.0, restart_seconds=3.0)


class Stage:
    """What the acts of a scenario are written in. A director that dies begins its act anew: each step may be repeated."""

    def __init__(self, site: Site) -> None:
        self.world = site.world
        self._site = site
        self._verbs = site.verbs()
        self._broker = site.broker()

    @property
    def broker(self) -> SimulatedBroker:
        return self._broker

    @property
    def workflow(self) -> Workflow | None:
        """As it lies on the disk."""
        stored = self.world.disk.workflows.get(WORKFLOW)
        return stored.workflow if stored else None

    async def start(self, *milestones: str, copy: int = 0, **fields: Any) -> None:
        """By a message, until the broker has it."""
        body = json_codec.encode(m.StartMessage(id=WORKFLOW, milestones=list(milestones), **fields))
        await self.say(body, f"start.{WORKFLOW}.{copy}")
        self.world.journal.add(Asked("start", WORKFLOW))

    async def say(self, body: bytes, message_id: str) -> None:
        await publish_until_confirmed(self._broker, body, message_id)

    async def create(self, *milestones: str, **fields: Any) -> None:
        release = Release(milestones=milestones, **fields)
        await self._until_done(lambda: self._verbs.create(WORKFLOW, release, "ann"))
        self.world.journal.add(Asked("create", WORKFLOW))

    async def start_created(self) -> None:
        await self._until_done(lambda: self._verbs.start(WORKFLOW, "ann"))

    async def cancel(self) -> None:
        await self._until_done(lambda: self._verbs.cancel(WORKFLOW, "ann"))

    async def resolve(self, resolution: Resolution) -> None:
        await self._until_done(lambda: self._verbs.resolve(WORKFLOW, Resolved(resolution=resolution, by="ann")))

    async def _until_done(self, verb: Callable[[], Awaitable[Any]]) -> None:
        """As people do it: again while it cannot be done now; not at all when it fits no more."""
        while True:
            with suppress(WrongState):
                try:
                    await verb()
                except TryLater:
                    await asyncio.sleep(1.0)
                    continue
            return

    async def until(self, *states: State, claimed: bool = False) -> None:
        """Until it is in one of these states, and its attempt in somebody's hands if wanted; or has ended."""
        while True:
            workflow = self.workflow
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
    ends: Sequence[State]
    """How it ends when nothing crashes; the first. With crashes in it, any of them."""
    moods: Mapping[str, Sequence[str]] = field(default_factory=dict[str, Sequence[str]])
    """Milestone -> what its handler does at its first, second … call: ok | fail | hang | die | deaf | long.

    Then ok."""
    resolution: Resolution = Resolution.WORKED
    """What a person says of whatever is held."""
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
    """Play it once, with crashes at these passes of crash points. With a `seed` what is ready runs in any order."""
    chance = Random(seed)
    with simulated(chance, in_order=not seed) as loop:
        return _perform(scenario, loop, Weather(chance, faults=faults, crash_at=crash_at))


def _perform(scenario: Scenario, loop: SimulationLoop, weather: Weather) -> Performance:
    journal = Journal()
    world = World(
        loop=loop, weather=weather, shape=scenario.shape, script=Scripted(loop, scenario.moods), journal=journal
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
        """A person who looks after what is held once the act is over."""
        stage = Stage(site)
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            workflow = stage.workflow
            if acted and workflow is not None and workflow.state is State.HELD:
                await stage.resolve(scenario.resolution)

    world.start("director", direct)
    world.start("watch", watch, crashes=False)

    def is_over() -> bool:
        stored = world.disk.workflows.get(WORKFLOW)
        return bool(acted) and stored is not None and stored.row["state"] in TERMINAL and world.is_quiet

    loop.run_until(loop.time() + LONGEST_SECONDS, is_over)
    passes = weather.passes
    stored = world.disk.workflows.get(WORKFLOW)
    state = State(stored.row["state"]) if stored else None
    found = judge(journal, world.disk, world.server, loop)
    allowed = scenario.ends if weather.crash_at else scenario.ends[:1]
    if state not in allowed:
        found.append(f"end: {scenario.name} ended as {state}, and not as {', '.join(allowed)}")
    return Performance(passes=passes, state=state, violations=found, journal=journal)


class Scripted:
    """Handlers that do at each call what the scenario says."""

    def __init__(self, loop: SimulationLoop, moods: Mapping[str, Sequence[str]]) -> None:
        self._loop = loop
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
            case "die":
                process.kill()
                await asyncio.sleep(0)
            case "deaf":
                # Stands still for longer than its lease, and then goes on as if nothing had been.
                self._loop.freeze(process, 40.0)
                await asyncio.sleep(0)
            case "long":
                await asyncio.sleep(45.0)
            case _:
                pass
        return {"made": context.milestone}

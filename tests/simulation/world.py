"""The simulated world: the product's processes as `app/` composes them, on a broker and a store in memory.

A process that dies is started again after a while, as an init system does it.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from contextvars import Context as Variables
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from random import Random
from typing import Any, cast

from openaperture.app.core import Core
from openaperture.app.engine import build_engine
from openaperture.codecs import incoming, terms
from openaperture.codecs import json as json_codec
from openaperture.config import Settings
from openaperture.domain.attempts import AttemptKey
from openaperture.domain.errors import ConfigError, MilestoneFailed
from openaperture.domain.milestones import OnLoss
from openaperture.engine.ports import Wire
from openaperture.engine.tokens import TokenMint
from openaperture.engine.verbs import Verbs
from openaperture.runtime.supervisor import Supervisor
from openaperture.worker import Context
from openaperture.worker.service import Service
from tests.simulation.broker import Server, SimulatedBroker
from tests.simulation.faults import CALM, Gate, Weather
from tests.simulation.journal import Began, Died, Finished, Journal, Told
from tests.simulation.loop import START_SECONDS, Process, SimulationLoop
from tests.simulation.manager import EXCHANGE, ManagerRows, elsewhere_of
from tests.simulation.store import Disk, SimulatedBegun, SimulatedStore

EPOCH = datetime(2030, 1, 1, tzinfo=UTC)
TOKEN_KEY = "the key of the simulated world"
INTAKE = "workflow_orchestration"
QUEUES = (INTAKE, "builder", "deployer", "old_builder", "old_deployer", "notifications_hipchat")
"""Declared from the start. Nobody declares `painters` until a scenario does."""

TIMES: Mapping[str, Any] = {
    "pickup_seconds": 60.0,
    "pickup_limit_seconds": 900.0,
    "heartbeat_seconds": 12.0,
    "run_seconds": 60.0,
    "max_attempts": 5,
}
"""Short, so that deadlines come up within a run."""

Script = Callable[[Context, Process], Awaitable[Mapping[str, str] | None]]
Work = Callable[["Site"], Coroutine[Any, Any, None]]
"""What a process does, from its start to its end."""
TOLD = {
    "batch.settled",
    "decision.failed",
    "message.failed",
    "relay.failed",
    "request.failed",
    "workflow.stranded",
    "process.raised",
    "process.forced",
    "notice.dropped",
}
"""What of the events of a process is written down."""


class JournalObserver:
    """The port Observer."""

    def __init__(self, journal: Journal, name: str) -> None:
        self._journal = journal
        self._name = name

    def emit(self, name: str, /, **details: Any) -> None:
        if name in TOLD:
            # An exception would keep the frames that it went through, and all that they know.
            plain = {
                key: repr(value) if isinstance(value, BaseException) else value for key, value in details.items()
            }
            self._journal.add(Told(self._name, name, plain))


class VirtualClock:
    """The port Clock."""

    def __init__(self, loop: SimulationLoop) -> None:
        self._loop = loop

    def monotonic(self) -> float:
        return self._loop.time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """How many of what there are."""

    orchestrators: int = 1
    workers: int = 1
    slots: int = 2
    batch: int = 200
    window: int = 200
    poll_seconds: float = 1.0
    restart_seconds: float = 3.0
    old_workers: int = 0
    elsewhere: bool = False
    """A Manager elsewhere holds the workflows, and says where workers are."""

    @staticmethod
    def draw(chance: Random) -> "Shape":
        return Shape(
            orchestrators=chance.randint(1, 3),
            workers=chance.randint(1, 4),
            slots=chance.choice([1, 2, 8]),
            batch=chance.choice([10, 20, 200]),
            window=chance.choice([10, 20, 200]),
            poll_seconds=chance.choice([0.5, 1.0, 3.0]),
            restart_seconds=chance.choice([0.5, 5.0, 20.0]),
            old_workers=chance.choice([0, 0, 1, 2]),
            elsewhere=chance.random() < 0.3,
        )


@cache
def settings_of(shape: Shape) -> Settings:
    """Settings of an orchestrator. The times of the kinds are short; nothing listens and nothing is opened."""
    sections = {
        "config": {"queue": "builder", **TIMES},
        "build": {"queue": "builder", **TIMES},
        "scan": {"queue": "builder", **TIMES},
        "deploy": {"queue": "deployer", **TIMES, "on_loss": OnLoss.HOLD},
        "old_build": {"queue": "old_builder", **TIMES},
        "old_deploy": {"queue": "old_deployer", **TIMES, "on_loss": OnLoss.HOLD},
        "paint": {"queue": "painters", **TIMES},
        "test": {"queue": "builder", **TIMES, "retry_on": ["crashed", "lost"], "max_attempts": 3},
        "deploy_too": {"queue": "deployer", **TIMES, "on_loss": OnLoss.HOLD},
        "sign_off": {"approval_role": "ops", "approvals": 2, "approval_expires_seconds": 60.0},
    }
    values = {
        "data_dir": Path("/nowhere"),
        "database": "postgresql://nobody@nowhere/simulated",
        "broker": "amqps://nobody:none@nowhere/",
        "declare_queues": False,
        "token_key": TOKEN_KEY,
        "hostname": "simulated",
        "orchestrator": {
            "batch": shape.batch,
            "relay_window": shape.window,
            "poll_seconds": shape.poll_seconds,
        },
        "milestones": sections,
    }
    if shape.elsewhere:
        values |= {
            "manager_url": "https://manager.nowhere",
            "exchange_id": "1",
            "broker_id": "1",
            "notices": "terms",
        }
    return Settings.model_validate(values)


@dataclass(slots=True, kw_only=True)
class World:
    """Everything there is."""

    loop: SimulationLoop
    weather: Weather
    shape: Shape
    script: Script
    journal: Journal = field(default_factory=Journal)
    server: Server = field(init=False)
    disk: Disk = field(init=False)
    wire: Wire = field(init=False)
    manager: ManagerRows | None = None
    clock_skew: timedelta = timedelta()
    judges_deadlines: bool = True
    living: dict[str, Process] = field(default_factory=dict[str, Process])
    """The processes that run now, by their place."""
    dismissed: set[str] = field(default_factory=set[str])
    lives: dict[str, int] = field(default_factory=dict[str, int])

    def __post_init__(self) -> None:
        self.journal.now = self.loop.time
        self.server = Server(self.weather, self.journal)
        self.disk = Disk(self.journal, self.now)
        self.wire = Wire(
            mint=TokenMint(TOKEN_KEY),
            encode=json_codec.encode,
            encode_workflow=terms.encode_workflow,
            decode=incoming.decode,
        )
        for queue in QUEUES:
            self.declare(queue)
        if self.shape.elsewhere:
            self.manager = ManagerRows(self.journal)
            self.server.exchanges.add(EXCHANGE)
        # Pauses between tries (runtime/backoff.py) come from the module's generator.
        random.seed(self.weather.chance.random())

    def now(self) -> datetime:
        """The store's clock, which may jump."""
        return EPOCH + timedelta(seconds=self.loop.time() - START_SECONDS) + self.clock_skew

    def declare(self, queue: str) -> None:
        self.server.declare(queue)
        self.server.declare(f"{queue}_error")

    @property
    def is_quiet(self) -> bool:
        """Whether nothing is on its way to or from an orchestrator."""
        return not self.disk.outbox and self.server.is_settled(INTAKE)

    def calm(self) -> None:
        """No faults from now on."""
        self.weather.faults = CALM
        self.weather.crash_at = ()

    # ---------------------------------------------------------------------------------------- processes

    def start(self, place: str, work: Work, *, crashes: bool = True) -> None:
        """Run a process there, and another after it when it ends."""
        self.lives[place] = self.lives.get(place, 0) + 1
        process = Process(f"{place}.{self.lives[place]}")
        self.living[place] = process
        gate = Gate(self.weather, self.journal, process, crashes=crashes)
        gate.freeze = lambda seconds: self.loop.freeze(process, seconds)
        site = Site(world=self, process=process, gate=gate)

        def again() -> None:
            self.living.pop(place, None)
            if place in self.dismissed:
                return
            delay = self.shape.restart_seconds * (0.5 + self.weather.chance.random())
            self.loop.call_later(delay, self._restart, place, work, crashes, context=Variables())

        process.on_death.append(again)
        task = self.loop.spawn(process, work(site))
        task.add_done_callback(lambda done: self._ended(process, done), context=Variables())

    def _restart(self, place: str, work: Work, crashes: bool) -> None:
        if place not in self.dismissed:
            self.start(place, work, crashes=crashes)

    def dismiss(self, place: str) -> None:
        """End what runs there for good."""
        self.dismissed.add(place)
        if place in self.living:
            self.living[place].kill()

    def _ended(self, process: Process, task: "asyncio.Task[Any]") -> None:
        if not process.alive or task.cancelled():
            return
        error = task.exception()
        if error is not None and not isinstance(error, ConfigError):
            self.journal.add(Told(process.name, "process.raised", {"error": repr(error)}))
        self.journal.add(Died(process.name, "its end"))
        process.kill()

    def start_all(self) -> None:
        for index in range(self.shape.orchestrators):
            self.start(f"orc{index}", orchestrate)
        for index in range(self.shape.workers):
            self.start(f"hand{index}", work)


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedCore(Core):
    """With what the composition makes of a database by itself."""

    remembered: SimulatedBegun

    def begun(self) -> SimulatedBegun:
        return self.remembered


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """What one process has of the world."""

    world: World
    process: Process
    gate: Gate

    @property
    def observer(self) -> JournalObserver:
        return JournalObserver(self.world.journal, self.process.name)

    def broker(self) -> SimulatedBroker:
        return SimulatedBroker(self.world.server, self.gate)

    def store(self) -> SimulatedStore:
        world = self.world
        return SimulatedStore(
            world.disk, self.gate, self.observer, judges_deadlines=lambda: world.judges_deadlines
        )

    def verbs(self) -> Verbs:
        core = self.core()
        return Verbs(core.decider(), self.store(), core.kinds)

    def core(self) -> Core:
        """As `app.core.open_core` makes it, on this world's store."""
        world = self.world
        return SimulatedCore(
            remembered=SimulatedBegun(world.disk, self.gate),
            settings=settings_of(world.shape),
            observer=self.observer,
            database=cast("Any", None),
            store=cast("Any", self.store()),
            directory=cast("Any", None),
            clock=cast("Any", VirtualClock(world.loop)),
            wire=world.wire,
            owner=self.process.name,
        )


class Hand:
    """The handler of one worker: plays the script, and writes the ledger of effects."""

    def __init__(self, world: World, process: Process) -> None:
        self._world = world
        self._process = process
        self._worker = process.name

    async def __call__(self, context: Context) -> Mapping[str, str] | None:
        attempt = context.request.attempt
        key = AttemptKey(generation=attempt.generation, position=attempt.position, number=attempt.number)
        self._world.journal.add(Began(self._worker, context.workflow_id, key, context.milestone))
        how = "stopped"
        try:
            outputs = await self._world.script(context, self._process)
            how = "done"
        except MilestoneFailed:
            how = "failed"
            raise
        finally:
            self._world.journal.add(Finished(self._worker, context.workflow_id, key, how))
        return outputs


async def orchestrate(site: Site) -> None:
    """An orchestrator, as `openaperture orchestrator` runs it."""
    broker, rows = site.broker(), site.world.manager
    core = site.core()
    elsewhere = elsewhere_of(rows, site.gate, broker, core) if rows is not None else None
    services = build_engine(core, broker, elsewhere).services
    supervisor = Supervisor(services, site.observer, grace_seconds=25.0)
    site.process.stop = supervisor.stop
    await supervisor.run()


async def work(site: Site) -> None:
    """A worker of the SDK."""
    await serve(site, ["builder", "deployer"])


async def paint(site: Site) -> None:
    """A worker of the SDK for a queue that somebody declared."""
    await serve(site, ["painters"])


async def serve(site: Site, queues: Sequence[str]) -> None:
    world = site.world
    hand = Hand(world, site.process)
    service = Service(
        site.broker(),
        name=site.process.name,
        queues=queues,
        slots=world.shape.slots,
        grace_seconds=10.0,
        find_handler=lambda _milestone: hand,
        observer=site.observer,
    )
    site.process.stop = lambda: world.loop.spawn(site.process, service.drain())
    await service.run()

"""What goes wrong, how often, and the gate that every call to the outside passes.

The intensity of each fault is drawn once per seed, and is nought for many: a run with few kinds of faults finds
what a run with all of them hides.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from random import Random

from tests.simulation.journal import Died, Journal
from tests.simulation.loop import Process


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """Probabilities, each per call or per message unless it says otherwise."""

    crash: float = 0.0
    """At each await of a call to the outside, before and after its effect."""
    latency: float = 0.0
    """Mean seconds of a call."""
    duplicate: float = 0.0
    """Of messages: a second copy."""
    reorder: float = 0.0
    """Any message of the queue may be next."""
    refuse: float = 0.0
    """The broker takes nothing, and says so."""
    swallow: float = 0.0
    """Published, lost, and no confirm."""
    confirm_lost: float = 0.0
    confirm_late: float = 0.0
    arrive_late: float = 0.0
    """The publisher gives up, and the message arrives after that."""
    cut: float = 0.0
    """A session ends: what is unsettled comes back, and tags mean nothing any more."""
    store_refuse: float = 0.0
    """The store does nothing, and says so."""
    store_unknown: float = 0.0
    """The store does it, and seems not to."""
    store_late: float = 0.0
    """The store seems to have failed, and does it after that."""
    store_full: float = 0.0
    """Writes fail for lack of room."""
    pause: float = 0.0
    """The process stands still for up to a minute."""
    clock_jump: float = 0.0
    """Per second: the store's clock goes forth or back by up to a minute."""
    drain: float = 0.0
    """Per second: some process is told to stop, as by SIGTERM."""
    manager: float = 0.0
    """The Manager elsewhere does not answer, does it and seems not to, or answers late."""


CALM = Faults()

_WORST = Faults(
    crash=0.01,
    latency=0.3,
    duplicate=0.5,
    reorder=0.5,
    refuse=0.1,
    swallow=0.05,
    confirm_lost=0.1,
    confirm_late=0.2,
    arrive_late=0.05,
    cut=0.03,
    store_refuse=0.1,
    store_unknown=0.1,
    store_late=0.03,
    store_full=0.05,
    pause=0.002,
    clock_jump=0.02,
    drain=0.2,
    manager=0.2,
)


def draw(chance: Random) -> Faults:
    """Intensities for one run: each fault is absent in half of the runs, and mostly mild in the others."""
    worst = {each.name: getattr(_WORST, each.name) for each in fields(Faults)}
    drawn = {name: limit * chance.random() ** 2 for name, limit in worst.items() if chance.random() < 0.5}
    return replace(CALM, **drawn)


@dataclass(slots=True)
class Weather:
    """The faults that hold now, for everybody, and the source of all chance."""

    chance: Random
    faults: Faults = CALM
    passes: int = 0
    """How many crash points were passed."""
    crash_at: tuple[int, ...] = ()
    """Crash exactly there, whatever the probabilities."""

    def strikes(self, probability: float) -> bool:
        return probability > 0.0 and self.chance.random() < probability


class Gate:
    """Between one process and the outside. Without a process it lets everything through at once."""

    def __init__(
        self, weather: Weather, journal: Journal, process: Process | None = None, *, crashes: bool = True
    ) -> None:
        """`crashes`: whether the process may die here."""
        self._crashes = crashes
        self.weather = weather
        self.journal = journal
        self.process = process
        self.freeze: Callable[[float], None] | None = None

    @property
    def name(self) -> str:
        return self.process.name if self.process else "outside"

    @property
    def is_dead(self) -> bool:
        return self.process is not None and not self.process.alive

    async def enter(self, call: str) -> None:
        """Before the effect of a call."""
        if self.process is None:
            return
        await self._crash_point(call)
        faults, chance = self.weather.faults, self.weather.chance
        if faults.latency:
            await asyncio.sleep(chance.expovariate(1 / faults.latency))
        else:
            await asyncio.sleep(0)
        if self.weather.strikes(faults.pause) and self.freeze is not None:
            self.freeze(chance.random() * 60.0)
            await asyncio.sleep(0)

    async def leave(self, call: str) -> None:
        """After its effect, before its caller hears of it."""
        if self.process is not None:
            await self._crash_point(f"{call}!")

    async def _crash_point(self, call: str) -> None:
        weather, process = self.weather, self.process
        assert process is not None
        if self._crashes:
            weather.passes += 1
        if self._crashes and (weather.passes in weather.crash_at or weather.strikes(weather.faults.crash)):
            self.journal.add(Died(process.name, call))
            process.kill()
        if not process.alive:
            await asyncio.get_running_loop().create_future()  # nobody ever wakes it

"""One seed: a world, its faults, three phases, and the verdict."""

from dataclasses import dataclass, field
from datetime import timedelta
from random import Random

from tests.simulation.checker import judge, judge_lost_work
from tests.simulation.faults import Weather, draw
from tests.simulation.journal import ClockJumped, Journal, Phase
from tests.simulation.loop import SimulationLoop, simulated
from tests.simulation.moods import Moods
from tests.simulation.old_worker import serve_old
from tests.simulation.orders import Forger, Orders
from tests.simulation.people import Caretaker, People
from tests.simulation.world import Shape, World

LONGEST_SECONDS = 7_200.0
"""Virtual time in which everything must have ended once no more faults happen."""
SETTLING_SECONDS = 600.0


@dataclass(slots=True, kw_only=True)
class Verdict:
    """What came of one seed."""

    seed: int
    deliveries: int
    workflows: int
    crashes: int
    violations: list[str] = field(default_factory=list[str])
    journal: Journal
    description: str = ""


def run_seed(seed: int, *, workflows: int = 150) -> Verdict:
    """Play one seed to its end."""
    chance = Random(seed)
    with simulated(chance, in_order=chance.random() < 0.5) as loop:
        return _play(seed, loop, chance, workflows)


def _play(seed: int, loop: SimulationLoop, chance: Random, workflows: int) -> Verdict:
    journal = Journal()
    weather = Weather(chance)
    world = World(loop=loop, weather=weather, shape=Shape.draw(chance), script=Moods(chance), journal=journal)
    faults = draw(chance)
    world.start_all()
    for index in range(world.shape.old_workers):
        world.start(f"old{index}", serve_old)
    found: list[str] = []
    for reaper in (False, True):
        journal.add(Phase(f"faults, reaper {'on' if reaper else 'off'}"))
        world.judges_deadlines = reaper
        weather.faults = faults
        found += _settle(world, _order(world, chance, workflows // 2), reaper=reaper)
    journal.add(Phase("liveness"))
    world.judges_deadlines = True
    _let_end(world, chance)
    found += judge(journal, world.disk, world.server, loop)
    journal.now = float  # lets go of the loop
    return Verdict(
        seed=seed,
        deliveries=world.server.delivered,
        workflows=len(world.disk.workflows),
        crashes=journal.count()["Died"],
        violations=found,
        journal=journal,
        description=f"{world.shape} {faults}",
    )


def _order(world: World, chance: Random, workflows: int) -> Orders:
    orders = Orders(chance, workflows=workflows, seconds=chance.choice([5.0, 30.0, 120.0]))
    index = len(world.lives)
    world.start(f"customer{index}", orders.send, crashes=False)
    world.start(f"people{index}", People(orders, chance).act)
    world.start(f"forger{index}", Forger(orders, chance).act, crashes=False)
    return orders


def _settle(world: World, orders: Orders, *, reaper: bool) -> list[str]:
    """Until all was asked for; then without faults until nothing moves any more by itself."""
    loop = world.loop
    _run_with_jumps(world, loop.time() + 1_200.0, orders)
    loop.run_until(loop.time() + 20.0)
    world.calm()
    _dismiss(world)
    # A process may stand still for a minute, and a row may be leased or deferred for half of one.
    loop.run_until(loop.time() + 70.0)
    loop.run_until(loop.time() + SETTLING_SECONDS, lambda: world.is_quiet)
    return [] if reaper else judge_lost_work(world.journal, world.disk, list(world.living.values()))


def _run_with_jumps(world: World, deadline: float, orders: Orders) -> None:
    """Run on; now and then the store's clock jumps, or somebody stops a process."""
    chance, faults = world.weather.chance, world.weather.faults
    while world.loop.time() < deadline and orders.are_left:
        world.loop.run_until(world.loop.time() + 1.0, lambda: not orders.are_left)
        if world.weather.strikes(faults.clock_jump):
            seconds = chance.uniform(-60.0, 60.0)
            world.clock_skew += timedelta(seconds=seconds)
            world.journal.add(ClockJumped(seconds))
        if world.weather.strikes(faults.drain):
            _stop_one(world)


def _stop_one(world: World) -> None:
    """As SIGTERM, sometimes a second time."""
    running = [process for process in world.living.values() if process.stop is not None and not process.frozen]
    if running:
        process = world.weather.chance.choice(running)
        if process.stop is not None:
            process.context.copy().run(process.stop)


def _dismiss(world: World) -> None:
    """Customers, people and forgers go home. They are no part of the product: nothing restarts them."""
    for place in list(world.lives):
        if place.startswith(("customer", "people", "forger")):
            world.dismiss(place)


def _let_end(world: World, chance: Random) -> None:
    """Faults are off. A caretaker does what waits for people, until every workflow has ended that was started."""
    world.start("caretaker", Caretaker(chance).act, crashes=False)

    def is_over() -> bool:
        under_way = world.disk.under_way.values()
        return all(stored.row["state"] == "created" for stored in under_way)

    world.loop.run_until(world.loop.time() + LONGEST_SECONDS, is_over)
    world.loop.run_until(world.loop.time() + SETTLING_SECONDS, lambda: world.is_quiet)

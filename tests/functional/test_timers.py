"""The timers on both databases, when most of what is due cannot be judged."""

import asyncio
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta

import pytest

from openaperture.domain.attempts import Stop
from openaperture.domain.errors import StoreUnavailable
from openaperture.domain.milestones import FailureKind
from openaperture.domain.workflow import State, Step, Wait
from openaperture.engine.timers import BATCH, Timers
from openaperture.ports import Change, Clock, Due, Loaded
from openaperture.stores.sql import SqlStore
from tests.contract.stores import LONG_AGO, attempt, creation
from tests.functional.engine_site import Site

STUCK = 2 * BATCH + 50
"""More than two pages of workflows that nobody may judge while the intake hears nothing."""
SWEEP = 3
"""Pages that these fill."""
ORDER = Stop(kind=FailureKind.CANCELLED, reason="cancelled by eve", by=LONG_AGO + timedelta(days=2))
CANCELLED = {"state": State.CANCELLING, "steps": (Step(milestone="build", live=attempt(stop=ORDER)),)}
"""It was told to stop, and has not answered in its time."""


def _scheduled(minutes: float) -> dict[str, object]:
    wait = Wait(code="backoff", text="waits", until=LONG_AGO + timedelta(minutes=minutes))
    return {"state": State.WAITING, "steps": (Step(milestone="build", wait=wait),)}


async def _store(site: Site, changes: Sequence[Change]) -> None:
    await site.core.store.commit(changes)


async def _store_stuck(site: Site) -> None:
    """All of them due at one instant."""
    await _store(site, [creation(f"stuck{number:03}") for number in range(STUCK)])


class Observed(SqlStore):
    """A store that counts how often it is asked for what is due. One workflow of it cannot be read."""

    def __init__(self, site: Site, *, unavailable: str = "") -> None:
        super().__init__(site.core.database, observer=site.events)
        self.asked = 0
        self.is_asked: Callable[[], None] = lambda: None
        self._unavailable = unavailable

    async def list_due(self, limit: int, *, after: Due | None = None) -> list[Due]:
        self.asked += 1
        self.is_asked()
        return await super().list_due(limit, after=after)

    async def load(self, ids: Collection[str], message_ids: Collection[str] = ()) -> Loaded:
        if self._unavailable in ids:
            raise StoreUnavailable("the test keeps it from being read")
        return await super().load(ids, message_ids)


def _timers(site: Site, store: Observed | None = None, clock: Clock | None = None) -> Timers:
    """Of an orchestrator that hears nothing of the workers."""
    core = replace(site.core, store=store or site.core.store)
    return Timers(core.store, core.decider(), clock or core.clock, site.events, heard_seconds=lambda: 0.0)


async def test_a_cancel_behind_many_that_cannot_be_judged_is_over_in_its_time(site: Site) -> None:
    await _store_stuck(site)
    await _store(site, [creation("cancelled", of=CANCELLED)])
    timers = _timers(site)
    assert [await timers.run_once() for _ in range(SWEEP)] == [True, True, False]
    assert (await site.get("cancelled")).state is State.CANCELLED
    assert (await site.get("stuck000")).version == 1


async def test_what_is_added_behind_has_its_turn_in_the_next_round(site: Site) -> None:
    await _store_stuck(site)
    timers = _timers(site)
    assert await timers.run_once()
    await _store(site, [creation("first", of=_scheduled(minutes=0)), creation("last", of=_scheduled(minutes=60))])
    assert [await timers.run_once() for _ in range(SWEEP - 1)] == [True, False]
    assert (await site.get("last")).state is State.RUNNING
    assert (await site.get("first")).version == 1
    assert await timers.run_once()
    assert (await site.get("first")).state is State.RUNNING


async def test_two_orchestrators_wake_the_same_without_harm(site: Site) -> None:
    await _store_stuck(site)
    await _store(site, [creation("cancelled", of=CANCELLED)])
    one, two = _timers(site), _timers(site)
    for _ in range(SWEEP):
        await asyncio.gather(one.run_once(), two.run_once())
    history = [entry.kind for entry in await site.history("cancelled")]
    assert history.count("workflow.cancelled") == 1


@dataclass
class Pauses:
    """The process clock of a test in which time passes only as it says; the last pause ends the loop."""

    store: Observed
    count: int
    timers: Timers | None = None
    now: float = 0.0
    asked: list[int] = field(default_factory=list[int])
    """How often the store had been asked before each pause."""

    def monotonic(self) -> float:
        return self.now

    def work(self, seconds: float) -> None:
        self.now += seconds

    async def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.asked.append(self.store.asked)
        if len(self.asked) == self.count:
            assert self.timers is not None
            await self.timers.drain()


async def test_it_pauses_after_each_round_and_at_no_other_time(site: Site) -> None:
    await _store_stuck(site)
    store = Observed(site)
    clock = Pauses(store, count=4)
    clock.timers = _timers(site, store, clock)
    await clock.timers.run()
    assert clock.asked == [SWEEP, 2 * SWEEP, 3 * SWEEP, 4 * SWEEP]


async def test_after_a_long_round_it_pauses_as_long(site: Site) -> None:
    """So it takes half of the time of its process at most, however many are due in vain."""
    await _store_stuck(site)
    store = Observed(site)
    clock = Pauses(store, count=7)
    store.is_asked = lambda: clock.work(1.0)
    clock.timers = _timers(site, store, clock)
    await clock.timers.run()
    # Three seconds, in pauses of half a second, and then the next round.
    assert clock.asked == [SWEEP] * 6 + [2 * SWEEP]


async def test_a_page_that_cannot_be_saved_keeps_nothing_behind_it(site: Site) -> None:
    await _store_stuck(site)
    await _store(site, [creation("cancelled", of=CANCELLED)])
    timers = _timers(site, Observed(site, unavailable="stuck000"))
    with pytest.raises(StoreUnavailable):
        await timers.run_once()
    assert [await timers.run_once() for _ in range(SWEEP - 1)] == [True, False]
    assert (await site.get("cancelled")).state is State.CANCELLED

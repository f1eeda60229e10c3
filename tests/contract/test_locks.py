"""Locks: one holder, a fair queue, on both databases."""

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from openaperture.domain.commands import AskLocks, FreeLocks, KeepLocks, LockCommand
from openaperture.domain.events import LockDenied, LocksGranted
from openaperture.domain.releases import WhenLocked
from openaperture.domain.workflow import State
from openaperture.ports import Change, CommitOutcome
from tests.contract.stores import AnyStore, Place, creation, opened_store, successor

SAVED = CommitOutcome.SAVED
PROD = "environment:prod"


@pytest.fixture(params=["sqlite", "postgresql", "memory"])
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[Place]:
    async with opened_store(request.param, request, tmp_path) as here:
        yield here


@pytest.fixture
def store(place: Place) -> AnyStore:
    return place.store()


async def _asks(
    store: AnyStore, workflow_id: str, *names: str, when_locked: WhenLocked = WhenLocked.WAIT
) -> Change:
    change = creation(
        workflow_id,
        of={"state": State.WAITING, "steps": ()},
        locks=[AskLocks(names=names or (PROD,), when_locked=when_locked)],
    )
    assert await store.commit([change]) == [SAVED]
    return change


async def _says(store: AnyStore, change: Change, *commands: LockCommand, state: State = State.RUNNING) -> Change:
    following = successor(change, of={"state": state}, locks=list(commands))
    assert await store.commit([following]) == [SAVED]
    return following


async def _news(store: AnyStore) -> dict[str, LocksGranted | LockDenied]:
    return {news.workflow_id: news.event for news in await store.list_lock_news(100)}


async def test_the_first_to_ask_gets_it_and_the_others_queue_up(store: AnyStore) -> None:
    first = await _asks(store, "first")
    second = await _asks(store, "second")
    await _asks(store, "third")
    assert await _news(store) == {"first": LocksGranted(tokens={PROD: 1})}
    first = await _says(store, first, KeepLocks(names=(PROD,)))
    assert await _news(store) == {}
    assert [(claim.workflow_id, claim.state) for claim in await store.list_locks()] == [
        ("first", "held"),
        ("second", "waiting"),
        ("third", "waiting"),
    ]
    await _says(store, first, FreeLocks(names=(PROD,)), state=State.COMPLETED)
    assert await _news(store) == {"second": LocksGranted(tokens={PROD: 2})}
    # One that leaves before it knows passes it on.
    await _says(store, second, FreeLocks(names=(PROD,)), state=State.CANCELLED)
    assert await _news(store) == {"third": LocksGranted(tokens={PROD: 3})}


async def test_what_was_granted_is_told_again_until_it_is_heard(store: AnyStore) -> None:
    change = await _asks(store, "w")
    assert await _news(store) == await _news(store) == {"w": LocksGranted(tokens={PROD: 1})}
    await _says(store, change, KeepLocks(names=(PROD,)))
    assert await _news(store) == {}


async def test_a_workflow_hears_of_its_locks_when_it_has_all_of_them(store: AnyStore) -> None:
    one = await _asks(store, "one", "b")
    await _asks(store, "both", "a", "b")
    assert set(await _news(store)) == {"one"}
    await _says(store, one, KeepLocks(names=("b",)), FreeLocks(names=("b",)), state=State.COMPLETED)
    assert await _news(store) == {"both": LocksGranted(tokens={"a": 1, "b": 2})}


async def test_one_that_does_not_want_to_wait_is_refused(store: AnyStore) -> None:
    await _asks(store, "holder")
    await _asks(store, "hasty", when_locked=WhenLocked.REFUSE)
    assert (await _news(store))["hasty"] == LockDenied(name=PROD, code="refused", by="holder")


async def test_the_newest_takes_the_place_of_those_who_let_it_and_of_nobody_else(store: AnyStore) -> None:
    await _asks(store, "holder")
    await _asks(store, "patient")
    await _asks(store, "older", when_locked=WhenLocked.NEWEST)
    await _asks(store, "newer", when_locked=WhenLocked.NEWEST)
    news = await _news(store)
    assert news["older"] == LockDenied(name=PROD, code="superseded", by="newer")
    assert set(news) == {"holder", "older"}


async def test_a_lock_that_was_never_given_cannot_be_kept(store: AnyStore) -> None:
    await _asks(store, "holder")
    waiting = await _asks(store, "liar")
    change = successor(waiting, of={"state": State.RUNNING}, locks=[KeepLocks(names=(PROD,))])
    assert await store.commit([change]) == [CommitOutcome.REFUSED]
    assert (await store.load(["liar"])).workflows["liar"].version == 1


async def test_many_at_once_get_it_one_after_the_other(place: Place) -> None:
    stores = [place.store() for _ in range(4)]
    changes = await asyncio.gather(*(_asks(stores[n % 4], f"w-{n}", "a", "b") for n in range(12)))
    waiting = {change.workflow.id: change for change in changes}
    tokens = []
    while waiting:
        [(workflow_id, event)] = (await _news(stores[0])).items()
        assert isinstance(event, LocksGranted)
        tokens.append(event.tokens)
        names = ("a", "b")
        change = waiting.pop(workflow_id)
        await _says(stores[1], change, KeepLocks(names=names), FreeLocks(names=names), state=State.COMPLETED)
    assert tokens == [{"a": n, "b": n} for n in range(1, 13)]


async def test_the_lock_of_a_workflow_that_ended_without_giving_it_back_is_freed(store: AnyStore) -> None:
    dead = await _asks(store, "dead")
    await _asks(store, "next")
    dead = await _says(store, dead, KeepLocks(names=(PROD,)))
    assert await store.tend_locks() == 0
    await _says(store, dead, state=State.FAILED)
    assert await store.tend_locks() == 2
    assert await _news(store) == {"next": LocksGranted(tokens={PROD: 2})}


async def test_a_lock_that_is_kept_for_a_reason_outlasts_its_workflow(store: AnyStore) -> None:
    change = await _asks(store, "unknown")
    change = await _says(store, change, KeepLocks(names=(PROD,)))
    await _says(store, change, KeepLocks(names=(PROD,), why="its deploy may go on"), state=State.CANCELLED)
    assert await store.tend_locks() == 0
    [claim] = await store.list_locks([PROD])
    assert (claim.holds, claim.kept) == (True, "its deploy may go on")


async def test_one_that_does_not_take_up_its_lock_goes_to_the_end_of_the_queue(place: Place) -> None:
    store = place.store()
    await _asks(store, "silent")
    await _asks(store, "next")
    later = place.store_in(301)
    assert await later.tend_locks() == 2
    assert await _news(store) == {"next": LocksGranted(tokens={PROD: 2})}
    assert [claim.workflow_id for claim in await store.list_locks()] == ["next", "silent"]


async def test_one_that_waits_for_another_lock_keeps_what_it_was_granted(place: Place) -> None:
    """Put back in one queue and not in the other, it and the next one would wait for each other for ever."""
    store = place.store()
    holder = await _asks(store, "holder", "database")
    await _says(store, holder, KeepLocks(names=("database",)))
    await _asks(store, "both", PROD, "database")
    await _asks(store, "next", PROD, "database")
    later = place.store_in(301)
    assert await later.tend_locks() == 0
    assert [claim.workflow_id for claim in await store.list_locks()] == ["holder", "both", "next", "both", "next"]


async def test_a_clock_that_steps_back_changes_no_order(place: Place) -> None:
    """Ordered by their clocks, each of the two would be first in one queue, and wait for the other for ever."""
    store = place.store()
    holder = await _asks(store, "holder", "database")
    holder = await _says(store, holder, KeepLocks(names=("database",)))
    first = await _asks(store, "first", PROD, "database")
    await _asks(place.store_in(-30), "second", PROD, "database")
    order = [(claim.name, claim.workflow_id) for claim in await store.list_locks()]
    assert order == _queues(database=["holder", "first", "second"], prod=["first", "second"])
    await _says(store, holder, FreeLocks(names=("database",)), state=State.COMPLETED)
    assert await _news(store) == {"first": LocksGranted(tokens={PROD: 1, "database": 2})}
    names = (PROD, "database")
    await _says(store, first, KeepLocks(names=names), FreeLocks(names=names), state=State.COMPLETED)
    assert await _news(store) == {"second": LocksGranted(tokens={PROD: 2, "database": 3})}


def _queues(database: list[str], prod: list[str]) -> list[tuple[str, str]]:
    return [*(("database", who) for who in database), *((PROD, who) for who in prod)]


async def test_the_newest_is_who_asked_last_whatever_the_clocks_say(place: Place) -> None:
    await _asks(place.store(), "holder")
    await _asks(place.store_in(30), "older", when_locked=WhenLocked.NEWEST)
    await _asks(place.store_in(-30), "newer", when_locked=WhenLocked.NEWEST)
    assert (await _news(place.store()))["older"] == LockDenied(name=PROD, code="superseded", by="newer")


async def test_two_that_were_given_locks_in_different_orders_do_not_wait_for_each_other(place: Place) -> None:
    """As a version left it that went by clocks. Of one that still waits, a lock is taken that is not its turn."""
    store = place.store()
    first = await _asks(store, "first", "a", "b")
    await _asks(store, "second", "a", "b")
    await place.pass_lock("b", "second")
    assert await _news(store) == {}
    assert await store.tend_locks() == 2
    assert await _news(store) == {"first": LocksGranted(tokens={"a": 1, "b": 2})}
    await _says(store, first, KeepLocks(names=("a", "b")))
    assert await store.tend_locks() == 0


async def test_one_that_does_not_take_up_its_locks_goes_back_in_all_their_queues(place: Place) -> None:
    store = place.store()
    await _asks(store, "silent", PROD, "database")
    await _asks(store, "next", PROD, "database")
    assert await place.store_in(301).tend_locks() == 4
    assert await _news(store) == {"next": LocksGranted(tokens={PROD: 2, "database": 2})}
    order = [(claim.name, claim.workflow_id) for claim in await store.list_locks()]
    assert order == _queues(database=["next", "silent"], prod=["next", "silent"])

"""What is handed to many listeners out of one look at the store."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager

import pytest

from openaperture.domain.errors import StoreUnavailable
from openaperture.manager.feed import MAX_WAITING, Feed, Horizon, Subscription
from openaperture.ports import FeedEntry, FeedPage
from tests.unit.manager.pages import page, told


class Written:
    """A feed whose events a test writes; counts how often it was asked."""

    def __init__(self) -> None:
        self.entries: list[FeedEntry] = []
        self.looks = 0
        self.away = False

    async def read(self, after: int | None, *, limit: int) -> FeedPage:
        self.looks += 1
        if self.away:
            raise StoreUnavailable("the database is away")
        found = [] if after is None else [entry for entry in self.entries if entry.row.id > after]
        last_id = self.entries[-1].row.id if self.entries else 0
        return FeedPage(entries=found[:limit], last_id=last_id, oldest=0, coming=0)

    def write(self, workflow_id: str) -> None:
        self.entries.append(told(len(self.entries) + 1, workflow_id))


@asynccontextmanager
async def running(source: Written) -> AsyncGenerator[tuple[Feed, asyncio.Event]]:
    stopping = asyncio.Event()
    feed = Feed(source, stopping, poll_seconds=0.001)
    async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
        tasks.create_task(feed.run())
        yield feed, stopping
        stopping.set()


async def taken(subscription: Subscription, number: int) -> list[int]:
    ids: list[int] = []
    while len(ids) < number:
        ids += [entry.row.id for entry in await subscription.take(20)]
    return ids


async def test_each_listener_is_told_of_its_workflow_and_one_of_all() -> None:
    source = Written()
    source.write("before")
    async with running(source) as (feed, _):
        with feed.listening("a") as a, feed.listening("b") as b, feed.listening(None) as every:
            await feed.placed()
            assert feed.position == 1
            for name in ("a", "b", "a"):
                source.write(name)
            assert await taken(a, 2) == [2, 4]
            assert await taken(b, 1) == [3]
            assert await taken(every, 3) == [2, 3, 4]


async def test_a_thousand_listeners_cost_one_look_at_a_time() -> None:
    source = Written()
    async with running(source) as (feed, _):
        async with asyncio.TaskGroup() as tasks:
            readers = [tasks.create_task(_first(feed, f"w{at}")) for at in range(1_000)]
            await feed.placed()
            while len(feed._listeners) < 1_000:  # noqa: ASYNC110 - who listens has no event
                await asyncio.sleep(0)
            before = source.looks
            for at in range(1_000):
                source.write(f"w{at}")
        assert [reader.result() for reader in readers] == list(range(1, 1_001))
        assert source.looks - before < 100


async def _first(feed: Feed, workflow_id: str) -> int:
    with feed.listening(workflow_id) as subscription:
        await feed.placed()
        return (await taken(subscription, 1))[0]


async def test_it_rests_while_nobody_listens_and_begins_anew() -> None:
    source = Written()
    async with running(source) as (feed, _):
        with feed.listening("a"):
            await feed.placed()
        while feed._placed.is_set():  # noqa: ASYNC110 - neither has who rests
            await asyncio.sleep(0)
        looks = source.looks
        for _ in range(50):
            await asyncio.sleep(0)
        assert source.looks == looks
        source.write("a")
        with feed.listening("a") as subscription:
            await feed.placed()
            assert feed.position == 1
            source.write("a")
            assert await taken(subscription, 1) == [2]


async def test_listeners_are_sent_away_when_the_manager_stops() -> None:
    async with running(Written()) as (feed, stopping):
        with feed.listening("a") as subscription:
            await feed.placed()
            stopping.set()
            assert await subscription.take(20) == []
            assert subscription.closed


def test_a_slow_listener_is_told_that_it_missed_something() -> None:
    subscription = Subscription(None)
    subscription.put([told(number) for number in range(MAX_WAITING)])
    assert not subscription.missed
    subscription.put([told(MAX_WAITING)])
    assert subscription.missed


@pytest.mark.parametrize(
    ("pages", "admitted"),
    [
        # 7 is missing at first, and comes.
        ([page(6, 8, oldest=90, coming=95), page(7, 8, oldest=95, coming=99)], [[6], [7, 8]]),
        # Whoever took it is still at work; then it ends without an event.
        (
            [page(6, 8, oldest=90, coming=95), page(8, 9, oldest=94, coming=99), page(8, 9, oldest=95, coming=99)],
            [[6], [], [8, 9]],
        ),
        # A second one is missing behind the first, and has a term of its own.
        (
            [
                page(7, oldest=90, coming=95),
                page(7, 9, oldest=95, coming=97),
                page(9, oldest=96, coming=99),
                page(9, oldest=97, coming=99),
            ],
            [[], [7], [], [9]],
        ),
        # Nobody writes: what is missing was never written.
        ([page(8, oldest=95, coming=95)], [[8]]),
    ],
)
def test_what_comes_after_a_missing_number_waits_for_whoever_took_it(
    pages: Sequence[FeedPage], admitted: list[list[int]]
) -> None:
    horizon = Horizon(5)
    assert [[entry.row.id for entry in horizon.admit(shown)] for shown in pages] == admitted

"""A queue that confirms nothing is tried by one message at a time."""

import asyncio

import pytest

from openaperture.domain.errors import BrokerUnavailable, Unconfirmed
from openaperture.engine.silence import Cautious
from openaperture.ports import Message, OutboxRow
from tests.contract.stores import Told, row

TIMEOUT_SECONDS = 10.0
MESSAGE = Message(body=b"{}")


class Place:
    """Queues that confirm, or let the time for it pass."""

    def __init__(self) -> None:
        self.now = 0.0
        self.silent: set[str] = set()
        self.cut = False
        self.tried: list[str] = []
        self.may_go_on = asyncio.Event()
        self.may_go_on.set()

    def monotonic(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds

    async def deliver(self, row: OutboxRow, _message: Message) -> None:
        self.tried.append(row.queue)
        await self.may_go_on.wait()
        if self.cut:
            raise Unconfirmed("the connection was lost")
        if row.queue in self.silent:
            self.now += TIMEOUT_SECONDS
            raise Unconfirmed("no answer in time")


@pytest.fixture
def place() -> Place:
    return Place()


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def cautious(place: Place, told: Told) -> Cautious:
    return Cautious(place.deliver, place, told, timeout_seconds=TIMEOUT_SECONDS)


async def test_a_silent_queue_is_tried_by_one_and_the_others_come_back_untried(
    cautious: Cautious, place: Place, told: Told
) -> None:
    place.silent = {"builder"}
    with pytest.raises(Unconfirmed):
        await cautious(row("1"), MESSAGE)
    assert told.events == [("queue.silent", {"queue": "builder"})]
    place.may_go_on.clear()
    trying = asyncio.ensure_future(cautious(row("2"), MESSAGE))
    await asyncio.sleep(0)
    with pytest.raises(BrokerUnavailable, match="confirms nothing"):
        await cautious(row("3"), MESSAGE)
    place.may_go_on.set()
    with pytest.raises(Unconfirmed):
        await trying
    assert place.tried == ["builder", "builder"]
    assert len(told.events) == 1


async def test_other_queues_are_not_affected(cautious: Cautious, place: Place) -> None:
    place.silent = {"builder"}
    with pytest.raises(Unconfirmed):
        await cautious(row("1"), MESSAGE)
    await asyncio.gather(*(cautious(row(f"d{number}", queue="deployer"), MESSAGE) for number in range(5)))
    assert place.tried.count("deployer") == 5


async def test_one_confirm_opens_the_queue_for_all(cautious: Cautious, place: Place, told: Told) -> None:
    place.silent = {"builder"}
    with pytest.raises(Unconfirmed):
        await cautious(row("1"), MESSAGE)
    place.silent = set()
    await cautious(row("1"), MESSAGE)
    assert told.events[-1] == ("queue.heard", {"queue": "builder"})
    await asyncio.gather(*(cautious(row(f"{number}"), MESSAGE) for number in range(5)))
    assert len(place.tried) == 7


async def test_a_lost_connection_is_no_silence(cautious: Cautious, place: Place, told: Told) -> None:
    place.cut = True
    for number in range(3):
        with pytest.raises(Unconfirmed):
            await cautious(row(f"{number}"), MESSAGE)
    assert (len(place.tried), told.events) == (3, [])

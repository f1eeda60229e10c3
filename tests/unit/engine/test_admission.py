"""Nothing new begins while too much waits to be sent."""

import pytest

from openaperture.domain.errors import Overloaded, StoreUnavailable
from openaperture.engine.admission import CHECK_SECONDS, Admission
from tests.contract.stores import Told

LIMIT = 10


class Outbox:
    """Its length, a clock, and how often somebody looked."""

    def __init__(self) -> None:
        self.unsent = 0
        self.away = False
        self.looks = 0
        self.now = 0.0

    async def count(self) -> int:
        self.looks += 1
        if self.away:
            raise StoreUnavailable("the test took the database away")
        return self.unsent

    def monotonic(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def outbox() -> Outbox:
    return Outbox()


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def admission(outbox: Outbox, told: Told) -> Admission:
    return Admission(outbox.count, outbox, told, limit=LIMIT)


async def test_it_closes_above_its_limit_and_opens_well_below(
    admission: Admission, outbox: Outbox, told: Told
) -> None:
    states: list[bool] = []
    for outbox.unsent in (0, LIMIT, LIMIT + 1, LIMIT, 9, 8, 9):
        outbox.now += CHECK_SECONDS
        states.append(await admission.is_open())
    assert states == [True, True, False, False, False, True, True]
    assert told.events == [("admission.closed", {"unsent": LIMIT + 1}), ("admission.opened", {"unsent": 8})]


async def test_the_outbox_is_looked_at_once_a_second_at_most(admission: Admission, outbox: Outbox) -> None:
    for _ in range(100):
        await admission.is_open()
    assert outbox.looks == 1
    outbox.now += CHECK_SECONDS
    await admission.is_open()
    assert outbox.looks == 2


async def test_without_the_database_it_stays_as_it_was(admission: Admission, outbox: Outbox) -> None:
    outbox.unsent = LIMIT + 1
    assert not await admission.is_open()
    outbox.away = True
    outbox.now += CHECK_SECONDS
    assert not await admission.is_open()


async def test_who_needs_it_open_is_told_how_much_waits(admission: Admission, outbox: Outbox) -> None:
    await admission.require()
    outbox.unsent, outbox.now = 12, CHECK_SECONDS
    with pytest.raises(Overloaded, match="12 messages wait to be sent, and nothing new begins above 10"):
        await admission.require()

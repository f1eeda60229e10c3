"""What the directory remembers, for how long, and what it never does."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

from openaperture.domain.errors import AccessRefused, ManagerUnavailable
from openaperture.routing import Directory
from openaperture.routing.directory import OUTDATED_SECONDS
from tests.unit.client.login import StepClock
from tests.unit.routing.tables import Tables, exchange, manager_of, module

LookUp = Callable[[Directory], Awaitable[Any]]

REMEMBERED: list[tuple[LookUp, str]] = [
    (lambda d: d.find_exchange(1), "/messaging/exchanges/1"),
    (lambda d: d.find_broker(1), "/messaging/brokers/1"),
    (lambda d: d.list_connections(1), "/messaging/brokers/1/connections"),
    (lambda d: d.list_restrictions(3), "/messaging/exchanges/3/brokers"),
    (lambda d: d.list_build_clusters(1), "/messaging/exchanges/1/clusters"),
    (lambda d: d.list_build_clusters(None), "/clusters"),
]
ADDRESSES = REMEMBERED[:3]
TARGETS = REMEMBERED[3:]
NOT_REMEMBERED: list[tuple[LookUp, str]] = [
    (lambda d: d.find_cluster("app-tok-2"), "/clusters/app-tok-2"),
    (lambda d: d.list_modules(1), "/messaging/exchanges/1/modules"),
]


def made() -> tuple[Tables, StepClock, Directory]:
    tables, clock = Tables(connections={"1": [{"host": "mq-1"}]}), StepClock()
    return tables, clock, Directory(manager_of(tables, clock), clock)


@pytest.mark.parametrize(("look_up", "path"), REMEMBERED)
async def test_an_entry_is_remembered_for_300_seconds(look_up: LookUp, path: str) -> None:
    tables, clock, directory = made()
    first = await look_up(directory)
    clock.now += 300.0
    assert await look_up(directory) == first
    assert tables.count(path) == 1
    clock.now += 0.001
    assert await look_up(directory) == first
    assert tables.count(path) == 2


async def test_how_long_an_entry_is_remembered_can_be_said() -> None:
    tables, clock = Tables(), StepClock()
    directory = Directory(manager_of(tables, clock), clock, remembered_seconds=5.0)
    for seconds in (0.0, 5.0, 0.1):
        clock.now += seconds
        assert await directory.find_exchange(1) is not None
    assert tables.count("/messaging/exchanges/1") == 2


@pytest.mark.parametrize(("look_up", "path"), NOT_REMEMBERED)
async def test_what_decides_whether_something_can_run_is_asked_each_time(look_up: LookUp, path: str) -> None:
    tables, _, directory = made()
    for _ in range(3):
        assert await look_up(directory)
    assert tables.count(path) == 3


async def test_each_entry_has_an_age_of_its_own() -> None:
    tables, clock, directory = made()
    await directory.find_exchange(1)
    clock.now += 200.0
    await directory.find_exchange(2)
    clock.now += 200.0
    await directory.find_exchange(1)
    await directory.find_exchange(2)
    assert (tables.count("/messaging/exchanges/1"), tables.count("/messaging/exchanges/2")) == (2, 1)


async def test_a_number_and_its_text_are_one_id() -> None:
    tables, _, directory = made()
    assert await directory.find_exchange(1) == await directory.find_exchange("1")
    assert tables.count("/messaging/exchanges/1") == 1


async def test_the_same_question_at_the_same_time_is_asked_once() -> None:
    tables, _, directory = made()
    found = await asyncio.gather(*(directory.list_modules(number) for number in (1, "1") * 20))
    assert all(modules == found[0] for modules in found)
    assert tables.count("/messaging/exchanges/1/modules") == 1


async def test_what_was_missing_is_there_as_soon_as_it_is_added() -> None:
    tables, _, directory = made()
    tables.clusters.clear()
    assert await directory.find_exchange(9) is None
    assert await directory.list_connections(2) == []
    assert await directory.list_build_clusters(9) == []
    assert await directory.list_build_clusters(None) == []
    tables.exchanges["9"] = exchange(9, "new", "NEW")
    tables.connections["2"] = [{"host": "mq-2"}]
    tables.clusters = [{"etcd_token": "t", "messaging_exchange_id": 9, "allow_docker_builds": True}]
    assert await directory.find_exchange(9) is not None
    assert [row.host for row in await directory.list_connections(2)] == ["mq-2"]
    assert [row.etcd_token for row in await directory.list_build_clusters(9)] == ["t"]
    assert [row.etcd_token for row in await directory.list_build_clusters(None)] == ["t"]


async def test_that_an_exchange_has_no_restrictions_is_remembered() -> None:
    tables, _, directory = made()
    for _ in range(3):
        assert await directory.list_restrictions(1) == []
    assert tables.count("/messaging/exchanges/1/brokers") == 1


@pytest.mark.parametrize(("look_up", "path"), REMEMBERED + NOT_REMEMBERED)
async def test_a_failure_is_not_remembered(look_up: LookUp, path: str) -> None:
    tables, _, directory = made()
    for status, error in ((500, ManagerUnavailable), (403, AccessRefused)):
        tables.forced[path] = status
        with pytest.raises(error):
            await look_up(directory)
    del tables.forced[path]
    assert await look_up(directory)


@pytest.mark.parametrize(("look_up", "path"), ADDRESSES)
async def test_an_old_address_serves_while_the_manager_is_away(look_up: LookUp, path: str) -> None:
    tables, clock, directory = made()
    known = await look_up(directory)
    clock.now += 301.0
    tables.forced["*"] = httpx.ConnectError("refused")
    tables.asked.clear()
    assert await look_up(directory) == known
    tries = tables.count(path)
    assert await look_up(directory) == known
    assert tables.count(path) == tries, "the Manager that is away is not asked at every look-up"
    clock.now += 31.0
    del tables.forced["*"]
    assert await look_up(directory) == known
    assert tables.count(path) == tries + 1
    tables.forced["*"] = httpx.ConnectError("refused")
    clock.now += OUTDATED_SECONDS + 1.0
    with pytest.raises(ManagerUnavailable):
        await look_up(directory)


@pytest.mark.parametrize(("look_up", "path"), TARGETS)
async def test_a_target_is_never_chosen_from_an_old_answer(look_up: LookUp, path: str) -> None:
    tables, clock, directory = made()
    assert await look_up(directory)
    clock.now += 301.0
    tables.forced[path] = 503
    with pytest.raises(ManagerUnavailable):
        await look_up(directory)


async def test_a_fresh_look_up_passes_by_what_is_remembered_and_old() -> None:
    tables, _, directory = made()
    await directory.find_exchange(1)
    tables.exchanges["1"] = exchange(1, "moved", "AWS")
    fresh = await directory.find_exchange(1, fresh=True)
    assert fresh is not None
    assert fresh.routing_key == "moved"
    assert await directory.find_exchange(1) == fresh
    tables.forced["*"] = 500
    with pytest.raises(ManagerUnavailable):
        await directory.find_exchange(1, fresh=True)


async def test_what_is_removed_in_the_manager_is_forgotten_with_the_next_answer() -> None:
    tables, clock, directory = made()
    assert await directory.find_exchange(1) is not None
    del tables.exchanges["1"]
    clock.now += 301.0
    assert await directory.find_exchange(1) is None
    tables.forced["*"] = 500
    with pytest.raises(ManagerUnavailable):
        await directory.find_exchange(1)


async def test_modules_of_an_exchange_that_is_not_there_differ_from_none() -> None:
    tables, _, directory = made()
    assert await directory.list_modules(9) is None
    assert await directory.list_modules(3) == []
    tables.modules["3"] = [module("builder")]
    assert len(await directory.list_modules(3) or []) == 1

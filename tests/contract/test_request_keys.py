"""The port RequestKeys, on both databases."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from openaperture.ports import KeptAnswer, KnownKey
from openaperture.stores import request_keys
from openaperture.stores.request_keys import SqlRequestKeys
from tests.contract.stores import Opened

ANSWER = KeptAnswer(status=201, headers={"location": "/workflows/1"}, body=b"\x00{}")


@pytest.fixture
def keys(place: Opened) -> SqlRequestKeys:
    return SqlRequestKeys(place.database)


async def begin(keys: SqlRequestKeys, key: str = "key", request: str = "request", owner: str = "one") -> KnownKey:
    return await keys.begin(key, request, owner, lease_seconds=60)


async def test_a_key_is_known_by_the_request_that_it_came_with_first(keys: SqlRequestKeys) -> None:
    first = await begin(keys)
    assert (first.request, first.answer, first.leased) == ("request", None, True)
    assert await begin(keys, request="another", owner="two") == replace(first, leased=False)


async def test_the_first_answer_is_kept(keys: SqlRequestKeys) -> None:
    await begin(keys)
    await keys.settle("key", ANSWER)
    await keys.settle("key", KeptAnswer(status=500, headers={}, body=b""))
    again = await begin(keys)
    assert (again.answer, again.leased) == (ANSWER, False)
    assert (await begin(keys, "another")).answer is None


async def test_of_many_that_begin_at_once_one_has_the_lease(keys: SqlRequestKeys) -> None:
    begun = await asyncio.gather(*(begin(keys, owner=str(number)) for number in range(12)))
    assert sum(known.leased for known in begun) == 1
    assert len({known.at for known in begun}) == 1


async def test_a_lease_that_has_run_out_is_taken_over_by_one(place: Opened, keys: SqlRequestKeys) -> None:
    later = SqlRequestKeys(place.database, now=lambda: datetime.now(UTC) + timedelta(seconds=61))
    assert (await begin(keys)).leased
    begun = await asyncio.gather(*(begin(later, owner=str(number)) for number in range(12)))
    assert sum(known.leased for known in begun) == 1
    # Who comes back from the dead gives nothing away.
    await keys.release("key", "one")
    assert not (await begin(keys, owner="three")).leased


async def test_who_alone_may_use_the_database_waits_for_no_lease_of_the_dead(
    place: Opened, keys: SqlRequestKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (await begin(keys)).leased
    monkeypatch.setattr(request_keys, "_PROCESS", "another")
    assert (await begin(keys, owner="two")).leased is (place.dialect == "sqlite")


async def test_a_lease_that_was_given_back_is_had_at_once(keys: SqlRequestKeys) -> None:
    assert (await begin(keys)).leased
    assert not (await begin(keys, owner="two")).leased
    await keys.release("key", "one")
    assert (await begin(keys, owner="two")).leased


async def test_keys_are_forgotten_after_a_day(place: Opened, keys: SqlRequestKeys) -> None:
    for key in ("key", "old"):
        await begin(keys, key)
        await keys.settle(key, ANSWER)
    later = SqlRequestKeys(place.database, now=lambda: datetime.now(UTC) + timedelta(hours=25))
    anew = await begin(later, request="another")
    assert (anew.request, anew.answer, anew.leased) == ("another", None, True)
    assert (await begin(keys, "old", "another")).request == "another"

"""The port RequestKeys, on both databases."""

from datetime import UTC, datetime, timedelta

import pytest

from openaperture.ports import KeptAnswer
from openaperture.stores.request_keys import SqlRequestKeys
from tests.contract.stores import Opened

ANSWER = KeptAnswer(status=201, headers={"location": "/workflows/1"}, body=b"\x00{}")


@pytest.fixture
def keys(place: Opened) -> SqlRequestKeys:
    return SqlRequestKeys(place.database)


async def test_a_key_is_known_by_the_request_that_it_came_with_first(keys: SqlRequestKeys) -> None:
    first = await keys.begin("key", "request")
    assert (first.request, first.answer) == ("request", None)
    assert await keys.begin("key", "another") == first


async def test_the_first_answer_is_kept(keys: SqlRequestKeys) -> None:
    await keys.begin("key", "request")
    await keys.settle("key", ANSWER)
    await keys.settle("key", KeptAnswer(status=500, headers={}, body=b""))
    assert (await keys.begin("key", "request")).answer == ANSWER
    assert (await keys.begin("another", "request")).answer is None


async def test_keys_are_forgotten_after_a_day(place: Opened, keys: SqlRequestKeys) -> None:
    for key in ("key", "old"):
        await keys.begin(key, "request")
        await keys.settle(key, ANSWER)
    later = SqlRequestKeys(place.database, now=lambda: datetime.now(UTC) + timedelta(hours=25))
    anew = await later.begin("key", "another")
    assert (anew.request, anew.answer) == ("another", None)
    assert (await keys.begin("old", "another")).request == "another"

"""The port ForeignRecords, on both databases."""

import asyncio
from dataclasses import dataclass

import pytest

from openaperture.domain.errors import BadInput
from openaperture.ports import Fields
from openaperture.stores.foreign import SqlForeign
from openaperture.stores.sql import SqlStore
from tests.contract.stores import Opened, creation, entry, row


@dataclass(frozen=True, slots=True)
class Both:
    """The records, and the store that has the workflows."""

    foreign: SqlForeign
    store: SqlStore


@pytest.fixture
def both(place: Opened) -> Both:
    return Both(SqlForeign(place.database), place.store())


async def make(both: Both, workflow_id: str = "w") -> None:
    await both.store.commit([creation(workflow_id)])


async def put(both: Both, fields: Fields, known: Fields | None = None, version: int = 1) -> bool:
    return await both.foreign.put_foreign("w", fields, version=version, known=known)


async def test_a_record_is_found_as_it_was_put_last(both: Both) -> None:
    await make(both)
    assert await put(both, {"current_step": "build", "event_log": ["a"]})
    first = (await both.foreign.find_foreign(["w"]))["w"]
    assert await put(both, {"current_step": "deploy", "event_log": ["a", "ü"], "options": {"n": None}}, first)
    found = await both.foreign.find_foreign(["w", "other"])
    assert list(found) == ["w"]
    record = dict(found["w"])
    assert record.pop("updated_at").tzinfo is not None
    assert record == {"current_step": "deploy", "event_log": ["a", "ü"], "options": {"n": None}}


@pytest.mark.parametrize("known", [None, {}, {"event_log": []}, {"event_log": ["a"], "current_step": None}])
async def test_a_record_that_is_not_the_known_one_is_not_replaced(both: Both, known: Fields | None) -> None:
    await make(both)
    assert await put(both, {"event_log": ["a"]})
    assert not await put(both, {"event_log": ["b"]}, known)
    assert (await both.foreign.find_foreign(["w"]))["w"]["event_log"] == ["a"]


async def test_nothing_is_recorded_of_a_workflow_that_moved_on_or_is_gone(both: Both) -> None:
    assert not await put(both, {"event_log": []})
    await make(both)
    assert not await put(both, {"event_log": []}, version=2)
    assert not await put(both, {"event_log": []}, known={})
    assert await both.foreign.find_foreign(["w"]) == {}


async def test_of_many_that_put_at_once_each_has_seen_the_one_before(both: Both) -> None:
    await make(both)

    async def add(line: str) -> None:
        while True:
            known = (await both.foreign.find_foreign(["w"])).get("w")
            log = (known or {}).get("event_log", [])
            if await put(both, {"event_log": [*log, line]}, known):
                return

    lines = [str(number) for number in range(16)]
    await asyncio.gather(*map(add, lines))
    assert sorted((await both.foreign.find_foreign(["w"]))["w"]["event_log"]) == sorted(lines)


async def test_nobody_asks_for_nothing(both: Both) -> None:
    assert await both.foreign.find_foreign([]) == {}


async def test_what_no_database_holds_is_the_senders_fault(both: Both) -> None:
    with pytest.raises(BadInput):
        await both.foreign.put_foreign("w\ud800", {}, version=1, known=None)


async def test_a_workflow_goes_with_all_that_is_its_own(both: Both) -> None:
    await both.store.commit(
        [creation("w", entries=[entry("made")], outbox=[row("r")]), creation("other", entries=[entry("made")])]
    )
    assert await put(both, {"current_step": "build"})
    assert await both.foreign.delete_workflow("w", 1)
    assert await both.store.find_workflow("w") is None
    assert await both.store.list_entries("w") == []
    assert await both.store.count_outbox() == 0
    assert await both.foreign.find_foreign(["w"]) == {}
    assert len(await both.store.list_entries("other")) == 1


async def test_a_workflow_that_has_moved_on_is_not_deleted(both: Both) -> None:
    await both.store.commit([creation("w", entries=[entry("made")])])
    assert not await both.foreign.delete_workflow("w", 2)
    assert not await both.foreign.delete_workflow("none", 1)
    assert len(await both.store.list_entries("w")) == 1

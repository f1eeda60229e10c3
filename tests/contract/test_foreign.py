"""The port ForeignRecords, on both databases."""

from dataclasses import dataclass

import pytest

from openaperture.domain.errors import BadInput
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


async def test_a_record_is_found_as_it_was_put_last(both: Both) -> None:
    await both.foreign.put_foreign("w", {"current_step": "build", "event_log": ["a"]})
    await both.foreign.put_foreign(
        "w", {"current_step": "deploy", "event_log": ["a", "ü"], "options": {"n": None}}
    )
    found = await both.foreign.find_foreign(["w", "other"])
    assert list(found) == ["w"]
    record = dict(found["w"])
    assert record.pop("updated_at").tzinfo is not None
    assert record == {"current_step": "deploy", "event_log": ["a", "ü"], "options": {"n": None}}


async def test_nobody_asks_for_nothing(both: Both) -> None:
    assert await both.foreign.find_foreign([]) == {}


async def test_what_no_database_holds_is_the_senders_fault(both: Both) -> None:
    with pytest.raises(BadInput):
        await both.foreign.put_foreign("w\ud800", {})


async def test_a_workflow_goes_with_all_that_is_its_own(both: Both) -> None:
    await both.store.commit(
        [creation("w", entries=[entry("made")], outbox=[row("r")]), creation("other", entries=[entry("made")])]
    )
    await both.foreign.put_foreign("w", {"current_step": "build"})
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

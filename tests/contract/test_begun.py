"""What is remembered of messages that were begun, on both databases."""

from openaperture.ports import BEGUN_LIMIT
from openaperture.stores.begun import SqlBegun
from tests.contract.stores import Opened


async def test_what_was_begun_and_not_finished_is_counted_by_any_process(place: Opened) -> None:
    begun = SqlBegun(place.database)
    assert await begun.count(["a", "b"]) == {"a": 0, "b": 0}
    await begun.begin({"a": 0, "b": 0})
    await begun.begin({"a": 1})
    assert await SqlBegun(place.database).count(["a", "b", "c"]) == {"a": 2, "b": 1, "c": 0}
    await begun.finish(["a"])
    assert await begun.count(["a", "b"]) == {"a": 0, "b": 1}


async def test_counting_the_same_twice_counts_once_and_stops_at_the_limit(place: Opened) -> None:
    begun = SqlBegun(place.database)
    for count in range(BEGUN_LIMIT + 2):
        await begun.begin({"a": count})
        await begun.begin({"a": count})
    assert await begun.count(["a"]) == {"a": BEGUN_LIMIT}


async def test_it_is_forgotten_with_the_inbox(place: Opened) -> None:
    begun = SqlBegun(place.database)
    await begun.begin({"a": 0})
    assert await place.store_in(10).prune(inbox_seconds=5, limit=10) == 1
    assert await begun.count(["a"]) == {"a": 0}

"""The port EventFeed on both databases, and what is handed out of it."""

import psycopg
import pytest

from openaperture.manager.feed import Horizon
from openaperture.ports import FeedEntry
from openaperture.stores.feed import SqlFeed
from tests.contract.brokers import until
from tests.contract.stores import Opened, creation, entry, fresh_schema, opened
from tests.unit.manager.pages import page


async def store_events(place: Opened, *names: str) -> None:
    await place.store().commit([creation(name, entries=[entry(name)]) for name in names])


async def test_the_events_of_all_workflows_come_in_one_row(place: Opened) -> None:
    feed = SqlFeed(place.database)
    assert (await feed.read(0, limit=9)).entries == []
    await store_events(place, "a", "b")
    page = await feed.read(0, limit=9)
    assert [(told.workflow_id, told.row.entry.text) for told in page.entries] == [("a", "a"), ("b", "b")]
    assert page.last_id == page.entries[-1].row.id
    [first] = (await feed.read(0, limit=1)).entries
    assert [told.workflow_id for told in (await feed.read(first.row.id, limit=9)).entries] == ["b"]
    assert (await feed.read(None, limit=9)).entries == []


async def test_an_event_whose_transaction_ends_late_is_handed_out_before_those_after_it(
    postgresql_url: str,
) -> None:
    with fresh_schema(postgresql_url) as url:
        async with opened(url) as place:
            await store_events(place, "first")
            feed = SqlFeed(place.database)
            horizon = Horizon(0)
            assert len(horizon.admit(await feed.read(0, limit=9))) == 1
            late = (
                "INSERT INTO events (workflow_id, kind, text, success, details, at)"
                " VALUES ('late', 'k', 't', true, '{}', now())"
            )
            with psycopg.connect(url.replace("+psycopg", "")) as connection:
                connection.execute(late)
                await store_events(place, "soon")
                for _ in range(3):
                    assert horizon.admit(await feed.read(horizon.position, limit=9)) == []
                connection.commit()
            found = horizon.admit(await feed.read(horizon.position, limit=9))
            assert [told.workflow_id for told in found] == ["late", "soon"]


async def test_a_number_that_nobody_took_holds_nothing_up_for_long(postgresql_url: str) -> None:
    with fresh_schema(postgresql_url) as url:
        async with opened(url) as place:
            await store_events(place, "first")
            feed = SqlFeed(place.database)
            horizon = Horizon(0)
            horizon.admit(await feed.read(0, limit=9))
            with psycopg.connect(url.replace("+psycopg", "")) as connection:
                connection.execute("SELECT txid_current(), nextval('events_id_seq')")
                await store_events(place, "soon")
                assert horizon.admit(await feed.read(horizon.position, limit=9)) == []
                connection.rollback()
            told: list[FeedEntry] = []

            async def arrived() -> bool:
                # Transactions of other tests on this server may still be older than what is held back.
                told.extend(horizon.admit(await feed.read(horizon.position, limit=9)))
                return bool(told)

            await until(arrived)
            assert [each.workflow_id for each in told] == ["soon"]


@pytest.mark.parametrize("seen", [[2, 3], [2, 4, 5], [7]])
def test_where_one_writes_at_a_time_nothing_is_held_back(seen: list[int]) -> None:
    assert [told.row.id for told in Horizon(1).admit(page(*seen))] == seen

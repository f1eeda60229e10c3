"""The port Traffic on both databases."""

from dataclasses import replace
from datetime import timedelta

from openaperture.domain.attempts import Ended
from openaperture.domain.workflow import State
from openaperture.ports import Deferred, RowKind, Sighting
from openaperture.stores.traffic import SqlTraffic
from tests.contract.stores import LONG_AGO, Opened, attempt, creation, row, successor


async def test_who_is_at_what_is_known_until_it_ends(place: Opened) -> None:
    store, traffic = place.store(), SqlTraffic(place.database)
    asked = attempt()
    claimed = replace(asked, worker="w-1", claimed_at=LONG_AGO, pickup_by=None)
    afterwards = LONG_AGO + timedelta(seconds=9)
    later = replace(claimed, worker="w-2", claimed_at=afterwards)
    first = creation("w", requested=[claimed])
    await store.commit(
        [
            first,
            creation("v", requested=[later]),
            creation("u", requested=[asked]),
            creation("held", of={"state": State.HELD}, requested=[claimed]),
            creation("other", requested=[replace(claimed, milestone="deploy")]),
        ]
    )
    found = await traffic.list_at_work({"build", "config"}, limit=10)
    assert found == [Sighting(worker="w-2", at=afterwards), Sighting(worker="w-1", at=LONG_AGO)]
    assert await traffic.list_at_work({"build"}, limit=1) == found[:1]
    over = Ended(attempt=claimed, outcome="completed", message="", ended_at=LONG_AGO)
    await store.commit([successor(first, ended=[over])])
    assert await traffic.list_at_work({"build"}, limit=10) == found[:1]
    assert await traffic.list_at_work(set(), limit=10) == []


async def test_the_errand_of_a_workflow_is_known_until_it_is_done(place: Opened) -> None:
    store, traffic = place.store(), SqlTraffic(place.database)
    await store.commit([creation("w", outbox=[row("r"), row("n", kind=RowKind.NOTICE)]), creation("v")])
    found = await traffic.find_errand("w")
    assert found is not None
    assert found.kind is RowKind.REQUEST
    assert await traffic.find_errand("v") is None
    await store.settle_outbox(sent=[], deferred=[Deferred(id="r", seconds=60, error="no queue")])
    assert await traffic.find_errand("w") == found
    await store.settle_outbox(sent=["r"], deferred=[])
    assert await traffic.find_errand("w") is None

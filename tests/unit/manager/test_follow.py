"""Pages of events and output, and waiting for them."""

import asyncio

import pytest

from openaperture.domain import events as e
from tests.unit.manager.place import WORKER, Place, key


def logged(sequence: int, *lines: str) -> e.Logged:
    return e.Logged(key=key(), worker=WORKER, sequence=sequence, lines=lines)


async def test_events_come_page_by_page_and_the_last_one_says_so(place: Place) -> None:
    workflow_id = await place.start(milestones=[])
    texts: list[str] = []
    after, ended = 0, False
    while not ended:
        page = (await place.http.get(f"/workflows/{workflow_id}/events?after={after}&limit=2")).json()
        texts += [event["kind"] for event in page["events"]]
        after, ended = page["last_id"], page["ended"]
    assert texts == ["workflow.created", "workflow.started", "workflow.completed"]


async def test_logs_come_page_by_page(place: Place) -> None:
    workflow_id = await place.start()
    await place.tell(workflow_id, e.Claimed(key=key(), worker=WORKER), logged(1, "a", "b"), logged(2, "c"))
    first = (await place.http.get(f"/workflows/{workflow_id}/logs?limit=1")).json()
    assert [chunk["lines"] for chunk in first["chunks"]] == [["a", "b"]]
    second = (await place.http.get(f"/workflows/{workflow_id}/logs?after={first['last_id']}")).json()
    assert [(chunk["milestone"], chunk["lines"]) for chunk in second["chunks"]] == [("build", ["c"])]
    assert not second["ended"]


async def test_without_a_wait_an_empty_page_comes_at_once(place: Place) -> None:
    workflow_id = await place.create()
    page = await place.client.list_events(workflow_id, after=999)
    assert (page.events, page.last_id, page.ended) == ([], 999, False)


@pytest.mark.parametrize("what", ["events", "logs"])
async def test_a_wait_ends_with_something_new(place: Place, what: str) -> None:
    workflow_id = await place.start()
    last = (await place.client.list_events(workflow_id)).last_id
    after = last if what == "events" else 0
    url = f"/workflows/{workflow_id}/{what}?after={after}&wait=30"
    async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        poll = tasks.create_task(place.http.get(url))
        await place.tell(workflow_id, e.Claimed(key=key(), worker=WORKER), logged(1, "a"))
    page = poll.result().json()
    assert page["last_id"] > after
    assert not page["ended"]


@pytest.mark.parametrize("what", ["events", "logs"])
async def test_a_wait_ends_with_the_workflow(place: Place, what: str) -> None:
    workflow_id = await place.start()
    last = (await place.client.list_events(workflow_id)).last_id
    url = f"/workflows/{workflow_id}/{what}?after={last}&wait=30"
    async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        poll = tasks.create_task(place.http.get(url))
        await place.client.cancel(workflow_id)
    assert poll.result().json()["ended"]


@pytest.mark.parametrize("what", ["events", "logs"])
async def test_of_an_ended_workflow_nothing_is_waited_for(place: Place, what: str) -> None:
    workflow_id = await place.start(milestones=[])
    async with asyncio.timeout(10):
        page = (await place.http.get(f"/workflows/{workflow_id}/{what}?after=999&wait=30")).json()
    assert page["ended"]


@pytest.mark.parametrize("what", ["events", "logs"])
async def test_a_wait_ends_when_the_manager_stops(place: Place, what: str) -> None:
    workflow_id = await place.create()
    async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        poll = tasks.create_task(place.http.get(f"/workflows/{workflow_id}/{what}?after=999&wait=30"))
        place.app.state.stopping.set()
    assert not poll.result().json()["ended"]


async def test_a_wait_is_over_after_its_time(place: Place) -> None:
    workflow_id = await place.create()
    async with asyncio.timeout(10):
        page = await place.client.list_events(workflow_id, after=999, wait_seconds=0.1)
    assert page.events == []


async def test_output_is_read_by_attempt_by_range_and_from_its_end(place: Place) -> None:
    workflow_id = await place.start()
    chunks = [
        e.Logged(key=key(), worker=WORKER, sequence=number, lines=[f"{number}a", f"{number}b"])
        for number in range(1, 5)
    ]
    done = e.MilestoneCompleted(key=key(), worker=WORKER)
    second = key(position=1)
    other = e.Logged(key=second, worker=WORKER, sequence=1, lines=["deployed"])
    await place.tell(workflow_id, e.Claimed(key=key(), worker=WORKER), *chunks, done)
    await place.tell(workflow_id, e.Claimed(key=second, worker=WORKER), other)

    async def lines(**wanted: str | int) -> list[str]:
        page = (await place.http.get(f"/workflows/{workflow_id}/logs", params=wanted)).json()
        return [line for chunk in page["chunks"] for line in chunk["lines"]]

    assert await lines(attempt="0.1.1") == ["deployed"]
    assert await lines(attempt="0.0.1", first=2, last=3) == ["2a", "2b", "3a", "3b"]
    assert await lines(tail=2) == ["4b", "deployed"]
    assert await lines(attempt="0.0.1", tail=3) == ["3b", "4a", "4b"]
    assert await lines(tail=100) == [*(f"{n}{half}" for n in range(1, 5) for half in "ab"), "deployed"]
    assert await lines(attempt="9.9.9", tail=5) == []

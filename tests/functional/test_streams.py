"""Server-sent events over a socket: nothing is lost or told twice, whatever ends a stream."""

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from openaperture.domain import events as e
from openaperture.manager.server import ManagerServer
from tests.unit.manager.place import TOKEN, WORKER, Place, key, opened_manager

STREAM = {"accept": "text/event-stream", "authorization": f"Bearer {TOKEN}"}


@asynccontextmanager
async def serving(folder: Path) -> AsyncGenerator[tuple[Place, ManagerServer, httpx.AsyncClient]]:
    async with opened_manager(folder) as place, asyncio.timeout(60), asyncio.TaskGroup() as tasks:
        server = ManagerServer(place.app, host="127.0.0.1", port=0)
        tasks.create_task(server.run())
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(base_url=server.url, headers=STREAM, timeout=60, limits=limits) as http:
            yield place, server, http
        await server.drain()


class Listener:
    """Reads a stream event by event."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self._lines = response.aiter_lines()

    async def next(self) -> dict[str, Any] | None:
        """None at the end."""
        given: str | None = None
        async for line in self._lines:
            if line.startswith("id: "):
                given = line.removeprefix("id: ")
            elif line.startswith("data: "):
                event: dict[str, Any] = json.loads(line.removeprefix("data: "))
                assert given == str(event["id"])
                return event
        return None

    async def rest(self) -> list[dict[str, Any]]:
        events: list[dict[str, Any]] = []
        while (event := await self.next()) is not None:
            events.append(event)
        return events


@asynccontextmanager
async def listening(http: httpx.AsyncClient, path: str, last_id: int | None = None) -> AsyncGenerator[Listener]:
    headers = {} if last_id is None else {"last-event-id": str(last_id)}
    async with http.stream("GET", path, headers=headers) as response:
        if response.status_code == 200:
            assert response.headers["content-type"].startswith("text/event-stream")
        yield Listener(response)


async def test_a_stream_tells_of_a_workflow_from_its_beginning_to_its_end(tmp_path: Path) -> None:
    async with serving(tmp_path) as (place, _, http):
        workflow_id = await place.create()
        path = f"/workflows/{workflow_id}/events"
        async with listening(http, path) as listener:
            first = await listener.next()
            assert first is not None
            assert (first["kind"], first["workflow_id"]) == ("workflow.created", workflow_id)
            await place.client.execute(workflow_id)
            await place.tell(workflow_id, e.Claimed(key=key(), worker=WORKER))
            await place.client.cancel(workflow_id, force=True)
            told = [first, *await listener.rest()]
        stored = (await place.client.list_events(workflow_id)).events
        assert [event["id"] for event in told] == [event.id for event in stored]
        assert "workflow.cancelled" in [event["kind"] for event in told]


@pytest.mark.parametrize("seen", [0, 1, 2, 3])
async def test_a_client_that_comes_back_is_told_the_rest_once(tmp_path: Path, seen: int) -> None:
    async with serving(tmp_path) as (place, _, http):
        workflow_id = await place.start()
        await place.client.cancel(workflow_id)
        ids = [event.id for event in (await place.client.list_events(workflow_id)).events]
        last_id = ids[seen - 1] if seen else 0
        async with listening(http, f"/workflows/{workflow_id}/events", last_id) as listener:
            assert [event["id"] for event in await listener.rest()] == ids[seen:]
        async with listening(http, f"/workflows/{workflow_id}/events", ids[-1]) as listener:
            assert listener.response.status_code == 204


async def test_a_stream_of_all_begins_now_or_where_the_client_was(tmp_path: Path) -> None:
    async with serving(tmp_path) as (place, _, http):
        before = await place.start()
        async with listening(http, "/events") as live:
            after = await place.create()
            event = await live.next()
            assert event is not None
            assert event["workflow_id"] == after
        async with listening(http, "/events", 0) as all_of_them:
            told = [await all_of_them.next() for _ in range(event["id"])]
        assert {shown["workflow_id"] for shown in told if shown} == {before, after}
        assert [shown["id"] for shown in told if shown] == list(range(1, event["id"] + 1))


async def test_a_stop_ends_the_streams_in_order(tmp_path: Path) -> None:
    async with serving(tmp_path) as (place, server, http), asyncio.TaskGroup() as tasks:
        workflow_id = await place.create()
        async with (
            listening(http, f"/workflows/{workflow_id}/events") as one,
            listening(http, "/events", 0) as every,
        ):
            assert await one.next() == await every.next()
            rests = [tasks.create_task(listener.rest()) for listener in (one, every)]
            await server.drain()
            assert [await rest for rest in rests] == [[], []]


async def test_one_user_has_so_many_streams_and_a_closed_one_makes_room(tmp_path: Path) -> None:
    async with serving(tmp_path) as (place, _, http):
        place.streams._most_each = 2
        async with listening(http, "/events", 0):
            async with listening(http, "/events", 0), listening(http, "/events") as third:
                assert third.response.status_code == 429
                assert json.loads(await third.response.aread())["error"]["code"] == "too_many_streams"
            while place.streams._open.total() > 1:  # noqa: ASYNC110 - the server notices when it does
                await asyncio.sleep(0)
            async with listening(http, "/events") as again:
                assert again.response.status_code == 200
        place.streams._most = 0
        async with listening(http, "/events") as none:
            assert none.response.status_code == 503


async def test_an_id_that_is_none_is_refused(tmp_path: Path) -> None:
    async with serving(tmp_path) as (_, _, http):
        refused = await http.get("/events", headers={"last-event-id": "seven"})
        assert refused.status_code == 400
        assert refused.json()["error"]["message"].startswith("last-event-id")


async def test_what_passes_a_slow_listener_by_is_read_from_the_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("openaperture.manager.feed.MAX_WAITING", 1)
    async with serving(tmp_path) as (place, _, http):
        async with listening(http, "/events", 0) as listener:
            made = [await place.create() for _ in range(20)]
            told = [await listener.next() for _ in made]
        assert [event["workflow_id"] for event in told if event] == made

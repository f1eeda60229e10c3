"""The Manager's API over a real socket, and its end."""

import asyncio
import socket
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from openaperture.client import ManagerClient, NewWorkflow
from openaperture.client.models import EventPage
from openaperture.domain.errors import ConfigError, ManagerUnavailable
from openaperture.manager.server import ManagerServer
from tests.unit.manager.place import TOKEN, Place, opened_manager

NEW = NewWorkflow(milestones=["build"], source_repo="acme/shop")


@asynccontextmanager
async def serving(folder: Path, **options: float) -> AsyncGenerator[tuple[Place, ManagerServer, ManagerClient]]:
    async with opened_manager(folder) as place:
        server = ManagerServer(place.app, host="127.0.0.1", port=0, **options)
        async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
            tasks.create_task(server.run())
            async with ManagerClient(server.url, TOKEN) as client:
                yield place, server, client
            await server.drain()


async def test_a_workflow_is_submitted_and_followed_over_a_socket(tmp_path: Path) -> None:
    async with serving(tmp_path) as (_, _, client), asyncio.TaskGroup() as tasks:
        workflow_id = await client.submit(NEW)
        last_id = (await client.list_events(workflow_id)).last_id
        poll = tasks.create_task(client.list_events(workflow_id, last_id, 30))
        cancelled = await client.cancel(workflow_id, "enough")
        assert cancelled.state == "cancelled"
        page = await poll
        assert [event.kind for event in page.events] == ["workflow.cancelled"]
        assert page.ended


async def test_a_client_that_comes_before_the_server_runs_is_answered(tmp_path: Path) -> None:
    async with opened_manager(tmp_path) as place, asyncio.timeout(60), asyncio.TaskGroup() as tasks:
        server = ManagerServer(place.app, host="127.0.0.1", port=0)
        async with ManagerClient(server.url, TOKEN) as client:
            early = tasks.create_task(client.list_workflows())
            tasks.create_task(server.run())
            assert (await early).workflows == []
        await server.drain()


async def test_a_drain_answers_open_long_polls_and_then_nobody_listens(tmp_path: Path) -> None:
    async with serving(tmp_path) as (_, server, client), asyncio.TaskGroup() as tasks:
        workflow_id = await client.create(NEW)
        last_id = (await client.list_events(workflow_id)).last_id
        polls = [tasks.create_task(client.list_events(workflow_id, last_id, 30)) for _ in range(20)]
        await _until(lambda: _requests_at(server) == len(polls))
        await server.drain()
        assert [await poll for poll in polls] == [EventPage(events=[], last_id=last_id, ended=False)] * 20
        with pytest.raises(ManagerUnavailable):
            await client.list_workflows()


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - what the server is at has no event
            await asyncio.sleep(0)


def _requests_at(server: ManagerServer) -> int:
    return len(server._server.server_state.tasks)


async def test_a_drain_before_the_run_frees_the_port(tmp_path: Path) -> None:
    async with opened_manager(tmp_path) as place, asyncio.timeout(60):
        server = ManagerServer(place.app, host="127.0.0.1", port=0)
        await server.drain()
        await server.run()
        port = int(server.url.rpartition(":")[2])
        socket.create_server(("127.0.0.1", port)).close()


async def test_a_server_that_is_cancelled_lets_go_of_its_port(tmp_path: Path) -> None:
    async with opened_manager(tmp_path) as place, asyncio.timeout(60):
        server = ManagerServer(place.app, host="127.0.0.1", port=0)
        async with asyncio.TaskGroup() as tasks, ManagerClient(server.url, TOKEN) as client:
            running = tasks.create_task(server.run())
            workflow_id = await client.create(NEW)
            poll = tasks.create_task(_broken_off(client, workflow_id))
            await _until(lambda: _requests_at(server) == 1)
            running.cancel()
            await poll
        port = int(server.url.rpartition(":")[2])
        socket.create_server(("127.0.0.1", port)).close()


async def _broken_off(client: ManagerClient, workflow_id: str) -> None:
    with pytest.raises(ManagerUnavailable):
        await client.list_events(workflow_id, 999, 30)


async def test_a_client_that_goes_away_leaves_no_long_poll_behind(tmp_path: Path) -> None:
    async with serving(tmp_path) as (_, server, client), asyncio.TaskGroup() as tasks:
        workflow_id = await client.create(NEW)
        poll = tasks.create_task(client.list_events(workflow_id, 999, 30))
        await _until(lambda: _requests_at(server) == 1)
        poll.cancel()
        await _until(lambda: _requests_at(server) == 0)


@pytest.mark.parametrize(
    "request_",
    [
        b"nonsense\r\n\r\n",
        b"GET /\r\n\r\n",
        b"POST /workflows HTTP/1.1\r\nhost: m\r\ncontent-length: -1\r\n\r\n",
        b"GET /workflows HTTP/1.1\r\nhost: m\r\nx: " + b"a" * 1_000_000 + b"\r\n\r\n",
    ],
)
async def test_what_is_no_http_is_refused_and_the_server_goes_on(tmp_path: Path, request_: bytes) -> None:
    async with serving(tmp_path) as (_, server, client):
        port = int(server.url.rpartition(":")[2])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request_)
        assert b" 400 " in await reader.readline()
        writer.close()
        assert (await client.list_workflows()).workflows == []


async def test_a_head_that_never_ends_holds_no_connection(tmp_path: Path) -> None:
    """S19: before the first request, and after one that was answered."""
    whole = b"GET /status HTTP/1.1\r\nhost: m\r\n\r\n"
    async with serving(tmp_path, head_seconds=0.3) as (_, server, client):
        port = int(server.url.rpartition(":")[2])
        for begun in (b"", whole):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(begun)
            if begun:
                assert b" 200 " in await reader.readline()
            writer.write(b"GET /workflows HTTP/1.1\r\nhost: ")
            rest = await reader.read()
            assert rest.count(b"HTTP/1.1") == 0
            writer.close()
        assert (await client.list_workflows()).workflows == []


async def test_a_request_whose_head_is_there_may_wait_for_its_answer(tmp_path: Path) -> None:
    async with serving(tmp_path, head_seconds=0.3) as (_, _, client):
        workflow_id = await client.create(NEW)
        last_id = (await client.list_events(workflow_id)).last_id
        assert (await client.list_events(workflow_id, last_id, 1)).events == []


async def test_a_body_in_chunks_without_a_length_is_bounded_too(tmp_path: Path) -> None:
    async def endless() -> AsyncGenerator[bytes]:
        for _ in range(100):
            yield b" " * 65_536

    headers = {"authorization": f"Bearer {TOKEN}", "content-type": "application/json"}
    async with (
        serving(tmp_path) as (_, server, _),
        httpx.AsyncClient(base_url=server.url, headers=headers) as http,
    ):
        response = await http.post("/workflows", content=endless())
        assert (response.status_code, response.json()["error"]["code"]) == (413, "too_large")


async def test_a_port_that_is_taken_is_a_clear_error(tmp_path: Path) -> None:
    async with opened_manager(tmp_path) as place:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            with pytest.raises(ConfigError, match=f"port {port}"):
                ManagerServer(place.app, host="127.0.0.1", port=port)
        with pytest.raises(ConfigError, match="no-such-host"):
            ManagerServer(place.app, host="no-such-host.invalid", port=0)


async def test_on_all_addresses_the_url_is_one_that_this_host_reaches(tmp_path: Path) -> None:
    async with opened_manager(tmp_path) as place:
        server = ManagerServer(place.app, host="::1", port=0)
        assert server.url.startswith("http://[::1]:")
        await server.drain()

"""Our Manager, asked over a socket by clients of the original: Erlang's HTTP client, and requests byte by byte."""

import asyncio
import base64
import json
import re
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from openaperture.domain import events as e
from openaperture.manager.server import ManagerServer
from tests.compat.test_etf_erl import escript
from tests.unit.manager.place import TOKEN, WORKER, Place, key, opened_manager

PROGRAM = Path(__file__).with_name("manager_client.escript")
SECONDS = 30.0


@asynccontextmanager
async def serving(folder: Path) -> AsyncGenerator[tuple[Place, str]]:
    """A Manager on a port of its own."""
    async with opened_manager(folder) as place:
        server = ManagerServer(place.app, host="127.0.0.1", port=0)
        async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
            tasks.create_task(server.run())
            yield place, server.url
            await server.drain()


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    location: str
    body: bytes

    @property
    def value(self) -> Any:
        return json.loads(self.body)


class Library:
    """The original's library, played by Erlang."""

    def __init__(self, process: Process) -> None:
        self._process = process

    async def ask(self, method: str, path: str, body: Any = None) -> Answer:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        parts = [method, path, *([] if body is None else [json.dumps(body, separators=(",", ":"))])]
        self._process.stdin.write(("\t".join(parts) + "\n").encode())
        async with asyncio.timeout(SECONDS):
            line = (await self._process.stdout.readline()).decode().rstrip("\n")
        status, location, encoded = line.split("\t")
        return Answer(int(status), location, base64.b64decode(encoded))

    async def make(self, path: str, body: Any) -> str:
        """Create; returns what the library takes for the id: the last part of the location."""
        answer = await self.ask("post", path, body)
        assert answer.status == 201, answer.body
        return answer.location.rpartition("/")[2]


@asynccontextmanager
async def library(url: str) -> AsyncGenerator[Library]:
    process = await asyncio.create_subprocess_exec(escript(), str(PROGRAM), url, TOKEN, stdin=PIPE, stdout=PIPE)
    try:
        yield Library(process)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        async with asyncio.timeout(SECONDS):
            await process.wait()


async def test_the_originals_library_finds_its_way_through_the_directory(tmp_path: Path) -> None:
    async with serving(tmp_path) as (_, url), library(url) as old:
        root = await old.make("/messaging/exchanges", {"name": "AWS", "routing_key_fragment": "aws"})
        child = {"name": "east", "routing_key_fragment": "east", "parent_exchange_id": int(root)}
        exchange = await old.make("/messaging/exchanges", child)
        broker = await old.make("/messaging/brokers", {"name": "main"})
        login = {"username": "u", "password": "p", "host": "mq", "virtual_host": "v"}
        assert await old.make(f"/messaging/brokers/{broker}/connections", login) == "connections"
        restriction = {"messaging_broker_id": broker}
        assert await old.make(f"/messaging/exchanges/{exchange}/brokers", restriction) == "brokers"
        cluster = {"etcd_token": "tok", "allow_docker_builds": True, "messaging_exchange_id": int(exchange)}
        assert await old.make("/clusters", cluster) == "tok"
        module = {"hostname": "b-1", "type": "builder", "status": "active", "workload": []}
        assert await old.make(f"/messaging/exchanges/{exchange}/modules", module) == "b-1"

        found = (await old.ask("get", f"/messaging/exchanges/{exchange}")).value
        assert (found["routing_key"], found["root_exchange_name"]) == ("aws.east", "AWS")
        [connection] = (await old.ask("get", f"/messaging/brokers/{broker}/connections")).value
        assert connection | login == connection
        [built_in] = (
            await old.ask("get", f"/messaging/exchanges/{exchange}/clusters?allow_docker_builds=true")
        ).value
        assert built_in["etcd_token"] == "tok"
        gone = await old.ask("delete", f"/messaging/exchanges/{exchange}/modules/b-1")
        assert (gone.status, gone.body) == (204, b"")
        assert (await old.ask("get", f"/messaging/exchanges/{exchange}/modules/b-1")).status == 404
        assert (await old.ask("get", "/system_components?type=manager")).value == []


async def test_the_originals_library_runs_saves_and_cancels_a_workflow(tmp_path: Path) -> None:
    async with serving(tmp_path) as (place, url), library(url) as old:
        workflow_id = await old.make(
            "/workflows", {"deployment_repo": "acme/shop_docker/", "milestones": ["build"]}
        )
        started = await old.ask("post", f"/workflows/{workflow_id}/execute", {"force_build": True})
        assert (started.status, started.body) == (202, b"")
        assert (await old.ask("post", f"/workflows/{workflow_id}/execute", {})).status == 409
        await place.tell(workflow_id, e.Claimed(key=key(), worker=WORKER))
        row = (await old.ask("get", f"/workflows/{workflow_id}")).value
        assert (row["current_step"], row["deployment_repo"]) == ("build", "acme/shop_docker")
        saved = await old.ask("put", f"/workflows/{workflow_id}", row)
        assert (saved.status, saved.location, saved.body) == (204, f"/workflows/{workflow_id}", b"")
        assert (await old.ask("put", f"/workflows/{workflow_id}", {"workflow_error": True})).status == 204
        assert (await old.ask("get", f"/workflows/{workflow_id}")).value["workflow_error"] is True
        assert (await old.ask("get", "/workflows/none")).status == 404


# ------------------------------------------------------------------------------------- byte by byte

HACKNEY = (
    "POST /workflows HTTP/1.1\r\nUser-Agent: hackney/1.6.1\r\nHost: HOST\r\n"
    "Authorization: Bearer access_token=TOKEN\r\nContent-Type: application/json\r\n"
    "Content-Length: LENGTH\r\n\r\n"
)
APACHE = (
    "POST /workflows HTTP/1.1\r\nAuthorization: Bearer access_token=TOKEN\r\nContent-Length: LENGTH\r\n"
    "Content-Type: application/json\r\nHost: HOST\r\nConnection: Keep-Alive\r\n"
    "User-Agent: Apache-HttpClient/4.5 (Java/1.8.0_45)\r\nAccept-Encoding: gzip,deflate\r\n\r\n"
)
DEPLOYER = (
    '{"source_repo_git_ref":null,"milestones":["build","deploy"],"deployment_repo_git_ref":"master",'
    '"deployment_repo":"acme/shop_docker"}'
)
PLUGIN = (
    '{"deployment_repo":"acme/shop_docker","deployment_repo_git_ref":"master","source_repo_git_ref":"master",'
    '"milestones":["build", "deploy"]}'
)
REQUESTS = {
    "the command-line deployer": (HACKNEY, DEPLOYER, '{"force_build":false}'),
    "the Gradle plugin, which writes a flag as a text": (APACHE, PLUGIN, '{"force_build":"false"}'),
}


async def _exchanged(url: str, head: str, body: str) -> bytes:
    """The head of the answer to a request, as it is on the wire."""
    host = urlsplit(url).netloc
    text = head.replace("HOST", host).replace("TOKEN", TOKEN).replace("LENGTH", str(len(body))) + body
    reader, writer = await asyncio.open_connection(*host.split(":"))
    writer.write(text.encode())
    async with asyncio.timeout(SECONDS):
        answer = await reader.readuntil(b"\r\n\r\n")
    writer.close()
    await writer.wait_closed()
    return answer


@pytest.mark.parametrize("client", REQUESTS)
async def test_command_line_clients_of_the_original_create_and_execute(tmp_path: Path, client: str) -> None:
    head, create, execute = REQUESTS[client]
    async with serving(tmp_path) as (place, url):
        created = await _exchanged(url, head, create)
        assert created.startswith(b"HTTP/1.1 201 ")
        # The deployer looks for the name in small letters, and only so.
        found = re.search(rb"\r\nlocation: /workflows/([0-9a-f-]{36})\r\n", created)
        assert found
        workflow_id = found[1].decode()
        started = await _exchanged(url, head.replace("/workflows", f"/workflows/{workflow_id}/execute"), execute)
        assert started.startswith(b"HTTP/1.1 202 ")
        shown = await place.show(workflow_id)
        assert (shown["state"], shown["force_build"]) == ("running", False)

"""The client against a Manager, and against what only claims to be one."""

import asyncio
import json
import re
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from uuid import uuid4

import httpx
import msgspec
import pytest

from openaperture.client import ManagerClient, NewWorkflow
from openaperture.client.models import ErrorAnswer, WorkflowSummary
from openaperture.domain import events as e
from openaperture.domain.errors import (
    AccessRefused,
    BadInput,
    ConfigError,
    ManagerUnavailable,
    OpenApertureError,
    TryLater,
    UnknownWorkflow,
    UnusableAnswer,
    WrongState,
)
from tests.unit.manager.place import TOKEN, WORKER, Place, key

NEW = NewWorkflow(milestones=["build"], source_repo="acme/shop")

# ------------------------------------------------------------------------------------- a Manager


async def test_a_release_is_submitted_followed_and_shown(place: Place) -> None:
    workflow_id = await place.client.submit(NEW)
    logged = e.Logged(key=key(), worker=WORKER, sequence=1, lines=["compiling"])
    done = e.MilestoneCompleted(key=key(), worker=WORKER, outputs={"wheel": "shop.whl"})
    await place.tell(workflow_id, e.Claimed(key=key(), worker=WORKER), logged, done)
    events = await place.client.list_events(workflow_id, wait_seconds=1)
    assert [event.kind for event in events.events][-1] == "workflow.completed"
    assert events.ended
    assert events.events[-2].details["outputs"] == {"wheel": "shop.whl"}
    logs = await place.client.list_logs(workflow_id)
    assert (logs.chunks[0].lines, logs.ended) == (["compiling"], True)
    shown = await place.client.get_workflow(workflow_id)
    assert (shown.state, shown.ended, shown.outputs) == ("completed", True, {"build": {"wheel": "shop.whl"}})
    assert shown.attempts == await place.client.list_attempts(workflow_id)
    assert shown.attempts[0].requested_at.tzinfo is not None


async def test_creating_keeps_the_id_that_was_chosen(place: Place) -> None:
    chosen = str(uuid4())
    assert await place.client.create(msgspec.structs.replace(NEW, id=chosen)) == chosen
    assert (await place.client.get_workflow(chosen)).state == "created"


async def test_lists_are_walked_page_by_page(place: Place) -> None:
    ids = [await place.client.create(NEW) for _ in range(5)]
    await place.client.create(msgspec.structs.replace(NEW, source_repo="acme/other"))
    found: list[str] = []
    cursor: str | None = None
    for _ in range(3):
        page = await place.client.list_workflows(
            states=["created", "running"], source_repo="acme/shop", limit=2, cursor=cursor
        )
        found += [workflow.id for workflow in page.workflows]
        cursor = page.next_cursor
    assert found == ids[::-1]
    assert cursor is None


async def test_verbs_return_the_workflow_as_it_is_then(place: Place) -> None:
    held = await place.hold()
    assert (await place.client.resolve(held, "worked", "it is there")).state == "completed"
    created = await place.client.create(NEW)
    assert (await place.client.cancel(created, "no more")).reason == "cancelled by local: no more"


async def test_refusals_are_our_errors_with_the_sentence_of_the_manager(place: Place) -> None:
    workflow_id = await place.client.submit(NEW)
    with pytest.raises(WrongState, match="cannot be started; it can be cancelled"):
        await place.client.execute(workflow_id)
    with pytest.raises(WrongState, match="asks for something else"):
        await place.client.create(msgspec.structs.replace(NEW, id=workflow_id, source_repo="acme/other"))
    with pytest.raises(UnknownWorkflow, match="there is no workflow"):
        await place.client.get_workflow(str(uuid4()))
    with pytest.raises(BadInput, match="milestones: list should have at most 100"):
        await place.client.create(NewWorkflow(milestones=["m"] * 101))
    with pytest.raises(BadInput, match='state: "done" is none'):
        await place.client.list_workflows(states=["done"])


@pytest.mark.parametrize("workflow_id", ["", ".", "..", "../status", "a/b", "a?b", "a#b", "\x00", "é", "x" * 200])
async def test_what_can_be_no_id_never_becomes_a_path(place: Place, workflow_id: str) -> None:
    with pytest.raises(UnknownWorkflow):
        await place.client.get_workflow(workflow_id)


async def test_a_refused_token_says_where_and_does_not_show_itself(place: Place) -> None:
    transport = httpx.ASGITransport(app=place.app)
    async with ManagerClient("http://manager", "another-token", transport) as client:
        with pytest.raises(AccessRefused, match="http://manager") as refused:
            await client.list_workflows()
    assert "another-token" not in str(refused.value)


async def test_a_manager_without_its_database_is_unavailable(place: Place) -> None:
    await place.store._database.close()
    with pytest.raises(ManagerUnavailable, match="database does not answer"):
        await place.client.list_workflows()


# ------------------------------------------------------------------------------ what is no Manager


@dataclass
class Impostor:
    """A server that gives the answers it was told to, one per connection, whatever is asked."""

    answers: list[bytes]
    requests: list[bytes] = field(default_factory=list[bytes])
    url: str = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        self.requests.append(head)
        writer.write(self.answers[min(len(self.requests), len(self.answers)) - 1])
        await writer.drain()
        writer.close()


@asynccontextmanager
async def impostor(*answers: bytes) -> AsyncGenerator[Impostor]:
    there = Impostor(list(answers))
    server = await asyncio.start_server(there.serve, "127.0.0.1", 0)
    there.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server:
        yield there


def http(status: int, body: bytes, *headers: str, length: int | None = None) -> bytes:
    lines = [f"HTTP/1.1 {status} X", f"content-length: {len(body) if length is None else length}", *headers]
    return "\r\n".join([*lines, "connection: close", "", ""]).encode() + body


SUMMARY = json.dumps(
    [{"id": "w", "state": "new-state", "explanation": {"code": "c", "text": "t"}, "field_of_the_future": {"x": 1}}]
).encode()


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (http(200, b"<html>hello</html>"), UnusableAnswer),
        (http(200, b'{"id": 1'), UnusableAnswer),
        (http(200, b"[1]"), UnusableAnswer),
        (http(200, b"\xff"), UnusableAnswer),
        (http(200, b"[" * 100_000), UnusableAnswer),
        (http(204, b""), UnusableAnswer),
        (http(302, b"", "location: http://127.0.0.1:1/"), UnusableAnswer),
        (http(404, b"nginx"), UnusableAnswer),
        (http(404, b'{"error": {"code": "not_found", "message": "nothing here"}}'), UnusableAnswer),
        (http(400, b'{"errors": []}'), UnusableAnswer),
        (http(418, b'{"error": {"code": "teapot", "message": "short and stout"}}'), UnusableAnswer),
        (http(403, b""), AccessRefused),
        (http(429, b""), ManagerUnavailable),
        (http(500, b"oops"), ManagerUnavailable),
        (http(502, b"bad gateway"), ManagerUnavailable),
        (http(200, b"[]", length=100), ManagerUnavailable),
        (b"HTTP/1.1 200", ManagerUnavailable),
        (b"SSH-2.0-OpenSSH_9.2\r\n", ManagerUnavailable),
        (b"", ManagerUnavailable),
        (http(200, b"not gzip", "content-encoding: gzip"), ManagerUnavailable),
    ],
)
async def test_an_answer_of_no_manager_is_a_clear_error(answer: bytes, error: type[OpenApertureError]) -> None:
    async with impostor(answer) as there, ManagerClient(there.url, TOKEN) as client:
        with pytest.raises(error, match=there.url):
            await client.list_workflows()


@pytest.mark.fault("F62")
async def test_fields_of_a_newer_manager_are_passed_over() -> None:
    async with impostor(http(200, SUMMARY)) as there, ManagerClient(there.url, TOKEN) as client:
        [workflow] = (await client.list_workflows()).workflows
    assert (workflow.state, workflow.ended) == ("new-state", False)


async def test_reading_is_repeated_when_the_manager_is_away_for_a_moment() -> None:
    answers = (http(503, b"", "retry-after: 1"), b"", http(200, SUMMARY))
    async with impostor(*answers) as there, ManagerClient(there.url, TOKEN) as client:
        assert len((await client.list_workflows()).workflows) == 1
    assert len(there.requests) == 3


async def test_creating_is_repeated_with_the_same_id_when_its_outcome_is_unknown() -> None:
    created = http(201, b"", "location: /workflows/41f")
    async with impostor(b"", created) as there, ManagerClient(there.url, TOKEN) as client:
        assert await client.create(NEW) == "41f"
    assert len(there.requests) == 2


async def test_a_verb_whose_outcome_is_unknown_is_repeated_with_its_key() -> None:
    async with impostor(b"") as there, ManagerClient(there.url, TOKEN) as client:
        with pytest.raises(ManagerUnavailable):
            await client.cancel("41f")
    keys = [re.findall(rb"idempotency-key: (\S+)", request) for request in there.requests]
    assert len(keys) == 3
    assert keys == [keys[0]] * 3 != [[]] * 3


async def test_a_verb_that_is_still_being_done_is_asked_for_again() -> None:
    busy = http(409, b'{"error": {"code": "in_progress", "message": "still being done"}}')
    judged = http(409, b'{"error": {"code": "wrong_state", "message": "it has ended"}}')
    async with impostor(busy, judged) as there, ManagerClient(there.url, TOKEN) as client:
        with pytest.raises(WrongState, match="it has ended"):
            await client.cancel("41f")
    assert len(there.requests) == 2
    async with impostor(busy) as there, ManagerClient(there.url, TOKEN) as client:
        with pytest.raises(ManagerUnavailable, match="still being done"):
            await client.cancel("41f")
    assert len(there.requests) == 3


async def test_a_redirect_never_carries_the_token_elsewhere() -> None:
    async with impostor(http(200, SUMMARY)) as elsewhere:
        moved = http(307, b"", f"location: {elsewhere.url}/workflows")
        async with impostor(moved) as there, ManagerClient(there.url, TOKEN) as client:
            with pytest.raises(UnusableAnswer):
                await client.list_workflows()
        assert elsewhere.requests == []


async def test_nobody_at_the_address_is_a_manager_that_cannot_be_reached() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    async with ManagerClient(f"http://127.0.0.1:{port}", TOKEN) as client:
        with pytest.raises(TryLater, match="is it running"):
            await client.list_workflows()
        with pytest.raises(ManagerUnavailable):
            await client.cancel("41f")


async def test_the_proxy_of_the_environment_is_not_asked_for_our_own_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.delenv("NO_PROXY", raising=False)
    async with impostor(http(200, SUMMARY)) as there, ManagerClient(there.url, TOKEN) as client:
        assert (await client.list_workflows()).workflows
    assert f"bearer {TOKEN}".encode() in there.requests[0].lower()


@pytest.mark.parametrize(
    "url", ["", "manager", "ftp://manager", "http://", "http://[", "http://m:99999", "http://user:hunter2@manager"]
)
def test_a_url_that_is_none_is_refused_without_showing_a_password(url: str) -> None:
    with pytest.raises(ConfigError, match="URL") as refused:
        ManagerClient(url, TOKEN)
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize("token", ["", "two words", "line\nbreak", "é", "x\x00"])
def test_a_token_that_is_none_is_refused_without_showing_it(token: str) -> None:
    with pytest.raises(ConfigError, match="token") as refused:
        ManagerClient("http://manager", token)
    assert not token or token not in str(refused.value)


def test_the_errors_and_the_workflows_have_one_shape_for_both_sides() -> None:
    error = msgspec.json.decode(b'{"error": {"code": "c", "message": "m"}}', type=ErrorAnswer)
    assert msgspec.json.encode(error) == b'{"error":{"code":"c","message":"m"}}'
    assert set(NewWorkflow.__struct_fields__) <= set(WorkflowSummary.__struct_fields__)

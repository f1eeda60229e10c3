"""The client of an original Manager: what goes over the wire, and what each answer comes to."""

import asyncio
import json
import threading
import traceback
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest

from openaperture.client import original_transport
from openaperture.client.oauth import TokenSource
from openaperture.client.original import OriginalManager
from openaperture.domain.errors import (
    AccessRefused,
    BadInput,
    ConfigError,
    ManagerUnavailable,
    UnknownWorkflow,
    UnusableAnswer,
)
from tests.unit.client.login import Handler, Login, StepClock, say, streamed, tokens_of

ID = "7f1f6d3c-0f6a-4c36-9b55-0d6f0b1c2a10"
EXCHANGE = {"id": 1, "routing_key": "aws.us-east-1", "root_exchange_name": "AWS", "failover_exchange_id": None}


class Played:
    """A Manager that gives the same answer to everything, or one after the other, and remembers the questions."""

    def __init__(self, *answers: httpx.Response | Exception) -> None:
        self._answers = list(answers)
        self.requests: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, Exception):
            raise answer
        return streamed(answer.status_code, answer.content, _plain(answer))


def _plain(answer: httpx.Response) -> dict[str, str]:
    return {name: value for name, value in answer.headers.items() if name != "content-length"}


def manager_of(handler: Handler, login: Login | None = None, clock: StepClock | None = None) -> OriginalManager:
    clock = clock or StepClock()
    tokens = tokens_of(login or Login(), clock)
    return OriginalManager("https://mgr.example.test", tokens, clock, httpx.MockTransport(handler))


# -------------------------------------------------------------------------------------- the questions

Call = Callable[[OriginalManager], Awaitable[object]]

QUESTIONS: list[tuple[Call, str, object, str]] = [
    (lambda m: m.find_workflow(ID), f"GET /workflows/{ID}", {"id": ID}, ""),
    (lambda m: m.find_exchange(1), "GET /messaging/exchanges/1", EXCHANGE, ""),
    (lambda m: m.list_exchange_brokers("3"), "GET /messaging/exchanges/3/brokers", [], ""),
    (lambda m: m.list_exchange_modules(1), "GET /messaging/exchanges/1/modules", [], ""),
    (lambda m: m.list_exchange_clusters(1), "GET /messaging/exchanges/1/clusters", [], ""),
    (
        lambda m: m.list_exchange_clusters(1, allow_docker_builds=True),
        "GET /messaging/exchanges/1/clusters",
        [],
        "allow_docker_builds=true",
    ),
    (lambda m: m.list_clusters(), "GET /clusters", [], ""),
    (lambda m: m.list_clusters(allow_docker_builds=True), "GET /clusters", [], "allow_docker_builds=true"),
    (lambda m: m.find_cluster("a/b ?ü"), "GET /clusters/a%2Fb%20%3F%C3%BC", {"etcd_token": "t"}, ""),
    (lambda m: m.find_broker(2), "GET /messaging/brokers/2", {"id": 2}, ""),
    (lambda m: m.list_broker_connections(2), "GET /messaging/brokers/2/connections", [], ""),
]


@pytest.mark.parametrize(
    ("call", "asked", "said", "query"), QUESTIONS, ids=lambda value: "call" if callable(value) else str(value)[:50]
)
async def test_a_question_goes_to_its_path(call: Call, asked: str, said: object, query: str) -> None:
    played = Played(httpx.Response(200, json=said))
    await call(manager_of(played))
    [request] = played.requests
    path, _, sent_query = request.url.raw_path.decode().partition("?")
    assert (f"{request.method} {path}", sent_query) == (asked, query)
    assert request.content == b""


@pytest.mark.parametrize(("call", "asked"), [(call, asked) for call, asked, _, _ in QUESTIONS])
async def test_what_is_not_there_is_none_or_nothing(call: Call, asked: str) -> None:
    assert await call(manager_of(Played(httpx.Response(404, text="gone")))) == (
        [] if asked == "GET /clusters" else None
    )


@pytest.mark.parametrize("token", ["", ".", "..", "x" * 513])
async def test_an_id_that_nothing_can_have_is_not_asked_for(token: str) -> None:
    played = Played(httpx.Response(200, json={"etcd_token": "t"}))
    manager = manager_of(played)
    assert await manager.find_cluster(token) is None
    assert await manager.find_workflow(token) is None
    with pytest.raises(UnknownWorkflow):
        await manager.put_workflow(token, {})
    with pytest.raises(BadInput):
        await manager.register_module(token, hostname="h", module_type="t")
    assert played.requests == []


async def test_a_row_is_read_with_fields_that_nobody_knows() -> None:
    row = {"id": ID, "milestones": ["build"], "event_log": ["é", "日本"], "later": {"x": [1, None]}}
    assert await manager_of(Played(httpx.Response(200, json=row))).find_workflow(ID) == row


async def test_an_id_that_is_no_uuid_has_no_row() -> None:
    """The original would answer 500, which would be waited for as if it could pass."""
    played = Played(httpx.Response(500))
    assert await manager_of(played).find_workflow("release-1") is None
    assert played.requests == []


async def test_a_put_sends_all_fields_as_utf_8_with_nulls() -> None:
    played = Played(httpx.Response(204))
    await manager_of(played).put_workflow(ID, {"id": ID, "source_repo": "größe/日本", "workflow_duration": None})
    [request] = played.requests
    assert (request.method, request.url.path) == ("PUT", f"/workflows/{ID}")
    assert request.content.decode() == f'{{"id":"{ID}","source_repo":"größe/日本","workflow_duration":null}}'


async def test_modules_are_registered_and_removed() -> None:
    played = Played(httpx.Response(201), httpx.Response(204), httpx.Response(404))
    manager = manager_of(played)
    await manager.register_module("1", hostname="orc-1", module_type="workflow_orchestrator")
    await manager.remove_module("1", "orc 1/x")
    await manager.remove_module("1", "orc-1")
    posted, removed, _ = played.requests
    assert json.loads(posted.content) == {
        "hostname": "orc-1",
        "type": "workflow_orchestrator",
        "status": "active",
        "workload": [],
    }
    assert posted.url.path == "/messaging/exchanges/1/modules"
    assert removed.method == "DELETE"
    assert removed.url.raw_path == b"/messaging/exchanges/1/modules/orc%201%2Fx"


async def test_registering_in_an_exchange_that_is_not_there_says_which() -> None:
    with pytest.raises(BadInput, match="no exchange 9; check exchange_id"):
        await manager_of(Played(httpx.Response(404))).register_module("9", hostname="h", module_type="t")


@pytest.mark.parametrize("status", [201, 409])
async def test_a_system_event_is_told_or_was_told_already(status: int) -> None:
    played = Played(httpx.Response(status))
    await manager_of(played).post_system_event(
        event_type="unhandled_exception", severity="error", message="m", data={"component": "c"}
    )
    assert json.loads(played.requests[0].content) == {
        "type": "unhandled_exception",
        "severity": "error",
        "message": "m",
        "data": {"component": "c"},
        "unique": True,
    }


# --------------------------------------------------------------------------------------- the answers


@pytest.mark.parametrize("status", [200, 201, 202, 302, 409])
async def test_only_204_means_that_a_put_is_stored(status: int) -> None:
    with pytest.raises((UnusableAnswer, BadInput)):
        await manager_of(Played(httpx.Response(status, text="<html>ok</html>"))).put_workflow(ID, {})


async def test_a_put_to_a_deleted_workflow_says_so() -> None:
    with pytest.raises(UnknownWorkflow, match=ID):
        await manager_of(Played(httpx.Response(404))).put_workflow(ID, {})


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"milestones": ["is invalid", "is odd"], "id": "no"}', "milestones: is invalid, is odd; id: no"),
        (
            b'{"errors": [{"message": "Validation failed"}, {"type": "missing"}]}',
            "Validation failed; type: missing",
        ),
        (b'{"errors": "?"}', "errors: ?"),
        (b'{"error": {"code": "wrong_state", "message": "it has ended"}}', "/workflows/" + ID + ": it has ended"),
        (b"Bad Request", "it does not say why"),
        (b'{"x": "' + b"y" * 5_000 + b'"}', "…"),
    ],
)
async def test_a_400_says_which_fields_are_wrong_and_is_short(body: bytes, said: str) -> None:
    with pytest.raises(BadInput) as caught:
        await manager_of(Played(httpx.Response(400, content=body))).put_workflow(ID, {})
    assert said in str(caught.value)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    "body",
    [
        b"<html>log in</html>",
        b"",
        b"[]",
        b'{"id": 1}',
        b'{"id": 1, "routing_key": "a", "root_exchange_name": null}',
        b'{"id": NaN, "routing_key": "a", "root_exchange_name": "A"}',
        b'{"id": 1, "id": 2, "routing_key": "a", "root_exchange_name": "A"}',
        b'{"id": 99999999999999999999999, "routing_key": "a", "root_exchange_name": "A"}',
        b'{"id": 1, "routing_key": "\\ud800", "root_exchange_name": "A"}',
        b'{"id": 1, "routing_key": "\xff", "root_exchange_name": "A"}',
        b'{"id":' + b"[" * 100_000,
    ],
    ids=lambda body: repr(body[:60]),
)
@pytest.mark.fault("F56")
async def test_what_no_manager_says_is_not_believed(body: bytes) -> None:
    with pytest.raises(UnusableAnswer, match="check that manager_url is that of a Manager"):
        await manager_of(Played(httpx.Response(200, content=body))).find_exchange(1)


async def test_a_compressed_answer_is_not_unfolded() -> None:
    bomb = httpx.Response(200, headers={"content-encoding": "gzip"}, stream=httpx.ByteStream(b"\x1f\x8b"))
    with pytest.raises(UnusableAnswer, match="compressed"):
        await manager_of(lambda _: bomb).find_exchange(1)


async def test_a_secret_token_of_a_cluster_is_in_no_error() -> None:
    for answer in (httpx.Response(500), httpx.Response(403), httpx.Response(200, text="?"), httpx.Response(400)):
        with pytest.raises((ManagerUnavailable, AccessRefused, UnusableAnswer, BadInput)) as caught:
            await manager_of(Played(answer)).find_cluster("cluster-secret")
        assert "cluster-secret" not in str(caught.value)


async def test_the_password_of_a_connection_is_in_no_repr() -> None:
    row = {"id": 1, "host": "mq-1", "username": "oa", "password": "pw-secret", "port": None, "virtual_host": None}
    found = await manager_of(Played(httpx.Response(200, json=[row]))).list_broker_connections(1)
    assert found is not None
    assert found[0].password == "pw-secret"
    assert "pw-secret" not in repr(found)


def test_a_url_with_a_password_is_refused() -> None:
    with pytest.raises(ConfigError, match="manager_url"):
        OriginalManager("https://u:p@mgr.example.test", tokens_of(Login(), StepClock()), StepClock())


# ------------------------------------------------------------------------------------------- tokens


async def test_a_401_is_answered_with_one_new_token() -> None:
    login = Login()
    played = Played(httpx.Response(401, text="Unauthorized"), httpx.Response(200, json=EXCHANGE))
    assert await manager_of(played, login).find_exchange(1) is not None
    assert [request.headers["authorization"] for request in played.requests] == ["Bearer access_token=T2"] * 2
    assert login.asked == 2


@pytest.mark.fault("F52")
async def test_fifty_401s_at_once_make_one_renewal() -> None:
    login = Login()

    async def answer(request: httpx.Request) -> httpx.Response:
        await asyncio.sleep(0)
        accepted = request.headers["authorization"] == "Bearer access_token=T2"
        return say(200, EXCHANGE) if accepted else streamed(401)

    manager = manager_of(answer, login)
    found = await asyncio.gather(*(manager.find_exchange(number) for number in range(50)))
    assert None not in found
    assert login.asked == 2


async def test_a_manager_that_refuses_new_tokens_too_ends_in_a_sentence() -> None:
    login = Login()
    played = Played(httpx.Response(401))
    manager = manager_of(played, login)
    with pytest.raises(AccessRefused, match="check the rights of oauth_client_id") as caught:
        await manager.find_exchange(1)
    assert (len(played.requests), login.asked) == (2, 2)
    for _ in range(10):
        with pytest.raises(AccessRefused):
            await manager.find_exchange(1)
    assert (len(played.requests), login.asked) == (12, 2)
    assert "T2" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.fault("F52", "F53")
async def test_a_put_is_sent_again_after_a_401() -> None:
    played = Played(httpx.Response(401), httpx.Response(204))
    await manager_of(played).put_workflow(ID, {"id": ID})
    assert [request.method for request in played.requests] == ["PUT", "PUT"]


# ---------------------------------------------------------------------------------------- trying again


@pytest.mark.parametrize(
    "trouble",
    [
        httpx.Response(500),
        httpx.Response(502),
        httpx.Response(503),
        httpx.Response(429),
        httpx.ConnectError("refused"),
        httpx.ConnectTimeout("slow"),
        httpx.ReadTimeout("slow"),
        httpx.RemoteProtocolError("cut"),
        httpx.ReadError("reset"),
    ],
    ids=str,
)
async def test_a_question_is_asked_three_times(trouble: httpx.Response | Exception) -> None:
    clock = StepClock()
    played = Played(trouble, trouble, httpx.Response(200, json=EXCHANGE))
    assert await manager_of(played, clock=clock).find_exchange(1) is not None
    assert len(clock.slept) == 2
    lasting = Played(trouble)
    with pytest.raises(ManagerUnavailable, match="try again later"):
        await manager_of(lasting).find_exchange(1)
    assert len(lasting.requests) == 3


@pytest.mark.parametrize(
    ("trouble", "tries"),
    [
        (httpx.Response(500), 1),
        (httpx.Response(504), 1),
        (httpx.ReadTimeout("slow"), 1),
        (httpx.RemoteProtocolError("cut"), 1),
        (httpx.Response(503), 3),
        (httpx.Response(429), 3),
        (httpx.ConnectError("refused"), 3),
    ],
    ids=str,
)
@pytest.mark.fault("F55")
async def test_a_put_is_repeated_only_when_it_was_certainly_not_done(
    trouble: httpx.Response | Exception, tries: int
) -> None:
    played = Played(trouble)
    with pytest.raises(ManagerUnavailable):
        await manager_of(played).put_workflow(ID, {})
    assert len(played.requests) == tries


async def test_an_event_that_may_be_there_twice_is_not_told_again_after_a_timeout() -> None:
    played = Played(httpx.ReadTimeout("slow"))
    with pytest.raises(ManagerUnavailable):
        await manager_of(played).post_system_event(
            event_type="t", severity="error", message="m", data={}, unique=False
        )
    assert len(played.requests) == 1


@pytest.mark.fault("F54")
async def test_a_pause_that_the_manager_asks_for_is_kept_by_everybody() -> None:
    clock = StepClock()
    busy = httpx.Response(429, headers={"retry-after": "3"})
    played = Played(busy, httpx.Response(200, json=EXCHANGE))
    manager = manager_of(played, clock=clock)
    started = clock.now
    await asyncio.gather(manager.find_exchange(1), manager.find_exchange(2))
    assert clock.now - started >= 3.0
    assert len(played.requests) == 3


@pytest.mark.fault("F54")
async def test_a_long_pause_is_left_to_the_caller_and_capped() -> None:
    clock = StepClock()
    played = Played(httpx.Response(503, headers={"retry-after": "86400"}), httpx.Response(200, json=EXCHANGE))
    manager = manager_of(played, clock=clock)
    for _ in range(5):
        with pytest.raises(ManagerUnavailable, match=r"asks for a pause of \d+ s more"):
            await manager.find_exchange(1)
    assert len(played.requests) == 1
    clock.now += 60.0
    assert await manager.find_exchange(1) is not None


@pytest.mark.parametrize("said", ["", "soon", "-5", "Thu, 01 Jan 1970 00:00:00 GMT"])
async def test_a_pause_that_makes_no_sense_is_none(said: str) -> None:
    answers = (httpx.Response(503, headers={"retry-after": said}), httpx.Response(200, json=EXCHANGE))
    assert await manager_of(Played(*answers)).find_exchange(1) is not None


async def test_no_token_means_no_question() -> None:
    login = Login()
    login.answer = httpx.Response(500)
    played = Played(httpx.Response(200, json=EXCHANGE))
    with pytest.raises(ManagerUnavailable, match="no access token"):
        await manager_of(played, login).find_exchange(1)
    assert played.requests == []


# ------------------------------------------------------------------------------- on a real socket


class Wire:
    """What a server on loopback was told, byte for byte, and what it does."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, dict[str, str], bytes]] = []
        self.respond: Callable[[BaseHTTPRequestHandler], None] = lambda handler: _respond(handler, 200, EXCHANGE)
        self.ended = threading.Event()
        self.url = ""


def _respond(handler: BaseHTTPRequestHandler, status: int, value: Any, **headers: str) -> None:
    body = json.dumps(value).encode()
    handler.send_response(status)
    for name, text in headers.items():
        handler.send_header(name.replace("_", "-"), text)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


@contextmanager
def serving() -> Generator[Wire]:
    wire = Wire()

    class Handler(BaseHTTPRequestHandler):
        def _any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            wire.seen.append((f"{self.command} {self.path}", dict(self.headers.items()), body))
            if self.path == "/token":
                _respond(self, 200, {"access_token": "TOKEN", "expires_in": 3600})
            else:
                wire.respond(self)

        do_GET = do_PUT = do_POST = _any  # noqa: N815  names that http.server looks for

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the name of the base class
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    wire.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield wire
    finally:
        wire.ended.set()
        server.shutdown()
        thread.join()
        server.server_close()


def connected(wire: Wire) -> OriginalManager:
    clock = StepClock()
    return OriginalManager(wire.url, TokenSource(f"{wire.url}/token", "id", "secret", clock), clock)


async def test_the_original_would_recognise_every_header() -> None:
    with serving() as wire:
        wire.respond = lambda handler: handler.send_response(204) or handler.end_headers()  # type: ignore[func-returns-value]
        async with connected(wire) as manager:
            await manager.put_workflow(ID, {"id": ID})
    login, put = wire.seen
    assert login[0] == "POST /token"
    assert login[2] == b'{"grant_type":"client_credentials","client_id":"id","client_secret":"secret"}'
    headers = {name.lower(): text for name, text in login[1].items()}
    assert headers["content-type"] == headers["accept"] == "application/json"
    headers = {name.lower(): text for name, text in put[1].items()}
    assert put[0] == f"PUT /workflows/{ID}"
    assert headers["authorization"] == "Bearer access_token=TOKEN"
    assert headers["user-agent"] == "openaperture-manager-api"
    assert headers["accept"] == headers["content-type"] == "application/json"


@pytest.mark.parametrize("status", [301, 302, 307, 308])
@pytest.mark.fault("F56")
async def test_a_token_does_not_follow_a_redirect(status: int) -> None:
    with serving() as elsewhere, serving() as wire:
        wire.respond = lambda handler: _respond(handler, status, {}, Location=f"{elsewhere.url}/messaging")
        async with connected(wire) as manager:
            with pytest.raises(UnusableAnswer, match="it redirects"):
                await manager.find_exchange(1)
        assert elsewhere.seen == []


async def test_credentials_do_not_follow_a_redirect_of_the_login_service() -> None:
    with serving() as elsewhere, serving() as wire:
        wire.respond = lambda handler: _respond(handler, 307, {}, Location=f"{elsewhere.url}/token")
        clock = StepClock()
        source = TokenSource(f"{wire.url}/moved", "id", "secret", clock)
        with pytest.raises(UnusableAnswer, match="it redirects"):
            await source.token()
        await source.close()
        assert elsewhere.seen == []


async def test_an_endless_answer_is_cut_off() -> None:
    def pour(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        with_room = b" " * 65_536
        try:
            while not wire.ended.is_set():
                handler.wfile.write(with_room)
        except OSError:
            wire.ended.set()

    with serving() as wire:
        wire.respond = pour
        async with connected(wire) as manager:
            with pytest.raises(UnusableAnswer, match="more than 16777216 bytes"):
                await manager.find_exchange(1)
        assert wire.ended.wait(20)


async def test_an_answer_that_drips_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every byte comes in time, so only a limit on the whole helps."""
    monkeypatch.setattr(original_transport, "TRY_SECONDS", 0.3)

    def drip(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        try:
            while not wire.ended.wait(0.02):
                handler.wfile.write(b" ")
        except OSError:
            handler.close_connection = True

    with serving() as wire:
        wire.respond = drip
        async with connected(wire) as manager:
            with pytest.raises(ManagerUnavailable, match="was not answered within"):
                await manager.find_exchange(1)
    assert [asked for asked, _, _ in wire.seen].count("GET /messaging/exchanges/1") == 3


async def test_a_manager_that_is_not_there_is_unavailable() -> None:
    with serving() as login, serving() as gone:
        pass
    with serving() as login:
        clock = StepClock()
        async with OriginalManager(
            gone.url, TokenSource(f"{login.url}/token", "id", "secret", clock), clock
        ) as manager:
            with pytest.raises(ManagerUnavailable, match="cannot be reached"):
                await manager.find_exchange(1)

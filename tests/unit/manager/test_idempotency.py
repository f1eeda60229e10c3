"""A POST that is sent again with its key is not done again, whatever came between."""

import asyncio
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from openaperture.domain.errors import StoreUnavailable
from openaperture.manager import idempotency
from openaperture.ports import KeptAnswer
from openaperture.stores.access import SqlAccess
from openaperture.stores.request_keys import SqlRequestKeys
from tests.unit.manager.place import RELEASE, Place

KEY = {"idempotency-key": "6f1c"}


async def send(place: Place, path: str, body: Any = None, key: str = "6f1c") -> httpx.Response:
    return await place.http.post(path, json=body, headers={"idempotency-key": key})


async def count(place: Place) -> int:
    return len((await place.http.get("/workflows")).json())


async def test_the_same_again_gives_the_same_answer_and_makes_nothing(place: Place) -> None:
    first = await send(place, "/workflows", RELEASE)
    again = await send(place, "/workflows", RELEASE)
    assert (first.status_code, first.headers["location"]) == (again.status_code, again.headers["location"])
    assert ("idempotency-replayed" in first.headers, again.headers["idempotency-replayed"]) == (False, "true")
    assert await count(place) == 1
    other = await send(place, "/workflows", RELEASE, key="another")
    assert other.headers["location"] != first.headers["location"]


async def test_an_answer_with_a_body_comes_back_whole(place: Place) -> None:
    path = f"/workflows/{await place.fail()}/retry"
    first, again = await send(place, path, {}), await send(place, path, {})
    assert first.status_code == again.status_code == 201
    assert first.json() == again.json()
    assert await count(place) == 2


async def test_a_verb_that_was_done_is_not_refused_when_it_comes_again(place: Place) -> None:
    path = f"/workflows/{await place.start()}/cancel"
    assert (await send(place, path, {})).json()["state"] == "cancelled"
    assert (await send(place, path, {})).json()["state"] == "cancelled"
    assert (await send(place, path, {}, key="another")).status_code == 409


async def test_of_many_at_once_one_is_done(place: Place) -> None:
    answers = await asyncio.gather(*(send(place, "/workflows", RELEASE) for _ in range(8)))
    assert len({answer.headers["location"] for answer in answers}) == 1
    assert sum("idempotency-replayed" not in answer.headers for answer in answers) == 1
    assert await count(place) == 1


@pytest.mark.parametrize(
    ("path", "body"), [("/workflows", {"milestones": ["build"]}), ("/workflows?a=1", RELEASE)]
)
async def test_a_key_is_of_one_request(place: Place, path: str, body: dict[str, Any]) -> None:
    await send(place, "/workflows", RELEASE)
    refused = await send(place, path, body)
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "key_reused")
    assert await count(place) == 1


async def test_a_refusal_is_not_kept(place: Place) -> None:
    workflow_id = await place.start()
    path = f"/workflows/{workflow_id}/resume"
    assert (await send(place, path, {})).status_code == 409
    await place.http.post(f"/workflows/{workflow_id}/pause")
    assert (await send(place, path, {})).status_code == 200


@pytest.mark.parametrize("key", ["", "x" * 256, "a\tb", "a b"])
async def test_what_can_be_no_key_is_refused(place: Place, key: str) -> None:
    refused = await send(place, "/workflows", RELEASE, key=key)
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "bad_request")
    assert await count(place) == 0


@contextmanager
def without_answers(monkeypatch: pytest.MonkeyPatch) -> Generator[None]:
    """As when the process is cut off from the database between doing a request and keeping its answer."""

    async def settle(keys: SqlRequestKeys, key: str, answer: KeptAnswer) -> None:
        raise StoreUnavailable("the database is away")

    with monkeypatch.context() as patch:
        patch.setattr(SqlRequestKeys, "settle", settle)
        yield


async def test_what_was_done_without_its_answer_being_kept_makes_the_same_workflow_again(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = await place.fail()
    with without_answers(monkeypatch):
        made = await send(place, "/workflows", RELEASE)
        retried = await send(place, f"/workflows/{failed}/retry", {}, key="retry")
        assert (made.status_code, retried.status_code) == (201, 201)
    again = await send(place, "/workflows", RELEASE)
    assert again.headers["location"] == made.headers["location"]
    assert "idempotency-replayed" not in again.headers
    assert (await send(place, f"/workflows/{failed}/retry", {}, key="retry")).json()["id"] == retried.json()["id"]
    assert await count(place) == 3


async def test_what_has_no_workflow_is_not_made_twice_either(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (await place.http.post("/messaging/brokers", json={"name": "main"})).status_code == 201
    event = {"type": "disk", "severity": "warning", "message": "full", "unique": True, "data": {"host": "a"}}
    sent: list[tuple[str, dict[str, Any], int]] = [
        ("/messaging/brokers/1/connections", {"host": "rabbit.example.org"}, 201),
        ("/system_events", event, 201),
        ("/tokens", {"label": "laptop"}, 409),
        ("/clients", {"id": "ci", "role": "worker"}, 409),
        ("/messaging/exchanges", {"name": "AWS"}, 409),
    ]
    with without_answers(monkeypatch):
        assert [(await send(place, path, body, key=path)).status_code for path, body, _ in sent] == [201] * 5
    for path, body, status in sent:
        again = await send(place, path, body, key=path)
        assert (path, again.status_code, "idempotency-replayed" in again.headers) == (path, status, False)
        made = (await place.http.get(path)).json()
        assert (path, len(made)) == (path, 1)
    # Another key means another one.
    assert (await send(place, "/tokens", {"label": "laptop"}, key="other")).status_code == 201
    assert (await send(place, sent[0][0], sent[0][1], key="third")).status_code == 201
    assert [len((await place.http.get(path)).json()) for path in ("/tokens", sent[0][0])] == [2, 2]


async def test_a_token_that_was_made_before_its_answer_was_kept_is_told_of(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    with without_answers(monkeypatch):
        made = (await send(place, "/tokens", {})).json()
    again = await send(place, "/tokens", {})
    assert again.json()["error"]["code"] == "shown_once"
    assert made["id"] in again.json()["error"]["message"]


async def test_a_request_that_fails_gives_its_key_back(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: object) -> bool:
        raise RuntimeError("a bug")

    with monkeypatch.context() as patch:
        patch.setattr(SqlAccess, "add_token", fail)
        assert (await send(place, "/tokens", {})).status_code == 500
    assert (await send(place, "/tokens", {})).status_code == 201


async def test_what_takes_too_long_is_answered_and_not_done_a_second_time_meanwhile(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hang(*_: object) -> bool:
        await asyncio.Event().wait()
        return True

    monkeypatch.setattr(idempotency, "WORK_SECONDS", 0.01)
    monkeypatch.setattr(idempotency, "PAUSES_SECONDS", (0.0,))
    with monkeypatch.context() as patch:
        patch.setattr(SqlAccess, "add_token", hang)
        late = await send(place, "/tokens", {})
    assert (late.status_code, late.json()["error"]["code"]) == (503, "unavailable")
    again = await send(place, "/tokens", {})
    assert (again.status_code, again.json()["error"]["code"]) == (409, "in_progress")
    assert int(again.headers["retry-after"]) > 0

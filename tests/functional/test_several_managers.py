"""Several Managers over one database, on both: what they are asked at once is done as if by one."""

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from sqlalchemy import update

from openaperture.database.tables import request_keys
from openaperture.domain.access import Token
from openaperture.manager import idempotency
from openaperture.stores.access import SqlAccess
from tests.contract.stores import LONG_AGO, Opened, opened_store
from tests.unit.manager.place import RELEASE, Place, manager_over

SAVED: dict[str, Any] = {"current_step": "build", "event_log": ["a"], "workflow_error": False}


@pytest_asyncio.fixture(params=["sqlite", "postgresql"])
async def database(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[Opened]:
    async with opened_store(request.param, request, tmp_path) as place:
        assert isinstance(place, Opened)
        yield place


@pytest_asyncio.fixture
async def managers(database: Opened) -> AsyncGenerator[tuple[Place, Place]]:
    async with manager_over(database) as one, manager_over(database) as other:
        yield one, other


async def test_a_persons_cancel_outlives_the_saves_that_came_at_the_same_time(
    managers: tuple[Place, Place],
) -> None:
    one, other = managers
    for _ in range(8):
        workflow_id = await one.create()
        path = f"/workflows/{workflow_id}"
        assert (await one.http.put(path, json=SAVED)).status_code == 204
        saves = [SAVED | {"event_log": ["a", *"b" * count]} for count in range(1, 5)]
        cancelled, *_ = await asyncio.gather(
            one.http.put(path, json={"workflow_error": True}),
            *(other.http.put(path, json=save) for save in saves),
        )
        assert cancelled.status_code == 204
        assert (await other.show(workflow_id))["workflow_error"] is True


TOLD = {"type": "disk", "severity": "warning", "message": "full"}
MADE = [
    ("/tokens", {"label": "laptop"}),
    ("/messaging/brokers/1/connections", {"host": "rabbit.example.org"}),
    ("/system_events", TOLD),
    ("/workflows", RELEASE),
]


async def post(place: Place, path: str, body: Any, key: str) -> httpx.Response:
    return await place.http.post(path, json=body, headers={"idempotency-key": key})


@pytest.mark.parametrize(("path", "body"), MADE, ids=[path for path, _ in MADE])
async def test_of_many_posts_with_one_key_one_is_done_and_all_get_its_answer(
    managers: tuple[Place, Place], path: str, body: dict[str, Any]
) -> None:
    assert (await managers[0].http.post("/messaging/brokers", json={"name": "main"})).status_code == 201
    for number in range(4):
        answers = await asyncio.gather(*(post(place, path, body, f"key-{number}") for place in managers * 3))
        if path == "/tokens":
            # Its answer holds a secret, and is given once.
            assert sorted(answer.status_code for answer in answers) == [201, *[409] * 5]
            assert {answer.json()["error"]["code"] for answer in answers if answer.is_error} == {"shown_once"}
        else:
            assert {answer.status_code for answer in answers} == {201}
            assert len({answer.headers["location"] for answer in answers}) == 1
            assert sum("idempotency-replayed" not in answer.headers for answer in answers) == 1
        assert len((await managers[1].http.get(path)).json()) == number + 1


async def test_who_comes_while_another_manager_is_at_it_is_told_to_come_again(
    managers: tuple[Place, Place], monkeypatch: pytest.MonkeyPatch
) -> None:
    entered, go_on = asyncio.Event(), asyncio.Event()
    really_add = SqlAccess.add_token

    async def add_slowly(store: SqlAccess, token: Token) -> bool:
        entered.set()
        await go_on.wait()
        return await really_add(store, token)

    monkeypatch.setattr(SqlAccess, "add_token", add_slowly)
    monkeypatch.setattr(idempotency, "PAUSES_SECONDS", (0.01, 0.01))
    async with asyncio.TaskGroup() as tasks:
        doing = tasks.create_task(post(managers[0], "/tokens", {}, "key"))
        await entered.wait()
        early = await post(managers[1], "/tokens", {}, "key")
        go_on.set()
    assert (early.status_code, early.json()["error"]["code"]) == (409, "in_progress")
    assert int(early.headers["retry-after"]) > 0
    assert (await doing).status_code == 201
    assert len((await managers[1].http.get("/tokens")).json()) == 1


async def test_what_a_dead_manager_began_is_done_by_another_when_its_lease_has_run_out(
    database: Opened, managers: tuple[Place, Place], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = managers
    died = asyncio.Event()
    really_add = SqlAccess.add_token

    async def add_and_die(store: SqlAccess, token: Token) -> bool:
        await really_add(store, token)
        died.set()
        return await asyncio.Future[bool]()

    with monkeypatch.context() as patch:
        patch.setattr(SqlAccess, "add_token", add_and_die)
        async with asyncio.TaskGroup() as tasks:
            doing = tasks.create_task(post(one, "/tokens", {}, "key"))
            await died.wait()
            doing.cancel()
    monkeypatch.setattr(idempotency, "PAUSES_SECONDS", (0.01,))
    early = await post(other, "/tokens", {}, "key")
    assert early.json()["error"]["code"] == "in_progress"
    run_out = update(request_keys).values(lease_until=LONG_AGO)
    await database.database.write(lambda connection: connection.execute(run_out))
    again = await post(other, "/tokens", {}, "key")
    assert (again.status_code, again.json()["error"]["code"]) == (409, "shown_once")
    assert len((await other.http.get("/tokens")).json()) == 1

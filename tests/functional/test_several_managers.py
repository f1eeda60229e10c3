"""Several Managers over one database, on both: what they are asked at once is done as if by one."""

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.contract.stores import Opened, opened_store
from tests.unit.manager.place import Place, manager_over

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

"""Which release is meant by the beginning of an id."""

from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import msgspec
import pytest

from openaperture.cli.session import Session
from openaperture.client import ManagerClient
from openaperture.config import Settings
from openaperture.domain.errors import UnknownWorkflow
from tests.unit.cli.told import workflow

IDS = [f"41f0c2d{n}-0000-4000-8000-00000000000{n}" for n in range(7)]


async def found(given: str, folder: Path) -> str:
    def list_all(request: httpx.Request) -> httpx.Response:
        listed = [workflow("completed", id=workflow_id) for workflow_id in IDS]
        return httpx.Response(
            200, content=msgspec.json.encode(listed), headers={"content-type": "application/json"}
        )

    async with (
        AsyncExitStack() as stack,
        ManagerClient("http://manager", "token", transport=httpx.MockTransport(list_all)) as client,
    ):
        return await Session(client, Settings(data_dir=folder), None, stack).find_id(given)


@pytest.mark.parametrize("given", ["41f0c2d3", "41F0C2D3", IDS[3], IDS[3].upper()])
async def test_an_id_is_known_by_its_beginning_in_either_case(given: str, tmp_path: Path) -> None:
    assert await found(given, tmp_path) == IDS[3]


async def test_a_beginning_that_several_have_is_answered_with_some_of_them(tmp_path: Path) -> None:
    with pytest.raises(UnknownWorkflow) as refused:
        await found("41F", tmp_path)
    assert str(refused.value) == f"7 workflows begin with 41f; write more of the id: {', '.join(IDS[:5])}, …"

"""The document of the API is true: requests made from it are answered as it says, whatever is in them."""

import asyncio
import sys
from pathlib import Path

import pytest

from openaperture.manager.server import ManagerServer
from tests.unit.manager.place import TOKEN, opened_manager

CONFIGURATION = Path(__file__).with_name("schemathesis.toml")
OUT_OF_REACH = (
    # Ends the session of whoever asks, or leads away to a login service.
    *("/logout", "/login", "/login/callback", "/login/token"),
    # Locks out an address after some bad secrets; its errors have the form of RFC 6749.
    "/oauth/token",
    # Never ends.
    "/events",
)


@pytest.mark.timeout(120)
async def test_requests_made_from_the_document_are_answered_as_it_says(tmp_path: Path) -> None:
    async with opened_manager(tmp_path) as place, asyncio.TaskGroup() as tasks:
        server = ManagerServer(place.app, host="127.0.0.1", port=0)
        tasks.create_task(server.run())
        arguments = [
            *(
                "--config-file",
                str(CONFIGURATION),
                "run",
                f"{server.url}/openapi.json",
                "--header",
                f"Authorization: Bearer {TOKEN}",
            ),
            *("--checks", "all", "--phases", "examples,fuzzing", "--max-examples", "8"),
            *("--seed", "1", "--generation-deterministic", "--no-color", "--workers", "1"),
            *(part for path in OUT_OF_REACH for part in ("--exclude-path", path)),
        ]
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "schemathesis.cli", *arguments),
            cwd=tmp_path,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await process.communicate()
        await server.drain()
    assert process.returncode == 0, output.decode()

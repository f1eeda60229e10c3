"""Fixtures of the client's tests."""

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest_asyncio

from tests.unit.manager.place import Place, opened_manager


@pytest_asyncio.fixture
async def place(tmp_path: Path) -> AsyncGenerator[Place]:
    """A Manager's API over a store of its own."""
    async with opened_manager(tmp_path) as place:
        yield place

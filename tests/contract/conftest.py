"""Stores on both databases."""

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from openaperture.stores.sql import SqlStore
from tests.contract.stores import Opened, fresh_schema, opened


@pytest.fixture(params=["sqlite", "postgresql"])
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[Opened]:
    if request.param == "sqlite":
        async with opened(f"sqlite:///{tmp_path / 'store.db'}") as here:
            yield here
        return
    with fresh_schema(request.getfixturevalue("postgresql_url")) as url:
        async with opened(url) as here:
            yield here


@pytest.fixture
def store(place: Opened) -> SqlStore:
    return place.store()

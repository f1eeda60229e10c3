"""An engine in both shapes: embedded, and on RabbitMQ and PostgreSQL."""

from collections.abc import AsyncGenerator, Generator
from pathlib import Path
from uuid import uuid4

import pytest

from openaperture.config import Settings
from tests.contract.brokers import AmqpSite
from tests.contract.stores import fresh_schema
from tests.functional.engine_site import Site, opened_site, settings_of


@pytest.fixture(params=["embedded", "distributed"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Generator[Settings]:
    if request.param == "embedded":
        yield settings_of(tmp_path, lambda: f"test.{uuid4().hex[:12]}")
        return
    url = request.getfixturevalue("amqp_url")
    amqp = AmqpSite(url)
    with fresh_schema(request.getfixturevalue("postgresql_url")) as database:
        yield settings_of(tmp_path, amqp.queue, database=database, broker=url)
    amqp.delete_queues()


@pytest.fixture
async def site(settings: Settings) -> AsyncGenerator[Site]:
    async with opened_site(settings) as opened:
        yield opened

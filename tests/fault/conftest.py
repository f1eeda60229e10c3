"""Fixtures of the fault tests: an engine's site on the servers that all tests share."""

from collections.abc import AsyncGenerator, Generator
from pathlib import Path

import pytest

from tests.contract.brokers import AmqpSite
from tests.contract.stores import fresh_schema
from tests.functional.engine_site import Site, opened_site, settings_of


@pytest.fixture
def amqp(amqp_url: str) -> Generator[AmqpSite]:
    site = AmqpSite(amqp_url)
    yield site
    site.delete_queues()


@pytest.fixture
async def site(amqp: AmqpSite, amqp_url: str, postgresql_url: str, tmp_path: Path) -> AsyncGenerator[Site]:
    """RabbitMQ and PostgreSQL, undisturbed. The faults are in what the engine is given."""
    with fresh_schema(postgresql_url) as database:
        async with opened_site(settings_of(tmp_path, amqp.queue, database=database, broker=amqp_url)) as opened:
            yield opened

"""Where a benchmark runs: a fresh database and fresh queue names, in either shape."""

import secrets
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql
from sqlalchemy.engine import make_url

from openaperture.brokers.amqp import AmqpBroker
from openaperture.brokers.embedded import EmbeddedBroker
from openaperture.database import Database
from openaperture.ports import Broker

MILESTONES = ("config", "build", "deploy")


class Silent:
    """An observer that costs nothing."""

    def emit(self, name: str, /, **details: Any) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """An open database and a broker whose `run` is not started yet."""

    database: Database
    broker: Broker
    prefix: str
    """For queue names, so that a benchmark meets nothing left over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    name: str
    open: Callable[[], AbstractAsyncContextManager[Site]]


def embedded(folder: Path) -> Shape:
    """SQLite and the embedded broker, in files below `folder`."""

    @asynccontextmanager
    async def open_site() -> AsyncGenerator[Site]:
        prefix = f"bench-{secrets.token_hex(4)}"
        database = await Database.open(f"sqlite:///{folder / prefix}.db")
        try:
            yield Site(database=database, broker=EmbeddedBroker(database, observer=Silent()), prefix=prefix)
        finally:
            await database.close()

    return Shape(name="embedded", open=open_site)


def distributed(database_url: str, broker_url: str) -> Shape:
    """A schema of its own in that PostgreSQL, removed at the end, and queues of its own in that RabbitMQ."""

    @asynccontextmanager
    async def open_site() -> AsyncGenerator[Site]:
        prefix = f"bench_{secrets.token_hex(4)}"
        schema = sql.Identifier(prefix)
        with psycopg.connect(database_url, autocommit=True) as connection:
            connection.execute(sql.SQL("create schema {}").format(schema))
        url = make_url(database_url).update_query_dict({"options": f"-csearch_path={prefix}"})
        database = await Database.open(url.render_as_string(hide_password=False))
        try:
            yield Site(database=database, broker=AmqpBroker(broker_url, observer=Silent()), prefix=prefix)
        finally:
            await database.close()
            with psycopg.connect(database_url, autocommit=True) as connection:
                connection.execute(sql.SQL("drop schema {} cascade").format(schema))

    return Shape(name="RabbitMQ + PostgreSQL", open=open_site)

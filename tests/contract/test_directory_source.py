"""The messaging directory answers the same, whether our tables are asked themselves or a Manager over them."""

from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from openaperture.client.original import OriginalManager
from openaperture.client.rows import BrokerRow, Cluster, Connection, Exchange, Restriction
from openaperture.ports import Listing
from openaperture.routing.own import OwnTables
from openaperture.routing.source import Source
from openaperture.stores.directory import SqlDirectory
from tests.unit.client.login import StepClock, say, tokens_of
from tests.unit.manager.place import TOKEN, opened_manager

MODULE = {"hostname": "h", "type": "builder", "status": "active", "workload": []}


async def _fill(tables: SqlDirectory) -> None:
    """Exchange 2 lies in 1 and is restricted to broker 2, whose failover is 1."""
    await tables.add(Listing.EXCHANGE, {"name": "AWS", "routing_key_fragment": "aws"})
    await tables.add(
        Listing.EXCHANGE,
        {
            "name": "east",
            "routing_key_fragment": "east",
            "parent_exchange_id": 1,
            "failover_exchange_id": 1,
        },
    )
    await tables.add(Listing.BROKER, {"name": "main"})
    await tables.add(Listing.BROKER, {"name": "lab", "failover_broker_id": 1})
    login = {"host": "mq", "port": 5671, "username": "u", "password": "p", "virtual_host": "v"}
    await tables.add(Listing.CONNECTION, {"messaging_broker_id": 2, **login})
    await tables.add(Listing.RESTRICTION, {"messaging_exchange_id": 2, "messaging_broker_id": 2})
    cluster = {"etcd_token": "Tok", "token_key": "tok", "name": "app", "messaging_exchange_id": 2}
    await tables.add(Listing.CLUSTER, {**cluster, "allow_docker_builds": True})
    await tables.add(Listing.CLUSTER, {"etcd_token": "b", "token_key": "b", "allow_docker_builds": False})
    await tables.add(Listing.MODULE, {**MODULE, "messaging_exchange_id": 2})


@pytest_asyncio.fixture(params=["own tables", "a Manager"])
async def source(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[Source]:
    async with opened_manager(tmp_path) as place:
        await _fill(place.directory)
        if request.param == "own tables":
            yield OwnTables(place.directory)
            return
        clock = StepClock()
        tokens = tokens_of(lambda _: say(200, {"access_token": TOKEN, "expires_in": 3_600}), clock)
        transport = httpx.ASGITransport(app=place.app)
        async with OriginalManager("https://manager.example.test", tokens, clock, transport) as manager:
            yield manager


@pytest.mark.parametrize("number", [2, "2"])
async def test_an_exchange_has_the_key_and_the_root_of_its_parents(source: Source, number: int | str) -> None:
    expected = Exchange(id=2, routing_key="aws.east", root_exchange_name="AWS", failover_exchange_id=1)
    assert await source.find_exchange(number) == expected


async def test_brokers_and_the_ways_to_them(source: Source) -> None:
    assert await source.find_broker("2") == BrokerRow(id=2, name="lab", failover_broker_id=1)
    login = Connection(host="mq", port=5671, username="u", password="p", virtual_host="v")
    assert await source.list_broker_connections(2) == [login]
    assert await source.list_broker_connections(1) == []
    assert await source.list_exchange_brokers(2) == [Restriction(messaging_broker_id=2)]
    assert await source.list_exchange_brokers(1) == []


async def test_clusters_by_token_by_exchange_and_all(source: Source) -> None:
    app = Cluster(etcd_token="Tok", messaging_exchange_id=2, name="app")
    other = Cluster(etcd_token="b")
    assert await source.find_cluster("TOK") == app
    assert await source.list_clusters() == [app, other]
    assert await source.list_clusters(allow_docker_builds=True) == [app]
    assert await source.list_exchange_clusters(2, allow_docker_builds=True) == [app]
    assert await source.list_exchange_clusters(1) == []


async def test_a_module_tells_when_it_was_heard_of(source: Source) -> None:
    modules = await source.list_exchange_modules(2)
    assert modules is not None
    [module] = modules
    assert (module.hostname, module.type, module.status) == ("h", "builder", "active")
    assert abs(parsedate_to_datetime(module.updated_at or "") - datetime.now(UTC)) < timedelta(minutes=10)


@pytest.mark.parametrize("number", [9, "9", "x", "", "1" * 30])
async def test_what_does_not_exist_is_none(source: Source, number: int | str) -> None:
    assert await source.find_exchange(number) is None
    assert await source.find_broker(number) is None
    assert await source.list_broker_connections(number) is None
    assert await source.list_exchange_brokers(number) is None
    assert await source.list_exchange_clusters(number) is None
    assert await source.list_exchange_modules(number) is None
    assert await source.find_cluster(f"none-{number}") is None

"""The port MessagingDirectory, on both databases."""

import asyncio
from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import pytest_asyncio

from openaperture.domain.errors import BadInput, Taken, UnknownEntry
from openaperture.ports import Listing
from openaperture.stores.directory import SqlDirectory
from tests.contract.stores import fresh_schema, opened

L = Listing
MODULE = {"hostname": "h", "type": "builder", "status": "active", "workload": []}


@pytest_asyncio.fixture(params=["sqlite", "postgresql"])
async def directory(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[SqlDirectory]:
    if request.param == "sqlite":
        async with opened(f"sqlite:///{tmp_path / 'it.db'}") as place:
            yield SqlDirectory(place.database)
        return
    with fresh_schema(request.getfixturevalue("postgresql_url")) as url:
        async with opened(url) as place:
            yield SqlDirectory(place.database)


async def test_an_entry_is_found_by_its_id_and_by_any_of_its_fields(directory: SqlDirectory) -> None:
    number = await directory.add(L.EXCHANGE, {"name": "AWS", "routing_key_fragment": "aws"})
    found = await directory.find_row(L.EXCHANGE, id=number)
    assert found is not None
    assert found["name"] == "AWS"
    assert found["inserted_at"] == found["updated_at"]
    assert found["inserted_at"].tzinfo is not None
    assert await directory.find_row(L.EXCHANGE, name="AWS") == found
    assert await directory.find_row(L.EXCHANGE, name="aws") is None
    assert await directory.find_row(L.EXCHANGE, name="\x00") is None


async def test_a_list_is_in_the_order_of_adding_and_may_be_cut_to_the_newest(directory: SqlDirectory) -> None:
    numbers = [await directory.add(L.BROKER, {"name": name}) for name in ("a", "b", "c")]
    assert [row["id"] for row in await directory.list_rows(L.BROKER)] == numbers
    assert [row["name"] for row in await directory.list_rows(L.BROKER, limit=2)] == ["b", "c"]
    soon = datetime.now(UTC) + timedelta(hours=1)
    assert await directory.list_rows(L.BROKER, since=soon) == []
    assert len(await directory.list_rows(L.BROKER, since=soon - timedelta(hours=2))) == 3


async def test_a_name_is_given_once_also_when_two_give_it_at_once(directory: SqlDirectory) -> None:
    given = await asyncio.gather(
        *(directory.add(L.BROKER, {"name": "main"}) for _ in range(4)), return_exceptions=True
    )
    assert sum(isinstance(answer, int) for answer in given) == 1
    assert sum(isinstance(answer, Taken) for answer in given) == 3
    other = await directory.add(L.BROKER, {"name": "other"})
    with pytest.raises(Taken, match="a broker with this name"):
        await directory.change(L.BROKER, other, {"name": "main"})
    await directory.change(L.BROKER, other, {"name": "other"})


async def test_a_request_makes_one_entry_though_entries_of_its_kind_have_no_name(directory: SqlDirectory) -> None:
    broker = await directory.add(L.BROKER, {"name": "main"})
    event = {"type": "disk", "severity": "warning"}
    for listing, fields in ((L.CONNECTION, {"messaging_broker_id": broker, "host": "h"}), (L.SYSTEM_EVENT, event)):
        for made_as in ("one", None, None, "two"):
            await directory.add(listing, {**fields, "made_as": made_as})
        with pytest.raises(Taken, match="with this Idempotency-Key already"):
            await directory.add(listing, {**fields, "made_as": "one"})
        assert [row["made_as"] for row in await directory.list_rows(listing)] == ["one", None, None, "two"]


async def test_what_an_entry_refers_to_has_to_be_there(directory: SqlDirectory) -> None:
    with pytest.raises(BadInput, match="messaging_exchange_id: there is no exchange 7"):
        await directory.add(
            L.CLUSTER,
            {"etcd_token": "t", "token_key": "t", "allow_docker_builds": True, "messaging_exchange_id": 7},
        )
    number = await directory.add(L.BROKER, {"name": "main"})
    with pytest.raises(BadInput, match="failover_broker_id: there is no broker 99"):
        await directory.change(L.BROKER, number, {"failover_broker_id": 99})


async def test_to_change_what_is_not_there_is_refused(directory: SqlDirectory) -> None:
    with pytest.raises(UnknownEntry, match="broker 5"):
        await directory.change(L.BROKER, 5, {"name": "x"})
    assert await directory.remove(L.BROKER, id=5) == 0


async def test_a_value_that_no_column_holds_is_the_senders_fault(directory: SqlDirectory) -> None:
    with pytest.raises(BadInput):
        await directory.add(L.BROKER, {"name": "a\ud800"})
    with pytest.raises(BadInput):
        await directory.add(L.BROKER, {"name": None})


async def test_a_module_of_the_same_host_is_replaced(directory: SqlDirectory) -> None:
    exchange = await directory.add(L.EXCHANGE, {"name": "AWS"})
    first = {**MODULE, "messaging_exchange_id": exchange}
    await directory.add(L.MODULE, first, replacing=True)
    await directory.add(L.MODULE, {**first, "status": "inactive", "workload": [{"n": 1}]}, replacing=True)
    await asyncio.gather(*(directory.add(L.MODULE, first | {"hostname": "i"}, replacing=True) for _ in range(4)))
    modules = await directory.list_rows(L.MODULE, messaging_exchange_id=exchange)
    assert [(row["hostname"], row["status"], row["workload"]) for row in modules] == [
        ("h", "inactive", [{"n": 1}]),
        ("i", "active", []),
    ]


async def test_an_exchange_takes_what_is_its_own_along_and_is_forgotten_by_the_others(
    directory: SqlDirectory,
) -> None:
    doomed = await directory.add(L.EXCHANGE, {"name": "doomed"})
    child = await directory.add(L.EXCHANGE, {"name": "child", "parent_exchange_id": doomed})
    broker = await directory.add(L.BROKER, {"name": "main"})
    await directory.add(L.RESTRICTION, {"messaging_exchange_id": doomed, "messaging_broker_id": broker})
    await directory.add(L.MODULE, {**MODULE, "messaging_exchange_id": doomed})
    await directory.add(
        L.CLUSTER,
        {"etcd_token": "T", "token_key": "t", "allow_docker_builds": False, "messaging_exchange_id": doomed},
    )
    assert await directory.remove(L.EXCHANGE, id=doomed) == 1
    assert await directory.list_rows(L.RESTRICTION) == []
    assert await directory.list_rows(L.MODULE) == []
    orphan = await directory.find_row(L.EXCHANGE, id=child)
    assert orphan is not None
    assert orphan["parent_exchange_id"] is None
    cluster = await directory.find_row(L.CLUSTER, token_key="t")
    assert cluster is not None
    assert cluster["messaging_exchange_id"] is None
    assert len(await directory.list_rows(L.BROKER)) == 1


async def test_nothing_is_added_to_an_exchange_that_is_just_being_removed(directory: SqlDirectory) -> None:
    doomed = await directory.add(L.EXCHANGE, {"name": "doomed"})
    await asyncio.gather(
        directory.remove(L.EXCHANGE, id=doomed),
        *(
            directory.add(
                L.MODULE, {**MODULE, "messaging_exchange_id": doomed, "hostname": f"h{n}"}, replacing=True
            )
            for n in range(8)
        ),
        return_exceptions=True,
    )
    assert await directory.list_rows(L.MODULE) == []

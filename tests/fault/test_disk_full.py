"""The disk under the database is full, and later it is not.

SQLite twice: on a small file system that is really full (for root, who may mount one), and with a limit on the
pages of the file, which any user can set. PostgreSQL with its tables on such a file system, under load.
"""

import os
import shutil
import subprocess
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from openaperture.brokers.embedded import EmbeddedBroker
from openaperture.domain.errors import BrokerUnavailable, StoreFull
from openaperture.ports import Address, CommitOutcome, Message
from tests.contract.brokers import AmqpSite, receive
from tests.contract.stores import Place, creation, entry, opened, row
from tests.functional.engine_site import opened_site, settings_of
from tests.servers import PostgresServer

FILE_SYSTEM_BYTES = 6 * 1_048_576
BALLAST_BYTES = 4 * 1_048_576
TABLES_BYTES = 32 * 1_048_576
LOAD = 80
FEW_PAGES, MANY_PAGES = 200, 100_000
BIG = "x" * 20_000


@dataclass(frozen=True)
class Disk:
    """A database on a disk that fills up soon, and the way to get room again."""

    place: Place
    make_room: Callable[[], Awaitable[None]]


@contextmanager
def _mounted(folder: Path, size_bytes: int = FILE_SYSTEM_BYTES) -> Generator[None]:
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("only root can mount a small file system; the other halves of this test run")
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size_bytes}", "tmpfs", str(folder)]
    if subprocess.run(mount, check=False).returncode != 0:
        pytest.skip("this machine lets nobody mount a file system; the other halves of this test run")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@asynccontextmanager
async def _small_file_system(folder: Path) -> AsyncGenerator[Disk]:
    with _mounted(folder):
        ballast = folder / "ballast"
        ballast.write_bytes(bytes(BALLAST_BYTES))

        async def make_room() -> None:
            ballast.unlink()

        async with opened(f"sqlite:///{folder / 'it.db'}") as place:
            yield Disk(place, make_room)


@asynccontextmanager
async def _limited_file(folder: Path) -> AsyncGenerator[Disk]:
    async with opened(f"sqlite:///{folder / 'it.db'}") as place:

        async def limit(pages: int) -> None:
            await place.database.write(
                lambda connection: connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}").all()
            )

        await limit(FEW_PAGES)
        yield Disk(place, lambda: limit(MANY_PAGES))


@pytest.fixture(params=[_small_file_system, _limited_file])
async def disk(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[Disk]:
    async with request.param(tmp_path) as made:
        yield made


@pytest.mark.fault("F48")
async def test_a_full_disk_saves_nothing_by_halves_and_work_goes_on_when_there_is_room(disk: Disk) -> None:
    store = disk.place.store()
    saved: list[str] = []
    for number in count():
        change = creation(f"w{number}", entries=[entry(BIG)] * 3, outbox=[row(f"r{number}", f"w{number}")])
        try:
            assert await store.commit([change]) == [CommitOutcome.SAVED]
        except StoreFull as exc:
            assert "free some space" in str(exc)  # noqa: PT017 - the loop ends here
            lost = change
            break
        saved.append(change.workflow.id)
    for _ in range(3):
        with pytest.raises(StoreFull):
            await store.commit([lost])

    # Reading goes on, and finds each workflow whole or not at all.
    assert set((await store.load([*saved, lost.workflow.id])).workflows) == set(saved)
    assert await store.count_outbox() == len(saved)
    assert not await store.list_entries(lost.workflow.id)
    assert len(await store.list_entries(saved[-1])) == 3

    await disk.make_room()
    assert await store.commit([lost]) == [CommitOutcome.SAVED]
    assert len(await store.list_entries(lost.workflow.id)) == 3


@pytest.mark.fault("F48")
async def test_an_embedded_broker_on_a_full_disk_refuses_to_publish_and_loses_nothing(disk: Disk) -> None:
    broker = EmbeddedBroker(disk.place.database, observer=disk.place.told)
    await broker.declare("q")
    published = 0

    async def publish_until_it_fails() -> None:
        nonlocal published
        while True:
            await broker.publish(Address(routing_key="q"), Message(body=BIG.encode()))
            published += 1

    with pytest.raises(BrokerUnavailable, match=r"nothing was published.*free some space"):
        await publish_until_it_fails()
    assert await broker.depth("q") == published
    await disk.make_room()
    await broker.publish(Address(routing_key="q"), Message(body=b"last"))
    consumer = await broker.consume("q", prefetch=0)
    received = await receive(consumer, published + 1)
    assert received[-1].message.body == b"last"
    await consumer.ack(received)
    await broker.close()
    again = EmbeddedBroker(disk.place.database, observer=disk.place.told)
    assert await again.depth("q") == 0


@pytest.fixture
def tables(postgres_server: PostgresServer) -> Generator[Path]:
    """A small file system for the tables of a database called `small`."""
    folder = postgres_server.folder.parent / "tables"
    folder.mkdir()
    with _mounted(folder, TABLES_BYTES):
        shutil.chown(folder, postgres_server.account, postgres_server.account)
        with psycopg.connect(postgres_server.url, autocommit=True) as connection:
            connection.execute(sql.SQL("create tablespace small location {}").format(sql.Literal(str(folder))))
            connection.execute("create database small tablespace small")
            yield folder
            connection.execute("drop database small with (force)")
            connection.execute("drop tablespace small")


@pytest.mark.fault("F48")
async def test_a_postgresql_without_room_for_its_tables_saves_nothing_by_halves_and_goes_on_later(
    tables: Path, postgres_server: PostgresServer, amqp: AmqpSite, amqp_url: str, tmp_path: Path
) -> None:
    url = postgres_server.url.rsplit("/", 1)[0] + "/small"
    settings = settings_of(tmp_path, amqp.queue, database=url, broker=amqp_url)
    async with opened_site(settings) as site, site.worker(), site.engine():
        first = await site.start("build")
        await site.until_all_completed([first])
        room = os.statvfs(tables)
        ballast = tables / "ballast"
        ballast.write_bytes(bytes(room.f_bavail * room.f_frsize))
        started = [await site.start("build", source_repo=f"acme/{BIG[:2000]}") for _ in range(LOAD)]
        full = await site.events.wait_for("orchestrator.waiting")
        assert "free some space" in str(full["error"])
        stored = (await site.core.store.load(started)).workflows
        assert len(stored) < LOAD
        ballast.unlink()
        await site.until_all_completed(started)
        assert await site.broker.depth(site.error_queue) == 0

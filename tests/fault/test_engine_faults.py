"""An orchestrator under load while its connections, its database or its disk go away.

Each time the same must hold in the end: everything that was asked for is done, and counted once.
F numbers are those of the failure model's fault catalogue.
"""

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from sqlalchemy import Connection, select

from openaperture.config import Settings
from openaperture.database.bulk import pipelined
from openaperture.database.tables import queue_messages, workflows
from openaperture.domain.errors import StoreFull
from openaperture.domain.workflow import State
from tests.contract.brokers import AmqpSite, receive, until
from tests.contract.stores import fresh_schema, opened
from tests.fault.disturbance import Deploys, StallingAt, assert_nothing_left_but_copies, through_proxy
from tests.functional.engine_site import Site, opened_site, settings_of
from tests.servers import PostgresServer
from tests.tcp_proxy import BASIC_ACK

LOAD = 80


# -------------------------------------------------------------------------------- lost connections


@pytest.mark.fault("F18")
async def test_a_connection_cut_between_publish_and_confirm_sends_the_same_message_again(site: Site) -> None:
    """F18."""
    async with through_proxy(site) as (broker, proxy), site.engine(broker=broker), site.hand() as hand:
        proxy.cut_on(BASIC_ACK)
        workflow_id = await site.start("build")
        first, second = await receive(hand.requests, 2)
        assert first.message == second.message
        await hand.requests.requeue([first])
        await hand.requests.ack([second])
        await hand.complete(await hand.take())
        await site.until_state(workflow_id, State.COMPLETED)
    await site.assert_counted_once(workflow_id)
    assert (await site.kinds(workflow_id))["milestone.requested"] == 1
    await site.assert_nothing_left()


@pytest.mark.fault("F10")
async def test_an_ack_that_never_arrives_redelivers_what_then_changes_nothing(site: Site) -> None:
    """F10: the connection stands still from the commit on, and is cut when the ack was sent into it."""
    async with through_proxy(site) as (broker, proxy), site.worker():
        observer = StallingAt("workflow.started", proxy)
        async with site.engine(broker=broker, observer=observer):
            workflow_id = await site.start("build", message_id="s1")
            await observer.wait_for("batch.settled")
            proxy.cut()
            proxy.flow()
            # The very message again, by the broker, and then what the worker says.
            await observer.wait_for("batch.settled", 2)
            await site.until_all_completed([workflow_id])
    assert (await site.kinds(workflow_id))["start.repeated"] == 0
    await site.assert_nothing_left()


@pytest.mark.fault("F10", "F17", "F18", "F40")
async def test_connections_cut_again_and_again_lose_nothing_and_count_nothing_twice(site: Site) -> None:
    """F10, F17, F18, F40."""
    async with through_proxy(site) as (broker, proxy), site.worker(), site.engine(broker=broker):
        started = [await site.start("build", "deploy") for _ in range(LOAD)]
        for ended in (1, LOAD // 4, LOAD // 2):
            await site.events.wait_for("workflow.completed", ended)
            proxy.cut()
        await site.until_all_completed(started)
    assert await site.broker.depth(site.error_queue) == 0
    await assert_nothing_left_but_copies(site)
    for workflow_id in started:
        await site.assert_counted_once(workflow_id)


@pytest.mark.fault("F17")
async def test_a_broker_out_of_reach_for_a_while_loses_nothing(site: Site) -> None:
    """F17: no connection is accepted while the load is on, neither to take nor to publish."""
    async with through_proxy(site) as (broker, proxy), site.worker(), site.engine(broker=broker):
        started = [await site.start("build") for _ in range(LOAD // 2)]
        await site.events.wait_for("milestone.requested", 1)
        proxy.refuse()
        started += [await site.start("build") for _ in range(LOAD // 2)]
        proxy.accept()
        await site.until_all_completed(started)
    await assert_nothing_left_but_copies(site)


# ------------------------------------------------------------------------------------ the database


@pytest.mark.fault("F05", "F45")
async def test_a_postgresql_killed_under_load_loses_nothing_and_counts_nothing_twice(
    postgres_server: PostgresServer, amqp: AmqpSite, amqp_url: str, tmp_path: Path
) -> None:
    """F45, F05: commits on their way at that moment may have been saved or not."""
    settings = settings_of(tmp_path, amqp.queue, database=postgres_server.url, broker=amqp_url)
    async with opened_site(settings) as site:
        deploys = Deploys()
        async with (
            site.another_broker() as broker,
            site.worker(deploys.run),
            site.engine("one"),
            site.engine("two", broker=broker),
        ):
            started = [await site.start("build", "deploy") for _ in range(LOAD)]
            await site.events.wait_for("milestone.completed", LOAD // 2)
            await asyncio.to_thread(postgres_server.kill)
            deploys.may_end.set()
            await site.events.wait_for("orchestrator.waiting")
            await asyncio.to_thread(postgres_server.start)
            await site.until_all_completed(started)
        assert await site.broker.depth(site.error_queue) == 0
        assert not await site.core.store.list_stranded(10)
        await assert_nothing_left_but_copies(site)
        for workflow_id in started:
            await site.assert_counted_once(workflow_id)


@pytest.mark.fault("F45")
async def test_a_connection_that_dies_in_the_middle_of_a_write_is_replaced_and_the_write_repeated(
    postgresql_url: str,
) -> None:
    """F45: the server ended it between two statements, so that nothing of the write was saved."""
    with fresh_schema(postgresql_url) as url:
        async with opened(url) as place:
            tries: list[int] = []

            def write(connection: Connection) -> None:
                connection.exec_driver_sql("select 1")
                raw = connection.connection.dbapi_connection
                assert isinstance(raw, psycopg.Connection)
                tries.append(raw.info.backend_pid)
                if len(tries) == 1:
                    with psycopg.connect(postgresql_url, autocommit=True) as other:
                        other.execute("select pg_terminate_backend(%s, 5000)", tries)
                with pipelined(connection):
                    raw.execute("select 1")

            await place.database.write(write)
            assert len(set(tries)) == 2


# ---------------------------------------------------------------------------------------- the disk


@pytest.fixture
async def embedded(tmp_path: Path) -> AsyncGenerator[Site]:
    """The embedded shape with small batches, so that a full disk comes in the middle of the load."""
    settings: Settings = settings_of(tmp_path, lambda: f"test.{uuid4().hex[:12]}")
    tuning = settings.orchestrator.model_copy(update={"batch": 5})
    async with opened_site(settings.model_copy(update={"orchestrator": tuning})) as opened:
        yield opened


async def _limit_growth(site: Site, pages: int) -> None:
    """Let the database file grow by so many pages and no more, as a disk would that is nearly full."""

    def limit(connection: Connection) -> None:
        used = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        connection.exec_driver_sql(f"PRAGMA max_page_count = {used + pages}").all()

    async def limited() -> bool:
        try:
            await site.core.database.write(limit)
        except StoreFull:
            # It shared its transaction with writes that found no room.
            return False
        return True

    await until(limited)


def _safe(connection: Connection, intake: str) -> tuple[set[str], int]:
    """Ids of the stored workflows, and how many messages for the orchestrators are still there."""
    stored = set(connection.scalars(select(workflows.c.id)))
    waiting = connection.scalars(select(queue_messages.c.id).where(queue_messages.c.queue == intake)).all()
    return stored, len(waiting)


@pytest.mark.fault("F48")
async def test_a_disk_that_fills_up_under_load_acks_nothing_that_is_not_saved(embedded: Site) -> None:
    """F48: what was confirmed to the sender is in the queue or in the store, all the time."""
    site = embedded
    started = [await site.start("build", message_id=f"s{number}") for number in range(LOAD)]
    await _limit_growth(site, 25)
    async with site.engine():
        full = await site.events.wait_for("orchestrator.waiting")
        assert "free some space" in str(full["error"])
        stored, waiting = await site.core.database.read(lambda connection: _safe(connection, site.intake))
        assert 0 < len(stored) < len(started)
        assert len(set(started) - stored) <= waiting
        await _limit_growth(site, 100_000)
        async with site.worker():
            await site.until_all_completed(started)
    await assert_nothing_left_but_copies(site)
    for workflow_id in started:
        await site.assert_counted_once(workflow_id)


@pytest.mark.fault("F48")
async def test_a_worker_on_a_full_disk_keeps_its_results_until_there_is_room(embedded: Site) -> None:
    """F48, for the other half of the process: results cannot be published meanwhile, and are not lost."""
    site, deploys = embedded, Deploys()

    async def is_full() -> bool:
        return any("free some space" in str(details.get("error")) for _, details in site.events.told)

    async with site.engine(), site.worker(deploys.run):
        started = [await site.start("build", "deploy") for _ in range(LOAD)]
        await site.events.wait_for("milestone.completed", LOAD // 2)
        await _limit_growth(site, 0)
        deploys.may_end.set()
        await until(is_full)
        await _limit_growth(site, 100_000)
        await site.until_all_completed(started)
    assert await site.broker.depth(site.error_queue) == 0
    await assert_nothing_left_but_copies(site)

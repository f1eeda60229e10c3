"""Cuts that hit one moment of a protocol, while an engine is at work behind the proxy."""

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from openaperture.domain.workflow import State
from tests.contract.brokers import AmqpSite, receive, until, until_depth
from tests.contract.stores import fresh_schema
from tests.fault.disturbance import Deploys, assert_nothing_left_but_copies, through_proxy
from tests.functional.engine_site import FaultyBroker, FaultyStore, Site, opened_site, settings_of
from tests.postgresql_proxy import PostgresProxy, postgres_proxy
from tests.tcp_proxy import BASIC_ACK

LOAD = 40
CUTS = 6


@pytest.fixture
async def database(postgresql_url: str) -> AsyncGenerator[PostgresProxy]:
    async with postgres_proxy(postgresql_url) as proxy:
        yield proxy


@pytest.fixture
async def behind(
    database: PostgresProxy, amqp: AmqpSite, amqp_url: str, postgresql_url: str, tmp_path: Path
) -> AsyncGenerator[Site]:
    """A site whose database is reached through the proxy."""
    with fresh_schema(postgresql_url) as url:
        settings = settings_of(tmp_path, amqp.queue, database=database.url(url), broker=amqp_url)
        async with opened_site(settings) as opened:
            yield opened


# ------------------------------------------------------------------------------------- PostgreSQL


@pytest.mark.parametrize("arrive", [True, False], ids=["saved", "not saved"])
@pytest.mark.fault("F04", "F05")
async def test_commits_whose_answers_are_lost_count_once_whether_they_were_saved_or_not(
    database: PostgresProxy, behind: Site, *, arrive: bool
) -> None:
    async with behind.worker(), behind.engine():
        database.lose_commits(CUTS, arrive=arrive)
        started = [await behind.start("build", "deploy") for _ in range(LOAD)]
        await behind.until_all_completed(started)
        assert database.lost == CUTS
    assert await behind.broker.depth(behind.error_queue) == 0
    await assert_nothing_left_but_copies(behind)
    for workflow_id in started:
        kinds = await behind.kinds(workflow_id)
        assert (kinds["start.repeated"], kinds["milestone.requested"]) == (0, 2)


@pytest.mark.fault("F40")
async def test_without_the_database_nothing_is_acked_and_with_it_everything_goes_on(
    database: PostgresProxy, behind: Site
) -> None:
    """The broker is there all the time: only one of the two is cut off."""
    deploys = Deploys()
    async with behind.worker(deploys.run), behind.engine():
        started = [await behind.start("build", "deploy") for _ in range(LOAD)]
        await behind.events.wait_for("milestone.completed", LOAD // 2)
        database.refuse()
        deploys.may_end.set()
        started += [await behind.start("build", "deploy") for _ in range(LOAD)]
        await behind.events.wait_for("orchestrator.waiting", 2)
        database.accept()
        await behind.until_all_completed(started)
    await assert_nothing_left_but_copies(behind)


@pytest.mark.fault("F47")
async def test_a_slow_database_slows_the_intake_and_nothing_else(database: PostgresProxy, behind: Site) -> None:
    """Every answer takes a fifth of a second; connections stay, and what is at hand stays bounded."""
    most_unsettled = 0
    async with behind.worker(), behind.engine():
        database.delay_seconds = 0.2
        started = [await behind.start("build", "deploy") for _ in range(LOAD)]
        await behind.until_all_completed(started)
        for name, details in behind.events.told:
            if name == "batch.settled":
                most_unsettled = max(most_unsettled, details["received"])
        database.delay_seconds = 0.0
    assert 0 < most_unsettled <= behind.core.settings.orchestrator.batch
    assert {name for name, _ in behind.events.told} & {"broker.disconnected", "consumer.lost"} == set()


# --------------------------------------------------------------------------------------- RabbitMQ


@pytest.mark.fault("F10", "F21")
async def test_acks_that_are_swallowed_redeliver_everything_and_it_changes_nothing(site: Site) -> None:
    """All of them, under load: the broker believes that nothing was handled."""
    async with through_proxy(site) as (broker, proxy), site.worker(), site.engine(broker=broker):
        proxy.swallow(BASIC_ACK)
        started = [await site.start("build", "deploy") for _ in range(LOAD)]
        await site.until_all_completed(started)
        versions = {workflow_id: (await site.get(workflow_id)).version for workflow_id in started}
        before = len(site.events.told)
        proxy.swallow()
        proxy.cut()

        def again(what: str) -> int:
            return sum(details[what] for name, details in site.events.told[before:] if name == "batch.settled")

        async def all_came_again() -> bool:
            # The start, and what a worker says of two milestones: that it takes them, and that they are done.
            return again("received") >= 5 * LOAD

        await until(all_came_again)
        # A claim is answered again; the others are known by their ids.
        assert again("duplicates") >= 3 * LOAD
    assert {key: (await site.get(key)).version for key in started} == versions
    await site.assert_nothing_left()


@pytest.mark.fault("F19", "F41")
async def test_confirms_that_never_come_leave_the_requests_in_the_outbox_until_they_do(site: Site) -> None:
    """What arrived all the same is the same message again, which a worker drops."""
    async with through_proxy(site) as (broker, proxy), site.engine(broker=broker), site.hand() as hand:
        proxy.drop(BASIC_ACK)
        workflow_id = await site.start("build")
        [first] = await receive(hand.requests, 1)
        await site.events.wait_for("request.deferred")
        assert await site.core.store.count_outbox() == 1
        proxy.drop()
        [second] = await receive(hand.requests, 1)
        assert first.message == second.message

        async def all_sent() -> bool:
            return await site.core.store.count_outbox() == 0

        await until(all_sent)
        await hand.requests.requeue([first])
        await hand.requests.ack([second])
        await hand.complete(await hand.take())
        await site.until_state(workflow_id, State.COMPLETED)
    await site.assert_counted_once(workflow_id)
    await site.assert_nothing_left()


@pytest.mark.fault("F19")
async def test_a_queue_that_confirms_nothing_does_not_hold_up_the_others(site: Site) -> None:
    """More requests than the relay has places wait for the silent one."""
    crowd = site.core.settings.orchestrator.relay_window + 50
    broker = FaultyBroker(site.broker, site.workers)
    broker.silent = True
    await site.broker.declare(site.queue_of("paint"))
    async with site.engine(broker=broker):
        silent = await asyncio.gather(*(site.start("build") for _ in range(crowd)))
        await site.events.wait_for("queue.silent")
        painted = [await site.start("paint") for _ in range(LOAD)]
        await until_depth(site.broker, site.queue_of("paint"), LOAD)

        async def only_the_crowd_is_left() -> bool:
            # One of it tries; those that had begun before the queue was called silent have given up.
            return broker.trying <= 1 and await site.core.store.count_outbox() == crowd

        await until(only_the_crowd_is_left)
        broker.silent = False
        await site.events.wait_for("queue.heard")
        await until_depth(site.broker, site.workers, crowd)
    assert {(await site.get(key)).state for key in (*silent, *painted)} == {State.RUNNING}
    await site.assert_nothing_left()


@pytest.mark.fault("F14")
async def test_an_orchestrator_that_comes_back_from_the_dead_finds_its_decision_stale(site: Site) -> None:
    """It stood still between deciding and saving, for so long that the broker gave its message to another."""
    store = FaultyStore(site.core)
    store.hold_before = True
    async with (
        through_proxy(site) as (broker, proxy),
        site.engine("frozen", broker=broker, store=store),
        site.worker(),
    ):
        workflow_id = await site.start("build", "deploy", message_id="s1")
        await store.held.wait()
        proxy.refuse()
        async with site.another_broker() as healthy, site.engine("other", broker=healthy):
            await site.until_all_completed([workflow_id])
            ended = await site.get(workflow_id)
            store.hold_before = False
            store.release()

            async def found_out() -> bool:
                return any(details["duplicates"] for name, details in site.events.told if name == "batch.settled")

            await until(found_out)
    assert store.tried == 1
    assert await site.get(workflow_id) == ended
    await site.assert_counted_once(workflow_id)
    await site.assert_nothing_left()

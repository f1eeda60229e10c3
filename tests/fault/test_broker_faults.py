"""A RabbitMQ that is short of memory, whose queues are deleted, or that has lost its data; the engine goes on."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pika
import pytest

from openaperture.domain.errors import QueueMismatch
from openaperture.domain.workflow import State
from openaperture.ports import Address
from tests.contract.brokers import receive, until, until_depth
from tests.contract.stores import fresh_schema
from tests.fault.disturbance import Deploys, assert_nothing_left_but_copies
from tests.functional.engine_site import FaultyStore, Site, opened_site, settings_of
from tests.servers import RabbitServer

pytestmark = pytest.mark.timeout(180)
LOAD = 20
PICKUP_SECONDS = 600
ALARM_SECONDS = 8
"""From the last request before the alarm to the one that becomes due under it."""
DELIVERY_LIMIT = 3


@pytest.fixture
async def private(rabbit_server: RabbitServer, postgresql_url: str, tmp_path: Path) -> AsyncGenerator[Site]:
    """A site on a RabbitMQ of its own, whose queues are ours to make."""
    with fresh_schema(postgresql_url) as database:
        settings = settings_of(
            tmp_path, lambda: f"test.{uuid4().hex[:12]}", database=database, broker=rabbit_server.url
        )
        async with opened_site(settings.model_copy(update={"declare_queues": True})) as opened:
            yield opened


def _delete(server: RabbitServer, *queues: str) -> None:
    with pika.BlockingConnection(pika.URLParameters(server.url)) as connection:
        for queue in queues:
            connection.channel().queue_delete(queue)


async def _claimed(site: Site, ids: Sequence[str]) -> None:
    for workflow_id in ids:
        await site.until_entry(workflow_id, "milestone.claimed")


@pytest.mark.fault("F38")
async def test_a_memory_alarm_holds_everything_up_and_loses_and_doubles_nothing(
    rabbit_server: RabbitServer, private: Site
) -> None:
    """One release becomes due meanwhile: its request is saved, and waits in the outbox."""
    deploys = Deploys()
    async with private.worker(deploys.run), private.engine():
        started = [await private.start("build", "deploy") for _ in range(LOAD)]
        await private.events.wait_for("milestone.completed", LOAD)
        await asyncio.to_thread(rabbit_server.control, "set_vm_memory_high_watermark", "0.4")
        soon = datetime.now(UTC) + timedelta(seconds=ALARM_SECONDS)
        due = await private.start(
            "scheduled", "build", scheduled_start_time=soon.strftime("%a, %d %b %Y %H:%M:%S UTC")
        )
        await private.until_entry(due, "workflow.waiting")
        await asyncio.to_thread(rabbit_server.control, "set_vm_memory_high_watermark", "0.0001")
        deploys.may_end.set()
        await private.events.wait_for("broker.blocked", 2)
        await private.events.wait_for("worker.waiting")
        assert await private.core.store.count_outbox() == 1
        assert {(await private.get(key)).state for key in started} == {State.RUNNING}
        await asyncio.to_thread(rabbit_server.control, "set_vm_memory_high_watermark", "0.4")
        await private.until_all_completed(started)
        await private.until_state(due, State.COMPLETED)
    await assert_nothing_left_but_copies(private)
    for workflow_id in started:
        kinds = await private.kinds(workflow_id)
        assert (kinds["milestone.requested"], kinds["milestone.lost"]) == (2, 0)


@pytest.mark.fault("F24", "F42")
async def test_requests_that_a_wiped_broker_has_lost_are_asked_again(
    rabbit_server: RabbitServer, private: Site
) -> None:
    async with private.engine("now"):
        started = [await private.start("build") for _ in range(LOAD)]
        await until_depth(private.broker, private.workers, LOAD)
        await asyncio.to_thread(rabbit_server.wipe)
        await asyncio.to_thread(rabbit_server.start)
        await private.events.wait_for("consumer.subscribed")
        # The queue of the workers is gone, too: the engine makes it again, or the next request is undeliverable.
        started.append(await private.start("build"))

        async def is_back() -> bool:
            try:
                return await private.broker.depth(private.workers) == 1
            except QueueMismatch:
                return False

        await until(is_back)
    async with private.engine("later", store=private.store_in(PICKUP_SECONDS + 1)), private.worker():
        await private.until_all_completed(started)
    assert (await private.kinds(started[0]))["milestone.unclaimed"] == 1
    await private.assert_nothing_left()


@pytest.mark.fault("F42")
async def test_milestones_that_run_while_the_broker_is_wiped_are_reported_and_count_once(
    rabbit_server: RabbitServer, private: Site
) -> None:
    deploys = Deploys()
    async with private.worker(deploys.run, declare=True), private.engine():
        started = [await private.start("deploy", "build") for _ in range(LOAD)]
        await _claimed(private, started)
        await asyncio.to_thread(rabbit_server.wipe)
        await asyncio.to_thread(rabbit_server.start)
        deploys.may_end.set()
        await private.until_all_completed(started)
    for workflow_id in started:
        assert (await private.kinds(workflow_id))["milestone.requested"] == 2
    await assert_nothing_left_but_copies(private)


@pytest.mark.fault("F36")
async def test_no_message_is_held_while_milestones_run_or_wait(rabbit_server: RabbitServer, private: Site) -> None:
    """RabbitMQ ends a consumer that holds a message for half an hour; milestones take as long as they like."""

    def unacknowledged() -> dict[str, int]:
        listed = rabbit_server.control("list_queues", "--no-table-headers", "name", "messages_unacknowledged")
        return {name: int(count) for name, count in (line.split() for line in listed.splitlines())}

    deploys = Deploys()
    async with private.worker(deploys.run), private.engine():
        started = [await private.start("deploy") for _ in range(LOAD)]
        await _claimed(private, started)
        waiting = await private.start("scheduled", scheduled_start_time="Tue, 05 Mar 2199 23:25:19 UTC")
        await private.until_entry(waiting, "workflow.waiting")

        async def none_is_held() -> bool:
            counts = await asyncio.to_thread(unacknowledged)
            return counts[private.workers] == counts[private.intake] == 0

        await until(none_is_held)
        assert {(await private.get(key)).state for key in started} == {State.RUNNING}
        deploys.may_end.set()
        await private.until_all_completed(started)


@pytest.mark.fault("F26")
async def test_our_queue_is_made_again_when_it_is_deleted_under_us(
    rabbit_server: RabbitServer, private: Site
) -> None:
    async with private.worker(), private.engine():
        first = await private.start("build")
        await private.until_all_completed([first])
        await asyncio.to_thread(_delete, rabbit_server, private.error_queue, private.intake)
        await private.events.wait_for("consumer.lost")
        await private.events.wait_for("consumer.subscribed")
        second = await private.start("build")
        await private.until_all_completed([second])
        await private.broker.check(private.error_queue)
    await private.assert_nothing_left()


@pytest.mark.fault("F27")
async def test_requests_on_a_queue_that_is_deleted_are_asked_again(
    rabbit_server: RabbitServer, private: Site
) -> None:
    async with private.engine("now"):
        started = [await private.start("build") for _ in range(LOAD)]
        await until_depth(private.broker, private.workers, LOAD)
        await asyncio.to_thread(_delete, rabbit_server, private.workers)
    async with (
        private.engine("later", store=private.store_in(PICKUP_SECONDS + 1)),
        private.worker(declare=True),
    ):
        await private.until_all_completed(started)
    await private.assert_nothing_left()


# ------------------------------------------------------------------------------------ quorum queues


@pytest.fixture
async def quorum(rabbit_server: RabbitServer, postgresql_url: str, tmp_path: Path) -> AsyncGenerator[Site]:
    """A site whose queues an operator has made, replicated and with a limit of deliveries."""
    with fresh_schema(postgresql_url) as database:
        settings = settings_of(
            tmp_path, lambda: f"test.{uuid4().hex[:12]}", database=database, broker=rabbit_server.url
        )
        workers = settings.milestone_sections["build"].queue
        with pika.BlockingConnection(pika.URLParameters(rabbit_server.url)) as connection:
            channel = connection.channel()
            for queue in (settings.queue_name, str(workers)):
                arguments: dict[str, Any] = {
                    "x-queue-type": "quorum",
                    "x-delivery-limit": DELIVERY_LIMIT,
                    "x-dead-letter-exchange": "",
                    "x-dead-letter-routing-key": f"{queue}_error",
                }
                channel.queue_declare(f"{queue}_error", durable=True)
                channel.queue_declare(queue, durable=True, arguments=arguments)
        async with opened_site(settings, declare=False) as opened:
            yield opened


async def test_releases_run_over_quorum_queues(quorum: Site) -> None:
    async with quorum.worker(), quorum.engine():
        started = [await quorum.start("build", "deploy") for _ in range(LOAD)]
        await quorum.until_all_completed(started)
    await quorum.assert_nothing_left()


@pytest.mark.fault("F32")
async def test_what_a_delivery_limit_takes_away_is_kept_and_can_be_sent_again(quorum: Site) -> None:
    """Each time the engine dies with all of them at hand, guilty or not."""
    store = FaultyStore(quorum.core)
    store.hold_before = True
    started = [await quorum.start("build") for _ in range(LOAD)]
    for _ in range(DELIVERY_LIMIT + 1):
        store.held.clear()
        async with quorum.engine(store=store) as engine:
            await store.held.wait()
            await engine.kill()
    await until_depth(quorum.broker, quorum.error_queue, LOAD)
    letters = await quorum.broker.consume(quorum.error_queue, prefetch=LOAD)
    kept = await receive(letters, LOAD)
    for letter in kept:
        await quorum.broker.publish(Address(routing_key=quorum.intake), letter.message)
    await letters.ack(kept)
    async with quorum.engine(), quorum.worker():
        await quorum.until_all_completed(started)
    await quorum.assert_nothing_left()

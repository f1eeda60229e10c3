"""What every broker adapter promises: the contract of `ports.Broker` and `ports.Consumer`."""

import asyncio
from collections.abc import Generator
from pathlib import Path

import pytest

from openaperture.domain.errors import BrokerUnavailable, QueueMismatch, Unroutable
from openaperture.ports import Address, Broker, Message
from tests.contract.brokers import (
    AmqpSite,
    BrokerSite,
    EmbeddedSite,
    publish,
    receive,
    texts,
    until,
    until_depth,
)

# How long a test looks on while nothing must happen.
QUIET_SECONDS = 0.3


@pytest.fixture(params=["amqp", "embedded"])
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Generator[BrokerSite]:
    if request.param == "embedded":
        yield EmbeddedSite(tmp_path / "broker.db")
        return
    amqp = AmqpSite(request.getfixturevalue("amqp_url"))
    yield amqp
    amqp.delete_queues()


async def _declared(site: BrokerSite, broker: Broker) -> str:
    queue = site.queue()
    await broker.declare(queue)
    return queue


# ------------------------------------------------------------------------------------- publishing


async def test_a_message_arrives_with_its_id_content_type_and_headers(site: BrokerSite) -> None:
    sent = Message(
        body=b"\x83\x00\xff",
        content_type="application/x-erlang",
        message_id="m-1",
        headers={"x-run": "41f", "é": "ü"},
    )
    async with site.open() as broker:
        queue = await _declared(site, broker)
        await broker.publish(Address(routing_key=queue), sent)
        consumer = await broker.consume(queue, prefetch=1)
        [delivery] = await receive(consumer, 1)
        assert delivery.message == sent
        assert delivery.queue == queue
        assert not delivery.redelivered


async def test_a_message_without_properties_arrives_without_them(site: BrokerSite) -> None:
    """As old OpenAperture services send them."""
    sent = Message(body=b"", content_type=None, message_id=None)
    async with site.open() as broker:
        queue = await _declared(site, broker)
        await broker.publish(Address(routing_key=queue), sent)
        [delivery] = await receive(await broker.consume(queue, prefetch=1), 1)
        assert delivery.message == sent


async def test_a_confirmed_message_outlives_the_broker_object(site: BrokerSite) -> None:
    async with site.open() as broker:
        queue = await _declared(site, broker)
        await publish(broker, queue, "a", "b")
    async with site.open() as another:
        assert texts(await receive(await another.consume(queue, prefetch=5), 2)) == ["a", "b"]


@pytest.mark.fault("F24")
async def test_a_publish_that_no_queue_takes_is_unroutable(site: BrokerSite) -> None:
    """Failure model F24, finding 1: the confirm alone would have called it sent."""
    async with site.open() as broker:
        queue = site.queue()
        with pytest.raises(Unroutable, match=queue):
            await publish(broker, queue, "lost")
        await broker.declare(queue)
        await publish(broker, queue, "kept")
        assert await broker.depth(queue) == 1


@pytest.mark.fault("F29")
async def test_a_publish_to_a_missing_exchange_is_unroutable_and_harms_no_other(site: BrokerSite) -> None:
    """Failure model F29."""
    async with site.open() as broker:
        queue = await _declared(site, broker)
        nowhere = Address(exchange="test.no-such-exchange", routing_key=queue)

        async def refused() -> None:
            with pytest.raises(Unroutable, match="no-such-exchange"):
                await broker.publish(nowhere, Message(body=b"lost"))

        async with asyncio.TaskGroup() as tasks:
            for number in range(20):
                tasks.create_task(refused())
                tasks.create_task(publish(broker, queue, str(number)))
        assert await broker.depth(queue) == 20


async def test_concurrent_publishes_all_arrive_once(site: BrokerSite) -> None:
    sent = [f"m{number}" for number in range(300)]
    async with site.open() as broker:
        queue = await _declared(site, broker)
        async with asyncio.TaskGroup() as tasks:
            for text in sent:
                tasks.create_task(publish(broker, queue, text))
        received = texts(await receive(await broker.consume(queue, prefetch=500), len(sent)))
        assert sorted(received) == sorted(sent)
        assert await broker.depth(queue) == 0


async def test_each_of_many_concurrent_publishes_learns_its_own_fate(site: BrokerSite) -> None:
    async with site.open() as broker:
        queue, missing = await _declared(site, broker), site.queue()

        async def outcome(routing_key: str) -> bool:
            try:
                # The same id and body everywhere: only the key tells them apart.
                await broker.publish(Address(routing_key=routing_key), Message(body=b"x", message_id="same"))
            except Unroutable:
                return False
            return True

        fates = await asyncio.gather(*(outcome(queue if n % 3 else missing) for n in range(90)))
        assert fates == [bool(n % 3) for n in range(90)]
        assert await broker.depth(queue) == 60


# -------------------------------------------------------------------------------------- receiving


async def test_messages_come_in_the_order_of_their_publishing(site: BrokerSite) -> None:
    sent = [str(number) for number in range(50)]
    async with site.open() as broker:
        queue = await _declared(site, broker)
        consumer = await broker.consume(queue, prefetch=100)
        await publish(broker, queue, *sent)
        assert texts(await receive(consumer, 50)) == sent


async def test_receive_waits_for_the_first_and_takes_all_that_are_ready_up_to_the_limit(site: BrokerSite) -> None:
    async with site.open() as broker:
        queue = await _declared(site, broker)
        consumer = await broker.consume(queue, prefetch=10)
        waiting = asyncio.ensure_future(consumer.receive(10))
        await publish(broker, queue, "first")
        assert texts(await waiting) == ["first"]

        await publish(broker, queue, *"abcde")
        await until_depth(broker, queue, 0)
        got = texts(await consumer.receive(2))
        assert len(got) <= 2
        assert got + texts(await receive(consumer, 5 - len(got))) == list("abcde")


async def test_no_more_than_prefetch_are_handed_out_unsettled(site: BrokerSite) -> None:
    async with site.open() as broker:
        queue = await _declared(site, broker)
        await publish(broker, queue, *"abcde")
        consumer = await broker.consume(queue, prefetch=2)
        held = await receive(consumer, 2)
        assert await broker.depth(queue) == 3
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(QUIET_SECONDS):
                await consumer.receive(10)
        await consumer.ack(held[:1])
        assert texts(await receive(consumer, 1)) == ["c"]


async def test_two_consumers_share_a_queue_and_no_message_goes_to_both(site: BrokerSite) -> None:
    async with site.open() as broker:
        queue = await _declared(site, broker)
        first, second = await broker.consume(queue, prefetch=1), await broker.consume(queue, prefetch=1)
        await publish(broker, queue, "a", "b")
        assert sorted(texts(await receive(first, 1)) + texts(await receive(second, 1))) == ["a", "b"]


async def test_a_cancelled_receive_loses_nothing(site: BrokerSite) -> None:
    async with site.open() as broker:
        queue = await _declared(site, broker)
        consumer = await broker.consume(queue, prefetch=100)
        received: list[str] = []
        for number in range(40):
            waiting = asyncio.ensure_future(consumer.receive(10))
            await publish(broker, queue, str(number))
            for _ in range(number % 5):
                await asyncio.sleep(0)
            waiting.cancel()
            try:
                received += texts(await waiting)
            except asyncio.CancelledError:
                continue
        received += texts(await receive(consumer, 40 - len(received)))
        assert received == [str(number) for number in range(40)]


# --------------------------------------------------------------------------------------- settling


async def test_an_acked_message_is_gone_and_an_unsettled_one_comes_back(site: BrokerSite) -> None:
    async with site.open() as broker:
        queue = await _declared(site, broker)
        await publish(broker, queue, "done", "open")
        consumer = await broker.consume(queue, prefetch=2)
        done, _ = await receive(consumer, 2)
        await consumer.ack([done])
    async with site.open() as another:
        [delivery] = await receive(await another.consume(queue, prefetch=2), 1)
        assert texts([delivery]) == ["open"]
        assert delivery.redelivered
        assert await another.depth(queue) == 0


async def test_deliveries_are_settled_in_any_order_and_grouping(site: BrokerSite) -> None:
    async with site.open() as broker:
        queue = await _declared(site, broker)
        await publish(broker, queue, *"abcdefgh")
        consumer = await broker.consume(queue, prefetch=8)
        a, b, c, d, e, f, g, h = await receive(consumer, 8)
        await consumer.ack([c])
        await consumer.ack([f, a, b])
        await consumer.requeue([d, g])
        await consumer.ack([])
        back = await receive(consumer, 2)
        assert sorted(texts(back)) == ["d", "g"]
        await consumer.ack([*back, h])
        await consumer.close()
        await until_depth(broker, queue, 1)
        assert texts([e]) == texts(await receive(await broker.consume(queue, prefetch=8), 1))


async def test_a_requeued_message_is_delivered_again_and_says_so(site: BrokerSite) -> None:
    async with site.open() as broker:
        queue = await _declared(site, broker)
        await publish(broker, queue, "again")
        consumer = await broker.consume(queue, prefetch=1)
        await consumer.requeue(await receive(consumer, 1))
        [second] = await receive(consumer, 1)
        assert texts([second]) == ["again"]
        assert second.redelivered


@pytest.mark.fault("F30")
async def test_a_dead_lettered_message_lies_in_the_error_queue_with_its_reason(site: BrokerSite) -> None:
    """Failure model F30."""
    async with site.open() as broker:
        queue = await _declared(site, broker)
        sent = Message(body=b"garbage", content_type="text/plain", message_id="m-1", headers={"x-run": "41f"})
        await broker.publish(Address(routing_key=queue), sent)
        consumer = await broker.consume(queue, prefetch=1)
        [delivery] = await receive(consumer, 1)
        await consumer.dead_letter(delivery, "not a request: byte 0 is 'g'")
        await consumer.close()

        [dead] = await receive(await broker.consume(f"{queue}_error", prefetch=1), 1)
        assert dead.message.body == sent.body
        assert dead.message.content_type == sent.content_type
        assert dead.message.message_id == sent.message_id
        assert dead.message.headers["x-run"] == "41f"
        assert dead.message.headers["x-reason"] == "not a request: byte 0 is 'g'"
        assert await broker.depth(queue) == 0


async def test_settling_twice_changes_nothing(site: BrokerSite) -> None:
    async with site.open() as broker:
        queue = await _declared(site, broker)
        await publish(broker, queue, "a", "b", "c")
        consumer = await broker.consume(queue, prefetch=1)
        [a] = await receive(consumer, 1)
        await consumer.ack([a])
        await consumer.ack([a])
        await consumer.requeue([a])
        await consumer.dead_letter(a, "no")
        assert texts(await receive(consumer, 1)) == ["b"]
        assert await broker.depth(f"{queue}_error") == 0
        assert await broker.depth(queue) == 1


async def test_a_delivery_of_a_consumer_that_ended_settles_nothing(site: BrokerSite) -> None:
    async with site.open() as broker:
        queue = await _declared(site, broker)
        await publish(broker, queue, "mine")
        ended = await broker.consume(queue, prefetch=1)
        stale = await receive(ended, 1)
        await ended.close()
        await ended.ack(stale)
        await ended.dead_letter(stale[0], "no")

        successor = await broker.consume(queue, prefetch=1)
        current = await receive(successor, 1)
        await successor.ack(stale)
        await successor.requeue(stale)
        await successor.requeue(current)
        assert texts(await receive(successor, 1)) == ["mine"]
        assert await broker.depth(f"{queue}_error") == 0


# ------------------------------------------------------------------------- pausing and ending


async def test_pause_gives_back_what_was_not_taken_and_resume_takes_again(site: BrokerSite) -> None:
    async with site.open() as broker:
        queue = await _declared(site, broker)
        await publish(broker, queue, "a", "b", "c")
        consumer = await broker.consume(queue, prefetch=3)
        await until_depth(broker, queue, 0)
        taken = await consumer.receive(1)
        await consumer.pause()
        await until_depth(broker, queue, 2)
        await publish(broker, queue, "d")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(QUIET_SECONDS):
                await consumer.receive(1)
        await consumer.ack(taken)
        assert await broker.depth(queue) == 3

        await consumer.resume()
        assert sorted(texts(await receive(consumer, 3))) == ["b", "c", "d"]


async def test_a_consumer_resumes_with_another_prefetch(site: BrokerSite) -> None:
    async with site.open() as broker:
        queue = await _declared(site, broker)
        await publish(broker, queue, *"abcde")
        consumer = await broker.consume(queue, prefetch=5)
        await until_depth(broker, queue, 0)
        [held] = await consumer.receive(1)
        await consumer.pause()
        await until_depth(broker, queue, 4)
        await consumer.resume(prefetch=2)
        await until_depth(broker, queue, 2)
        await consumer.ack([held])
        received = await receive(consumer, 2)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(QUIET_SECONDS):
                await consumer.receive(1)
        await consumer.ack(received)
        assert len(await receive(consumer, 2)) == 2


async def test_another_consumer_gets_what_a_paused_one_gave_back(site: BrokerSite) -> None:
    async with site.open() as broker:
        queue = await _declared(site, broker)
        await publish(broker, queue, "a", "b")
        paused = await broker.consume(queue, prefetch=5)
        await paused.pause()
        assert texts(await receive(await broker.consume(queue, prefetch=5), 2)) == ["a", "b"]


async def test_pause_and_resume_may_be_repeated(site: BrokerSite) -> None:
    async with site.open() as broker:
        queue = await _declared(site, broker)
        consumer = await broker.consume(queue, prefetch=5)
        for number in range(3):
            await consumer.pause()
            await consumer.pause()
            await consumer.resume()
            await consumer.resume()
            await publish(broker, queue, str(number))
            received = await receive(consumer, 1)
            assert texts(received) == [str(number)]
            await consumer.ack(received)


async def test_a_closed_consumer_leaves_its_unsettled_messages_to_others(site: BrokerSite) -> None:
    async with site.open() as broker:
        queue = await _declared(site, broker)
        await publish(broker, queue, "settled", "taken", "untaken")
        first = await broker.consume(queue, prefetch=3)
        await until_depth(broker, queue, 0)
        settled, _ = await receive(first, 2)
        await first.ack([settled])
        await first.close()
        others = await receive(await broker.consume(queue, prefetch=3), 2)
        assert texts(others) == ["taken", "untaken"]
        assert others[0].redelivered


async def test_a_closed_consumer_tells_who_waits_on_it(site: BrokerSite) -> None:
    async with site.open() as broker:
        queue = await _declared(site, broker)
        consumer = await broker.consume(queue, prefetch=1)
        waiting = asyncio.ensure_future(consumer.receive(1))
        await asyncio.sleep(0)
        await consumer.close()
        await consumer.close()
        with pytest.raises(BrokerUnavailable, match=queue):
            await waiting


async def test_a_closed_broker_ends_its_loop_and_publishes_nothing(site: BrokerSite) -> None:
    async with site.open() as broker:
        queue = await _declared(site, broker)
        consumer = await broker.consume(queue, prefetch=1)
        await broker.close()
        with pytest.raises(BrokerUnavailable):
            await publish(broker, queue, "late")
        with pytest.raises(BrokerUnavailable):
            await consumer.receive(1)
    # Leaving the block waits for `run` to return.


# ----------------------------------------------------------------------------------------- queues


async def test_declaring_a_queue_twice_is_harmless(site: BrokerSite) -> None:
    async with site.open() as broker:
        queue = await _declared(site, broker)
        await publish(broker, queue, "kept")
        await broker.declare(queue)
        await broker.check(queue)
        assert await broker.depth(queue) == 1


@pytest.mark.fault("F33")
async def test_a_declared_queue_has_a_dead_letter_queue_that_exists(site: BrokerSite) -> None:
    """Failure model F33."""
    async with site.open() as broker:
        await broker.check(f"{await _declared(site, broker)}_error")


async def test_a_missing_queue_is_a_mismatch_that_names_it(site: BrokerSite) -> None:
    async with site.open() as broker:
        queue = site.queue()
        with pytest.raises(QueueMismatch, match=queue):
            await broker.check(queue)
        with pytest.raises(QueueMismatch, match=queue):
            await broker.consume(queue, prefetch=1)
        with pytest.raises(QueueMismatch, match=queue):
            await broker.check(queue)


async def test_a_temporary_queue_lives_as_long_as_its_consumer(site: BrokerSite) -> None:
    async with site.open() as broker:
        queue = site.queue()
        consumer = await broker.consume(queue, prefetch=5, temporary=True)
        await publish(broker, queue, "answer")
        [answer] = await receive(consumer, 1)
        assert texts([answer]) == ["answer"]
        await consumer.close()
        with pytest.raises(Unroutable):
            await publish(broker, queue, "too late")
        with pytest.raises(QueueMismatch):
            await broker.check(queue)


async def test_a_temporary_queue_vanishes_with_its_broker_object(site: BrokerSite) -> None:
    queue = site.queue()
    async with site.open() as broker:
        await broker.consume(queue, prefetch=5, temporary=True)
    async with site.open() as another:

        async def gone() -> bool:
            try:
                await another.check(queue)
            except QueueMismatch:
                return True
            return False

        await until(gone)


async def test_a_paused_temporary_queue_keeps_its_messages(site: BrokerSite) -> None:
    async with site.open() as broker:
        queue = site.queue()
        consumer = await broker.consume(queue, prefetch=5, temporary=True)
        await consumer.pause()
        await publish(broker, queue, "answer")
        await consumer.resume()
        assert texts(await receive(consumer, 1)) == ["answer"]

"""What the AMQP adapter does when the connection, a queue or the broker's answers go missing.

F numbers are those of the failure model's fault catalogue.
"""

import asyncio
import ssl
import subprocess
import time
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pika
import pytest

from openaperture.brokers.amqp import AmqpBroker
from openaperture.domain.errors import BrokerUnavailable, ConfigError, QueueMismatch, Unconfirmed, Unroutable
from openaperture.ports import Address, Broker, Message
from tests.contract.brokers import AmqpSite, Events, publish, receive, running, texts, until_depth
from tests.tcp_proxy import BASIC_ACK, BASIC_CANCEL, BASIC_NACK, TcpProxy, tcp_proxy


class Rabbit(AmqpSite):
    """The server seen past the adapter: what an operator does and sees."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._connection = pika.BlockingConnection(pika.URLParameters(url))
        self.channel = self._connection.channel()

    def consumers(self, queue: str) -> int | None:
        return self.channel.queue_declare(queue, passive=True).method.consumer_count

    def consume_without_acking(self, queue: str) -> None:
        def hold(*_delivery: object) -> None: ...

        self.channel.basic_consume(queue, on_message_callback=hold)

    def consume_rejecting(self, queue: str) -> None:
        """Consume, and reject for good, one message at a time, whenever `serve` is called."""

        def reject(_channel: object, method: "pika.spec.Basic.Deliver", *_rest: object) -> None:
            self.channel.basic_reject(method.delivery_tag or 0, requeue=False)

        self.channel.basic_qos(prefetch_count=1)
        self.channel.basic_consume(queue, on_message_callback=reject)

    def serve(self) -> None:
        """Let the callbacks of one delivery run."""
        self._connection.process_data_events(time_limit=5)

    def close(self) -> None:
        self._connection.close()
        self.delete_queues()


@pytest.fixture
def rabbit(amqp_url: str) -> Generator[Rabbit]:
    server = Rabbit(amqp_url)
    yield server
    server.close()


@pytest.fixture
def events() -> Events:
    return Events()


@asynccontextmanager
async def through_proxy(
    url: str, events: Events, **settings: Any
) -> AsyncGenerator[tuple[Broker, TcpProxy], None]:
    """A connected broker object whose connections a test can disturb."""
    async with tcp_proxy(url) as proxy, running(AmqpBroker(proxy.url(url), observer=events, **settings)) as broker:
        await events.wait_for("broker.connected", 2)
        yield broker, proxy


async def _declared(rabbit: Rabbit, broker: Broker) -> str:
    queue = rabbit.queue()
    await broker.declare(queue)
    return queue


# ---------------------------------------------------------------------------------- lost connections


@pytest.mark.fault("F10", "F17")
async def test_a_cut_consumer_comes_back_once_and_misses_nothing(
    amqp_url: str, rabbit: Rabbit, events: Events
) -> None:
    """F10, F17: what was unsettled is delivered again; acks of the old session settle nothing."""
    async with through_proxy(amqp_url, events) as (broker, proxy):
        queue = await _declared(rabbit, broker)
        consumer = await broker.consume(queue, prefetch=10)
        await publish(broker, queue, "settled", "taken")
        settled, stale = await receive(consumer, 2)
        await consumer.ack([settled])
        await broker.depth(queue)  # an answer on the same connection: the ack before it has arrived

        proxy.cut()
        await events.wait_for("consumer.subscribed")
        [again] = await receive(consumer, 1)
        await consumer.ack([stale])
        assert texts([again]) == ["taken"]
        assert again.redelivered

        await consumer.ack([again])
        await publish(broker, queue, "after")
        assert texts(await receive(consumer, 1)) == ["after"]
        assert rabbit.consumers(queue) == 1


async def test_a_waiting_receive_survives_many_cuts(amqp_url: str, rabbit: Rabbit, events: Events) -> None:
    async with through_proxy(amqp_url, events) as (broker, proxy):
        queue = await _declared(rabbit, broker)
        consumer = await broker.consume(queue, prefetch=10)
        waiting = asyncio.ensure_future(receive(consumer, 1))
        for cuts in (1, 2, 3):
            proxy.cut()
            await events.wait_for("consumer.subscribed", cuts)
        await publish(broker, queue, "at last")
        assert texts(await waiting) == ["at last"]


async def test_messages_are_neither_lost_nor_acked_away_under_repeated_cuts(
    amqp_url: str, rabbit: Rabbit, events: Events
) -> None:
    """At least once: a publisher that repeats what was unconfirmed, a consumer that acks what it has."""
    sent = [f"m{number}" for number in range(200)]
    received: set[str] = set()

    async def publish_all(broker: Broker, queue: str) -> None:
        for text in sent:
            while True:
                try:
                    await publish(broker, queue, text)
                except BrokerUnavailable:
                    continue
                break

    async with through_proxy(amqp_url, events) as (broker, proxy):
        queue = await _declared(rabbit, broker)
        consumer = await broker.consume(queue, prefetch=20)
        async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
            tasks.create_task(publish_all(broker, queue))
            cuts = 0
            while received != set(sent):
                deliveries = await consumer.receive(20)
                received.update(texts(deliveries))
                await consumer.ack(deliveries)
                if len(received) > 50 * (cuts + 1):
                    cuts += 1
                    proxy.cut()
        assert cuts >= 2


@pytest.mark.fault("F18")
async def test_a_lost_confirm_is_an_unknown_outcome_not_a_failure(
    amqp_url: str, rabbit: Rabbit, events: Events
) -> None:
    """F18: the message is there, although the publisher never heard of it."""
    async with through_proxy(amqp_url, events) as (broker, proxy):
        queue = await _declared(rabbit, broker)
        proxy.cut_on(BASIC_ACK)
        with pytest.raises(Unconfirmed, match="same id"):
            await publish(broker, queue, "arrived")
        await until_depth(broker, queue, 1)


async def test_nothing_is_sent_while_the_broker_is_away(amqp_url: str, rabbit: Rabbit, events: Events) -> None:
    async with through_proxy(amqp_url, events) as (broker, proxy):
        queue = await _declared(rabbit, broker)
        proxy.refuse()
        started = time.monotonic()
        with pytest.raises(BrokerUnavailable) as caught:
            await broker.publish(Address(routing_key=queue), Message(body=b"x"), timeout_seconds=0.5)
        assert not isinstance(caught.value, Unconfirmed)
        assert time.monotonic() - started < 2

        waiting = asyncio.ensure_future(publish(broker, queue, "y"))
        proxy.accept()
        await waiting
        await until_depth(broker, queue, 1)


@pytest.mark.fault("F39")
async def test_a_silent_connection_is_given_up_within_two_heartbeats(
    amqp_url: str, rabbit: Rabbit, events: Events
) -> None:
    """F39: half-open, nothing is refused and nothing answered."""
    async with through_proxy(amqp_url, events, heartbeat_seconds=4) as (broker, proxy):
        queue = await _declared(rabbit, broker)
        consumer = await broker.consume(queue, prefetch=1)
        await publish(broker, queue, "before")
        [before] = await receive(consumer, 1)

        proxy.stall()
        stalled_at = time.monotonic()
        with pytest.raises(Unconfirmed):
            await broker.publish(Address(routing_key=queue), Message(body=b"x"), timeout_seconds=0.5)
        assert time.monotonic() - stalled_at < 2
        await events.wait_for("broker.disconnected", 2)
        assert time.monotonic() - stalled_at < 8

        proxy.flow()
        await events.wait_for("consumer.subscribed")
        await consumer.ack([before])
        assert "before" in texts(await receive(consumer, 1))


async def test_a_stalled_broker_holds_nobody_for_ever(amqp_url: str, rabbit: Rabbit, events: Events) -> None:
    async with through_proxy(amqp_url, events) as (broker, proxy):
        queue = await _declared(rabbit, broker)
        proxy.stall()
        started = time.monotonic()
        with pytest.raises(BrokerUnavailable, match=queue):
            await broker.consume(queue, prefetch=1)
        assert time.monotonic() - started < 15
        proxy.flow()


def _block_the_loop(seconds: float) -> None:
    """As a computation would that takes too long: nothing else of this process runs meanwhile."""
    time.sleep(seconds)


@pytest.mark.fault("F16")
async def test_a_process_that_was_busy_for_longer_than_its_heartbeats_connects_again(
    amqp_url: str, rabbit: Rabbit, events: Events
) -> None:
    async with running(AmqpBroker(amqp_url, observer=events, heartbeat_seconds=1)) as broker:
        queue = await _declared(rabbit, broker)
        consumer = await broker.consume(queue, prefetch=2)
        await publish(broker, queue, "before", "waiting")
        await receive(consumer, 1)
        _block_the_loop(5)
        await events.wait_for("broker.disconnected")
        await events.wait_for("consumer.subscribed")
        again = await receive(consumer, 2)
        assert sorted(texts(again)) == ["before", "waiting"]
        await publish(broker, queue, "after")
        await consumer.ack(again)
        assert texts(await receive(consumer, 1)) == ["after"]


# ---------------------------------------------------------------------- answers that are missing or bad


@pytest.mark.fault("F19")
async def test_missing_confirms_time_out_and_later_publishes_work(
    amqp_url: str, rabbit: Rabbit, events: Events
) -> None:
    """F19."""
    async with through_proxy(amqp_url, events) as (broker, proxy):
        queue = await _declared(rabbit, broker)
        proxy.drop(BASIC_ACK)
        with pytest.raises(Unconfirmed):
            await broker.publish(Address(routing_key=queue), Message(body=b"x"), timeout_seconds=0.3)
        proxy.drop()
        await publish(broker, queue, "y")


@pytest.mark.fault("F20", "F41")
async def test_a_nack_is_an_unknown_outcome(amqp_url: str, rabbit: Rabbit, events: Events) -> None:
    """F20."""
    async with through_proxy(amqp_url, events) as (broker, proxy):
        queue = await _declared(rabbit, broker)
        proxy.rename(BASIC_ACK, BASIC_NACK)
        with pytest.raises(Unconfirmed, match="nack"):
            await publish(broker, queue, "x")


@pytest.mark.fault("F38")
async def test_an_alarm_stops_publishing_but_not_consuming(amqp_url: str, rabbit: Rabbit, events: Events) -> None:
    """F38. The alarm is told by the proxy, so that other users of the server notice nothing."""
    async with through_proxy(amqp_url, events) as (broker, proxy):
        queue = await _declared(rabbit, broker)
        consumer = await broker.consume(queue, prefetch=1)
        await publish(broker, queue, "before")
        proxy.say(b"\x00\x0a\x00\x3c" + b"\x0alow on RAM")  # connection.blocked
        assert (await events.wait_for("broker.blocked"))["reason"] == "low on RAM"

        with pytest.raises(BrokerUnavailable) as caught:
            await broker.publish(Address(routing_key=queue), Message(body=b"x"), timeout_seconds=0.3)
        assert not isinstance(caught.value, Unconfirmed)
        await consumer.ack(await receive(consumer, 1))
        await until_depth(broker, queue, 0)

        waiting = asyncio.ensure_future(publish(broker, queue, "after"))
        proxy.say(b"\x00\x0a\x00\x3d")  # connection.unblocked
        await waiting
        assert texts(await receive(consumer, 1)) == ["after"]


@pytest.mark.fault("F29")
async def test_an_exchange_that_vanishes_leaves_no_doubt_for_later_publishes(
    amqp_url: str, rabbit: Rabbit, events: Events
) -> None:
    """F29: what was in flight may have arrived; what comes next cannot."""
    exchange = f"{rabbit.queue()}.exchange"
    async with running(AmqpBroker(amqp_url, observer=events)) as broker:
        queue = await _declared(rabbit, broker)
        rabbit.channel.exchange_declare(exchange, auto_delete=True)
        rabbit.channel.queue_bind(queue, exchange, "root.builder")
        there = Address(exchange=exchange, routing_key="root.builder")
        await broker.publish(there, Message(body=b"x"))
        with pytest.raises(Unroutable, match="elsewhere"):
            await broker.publish(Address(exchange=exchange, routing_key="elsewhere"), Message(body=b"x"))

        rabbit.channel.exchange_delete(exchange)
        with pytest.raises(Unconfirmed):
            await broker.publish(there, Message(body=b"x"))
        with pytest.raises(Unroutable, match=exchange):
            await broker.publish(there, Message(body=b"x"))


@pytest.mark.fault("F35")
async def test_what_amqp_cannot_carry_is_refused_before_it_harms_others(
    amqp_url: str, rabbit: Rabbit, events: Events
) -> None:
    """F35: an oversized body would close the channel, oversized headers the connection."""
    async with running(AmqpBroker(amqp_url, observer=events)) as broker:
        queue = await _declared(rabbit, broker)
        for message in (
            Message(body=b"x" * (16 * 1024 * 1024 + 1)),
            Message(body=b"x", headers={"x-big": "x" * 200_000}),
            Message(body=b"x", message_id="x" * 256),
        ):
            with pytest.raises(Unroutable):
                await broker.publish(Address(routing_key=queue), message)
        await broker.publish(Address(routing_key=queue), Message(body=b"x", headers={"x-big": "x" * 60_000}))
        assert events.count("broker.disconnected") == 0


# -------------------------------------------------------------------------------------- lost consumers


@pytest.mark.fault("F26")
async def test_a_deleted_queue_is_told_and_consumed_again_once_it_is_back(
    amqp_url: str, rabbit: Rabbit, events: Events
) -> None:
    """A queue that operators own stays away until they make it again."""
    async with running(AmqpBroker(amqp_url, observer=events)) as broker:
        queue = rabbit.queue()
        rabbit.channel.queue_declare(queue, durable=True)
        consumer = await broker.consume(queue, prefetch=5)
        await publish(broker, queue, "gone")
        stale = await receive(consumer, 1)

        rabbit.channel.queue_delete(queue)
        assert (await events.wait_for("consumer.lost"))["queue"] == queue
        assert queue in (await events.wait_for("consumer.waiting"))["error"]
        await consumer.ack(stale)

        await broker.declare(queue)
        await publish(broker, queue, "new")
        assert texts(await receive(consumer, 1)) == ["new"]


@pytest.mark.fault("F26", "F33")
async def test_a_deleted_queue_of_ours_is_made_again_with_its_error_queue(
    amqp_url: str, rabbit: Rabbit, events: Events
) -> None:
    async with running(AmqpBroker(amqp_url, observer=events)) as broker:
        queue = await _declared(rabbit, broker)
        consumer = await broker.consume(queue, prefetch=5)
        await publish(broker, queue, "gone")
        stale = await receive(consumer, 1)
        rabbit.channel.queue_delete(f"{queue}_error")
        rabbit.channel.queue_delete(queue)
        assert (await events.wait_for("consumer.lost"))["queue"] == queue
        await events.wait_for("consumer.subscribed")
        await consumer.ack(stale)
        await broker.check(f"{queue}_error")
        await publish(broker, queue, "new")
        assert texts(await receive(consumer, 1)) == ["new"]


@pytest.mark.fault("F37")
async def test_a_consumer_that_only_we_believe_in_is_found_out(
    amqp_url: str, rabbit: Rabbit, events: Events
) -> None:
    """F37, finding 9: the cancel notice never reaches us, the connection stays healthy."""
    async with through_proxy(amqp_url, events, probe_seconds=0.3) as (broker, proxy):
        queue = await _declared(rabbit, broker)
        consumer = await broker.consume(queue, prefetch=5)
        proxy.drop(BASIC_CANCEL)
        rabbit.channel.queue_delete(queue)
        rabbit.channel.queue_declare(
            queue,
            durable=True,
            arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": f"{queue}_error"},
        )
        await proxy.seen(BASIC_CANCEL)
        assert "no consumer" in (await events.wait_for("consumer.lost"))["reason"]
        await publish(broker, queue, "seen")
        assert texts(await receive(consumer, 1)) == ["seen"]


@pytest.mark.fault("F37")
async def test_a_lost_consumer_is_found_out_beside_healthy_ones(
    amqp_url: str, rabbit: Rabbit, events: Events
) -> None:
    """F37: the broker still counts a consumer, somebody else's; messages that wait give us away."""
    async with through_proxy(amqp_url, events, probe_seconds=0.3) as (broker, proxy):
        queue = await _declared(rabbit, broker)
        consumer = await broker.consume(queue, prefetch=5)
        proxy.drop(BASIC_CANCEL)
        rabbit.channel.queue_delete(queue)
        rabbit.channel.queue_declare(queue, durable=True)
        rabbit.channel.basic_qos(prefetch_count=1)
        rabbit.consume_without_acking(queue)
        await proxy.seen(BASIC_CANCEL)
        await publish(broker, queue, "theirs", "ours")
        assert "ours" in texts(await receive(consumer, 1))


async def test_a_healthy_idle_or_paused_consumer_is_left_in_peace(
    amqp_url: str, rabbit: Rabbit, events: Events
) -> None:
    async with running(AmqpBroker(amqp_url, observer=events, probe_seconds=0.05)) as broker:
        idle, paused, full = [await _declared(rabbit, broker) for _ in range(3)]
        await broker.consume(idle, prefetch=5)
        await (await broker.consume(paused, prefetch=5)).pause()
        consumer = await broker.consume(full, prefetch=1)
        await publish(broker, paused, "waits")
        await publish(broker, full, "taken", "waits")
        await receive(consumer, 1)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await events.wait_for("consumer.lost")


async def test_a_temporary_queue_is_declared_anew_after_a_cut(
    amqp_url: str, rabbit: Rabbit, events: Events
) -> None:
    async with through_proxy(amqp_url, events) as (broker, proxy):
        queue = rabbit.queue()
        consumer = await broker.consume(queue, prefetch=5, temporary=True)
        proxy.cut()
        await events.wait_for("consumer.subscribed")
        await publish(broker, queue, "answer")
        assert texts(await receive(consumer, 1)) == ["answer"]


async def test_a_consumer_that_lost_its_session_while_paused_resumes(
    amqp_url: str, rabbit: Rabbit, events: Events
) -> None:
    async with through_proxy(amqp_url, events) as (broker, proxy):
        queue = await _declared(rabbit, broker)
        consumer = await broker.consume(queue, prefetch=5)
        await consumer.pause()
        proxy.cut()
        await publish(broker, queue, "waiting")
        assert rabbit.consumers(queue) == 0
        await consumer.resume()
        assert texts(await receive(consumer, 1)) == ["waiting"]


# ---------------------------------------------------------------------------- queues and dead letters


@pytest.mark.fault("F28")
async def test_a_queue_with_other_arguments_is_refused_with_advice(
    amqp_url: str, rabbit: Rabbit, events: Events
) -> None:
    """F28. Such a queue is not touched, and can be used as it is."""
    queue = rabbit.queue()
    rabbit.channel.queue_declare(queue, durable=True, arguments={"x-max-length": 10})
    async with running(AmqpBroker(amqp_url, observer=events)) as broker:
        with pytest.raises(QueueMismatch, match=rf"{queue}.*delete it.*406"):
            await broker.declare(queue)
        await publish(broker, queue, "kept")
        assert await broker.depth(queue) == 1


@pytest.mark.fault("F33")
async def test_a_missing_error_queue_is_made_when_it_is_needed(
    amqp_url: str, rabbit: Rabbit, events: Events
) -> None:
    queue = rabbit.queue()
    rabbit.channel.queue_declare(queue, durable=True)
    async with running(AmqpBroker(amqp_url, observer=events)) as broker:
        await publish(broker, queue, "bad")
        consumer = await broker.consume(queue, prefetch=1)
        rabbit.channel.queue_delete(f"{queue}_error")
        [bad] = await receive(consumer, 1)
        await consumer.dead_letter(bad, "because " * 1000)
        [dead] = await receive(await broker.consume(f"{queue}_error", prefetch=1), 1)
        assert dead.message.headers["x-original-queue"] == queue
        assert dead.message.headers["x-reason"].startswith("because because")
        await consumer.close()
        await until_depth(broker, queue, 0)


@pytest.mark.fault("F33")
async def test_whoever_made_a_queue_it_has_an_error_queue_once_it_is_consumed(
    amqp_url: str, rabbit: Rabbit, events: Events
) -> None:
    """The original names that queue in the arguments of its queues, and never made it."""
    queue = rabbit.queue()
    dead = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": f"{queue}_error"}
    rabbit.channel.queue_declare(queue, durable=True, arguments=dead)
    async with running(AmqpBroker(amqp_url, observer=events)) as broker:
        with pytest.raises(QueueMismatch):
            await broker.check(f"{queue}_error")
        await broker.consume(queue, prefetch=1)
        rabbit.consume_rejecting(queue)
        # What another client rejects, or a delivery limit ends, is dead-lettered by RabbitMQ itself.
        await publish(broker, queue, "to us or to them", "to the other one")
        await asyncio.to_thread(rabbit.serve)
        await until_depth(broker, f"{queue}_error", 1)


async def test_a_message_that_cannot_be_dead_lettered_goes_back(
    amqp_url: str, rabbit: Rabbit, events: Events
) -> None:
    queue = rabbit.queue()
    rabbit.channel.queue_declare(queue, durable=True)
    rabbit.channel.queue_declare(
        f"{queue}_error", durable=True, arguments={"x-max-length": 0, "x-overflow": "reject-publish"}
    )
    async with running(AmqpBroker(amqp_url, observer=events)) as broker:
        await publish(broker, queue, "bad")
        consumer = await broker.consume(queue, prefetch=1)
        [bad] = await receive(consumer, 1)
        await consumer.dead_letter(bad, "no")
        assert (await events.wait_for("consumer.dead_letter_failed"))["queue"] == queue
        [again] = await receive(consumer, 1)
        assert again.redelivered


# --------------------------------------------------------------------------------- secrets and TLS


async def test_a_refused_login_is_told_without_the_password(amqp_url: str, events: Events) -> None:
    wrong = amqp_url.replace("guest:guest", "guest:s3cret-canary")
    async with running(AmqpBroker(wrong, observer=events)):
        await events.wait_for("broker.disconnected", 2)
    assert "ACCESS_REFUSED" in str(events.told)
    assert "s3cret-canary" not in str(events.told)


def test_an_unusable_url_is_refused_without_showing_it(events: Events) -> None:
    for url in ("amqp://user:s3cret-canary@host:port/x", "amqp://user:s3cret-canary@host/?nonsense=1", "http://x"):
        with pytest.raises(ConfigError, match="amqp://") as caught:
            AmqpBroker(url, observer=events)
        assert "s3cret-canary" not in str(caught.value)


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A self-signed certificate for 127.0.0.1, with its key in the same file."""
    pem, key = tmp_path / "server.pem", tmp_path / "server.key"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(pem)],
        check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    (tmp_path / "both.pem").write_text(pem.read_text() + key.read_text())
    return tmp_path / "both.pem"


@asynccontextmanager
async def _tls_server(certificate: Path, amqp_url: str) -> AsyncGenerator[str, None]:
    """A TLS front of the tests' broker; yields its `host:port/vhost`."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    async with tcp_proxy(amqp_url) as proxy:
        server = await asyncio.start_server(proxy.handle, "127.0.0.1", 0, ssl=context)
        try:
            yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}/%2F"
        finally:
            server.close()


async def test_amqps_refuses_a_certificate_that_nobody_vouches_for(
    amqp_url: str, certificate: Path, events: Events
) -> None:
    """S12."""
    async with _tls_server(certificate, amqp_url) as place:
        async with running(AmqpBroker(f"amqps://guest:guest@{place}", observer=events)):
            told = await events.wait_for("broker.disconnected")
        assert events.count("broker.connected") == 0
        assert "certificate" in told["reason"].lower()


@pytest.mark.filterwarnings("ignore:ssl.PROTOCOL_TLS:DeprecationWarning")
async def test_amqps_works_with_a_named_authority_but_not_without_verification(
    amqp_url: str, certificate: Path, rabbit: Rabbit, events: Events
) -> None:
    """S12."""
    async with _tls_server(certificate, amqp_url) as place:
        trusting = f"amqps://guest:guest@{place}?ssl_options=" + quote(repr({"ca_certs": str(certificate)}))
        async with running(AmqpBroker(trusting, observer=events)) as broker:
            queue = await _declared(rabbit, broker)
            await publish(broker, queue, "over TLS")
            assert texts(await receive(await broker.consume(queue, prefetch=1), 1)) == ["over TLS"]
        blind = quote(repr({"ca_certs": str(certificate), "protocol": int(ssl.PROTOCOL_TLS)}))
        with pytest.raises(ConfigError, match="verification"):
            AmqpBroker(f"amqps://guest:guest@{place}?ssl_options={blind}", observer=events)

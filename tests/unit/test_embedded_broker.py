"""What the embedded broker does beside the contract of all brokers: memory, rows, faults of its database."""

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
from sqlalchemy import func, select, text

from openaperture.brokers.embedded import EmbeddedBroker, queue
from openaperture.database import Database
from openaperture.database.tables import queue_messages
from openaperture.domain.errors import BrokerUnavailable, ConfigError, QueueMismatch, Unconfirmed, Unroutable
from openaperture.ports import Address, Message
from tests.contract.brokers import Events, publish, receive, texts, until
from tests.contract.stores import fresh_schema


@pytest.fixture
async def database(tmp_path: Path) -> AsyncGenerator[Database]:
    opened = await Database.open(f"sqlite:///{tmp_path / 'it.db'}")
    yield opened
    await opened.close()


async def _rows(database: Database) -> int:
    return await database.read(lambda c: c.scalars(select(func.count()).select_from(queue_messages)).one())


async def _crash(database: Database) -> EmbeddedBroker:
    """What a process finds that starts after a kill -9: the rows, and nothing that was in memory."""
    return EmbeddedBroker(database, observer=Events())


async def test_a_queue_longer_than_memory_is_delivered_whole_and_in_order(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Invariant I10."""
    monkeypatch.setattr(queue, "MEMORY_LIMIT", 10)
    monkeypatch.setattr(queue, "READ_AT_ONCE", 7)
    broker = EmbeddedBroker(database, observer=Events())
    await broker.declare("q")
    sent = [str(number) for number in range(60)]
    await publish(broker, "q", *sent[:30])
    assert len(broker._queues["q"]._ready) == 10
    consumers = [await broker.consume("q", prefetch=3) for _ in range(2)]
    received: list[str] = []

    async def take(number: int) -> None:
        while len(received) < len(sent):
            [delivery] = await consumers[number].receive(1)
            received.append(delivery.message.body.decode())
            assert not delivery.redelivered
            await consumers[number].ack([delivery])

    async with asyncio.timeout(20):
        takers = [asyncio.ensure_future(take(number)) for number in range(2)]
        await publish(broker, "q", *sent[30:])
        await asyncio.wait(takers, return_when=asyncio.FIRST_COMPLETED)
    for taker in takers:
        taker.cancel()
    assert sorted(received, key=int) == sent
    assert await broker.depth("q") == 0
    await broker.close()
    assert await _rows(database) == 0


async def test_a_waiting_consumer_gets_what_another_ones_reading_left_over(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = EmbeddedBroker(database, observer=Events())
    await broker.declare("q")
    await publish(broker, "q", *"abcdef")
    monkeypatch.setattr(queue, "READ_AT_ONCE", 1)
    again = await _crash(database)
    first, second = await again.consume("q", prefetch=1), await again.consume("q", prefetch=1)
    waiting = [asyncio.ensure_future(consumer.receive(1)) for consumer in (first, second)]
    async with asyncio.timeout(20):
        got = await asyncio.gather(*waiting)
    assert sorted(texts([*got[0], *got[1]])) == ["a", "b"]


@pytest.mark.fault("F21")
async def test_after_a_crash_all_unacked_messages_are_free_again(database: Database) -> None:
    """Failure model F21: which of them had been delivered is not known, so all may have been."""
    broker = EmbeddedBroker(database, observer=Events())
    await broker.declare("q")
    await publish(broker, "q", "acked", "held", "waiting")
    consumer = await broker.consume("q", prefetch=2)
    acked, _held = await receive(consumer, 2)
    await consumer.ack([acked])

    async def forgotten() -> bool:
        return await _rows(database) == 2

    await until(forgotten)
    after = await _crash(database)
    await after.check("q")
    await after.check("q_error")
    back = await receive(await after.consume("q", prefetch=9), 2)
    assert texts(back) == ["held", "waiting"]
    assert all(delivery.redelivered for delivery in back)
    await publish(after, "q", "new")
    assert await after.depth("q") in {0, 1}


async def test_a_dead_letter_is_never_in_no_queue(database: Database) -> None:
    broker = EmbeddedBroker(database, observer=Events())
    await broker.declare("q")
    await publish(broker, "q", "bad")
    consumer = await broker.consume("q", prefetch=1)
    await consumer.dead_letter((await receive(consumer, 1))[0], "because \ud800")
    after = await _crash(database)
    assert (await after.depth("q"), await after.depth("q_error")) == (0, 1)
    [dead] = await receive(await after.consume("q_error", prefetch=1), 1)
    assert dead.message.headers["x-reason"] == "because ?"


async def test_a_message_without_an_error_queue_goes_back_and_is_reported(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = Events()
    broker = EmbeddedBroker(database, observer=events)
    await broker.declare("q")
    await publish(broker, "q_error", "bad")
    consumer = await broker.consume("q_error", prefetch=1)
    burying = asyncio.ensure_future(consumer.dead_letter((await receive(consumer, 1))[0], "twice"))
    told = await events.wait_for("consumer.dead_letter_failed")
    assert "q_error" in told["error"]
    await burying
    [back] = await receive(consumer, 1)
    assert back.redelivered


async def test_what_cannot_be_stored_fails_alone(database: Database) -> None:
    broker = EmbeddedBroker(database, observer=Events())
    await broker.declare("q")

    async def outcome(message: Message) -> str:
        try:
            await broker.publish(Address(routing_key="q"), message)
        except Unroutable:
            return "refused"
        return "stored"

    messages = [
        Message(body=b"a"),
        Message(body=b"b", message_id="\ud800"),
        Message(body=b"c", headers={"k": "\ud800"}),
        Message(body=bytes(17 * 1_048_576)),
        Message(body=b"e"),
    ]
    fates = await asyncio.gather(*map(outcome, messages))
    assert fates == ["stored", "refused", "refused", "refused", "stored"]


async def test_publishing_to_a_database_that_went_away_is_unconfirmed(tmp_path: Path) -> None:
    database = await Database.open(f"sqlite:///{tmp_path / 'it.db'}")
    broker = EmbeddedBroker(database, observer=Events())
    await broker.declare("q")
    await database.close()
    with pytest.raises(Unconfirmed, match="closed"):
        await publish(broker, "q", "late")
    with pytest.raises(BrokerUnavailable):
        await broker.declare("other")


async def test_acks_that_could_not_be_written_are_written_later(database: Database) -> None:
    """A handled message stays handled while the process lives: a fault of the disk redelivers nothing."""
    events = Events()
    broker = EmbeddedBroker(database, observer=events)
    await broker.declare("q")
    await publish(broker, "q", "a")
    consumer = await broker.consume("q", prefetch=1)
    refuse = "CREATE TRIGGER refuse BEFORE DELETE ON queue_messages BEGIN SELECT RAISE(ABORT, 'not now'); END"
    await database.write(lambda c: c.execute(text(refuse)))
    await consumer.ack(await receive(consumer, 1))
    await events.wait_for("broker.unforgotten")
    await database.write(lambda c: c.execute(text("DROP TRIGGER refuse")))
    assert await broker.depth("q") == 0
    await publish(broker, "q", "b")
    assert await _rows(database) == 1


async def test_a_temporary_queue_cannot_take_the_name_of_a_lasting_one(database: Database) -> None:
    broker = EmbeddedBroker(database, observer=Events())
    await broker.declare("q")
    with pytest.raises(QueueMismatch):
        await broker.consume("q", prefetch=1, temporary=True)
    await broker.consume("answers", prefetch=1, temporary=True)
    with pytest.raises(QueueMismatch):
        await broker.declare("answers")
    await publish(broker, "answers", "x")
    assert await _rows(database) == 0


async def test_a_temporary_queue_that_nobody_reads_is_bounded(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Invariant I10."""
    monkeypatch.setattr(queue, "MEMORY_LIMIT", 3)
    broker = EmbeddedBroker(database, observer=Events())
    await broker.consume("answers", prefetch=1, temporary=True)
    await publish(broker, "answers", *"abcd")
    with pytest.raises(BrokerUnavailable, match="full"):
        await publish(broker, "answers", "e")


async def test_the_embedded_broker_needs_sqlite(postgresql_url: str) -> None:
    with fresh_schema(postgresql_url) as url:
        database = await Database.open(url)
        with pytest.raises(ConfigError, match="RabbitMQ"):
            EmbeddedBroker(database, observer=Events())
        await database.close()

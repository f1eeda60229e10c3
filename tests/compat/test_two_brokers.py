"""The brokers that the cases are played with: what is published is seen once, with the broker that it came by."""

from contextlib import closing

import pika
import pytest
from pika.exceptions import UnroutableError
from pika.spec import Basic

from openaperture.codecs.etf import encode
from tests.compat.rabbit import UNBOUND_EXCHANGE, Post
from tests.compat.stages import World

WORKFLOW = "0b7f9f0e-9a55-4e7e-8d3c-3e2a5f7f7b11"


def test_what_is_published_is_seen_with_its_broker_and_its_types(world: World) -> None:
    journal = world.journal
    with world.hosts["2"].connect() as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        properties = pika.BasicProperties(delivery_mode=2)
        body = encode({"id": WORKFLOW})
        channel.basic_publish("lab", "lab.builder", body, properties, mandatory=True)
        with pytest.raises(UnroutableError):
            channel.basic_publish(UNBOUND_EXCHANGE, "lab.builder", body, properties, mandatory=True)
    assert journal.wait(WORKFLOW, lambda: bool(journal.of(WORKFLOW).messages), 10)
    (message,) = journal.of(WORKFLOW).messages
    assert (message.broker, message.exchange, message.routing_key) == ("2", "lab", "lab.builder")
    assert (message.queue, message.payload) == ("builder", {"id": WORKFLOW})
    assert message.properties["delivery_mode"] == 2
    assert message.properties["content_type"] is None


def test_a_rejected_delivery_is_found_among_the_dead_and_an_unacknowledged_one_among_the_left(
    world: World,
) -> None:
    with closing(Post(world.hosts["1"], "compat.fates")) as post:
        for body in (b"rejected", b"unacknowledged", b"acknowledged"):
            post.deliver(body)
        with world.hosts["1"].connect() as connection:
            channel = connection.channel()
            rejected, _, acknowledged = [channel.basic_get("compat.fates")[0] for _ in range(3)]
            channel.basic_reject(tag_of(rejected), requeue=False)
            channel.basic_ack(tag_of(acknowledged))
        assert post.take_left() == [b"unacknowledged"]
        assert post.take_dead() == [b"rejected"]


def tag_of(got: Basic.GetOk | None) -> int:
    assert got is not None, "the queue gave no message"
    return got.delivery_tag or 0

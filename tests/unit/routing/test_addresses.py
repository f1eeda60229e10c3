"""Urls of connections: nothing in a row may break out of its place."""

import pytest
from pika import PlainCredentials, URLParameters

from openaperture.client.rows import Connection
from openaperture.routing.addresses import url_of

ODD = "p@ss:w/rd#?%2F é[x]"


@pytest.mark.parametrize(
    ("connection", "url"),
    [
        (Connection(host="mq-1", username="oa", password="pw1", virtual_host="oa"), "amqp://oa:pw1@mq-1:5672/oa"),
        (Connection(host="mq-1", username="oa", password="pw1", port=5673), "amqp://oa:pw1@mq-1:5673/%2F"),
        (Connection(host="mq-1", username="oa", port="5673"), "amqp://oa:@mq-1:5673/%2F"),
        (Connection(host="mq-1", port="", virtual_host=""), "amqp://mq-1:5672/%2F"),
        (Connection(host="mq-1", virtual_host="/"), "amqp://mq-1:5672/%2F"),
        (Connection(host="::1", virtual_host="a/b"), "amqp://[::1]:5672/a%2Fb"),
        (Connection(host="mq-1", port=5671), "amqps://mq-1:5671/%2F"),
        (Connection(host="mq-1", port=5671, username="a"), "amqps://a:@mq-1:5671/%2F"),
        (Connection(host=None), None),
        (Connection(host=" "), None),
        (Connection(host="mq-1", port=0), None),
        (Connection(host="mq-1", port=70_000), None),
        (Connection(host="mq-1", port="amqp"), None),
    ],
    ids=repr,
)
def test_a_connection_becomes_a_url(connection: Connection, url: str | None) -> None:
    assert url_of(connection) == url


def test_odd_characters_arrive_as_they_are() -> None:
    url = url_of(Connection(host="mq-1", username=ODD, password=ODD, virtual_host=ODD))
    assert url is not None
    parameters = URLParameters(url)
    assert (parameters.host, parameters.port, parameters.virtual_host) == ("mq-1", 5672, ODD)
    assert isinstance(parameters.credentials, PlainCredentials)
    assert (parameters.credentials.username, parameters.credentials.password) == (ODD, ODD)


@pytest.mark.parametrize(
    "host", ["evil/x", "user@evil", "mq-1:1/x?y", "a b", "[::1]", "::1%eth0", "a:b", "x" * 254, "é"]
)
def test_a_host_that_can_be_none_is_not_used(host: str) -> None:
    assert url_of(Connection(host=host, username="oa", password="pw", virtual_host="oa")) is None

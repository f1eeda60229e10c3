"""Two brokers with the topology of the cases: two virtual hosts of the RabbitMQ that all tests share.

Nothing is bound but what looks on: a message that the orchestrator sends to itself does not come back by itself.
"""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import pika
from pika.adapters.blocking_connection import BlockingChannel, BlockingConnection
from pika.exchange_type import ExchangeType
from pika.spec import Basic, BasicProperties

from tests.compat.journal import Journal, published
from tests.servers import LOOPBACK, RabbitServer

CONTROL = "/usr/lib/rabbitmq/bin/rabbitmqctl"
ROOT_EXCHANGES = ("AWS", "lab")
UNBOUND_EXCHANGE = "unbound"
"""A root exchange that leads nowhere: what is published there is returned."""
OBSERVER = "observer"
BROKER_IDS = ("1", "2")
CHECK_SECONDS = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class VirtualHost:
    """One broker of the cases."""

    broker_id: str
    name: str
    port: int

    @property
    def url(self) -> str:
        return f"amqp://guest:guest@{LOOPBACK}:{self.port}/{quote(self.name, safe='')}"

    @property
    def row(self) -> dict[str, Any]:
        """As the Manager lists its connection."""
        return {
            "id": int(self.broker_id) * 10 + 1,
            "messaging_broker_id": int(self.broker_id),
            "username": "guest",
            "password": "guest",
            "host": LOOPBACK,
            "port": self.port,
            "virtual_host": self.name,
        }

    def connect(self) -> BlockingConnection:
        parameters = pika.URLParameters(f"{self.url}?heartbeat=0")  # it is used now and then only
        return BlockingConnection(parameters)


@contextmanager
def virtual_hosts(server: RabbitServer) -> Iterator[dict[str, VirtualHost]]:
    """Fresh virtual hosts with their exchanges, by broker id; gone at the end with all that is in them."""
    run = uuid4().hex[:8]
    hosts = {
        broker_id: VirtualHost(broker_id=broker_id, name=f"compat-{run}-{broker_id}", port=server.port)
        for broker_id in BROKER_IDS
    }
    names = ", ".join(f'<<"{host.name}">>' for host in hosts.values())
    add = 'rabbit_vhost:add(V, <<"tests">>)'
    allow = (
        'rabbit_auth_backend_internal:set_permissions(<<"guest">>, V, <<".*">>, <<".*">>, <<".*">>, <<"tests">>)'
    )
    _control(server, f"[begin {add}, {allow} end || V <- [{names}]].")
    try:
        for host in hosts.values():
            with host.connect() as connection:
                declare_topology(connection.channel())
        yield hosts
    finally:
        _control(server, f'[rabbit_vhost:delete(V, <<"tests">>) || V <- [{names}]].')


def declare_topology(channel: BlockingChannel) -> None:
    channel.exchange_declare(UNBOUND_EXCHANGE, ExchangeType("topic"), durable=True)
    channel.queue_declare(OBSERVER)
    for exchange in ROOT_EXCHANGES:
        channel.exchange_declare(exchange, ExchangeType("topic"), durable=True)
        channel.queue_bind(OBSERVER, exchange, "#")


def _control(server: RabbitServer, expression: str) -> None:
    """Ask the node itself: one call for all virtual hosts, where rabbitmqctl's verbs take a second each."""
    server.control("eval", expression)


def is_installed() -> bool:
    return Path(CONTROL).exists()


@contextmanager
def observing(hosts: Mapping[str, VirtualHost], journal: Journal) -> Iterator[None]:
    """Everything that is published goes into the journal, with the broker that it came by."""
    with ExitStack() as stack:
        for host in hosts.values():
            stack.enter_context(_observing(host, journal))
        yield


@contextmanager
def _observing(host: VirtualHost, journal: Journal) -> Iterator[None]:
    connection = host.connect()
    channel = connection.channel()

    def note(_: BlockingChannel, method: Basic.Deliver, properties: BasicProperties, body: bytes) -> None:
        journal.add(
            published(
                broker=host.broker_id,
                exchange=method.exchange or "",
                routing_key=method.routing_key or "",
                properties=vars(properties),
                body=body,
            )
        )

    channel.basic_consume(OBSERVER, note, auto_ack=True)
    thread = threading.Thread(target=channel.start_consuming)
    thread.start()
    try:
        yield
    finally:
        connection.add_callback_threadsafe(channel.stop_consuming)
        thread.join()
        connection.close()


class Post:
    """Puts messages into one queue of an orchestrator, and looks at what is left in it. Threads may share it."""

    def __init__(self, host: VirtualHost, queue: str) -> None:
        self._connection = host.connect()
        self._channel = self._connection.channel()
        self._channel.confirm_delivery()
        self._lock = threading.Lock()
        self._queue = queue
        self._error_queue = f"{queue}_error"
        arguments = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": self._error_queue}
        self._channel.queue_declare(queue, durable=True, arguments=arguments)
        self._channel.queue_declare(self._error_queue, durable=True)

    def deliver(self, body: bytes) -> None:
        """As the original's library does: persistent, and nothing said about the content."""
        with self._lock:
            self._channel.basic_publish("", self._queue, body, BasicProperties(delivery_mode=2), mandatory=True)

    def wait_for_consumer(self, timeout_seconds: float, may_come: Callable[[], bool]) -> bool:
        """Whether somebody consumes from the queue in time. Gives up when nobody may come any more."""
        return _wait(lambda: self._consumers() > 0 or not may_come(), timeout_seconds) and self._consumers() > 0

    def wait_until_unconsumed(self, timeout_seconds: float) -> bool:
        """Then what was not acknowledged is back in the queue."""
        return _wait(lambda: self._consumers() == 0, timeout_seconds)

    def wait_until_taken(self, timeout_seconds: float) -> bool:
        """Whether an orchestrator has taken everything. It may not have acknowledged it yet."""
        return _wait(lambda: self.waiting() == 0, timeout_seconds)

    def _consumers(self) -> int:
        with self._lock:
            return self._channel.queue_declare(self._queue, passive=True).method.consumer_count or 0

    def waiting(self) -> int:
        """How many messages nobody has taken."""
        with self._lock:
            return self._channel.queue_declare(self._queue, passive=True).method.message_count or 0

    def bind_observer(self, exchange: str) -> None:
        with self._lock:
            self._channel.queue_bind(OBSERVER, exchange, "#")

    def take_left(self) -> list[bytes]:
        """What nobody took, or took and did not acknowledge before it went."""
        return self._take(self._queue)

    def take_dead(self) -> list[bytes]:
        return self._take(self._error_queue)

    def _take(self, queue: str) -> list[bytes]:
        bodies: list[bytes] = []
        with self._lock:
            while (body := self._channel.basic_get(queue, auto_ack=True)[2]) is not None:
                bodies.append(bytes(body))  # type: ignore[arg-type]  # the stubs say str; pika gives bytes
        return bodies

    def close(self) -> None:
        with self._lock:
            self._connection.close()


def _wait(holds: Callable[[], bool], timeout_seconds: float) -> bool:
    """AMQP tells of none of this by itself."""
    deadline = time.monotonic() + timeout_seconds
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(CHECK_SECONDS)
    return True

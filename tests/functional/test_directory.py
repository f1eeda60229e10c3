"""From a milestone's need to a queue on a real RabbitMQ, by a Manager over real HTTP."""

import asyncio
import json
import threading
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from random import Random
from typing import Any
from urllib.parse import unquote, urlsplit
from uuid import uuid4

import pika
import pytest

from openaperture.brokers.amqp import AmqpBroker
from openaperture.client.oauth import TokenSource
from openaperture.client.original import OriginalManager
from openaperture.domain.errors import BrokerUnavailable, Unroutable
from openaperture.domain.routes import ExchangeBy, Need, Route
from openaperture.observability.clock import SystemClock
from openaperture.ports import Message
from openaperture.routing import BrokerPool, Directory, Router
from tests.contract.brokers import Events, running
from tests.servers import LOOPBACK, free_port

ROOT = "amq.topic"
"""The root exchange: one that every RabbitMQ has."""
NEED = Need(milestone="build", queue="builder", module_type="builder", exchange_by=ExchangeBy.BUILD_CLUSTER)


@dataclass
class Answers:
    """What the Manager says, by path, and what it was asked."""

    by_path: dict[str, Any] = field(default_factory=dict[str, Any])
    asked: list[str] = field(default_factory=list[str])
    tokens: set[str] = field(default_factory=set[str])
    url: str = ""


@contextmanager
def manager_at_work() -> Generator[Answers]:
    answers = Answers()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self._say(200, {"access_token": "TOKEN", "expires_in": 3600})

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            answers.asked.append(path)
            answers.tokens.add(self.headers["Authorization"])
            found = answers.by_path.get(path)
            self._say(404 if found is None else 200, found)

        def _say(self, status: int, value: Any) -> None:
            body = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the name of the base class
            pass

    server = ThreadingHTTPServer((LOOPBACK, 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    answers.url = f"http://{LOOPBACK}:{server.server_port}"
    try:
        yield answers
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def queue(amqp_url: str) -> Generator[str]:
    """A queue bound to the root exchange, with its own name as the key, as operators do it."""
    connection = pika.BlockingConnection(pika.URLParameters(amqp_url))
    channel = connection.channel()
    name = f"test.{uuid4().hex[:12]}.builder"
    channel.queue_declare(name, durable=True)
    channel.queue_bind(name, ROOT, name)
    yield name
    channel.queue_delete(name)
    connection.close()


def _connection(url: str, port: int | None = None) -> dict[str, Any]:
    parts = urlsplit(url)
    return {
        "id": 1,
        "host": parts.hostname,
        "port": port or parts.port,
        "username": unquote(parts.username or ""),
        "password": unquote(parts.password or ""),
        "virtual_host": unquote(parts.path[1:]) or None,
    }


def _fill(answers: Answers, queue: str, amqp_url: str, *, dead_port: int) -> None:
    """Exchange 1 is reached over broker 2, which is this RabbitMQ; broker 3 is nowhere and fails over to 2."""
    exchange = {"id": 1, "routing_key": queue.removesuffix(".builder"), "root_exchange_name": ROOT}
    cluster = {"etcd_token": "t", "messaging_exchange_id": 1}
    answers.by_path |= {
        "/messaging/exchanges/1": exchange,
        "/messaging/exchanges/1/clusters": [cluster],
        "/messaging/exchanges/1/modules": [{"hostname": "b", "type": "builder", "status": "active"}],
        "/messaging/exchanges/1/brokers": [{"id": 77, "messaging_broker_id": 2}],
        "/messaging/brokers/2": {"id": 2, "failover_broker_id": None},
        "/messaging/brokers/2/connections": [_connection(amqp_url)],
        "/messaging/brokers/3": {"id": 3, "failover_broker_id": 2},
        "/messaging/brokers/3/connections": [_connection(amqp_url, dead_port)],
    }


class Site:
    """Router and pool as the product puts them together."""

    def __init__(self, answers: Answers, amqp_url: str) -> None:
        clock, self.events = SystemClock(), Events()
        tokens = TokenSource(f"{answers.url}/oauth/token", "id", "secret", clock)
        self.manager = OriginalManager(answers.url, tokens, clock)
        directory = Directory(self.manager, clock)
        self.own = AmqpBroker(amqp_url, observer=self.events)
        self.router = Router(
            directory,
            self.events,
            own_exchange_id="1",
            own_broker_id="1",
            chance=Random(),
            now=lambda: datetime.now(UTC),
        )
        self.pool = BrokerPool(
            directory,
            self.own,
            "1",
            lambda url: AmqpBroker(url, observer=self.events),
            self.events,
            clock=clock,
            chance=Random(),
        )

    async def publish(self, route: Route, *, timeout_seconds: float = 10.0) -> None:
        message = Message(body=b"request", content_type=None, message_id="m-1")
        await self.pool.publish(route, message, timeout_seconds=timeout_seconds)


@asynccontextmanager
async def opened(answers: Answers, amqp_url: str) -> AsyncGenerator[Site]:
    site = Site(answers, amqp_url)
    async with site.manager, running(site.own), asyncio.timeout(60), asyncio.TaskGroup() as tasks:
        pool = tasks.create_task(site.pool.run())
        yield site
        await site.pool.close()
        await pool


async def test_a_request_reaches_the_workers_of_the_broker_that_the_manager_names(
    amqp_url: str, queue: str
) -> None:
    with manager_at_work() as answers:
        _fill(answers, queue, amqp_url, dead_port=free_port(25_900))
        async with opened(answers, amqp_url) as site:
            route = await site.router.route(NEED)
            assert (route.broker_id, route.exchange, route.routing_key) == ("2", ROOT, queue)
            await asyncio.gather(*(site.publish(route) for _ in range(50)))
            assert await site.own.depth(queue) == 50
            assert site.events.count("pool.opened") == 1
            with pytest.raises(Unroutable):
                await site.publish(replace(route, routing_key=f"{queue}.nobody"))
            with pytest.raises(Unroutable):
                await site.publish(replace(route, exchange=f"{queue}.none"))
    assert answers.tokens == {"Bearer access_token=TOKEN"}
    password = urlsplit(amqp_url).password
    assert password
    assert f":{password}@" not in repr(site.events.told)


async def test_a_broker_that_is_down_is_failed_over_from(amqp_url: str, queue: str) -> None:
    with manager_at_work() as answers:
        _fill(answers, queue, amqp_url, dead_port=free_port(25_900))
        answers.by_path["/messaging/exchanges/1/brokers"] = [{"id": 78, "messaging_broker_id": 3}]
        async with opened(answers, amqp_url) as site:
            route = await site.router.route(NEED)
            assert route.broker_id == "3"
            await site.publish(route, timeout_seconds=2.0)
            await site.publish(route)
            assert await site.own.depth(queue) == 2
            assert site.events.count("pool.failed_over") == 1
            with pytest.raises(BrokerUnavailable):
                await site.publish(replace(route, failover=None), timeout_seconds=0.5)
            assert await site.own.depth(queue) == 2

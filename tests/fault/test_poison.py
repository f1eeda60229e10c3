"""Messages that end the process that handles them are found out, by counts that outlive the process."""

import json
import os
import time
from collections.abc import Generator
from pathlib import Path
from uuid import uuid4

import pika
import psycopg
import pytest

from openaperture.ports import BEGUN_LIMIT
from tests.contract.brokers import AmqpSite
from tests.contract.stores import fresh_schema
from tests.fault.deployment import Process
from tests.fault.fragile import EXIT_CODE
from tests.servers import PROJECT

MARK = "deadly-repository"
NEIGHBOURS = 30
PATIENCE_SECONDS = 90


class Intake:
    """The queue of the orchestrators, seen from outside."""

    def __init__(self, url: str, queue: str) -> None:
        self._connection = pika.BlockingConnection(pika.URLParameters(f"{url}?heartbeat=0"))
        self._channel = self._connection.channel()
        self._channel.confirm_delivery()
        self.queue = queue
        for name in (f"{queue}_error", queue):
            dead = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": f"{queue}_error"}
            self._channel.queue_declare(name, durable=True, arguments=dead if name == queue else None)

    def start(self, **fields: object) -> str:
        """Ask for a release without milestones, which completes at once."""
        message = {"id": str(uuid4()), "milestones": [], **fields}
        self._channel.basic_publish("", self.queue, json.dumps(message).encode(), mandatory=True)
        return str(message["id"])

    def depth(self, queue: str) -> int:
        return self._channel.queue_declare(queue, passive=True).method.message_count or 0

    def reason(self) -> str:
        """Of the first dead letter."""
        _, properties, _ = self._channel.basic_get(f"{self.queue}_error", auto_ack=True)
        assert properties is not None
        return str((properties.headers or {})["x-reason"])

    def close(self) -> None:
        self._connection.close()


@pytest.fixture
def intake(amqp_url: str) -> Generator[Intake]:
    site = AmqpSite(amqp_url)
    intake = Intake(amqp_url, site.queue())
    yield intake
    intake.close()
    site.delete_queues()


@pytest.fixture
def database(postgresql_url: str) -> Generator[str]:
    with fresh_schema(postgresql_url) as url:
        yield url


@pytest.fixture
def orchestrator(intake: Intake, database: str, amqp_url: str, tmp_path: Path) -> Generator[Process]:
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("OPENAPERTURE_")}
    environment = {
        **inherited,
        "PYTHONPATH": os.pathsep.join([str(PROJECT), str(PROJECT / "src")]),
        "OPENAPERTURE_BROKER": amqp_url,
        "OPENAPERTURE_DATABASE": database,
        "OPENAPERTURE_DATA_DIR": str(tmp_path),
        "OPENAPERTURE_DECLARE_QUEUES": "false",
        "OPENAPERTURE_QUEUE_NAME": intake.queue,
    }
    process = Process([MARK], environment, tmp_path / "fragile.log", module="tests.fault.fragile")
    process.start()
    yield process
    process.kill()


def _restart_until_one_is_put_aside(orchestrator: Process, intake: Intake) -> int:
    """As a supervisor would; answers how often it died."""
    deaths = 0
    deadline = time.monotonic() + PATIENCE_SECONDS
    while intake.depth(f"{intake.queue}_error") == 0:
        assert time.monotonic() < deadline, f"died {deaths} times; {orchestrator.log.read_text()[-2000:]}"
        assert orchestrator.popen is not None
        if (code := orchestrator.popen.poll()) is not None:
            assert code == EXIT_CODE, orchestrator.log.read_text()[-2000:]
            deaths += 1
            orchestrator.start()
        time.sleep(0.05)
    return deaths


def _until_completed(database: str, ids: list[str]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    query = "select count(*) from workflows where state = 'completed' and id = any(%s)"
    while True:
        with psycopg.connect(database) as connection:
            completed = connection.execute(query, [ids]).fetchone()
        if completed == (len(ids),):
            return
        assert time.monotonic() < deadline, completed
        time.sleep(0.05)


@pytest.mark.fault("F01", "F31")
def test_a_message_that_kills_the_process_is_put_aside_and_its_neighbours_are_handled(
    orchestrator: Process, intake: Intake, database: str
) -> None:
    neighbours = [intake.start() for _ in range(NEIGHBOURS // 2)]
    deadly = intake.start(source_repo=MARK)
    neighbours += [intake.start() for _ in range(NEIGHBOURS // 2)]

    deaths = _restart_until_one_is_put_aside(orchestrator, intake)

    assert 2 <= deaths <= BEGUN_LIMIT + 1
    _until_completed(database, neighbours)
    assert intake.depth(f"{intake.queue}_error") == 1
    assert "an orchestrator ended while it had this message" in intake.reason()
    with psycopg.connect(database) as connection:
        assert connection.execute("select id from workflows where id = %s", [deadly]).fetchone() is None
        left = connection.execute("select count(*) from inbox where message_id like 'begun/%%'", []).fetchone()
    assert left == (0,)
    assert orchestrator.terminate() == 0

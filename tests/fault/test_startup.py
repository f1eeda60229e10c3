"""Servers and orchestrators may come up in any order."""

import os
import time
from collections.abc import Generator
from pathlib import Path

import pytest

from tests.contract.brokers import AmqpSite
from tests.fault.deployment import Process
from tests.servers import PostgresServer

PATIENCE_SECONDS = 60


@pytest.fixture
def orchestrator(amqp_url: str, postgres_server: PostgresServer, tmp_path: Path) -> Generator[Process]:
    site = AmqpSite(amqp_url)
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("OPENAPERTURE_")}
    environment = inherited | {
        "OPENAPERTURE_BROKER": amqp_url,
        "OPENAPERTURE_DATABASE": postgres_server.url,
        "OPENAPERTURE_DATA_DIR": str(tmp_path),
        "OPENAPERTURE_QUEUE_NAME": site.queue(),
    }
    process = Process(["orchestrator"], environment, tmp_path / "orchestrator.log")
    yield process
    process.kill()
    site.delete_queues()


def _wait_for(process: Process, event: str) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while f'"event": "{event}"' not in process.log.read_text():
        assert process.popen is not None
        assert process.popen.poll() is None, process.log.read_text()
        assert time.monotonic() < deadline, process.log.read_text()
        time.sleep(0.05)


@pytest.mark.fault("F11", "F45")
def test_an_orchestrator_that_starts_before_its_database_waits_for_it(
    orchestrator: Process, postgres_server: PostgresServer
) -> None:
    postgres_server.stop()
    orchestrator.start()
    _wait_for(orchestrator, "orchestrator.waiting")
    postgres_server.start()
    _wait_for(orchestrator, "orchestrator.ready")
    assert orchestrator.terminate() == 0

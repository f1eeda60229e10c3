"""Ten running releases survive the kill -9 of each part (F12, F17, F45, F57, F61)."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from tests.fault.deployment import Deployment
from tests.servers import PostgresServer, RabbitServer

pytestmark = pytest.mark.timeout(240)
RELEASES = 10


@pytest.fixture
def deployment(
    tmp_path: Path, rabbit_server: RabbitServer, postgres_server: PostgresServer
) -> Iterator[Deployment]:
    name = f"releases_{time.monotonic_ns()}"
    with psycopg.connect(postgres_server.url, autocommit=True) as connection:
        connection.execute(f"create database {name}")
    database = postgres_server.url.rsplit("/", 1)[0] + f"/{name}"
    deployment = Deployment(folder=tmp_path, database=database, broker=rabbit_server.url)
    deployment.start(orchestrators=2, workers=2)
    yield deployment
    deployment.stop()


def kill_an_orchestrator(deployment: Deployment, _rabbit: RabbitServer, _postgres: PostgresServer) -> None:
    deployment.orchestrators[0].kill()
    deployment.orchestrators[0].start()


def kill_all_orchestrators(deployment: Deployment, _rabbit: RabbitServer, _postgres: PostgresServer) -> None:
    for orchestrator in deployment.orchestrators:
        orchestrator.kill()
    for orchestrator in deployment.orchestrators:
        orchestrator.start()


def kill_the_workers(deployment: Deployment, _rabbit: RabbitServer, _postgres: PostgresServer) -> None:
    for worker in deployment.workers:
        worker.kill()
    for worker in deployment.workers:
        worker.start()


def kill_rabbitmq(_deployment: Deployment, rabbit: RabbitServer, _postgres: PostgresServer) -> None:
    rabbit.kill()
    rabbit.start()


def kill_postgresql(_deployment: Deployment, _rabbit: RabbitServer, postgres: PostgresServer) -> None:
    postgres.kill()
    postgres.start()


@pytest.mark.parametrize(
    "strike",
    [kill_an_orchestrator, kill_all_orchestrators, kill_the_workers, kill_rabbitmq, kill_postgresql],
    ids=lambda strike: strike.__name__,
)
@pytest.mark.fault("F12", "F17", "F45", "F57")
def test_ten_releases_end_and_no_result_counts_twice(
    deployment: Deployment,
    rabbit_server: RabbitServer,
    postgres_server: PostgresServer,
    strike: Callable[[Deployment, RabbitServer, PostgresServer], None],
) -> None:
    ids = deployment.submit(RELEASES)
    deployment.wait_until_running(minimum_effects=6)

    strike(deployment, rabbit_server, postgres_server)

    deployment.wait_until_ended(ids, timeout_seconds=150)
    assert deployment.states(ids) == {"completed": RELEASES}
    completed = deployment.count_entries(ids, "milestone.completed")
    assert completed == {(workflow_id, milestone): 1 for workflow_id in ids for milestone in ("build", "deploy")}
    effects = deployment.runs()
    assert set(effects) == {
        f"{workflow_id} {milestone}" for workflow_id in ids for milestone in ("build", "deploy")
    }
    again = {name: count for name, count in effects.items() if count > 1}
    if strike is kill_the_workers:
        lost = deployment.count_entries(ids, "milestone.lost")
        losses = {f"{workflow_id} {milestone}": count for (workflow_id, milestone), count in lost.items()}
        assert all(count - 1 <= losses.get(name, 0) for name, count in again.items()), again
    else:
        assert not again, "an effect happened twice though no worker died"

"""Fixtures that every kind of test shares: the servers.

A server that is missing fails the tests in CI and skips them, with the reason, on a laptop.
"""

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from tests.failure_matrix import FailureMatrix
from tests.servers import PostgresServer, RabbitServer, Server, ServerMissing, services_folder, shared_servers

AnyServer = TypeVar("AnyServer", bound=Server)


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(FailureMatrix(), "failure matrix")


@pytest.fixture(scope="session")
def amqp_url() -> str:
    """A RabbitMQ that all tests share: use queue names of your own, and never stop it."""
    return os.environ.get("OPENAPERTURE_TEST_AMQP") or _started(shared_servers()[0]).url


@pytest.fixture(scope="session")
def postgresql_url() -> str:
    """A PostgreSQL that all tests share: use schemas of your own, and never stop it."""
    return os.environ.get("OPENAPERTURE_TEST_POSTGRESQL") or _started(shared_servers()[1]).url


@pytest.fixture(scope="module")
def _rabbit_of_module() -> Iterator[RabbitServer]:
    with _private_folder() as folder:
        server = RabbitServer(Path(folder) / RabbitServer.name)
        yield server
        server.remove()


@pytest.fixture(scope="module")
def _postgres_of_module() -> Iterator[PostgresServer]:
    with _private_folder() as folder:
        server = PostgresServer(Path(folder) / PostgresServer.name)
        yield server
        server.remove()


@pytest.fixture
def rabbit_server(_rabbit_of_module: RabbitServer) -> RabbitServer:
    """A RabbitMQ of this test module, running. It may be killed and started again."""
    return _started(_rabbit_of_module)


@pytest.fixture
def postgres_server(_postgres_of_module: PostgresServer) -> PostgresServer:
    """A PostgreSQL of this test module, running. It may be killed and started again."""
    return _started(_postgres_of_module)


@pytest.fixture
def installed_servers() -> None:
    """RabbitMQ and PostgreSQL are installed; the test starts its own."""
    for server in (RabbitServer, PostgresServer):
        _or_skip(server(Path(server.name)).install)


def _started(server: AnyServer) -> AnyServer:
    _or_skip(server.start)
    return server


def _or_skip(prepare: Callable[[], None]) -> None:
    try:
        prepare()
    except ServerMissing as exc:
        if os.environ.get("CI") == "true":
            pytest.fail(f"{exc}")
        pytest.skip(f"{exc}")


def _private_folder() -> tempfile.TemporaryDirectory[str]:
    services_folder().mkdir(parents=True, exist_ok=True)
    folder = tempfile.TemporaryDirectory(prefix="fault-", dir=services_folder(), ignore_cleanup_errors=True)
    Path(folder.name).chmod(0o711)  # the users that run the servers must get through
    return folder

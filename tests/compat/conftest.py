"""What the tests against the original's wire share: two brokers, and all that is seen of them."""

import os
from collections.abc import Iterator

import pytest

from tests.compat.journal import Journal
from tests.compat.rabbit import observing, virtual_hosts
from tests.compat.stages import World
from tests.servers import ServerMissing, shared_servers


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Two brokers of their own for this run, and a journal of all that leaves them."""
    server = shared_servers()[0]
    try:
        server.start()
    except ServerMissing as exc:
        if os.environ.get("CI") == "true":
            pytest.fail(f"{exc}")
        pytest.skip(f"{exc}")
    with virtual_hosts(server) as hosts:
        journal = Journal()
        with observing(hosts, journal):
            yield World(hosts=hosts, journal=journal, folder=tmp_path_factory.mktemp("compat"))

"""Two orchestrators of one original Manager on one PostgreSQL: one is killed in the middle of its work."""

import asyncio
import os
from collections import Counter
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import psycopg
import pytest

from openaperture.codecs import terms
from openaperture.domain.messages import OriginalMessage
from openaperture.domain.workflow import TERMINAL, State
from openaperture.engine.originals import recorded_fields
from tests.compat.manager import LOGIN_PATH
from tests.compat.rabbit import VirtualHost, virtual_hosts
from tests.compat.saves import steps_back, wrong_shapes
from tests.contract.brokers import until
from tests.contract.stores import fresh_schema
from tests.fault.deployment import Process
from tests.functional.original_site import OldHand, OriginalSite, opened_original_site
from tests.servers import shared_servers

RELEASE = ("config", "build", "deploy")
RELEASES = 36
ENDS = ("workflow_error", "workflow_completed", "current_step", "event_log", "workflow_step_durations")
"""Fields of a row that say how it went."""


@pytest.fixture(scope="module")
def hosts(amqp_url: str) -> Iterator[Mapping[str, VirtualHost]]:
    with virtual_hosts(shared_servers()[0]) as made:
        yield made


@pytest.fixture
async def site(
    hosts: Mapping[str, VirtualHost], postgresql_url: str, tmp_path: Path
) -> AsyncGenerator[OriginalSite]:
    with fresh_schema(postgresql_url) as database:
        async with opened_original_site(tmp_path, hosts, database=database) as opened:
            yield opened


def process_of(site: OriginalSite, name: str) -> Process:
    """An orchestrator as its users start it, with the settings of the site."""
    settings = site.core.settings
    folder = settings.data_dir / name
    folder.mkdir()
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("OPENAPERTURE_")}
    environment = inherited | {
        "EXCHANGE_ID": "1",
        "BROKER_ID": "1",
        "HOSTNAME": name,
        "QUEUE_NAME": settings.queue_name,
        "MANAGER_URL": site.gate.url,
        "OAUTH_LOGIN_URL": site.gate.url + LOGIN_PATH,
        "OAUTH_CLIENT_ID": "id",
        "OAUTH_CLIENT_SECRET": "secret",
        "OPENAPERTURE_BROKER": settings.broker,
        "OPENAPERTURE_DATABASE": settings.database,
        "OPENAPERTURE_DATA_DIR": str(folder),
        "OPENAPERTURE_DECLARE_QUEUES": "false",
        "NO_PROXY": "127.0.0.1",
    }
    return Process(["orchestrator"], environment, folder / "output.log")


@asynccontextmanager
async def working(site: OriginalSite) -> AsyncGenerator[None]:
    """Workers of the original that do whatever they are asked for."""

    async def work(hand: OldHand) -> None:
        while True:
            await hand.complete(await _next(hand), etcd_token="app-tok-2")

    async with site.old_hand() as builder, site.old_hand("2", "deployer") as deployer:
        tasks = [asyncio.ensure_future(work(hand)) for hand in (builder, deployer)]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def _next(hand: OldHand) -> OriginalMessage:
    """However long it takes."""
    [delivery] = await hand.requests.receive(1)
    await hand.requests.ack([delivery])
    return terms.decode(delivery.message.body)


@pytest.mark.fault("F12")
async def test_a_killed_orchestrator_leaves_no_record_behind_and_loses_no_release(site: OriginalSite) -> None:
    processes = [process_of(site, name) for name in ("orc-1", "orc-2")]
    for process in processes:
        process.start()
    try:
        await site.until_calls("", lambda seen: len({call.body for call in seen.calls if _joins(call.path)}) == 2)
        async with working(site):
            ids = [await site.start_old(*RELEASE) for _ in range(RELEASES)]
            await site.until_recorded(ids[RELEASES // 2], current_step="build")
            processes[0].kill()
            assert await _count_ended(site, ids) < RELEASES
            await asyncio.to_thread(_end_leases, site, processes[0])
            await _until_all_ended(site, ids)
        for workflow_id in ids:
            await _check(site, workflow_id)
        assert processes[1].terminate() == 0
    finally:
        for process in processes:
            process.kill()


def _joins(path: str) -> bool:
    return path.endswith("/modules")


async def _count_ended(site: OriginalSite, ids: list[str]) -> int:
    found = (await site.core.store.load(ids)).workflows.values()
    return sum(workflow.state in TERMINAL for workflow in found)


async def _until_all_ended(site: OriginalSite, ids: list[str]) -> None:
    async def have_ended() -> bool:
        return await _count_ended(site, ids) == RELEASES and await site.core.store.count_outbox() == 0

    await until(have_ended)


def _end_leases(site: OriginalSite, killed: Process) -> None:
    """A minute passes for what the killed one held: its peer would take it over then."""
    assert killed.popen is not None
    with psycopg.connect(site.core.settings.database, autocommit=True) as connection:
        owner = f"orc-1.{killed.popen.pid}.%"
        connection.execute("update outbox set due_at = now() where leased_by like %s", [owner])


async def _check(site: OriginalSite, workflow_id: str) -> None:
    """The Manager's last row is our last state; nothing was saved over something newer, or done unrecorded."""
    loaded = await site.core.store.load([workflow_id])
    workflow = loaded.workflows[workflow_id]
    assert workflow.state is State.COMPLETED
    await site.assert_counted_once(workflow_id)
    row, ours = site.recorded(workflow_id), recorded_fields(workflow, loaded.now)
    assert {name: row[name] for name in ENDS} == {name: ours[name] for name in ENDS}
    seen = site.seen(workflow_id)
    assert [*steps_back(seen.saves), *wrong_shapes(seen.saves)] == []
    sent = site.dispatched(workflow_id)
    # A copy that the killed one left unsettled is the same to the last byte.
    bodies = {(message.fields["current_step"]["$atom"], message.body) for message in sent}
    assert Counter(step for step, _ in bodies) == dict.fromkeys(RELEASE, 1)
    for message in sent:
        known = [save.body["current_step"] for save in seen.saves if save.at <= message.at]
        assert message.fields["current_step"]["$atom"] in known

"""Builders and deployers that are written in Erlang and know nothing of us, on a real RabbitMQ.

The workers are `erlang_worker.escript`: it looks at what it is sent, finds things out and answers as those of the
original do. It says on its standard output what it took and what was wrong with it.
"""

import os
import subprocess
import threading
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import pytest

from openaperture.app.core import open_core
from openaperture.config import Settings
from openaperture.domain.errors import QueueMismatch
from openaperture.domain.workflow import State, Workflow
from openaperture.ports import Broker
from tests.compat.rabbit import VirtualHost, virtual_hosts
from tests.compat.test_etf_erl import escript
from tests.contract.brokers import Events, running, until
from tests.functional.engine_site import Site
from tests.functional.original_site import (
    ROOTS,
    OriginalSite,
    key_of,
    opened_original_site,
    queue_name,
)
from tests.servers import shared_servers

PROGRAM = Path(__file__).with_name("erlang_worker.escript")
LIBRARIES = Path("/usr/lib/rabbitmq/lib")
SAY_SECONDS = 90.0
CONFIG, BUILD, DEPLOY = "config", "build", "deploy"
RELEASE = (CONFIG, BUILD, DEPLOY)
AS_BUILDER, AS_DEPLOYER = "builder", "deployer"
"""Roles of a worker."""


class ErlangWorker:
    """A running escript, and what it has said."""

    def __init__(self, plan: str) -> None:
        [libraries] = LIBRARIES.glob("rabbitmq_server-*/plugins")
        self._popen = subprocess.Popen(
            [escript(), str(PROGRAM), plan],
            env={**os.environ, "ERL_LIBS": str(libraries)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            bufsize=1,
        )
        self.said: list[str] = []
        self._news = threading.Condition()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self._popen.stdout is not None
        for line in self._popen.stdout:
            with self._news:
                self.said.append(line.rstrip("\n"))
                self._news.notify_all()

    def wait_for(self, line: str) -> None:
        with self._news:
            assert self._news.wait_for(lambda: line in self.said, SAY_SECONDS), self.said

    def tell(self, *words: str) -> None:
        assert self._popen.stdin is not None
        self._popen.stdin.write(" ".join(words) + "\n")

    def start(self, repo: str, *milestones: str, workflow_id: str = "") -> str:
        """Publish a start message, as the Manager does; the id of the workflow."""
        workflow_id = workflow_id or str(uuid4())
        self.tell("start", workflow_id, repo, ",".join(milestones))
        return workflow_id

    def took(self, workflow_id: str) -> list[str]:
        """The steps that it was asked for, in order."""
        return [line.split()[2] for line in self.said if line.startswith(f"took {workflow_id} ")]

    def end(self) -> list[str]:
        """End it, and say what was wrong: also what it said that is no report, such as a crash."""
        assert self._popen.stdin is not None
        self._popen.stdin.close()
        code = self._popen.wait(SAY_SECONDS)
        self._reader.join()
        wrong = [line for line in self.said if line != "ready" and not line.startswith("took ")]
        return wrong if code == 0 else [*wrong, f"exit code {code}"]

    def kill(self) -> None:
        self._popen.kill()
        self._popen.wait()


@asynccontextmanager
async def erlang_worker(
    brokers: Mapping[str, VirtualHost],
    consumes: Sequence[tuple[str, str, str]],
    exchanges: Mapping[str, tuple[str, str]] | None = None,
) -> AsyncGenerator[ErlangWorker]:
    """A worker that is ready. At the end nothing may have been wrong with what it was sent."""
    port = next(iter(brokers.values())).port
    hosts = ", ".join(f"{binary(broker_id)} => {binary(host.name)}" for broker_id, host in brokers.items())
    known = ", ".join(
        f"{binary(exchange_id)} => {{{binary(root)}, {binary(key)}}}"
        for exchange_id, (root, key) in (exchanges or {}).items()
    )
    roles = ", ".join(f"{{{binary(broker_id)}, {binary(queue)}, {role}}}" for broker_id, queue, role in consumes)
    worker = ErlangWorker(
        f"#{{port => {port}, brokers => #{{{hosts}}}, exchanges => #{{{known}}}, consumes => [{roles}]}}"
    )
    try:
        worker.wait_for("ready")
        yield worker
        assert worker.end() == []
    finally:
        worker.kill()


def binary(text: str) -> str:
    """Erlang source text."""
    return f'<<"{text}">>'


@pytest.fixture(scope="module")
def hosts(amqp_url: str) -> Iterator[Mapping[str, VirtualHost]]:
    with virtual_hosts(shared_servers()[0]) as made:
        yield made


@pytest.fixture
async def alone(hosts: Mapping[str, VirtualHost], tmp_path: Path) -> AsyncGenerator[tuple[Site, ErlangWorker]]:
    """An orchestrator with our defaults: no Manager, the default exchange, queues that it declares itself."""
    database = f"sqlite:///{tmp_path / 'openaperture.db'}"
    values = {"data_dir": tmp_path, "broker": hosts["1"].url, "database": database}
    settings = Settings.model_validate(values).completed()
    consumes = [("1", "builder", AS_BUILDER), ("1", "deployer", AS_DEPLOYER)]
    events = Events()
    async with open_core(settings, events) as core, running(core.broker()) as broker:
        site = Site(core=core, broker=broker, events=events)
        async with site.engine():
            await until(lambda: _exists(broker, "deployer"))
            async with erlang_worker({"1": hosts["1"]}, consumes) as worker:
                yield site, worker
        await site.assert_nothing_left()
        await site.dead_letters(0)


async def _exists(broker: Broker, queue: str) -> bool:
    try:
        await broker.check(queue)
    except QueueMismatch:
        return False
    return True


async def _ended(site: Site, workflow_id: str) -> Workflow:
    return await site.until_state(workflow_id, State.COMPLETED, State.FAILED)


@pytest.mark.fault("F62")
async def test_erlang_workers_take_a_release_from_start_to_end_without_any_manager(
    alone: tuple[Site, ErlangWorker],
) -> None:
    site, worker = alone
    workflow_id = worker.start("team/shop", *RELEASE)
    workflow = await _ended(site, workflow_id)
    assert (workflow.state, workflow.reason) == (State.COMPLETED, "")
    await site.assert_counted_once(workflow_id)
    worker.wait_for(f"took {workflow_id} deploy")
    assert worker.took(workflow_id) == [*RELEASE]
    assert workflow.etcd_token == "app-tok-2"
    assert workflow.carried["aws_config"] == {"region": "eu-west-1", "ecs": {"task-count": 2}}
    for told in ("configured", "built", "deployed"):
        assert f"[OA][{workflow_id}] {told}" in workflow.event_log


@dataclass(frozen=True, slots=True, kw_only=True)
class Mishap:
    """A release that does not go smoothly, and what has to come of it."""

    repo: str
    state: State
    lates: int
    """Answers that change nothing."""
    reason: str = ""
    steps: Sequence[str] = RELEASE


MISHAPS = (
    Mishap(
        repo="team/unbuildable",
        state=State.FAILED,
        lates=0,
        reason="milestone build failed: a worker reported a failure: [OA][{id}] the image cannot be built",
        steps=(CONFIG, BUILD),
    ),
    Mishap(
        repo="team/hostless",
        state=State.FAILED,
        lates=1,
        reason="milestone deploy failed: a worker reported a failure: [OA][{id}] there are no hosts",
    ),
    Mishap(
        repo="team/unmonitored",
        state=State.FAILED,
        lates=1,
        reason="milestone deploy failed: a worker reported a failure: [OA][{id}] it did not come up",
    ),
    Mishap(repo="team/twice", state=State.COMPLETED, lates=3),
    Mishap(repo="team/stale", state=State.COMPLETED, lates=2),
    Mishap(repo="team/stale-twice", state=State.COMPLETED, lates=5),
)


async def test_failures_repeats_and_stale_answers_of_erlang_workers_count_at_most_once(
    alone: tuple[Site, ErlangWorker],
) -> None:
    site, worker = alone
    releases = {worker.start(mishap.repo, *RELEASE): mishap for mishap in MISHAPS}
    for workflow_id, mishap in releases.items():
        workflow = await _ended(site, workflow_id)
        assert workflow.state is mishap.state, mishap.repo
        assert workflow.reason == mishap.reason.format(id=workflow_id)
        if mishap.lates:
            await site.until_entry(workflow_id, "callback.late", mishap.lates)
        worker.wait_for(f"took {workflow_id} {mishap.steps[-1]}")
        assert worker.took(workflow_id) == [*mishap.steps]
        kinds = await site.kinds(workflow_id)
        assert kinds["callback.late"] == mishap.lates, mishap.repo
        assert kinds["workflow.completed"] + kinds["workflow.failed"] == 1
        assert (await site.get(workflow_id)).state is mishap.state


async def test_a_start_that_is_sent_twice_and_an_answer_after_the_end_change_nothing(
    alone: tuple[Site, ErlangWorker],
) -> None:
    site, worker = alone
    workflow_id = worker.start("team/shop", CONFIG, DEPLOY)
    worker.start("team/shop", CONFIG, DEPLOY, workflow_id=workflow_id)
    await _ended(site, workflow_id)
    await site.until_entry(workflow_id, "start.repeated")
    worker.wait_for(f"took {workflow_id} deploy")
    before = await site.get(workflow_id)
    worker.tell("again", workflow_id)
    worker.start("team/shop", CONFIG, DEPLOY, workflow_id=workflow_id)
    await site.until_entry(workflow_id, "callback.late")
    await site.until_entry(workflow_id, "start.repeated", 2)
    after = await site.get(workflow_id)
    assert (after.state, after.event_log, after.ended_at) == (State.COMPLETED, before.event_log, before.ended_at)
    assert worker.took(workflow_id) == [CONFIG, DEPLOY]
    await site.assert_counted_once(workflow_id)


async def test_erlang_workers_take_releases_over_the_exchanges_and_brokers_that_the_manager_names(
    hosts: Mapping[str, VirtualHost], tmp_path: Path
) -> None:
    async with opened_original_site(tmp_path, hosts) as site, site.engine():
        consumes = [
            ("1", site.queue_at("1", "builder"), AS_BUILDER),
            ("1", site.queue_at("2", "deployer"), AS_DEPLOYER),
            ("2", site.queue_at("3", "deployer"), AS_DEPLOYER),
        ]
        exchanges = {"1": (ROOTS["1"], key_of(site.run, "1"))}
        async with erlang_worker(hosts, consumes, exchanges) as worker:
            for repo, exchange_id, broker_id in (("team/shop", "2", "1"), ("team/lab", "3", "2")):
                workflow_id = str(uuid4())
                site.row(workflow_id, *RELEASE)
                worker.start(repo, *RELEASE, workflow_id=workflow_id)
                await site.until_recorded(workflow_id, workflow_completed=True, workflow_error=False)
                _check_way(site, workflow_id, exchange_id, broker_id)
                worker.wait_for(f"took {workflow_id} deploy")
                assert worker.took(workflow_id) == [*RELEASE]
                _check_record(site, workflow_id, await site.get(workflow_id))


def _check_way(site: OriginalSite, workflow_id: str, exchange_id: str, broker_id: str) -> None:
    """Each request went where the Manager says, once, and not before the Manager knew of it."""
    requests = site.dispatched(workflow_id)
    builds = (ROOTS["1"], queue_name(site.run, "1", "builder"), "1")
    deploy = (ROOTS[exchange_id], queue_name(site.run, exchange_id, "deployer"), broker_id)
    assert [(request.exchange, request.routing_key, request.broker) for request in requests] == [
        builds,
        builds,
        deploy,
    ]
    for request, step in zip(requests, RELEASE, strict=True):
        known = [save for save in site.seen(workflow_id).saves if save.at <= request.at]
        assert known[-1].body["current_step"] == step
    assert requests[0].fields["docker_build_etcd_token"] == "build-tok-1"


def _check_record(site: OriginalSite, workflow_id: str, workflow: Workflow) -> None:
    """The Manager has the whole log, the notes went to the rooms that the repository names."""
    row = site.recorded(workflow_id)
    assert row["current_step"] == "workflow_completed"
    assert row["event_log"] == [*workflow.event_log]
    assert set(row["workflow_step_durations"]) == set(RELEASE)
    assert row["source_repo_git_ref"] == workflow.carried["source_repo_git_ref"]
    for told in ("configured", "built", "deployed"):
        assert f"[OA][{workflow_id}] {told}" in row["event_log"]
    notes = site.seen(workflow_id).notes
    assert notes[0].room_names is None
    assert notes[-1].room_names == ["releases"]
    assert all(f"{note.prefix} {note.message}" in row["event_log"] for note in notes)

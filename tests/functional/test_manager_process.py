"""`openaperture manager` as a process of its own: several on one database, and one for orchestrators elsewhere."""

import asyncio
from collections.abc import AsyncGenerator, Generator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pika
import pytest

from openaperture.app.announcement import Announced, find_running
from openaperture.brokers.amqp import AmqpBroker
from openaperture.client import ManagerClient
from openaperture.client.models import NewWorkflow, Workflow
from openaperture.codecs import json as json_codec
from openaperture.domain import messages as m
from openaperture.ports import Address, Message
from openaperture.worker import Context, Worker
from tests.contract.brokers import Events, running, until
from tests.contract.stores import fresh_schema
from tests.functional.command_line import Running, Site

ROOT = "amq.topic"
"""A root exchange that every RabbitMQ has."""
CLIENT_ID = "orc"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A database and a broker of the test, and how processes are told of them."""

    folder: Path
    amqp_url: str
    run: str
    sites: list[Site]

    def site(self, name: str, **variables: str) -> Site:
        folder = self.folder / name
        folder.mkdir()
        site = Site(folder, self.variables() | variables)
        self.sites.append(site)
        return site

    def variables(self) -> dict[str, str]:
        return {
            "OPENAPERTURE_BROKER": self.amqp_url,
            "OPENAPERTURE_QUEUE_NAME": f"{self.run}.orchestrators",
            "OPENAPERTURE_MILESTONES__BUILD__QUEUE": self.workers,
            "OPENAPERTURE_ORCHESTRATOR__POLL_SECONDS": "0.1",
        }

    @property
    def workers(self) -> str:
        return f"{self.run}.builder"

    @asynccontextmanager
    async def worker(self) -> AsyncGenerator[None]:
        """One that does everything that it is asked for."""
        events = Events()
        worker = Worker(queue=self.workers, slots=4, observer=events)
        worker.every_milestone(_nothing)
        async with running(AmqpBroker(self.amqp_url, observer=events)) as broker:
            serving = asyncio.ensure_future(worker.serve(broker))
            await events.wait_for("worker.ready")
            try:
                yield
            finally:
                await worker.drain()
                await serving


def _nothing(_context: Context) -> None: ...


@pytest.fixture
def place(amqp_url: str, tmp_path: Path) -> Generator[Place]:
    place = Place(folder=tmp_path, amqp_url=amqp_url, run=f"test.{uuid4().hex[:8]}", sites=[])
    queues = (place.workers, f"{place.run}.orchestrators")
    with _channel(amqp_url) as channel:
        for queue in queues:
            channel.queue_declare(f"{queue}_error", durable=True)
            dead = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": f"{queue}_error"}
            channel.queue_declare(queue, durable=True, arguments=dead)
            channel.queue_bind(queue, ROOT, queue)
    yield place
    for site in place.sites:
        site.clean_up()
    with _channel(amqp_url) as channel:
        for queue in queues:
            channel.queue_delete(queue)
            channel.queue_delete(f"{queue}_error")


@contextmanager
def _channel(url: str) -> Iterator[Any]:
    connection = pika.BlockingConnection(pika.URLParameters(url))
    yield connection.channel()
    connection.close()


@pytest.fixture
def database(postgresql_url: str) -> Generator[str]:
    with fresh_schema(postgresql_url) as url:
        yield url


def serving(site: Site) -> Announced:
    """Start the Manager of a site; returns how to reach it."""
    site.start("manager").wait_for("manager.ready")
    found = find_running(site.folder / "data")
    assert found is not None
    return found


async def until_ended(client: ManagerClient, workflow_id: str) -> Workflow:
    async def ended() -> bool:
        return (await client.get_workflow(workflow_id)).ended

    await until(ended)
    return await client.get_workflow(workflow_id)


async def test_two_managers_serve_one_database_and_an_orchestrator_does_what_is_asked_of_them(
    place: Place, database: str
) -> None:
    first = serving(place.site("first", OPENAPERTURE_DATABASE=database))
    second = serving(place.site("second", OPENAPERTURE_DATABASE=database))
    orchestrator = place.site("orchestrator", OPENAPERTURE_DATABASE=database).start("orchestrator")
    orchestrator.wait_for("orchestrator.ready")
    async with (
        place.worker(),
        ManagerClient(first.url, first.token) as here,
        ManagerClient(second.url, second.token) as there,
    ):
        workflow_id = await here.create(NewWorkflow(milestones=["build"]))
        await there.execute(workflow_id)
        assert (await until_ended(here, workflow_id)).state == "completed"
    assert orchestrator.stop() == 0


async def test_a_manager_is_stopped_and_no_request_is_cut_off(place: Place, database: str) -> None:
    site = place.site("manager", OPENAPERTURE_DATABASE=database)
    found = serving(site)
    async with ManagerClient(found.url, found.token) as client, asyncio.TaskGroup() as tasks:
        workflow_id = await client.create(NewWorkflow(milestones=["build"]))
        last_id = (await client.list_events(workflow_id)).last_id
        poll = tasks.create_task(client.list_events(workflow_id, last_id, 30))
        await asyncio.sleep(0)
        assert await asyncio.to_thread(site.started[0].stop) == 0
        assert not (await poll).events
    assert find_running(site.folder / "data") is None


def test_a_manager_needs_a_broker_that_others_share(place: Place) -> None:
    site = Site(place.folder)
    refused = site.run("manager")
    assert refused.returncode == 2
    assert '"openaperture manager" needs a broker that several processes share' in refused.stderr


# ------------------------------------------------------------------------------- orchestrators elsewhere


def orchestrator_of(place: Place, manager: Announced, database: str, secret: str) -> Running:
    """An orchestrator with a database of its own, whose Manager is that one. It logs in there as one."""
    site = place.site(
        "elsewhere",
        OPENAPERTURE_DATABASE=database,
        OPENAPERTURE_NOTICES="off",
        # The exchange puts its key in front of it.
        OPENAPERTURE_MILESTONES__BUILD__QUEUE="builder",
        OPENAPERTURE_DECLARE_QUEUES="false",
        MANAGER_URL=manager.url,
        OAUTH_LOGIN_URL=f"{manager.url}/oauth/token",
        OAUTH_CLIENT_ID=CLIENT_ID,
        OAUTH_CLIENT_SECRET=secret,
        EXCHANGE_ID="2",
        BROKER_ID="1",
        HOSTNAME="orc-1",
    )
    started = site.start("orchestrator")
    started.wait_for("orchestrator.ready")
    return started


async def register(place: Place, manager: Announced) -> str:
    """What an orchestrator needs to find there: its exchange, within that of the broker, its broker, and itself.

    Returns the secret that it logs in with.
    """
    headers = {"authorization": f"Bearer {manager.token}"}
    async with httpx.AsyncClient(base_url=manager.url, headers=headers, trust_env=False) as http:
        for path, body in (
            ("/messaging/exchanges", {"name": ROOT}),
            ("/messaging/exchanges", {"name": "ours", "routing_key_fragment": place.run, "parent_exchange_id": 1}),
            ("/messaging/brokers", {"name": "main"}),
        ):
            assert (await http.post(path, json=body)).status_code == 201
        added = await http.post("/clients", json={"id": CLIENT_ID, "role": "orchestrator"})
        assert added.status_code == 201
        secret: str = added.json()["secret"]
        return secret


async def start(place: Place, workflow_id: str, *milestones: str) -> None:
    """Ask the orchestrators for it, as a Manager of the original would."""
    message = m.StartMessage(id=workflow_id, milestones=list(milestones))
    async with running(AmqpBroker(place.amqp_url, observer=Events())) as broker:
        address = Address(routing_key=f"{place.run}.orchestrators")
        await broker.publish(address, Message(body=json_codec.encode(message), message_id=uuid4().hex))


async def test_an_orchestrator_elsewhere_completes_a_release_that_our_manager_keeps(
    place: Place, database: str, postgresql_url: str
) -> None:
    manager = serving(place.site("manager", OPENAPERTURE_DATABASE=database))
    secret = await register(place, manager)
    with fresh_schema(postgresql_url) as own:
        orchestrator = orchestrator_of(place, manager, own, secret)
        async with place.worker(), ManagerClient(manager.url, manager.token) as client:
            workflow_id = await client.create(NewWorkflow(milestones=["build"]))
            await start(place, workflow_id, "build")
            kept = await until_ended(client, workflow_id)
            assert (kept.state, kept.current_step, kept.workflow_error) == (
                "completed",
                "workflow_completed",
                False,
            )
            assert kept.explanation.code == "elsewhere"
            assert "build" in kept.workflow_step_durations
            assert any("build" in line for line in kept.event_log or [])
        assert orchestrator.stop() == 0
        for site in place.sites:
            site.clean_up()


async def test_a_cancel_at_our_manager_ends_a_release_of_an_orchestrator_elsewhere(
    place: Place, database: str, postgresql_url: str
) -> None:
    manager = serving(place.site("manager", OPENAPERTURE_DATABASE=database))
    secret = await register(place, manager)
    with fresh_schema(postgresql_url) as own:
        orchestrator = orchestrator_of(place, manager, own, secret)
        async with ManagerClient(manager.url, manager.token) as client:
            workflow_id = await client.create(NewWorkflow(milestones=["build", "build"]))
            await start(place, workflow_id, "build", "build")

            async def recorded() -> bool:
                return (await client.get_workflow(workflow_id)).current_step == "build"

            await until(recorded)
            await client.cancel(workflow_id, "enough")
            async with place.worker():
                # Before it asks for the second one it looks at the record, and sees the cancel.
                await until_over_at(place, workflow_id)
            assert (await client.get_workflow(workflow_id)).state == "cancelled"
        assert orchestrator.stop() == 0
        for site in place.sites:
            site.clean_up()


async def until_over_at(place: Place, workflow_id: str) -> None:
    """Wait until the orchestrator's own database says that it is over."""
    elsewhere = place.sites[-1]

    async def over() -> bool:
        shown = await asyncio.to_thread(elsewhere.json, "show", workflow_id)
        return bool(shown["state"] == "cancelled")

    async with asyncio.timeout(60):
        while not await over():  # noqa: ASYNC110  each look is a process of its own
            await asyncio.sleep(0.5)

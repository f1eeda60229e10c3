"""A release over two networks, whose brokers and exchanges are in our own directory: no Manager elsewhere."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Generator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import msgspec
import pytest

from openaperture.app.core import Core, open_core
from openaperture.app.elsewhere import open_elsewhere
from openaperture.app.engine import build_engine
from openaperture.app.manager import Api
from openaperture.brokers.amqp import AmqpBroker
from openaperture.client import ManagerClient
from openaperture.client.models import NewWorkflow, Workflow
from openaperture.codecs import terms
from openaperture.config import Settings
from openaperture.domain import messages as m
from openaperture.ports import Address, Broker, Listing, Message
from openaperture.runtime.supervisor import Supervisor
from openaperture.worker import Context, Worker
from tests.compat.rabbit import VirtualHost, virtual_hosts
from tests.contract.brokers import Events, receive, running, until
from tests.contract.stores import fresh_schema
from tests.functional.engine_site import GRACE_SECONDS, Engine
from tests.servers import shared_servers

INTAKE = "orchestrators"
BUILDERS, DEPLOYERS = "aws.east.builder", "lab.deployer"
QUEUES = {"1": (INTAKE, "AWS", BUILDERS), "2": (INTAKE, "lab", DEPLOYERS)}


@pytest.fixture(scope="module")
def hosts(amqp_url: str) -> Generator[Mapping[str, VirtualHost]]:
    """Two brokers. Each has a queue for orchestrators, and one that is bound to its root exchange."""
    with virtual_hosts(shared_servers()[0]) as made:
        for broker_id, (intake, root, queue) in QUEUES.items():
            with made[broker_id].connect() as connection:
                channel = connection.channel()
                for name in (intake, f"{intake}_error", queue):
                    channel.queue_declare(name, durable=True, arguments=_arguments(name))
                channel.queue_bind(queue, root, queue)
        yield made


def _arguments(name: str) -> dict[str, Any]:
    if name.endswith("_error"):
        return {}
    return {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": f"{name}_error"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Networks:
    """One database, and the Manager's API over it."""

    hosts: Mapping[str, VirtualHost]
    settings: Callable[[str], Settings]
    core: Core
    client: ManagerClient
    events: Events

    @asynccontextmanager
    async def orchestrator(self, broker_id: str) -> AsyncGenerator[None]:
        """An orchestrator beside one of the brokers, drained at the end."""
        async with open_core(self.settings(broker_id), self.events) as core:
            broker = core.broker()
            async with open_elsewhere(core, broker) as elsewhere:
                services = build_engine(core, broker, elsewhere).services
                engine = Engine(Supervisor(services, self.events, grace_seconds=GRACE_SECONDS))
                try:
                    yield
                finally:
                    await engine.close()

    @asynccontextmanager
    async def worker(self, broker_id: str, handler: Callable[[Context], Any]) -> AsyncGenerator[None]:
        worker = Worker(queue=QUEUES[broker_id][2], slots=4, observer=self.events)
        worker.every_milestone(handler)
        async with running(AmqpBroker(self.hosts[broker_id].url, observer=self.events)) as broker:
            serving = asyncio.ensure_future(worker.serve(broker))
            try:
                yield
            finally:
                async with asyncio.timeout(GRACE_SECONDS):
                    await worker.drain()
                    await serving

    async def until_ended(self, workflow_id: str) -> Workflow:
        async def ended() -> bool:
            found = await self.core.store.find_workflow(workflow_id)
            return found is not None and found.ended

        await until(ended)
        return await self.client.get_workflow(workflow_id)


@pytest.fixture
async def networks(
    hosts: Mapping[str, VirtualHost], postgresql_url: str, tmp_path: Path
) -> AsyncGenerator[Networks]:
    events = Events()
    with fresh_schema(postgresql_url) as database:

        def settings(broker_id: str) -> Settings:
            values: dict[str, Any] = {
                "data_dir": tmp_path,
                "database": database,
                "broker": hosts[broker_id].url,
                "declare_queues": False,
                "queue_name": INTAKE,
                "exchange_id": "2",
                "broker_id": broker_id,
                "hostname": f"orc-{broker_id}",
            }
            return Settings.model_validate(values).completed()

        async with open_core(settings("1"), events) as core:
            api = Api(core, core.decider())
            async with api.client() as client:
                await _register(api, hosts)
                yield Networks(hosts=hosts, settings=settings, core=core, client=client, events=events)


async def _register(api: Api, hosts: Mapping[str, VirtualHost]) -> None:
    """What docs/how-to/networks.md tells an operator to send."""
    login = ("host", "port", "username", "password", "virtual_host")
    main, lab = ({name: hosts[broker_id].row[name] for name in login} for broker_id in ("1", "2"))
    requests: list[tuple[str, dict[str, Any]]] = [
        ("/messaging/exchanges", {"name": "AWS", "routing_key_fragment": "aws"}),
        ("/messaging/exchanges", {"name": "east", "routing_key_fragment": "east", "parent_exchange_id": 1}),
        ("/messaging/exchanges", {"name": "lab", "routing_key_fragment": "lab"}),
        ("/messaging/brokers", {"name": "main"}),
        ("/messaging/brokers", {"name": "lab"}),
        ("/messaging/brokers/1/connections", main),
        ("/messaging/brokers/2/connections", lab),
        ("/messaging/exchanges/2/brokers", {"messaging_broker_id": 1}),
        ("/messaging/exchanges/3/brokers", {"messaging_broker_id": 2}),
        ("/clusters", {"etcd_token": "lab-tok", "messaging_exchange_id": 3}),
    ]
    headers = {"authorization": f"Bearer {api.token}"}
    transport = httpx.ASGITransport(app=api.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://manager", headers=headers) as http:
        for path, body in requests:
            assert (await http.post(path, json=body)).status_code == 201, path


def _choose_the_lab(context: Context) -> dict[str, str]:
    return {"etcd_token": "lab-tok"}


def _nothing(context: Context) -> None: ...


async def test_a_release_is_built_in_one_network_and_deployed_in_another(networks: Networks) -> None:
    async with AsyncExitStack() as stack:
        for broker_id, handler in (("1", _choose_the_lab), ("2", _nothing)):
            await stack.enter_async_context(networks.orchestrator(broker_id))
            await stack.enter_async_context(networks.worker(broker_id, handler))
        started = [
            await networks.client.submit(NewWorkflow(milestones=["build", "deploy"], id=str(uuid4())))
            for _ in range(5)
        ]
        for workflow_id in started:
            workflow = await networks.until_ended(workflow_id)
            assert (workflow.state, workflow.reason) == ("completed", "")
            assert [attempt.outcome for attempt in workflow.attempts] == ["completed", "completed"]
    modules = await networks.core.directory.list_rows(Listing.MODULE, messaging_exchange_id=2)
    assert {(row["hostname"], row["type"]) for row in modules} == {
        ("orc-1", "workflow_orchestrator"),
        ("orc-2", "workflow_orchestrator"),
    }


async def test_workers_of_the_original_are_found_among_the_modules_of_an_exchange(networks: Networks) -> None:
    """A start message, a request and an answer in Erlang terms, as an old Manager and an old builder send them."""
    workflow_id = str(uuid4())
    start = m.OriginalMessage(id=workflow_id, milestones=["build"], deployment_repo="team/shop")
    async with (
        networks.orchestrator("1"),
        running(AmqpBroker(networks.hosts["1"].url, observer=networks.events)) as broker,
    ):
        await _send_old(broker, start)
        refused = await networks.until_ended(workflow_id)
        assert "register one that allows docker builds" in refused.reason

        cluster = {
            "etcd_token": "b-1",
            "token_key": "b-1",
            "allow_docker_builds": True,
            "messaging_exchange_id": 2,
        }
        module = {
            "hostname": "b",
            "type": "builder",
            "status": "active",
            "workload": [],
            "messaging_exchange_id": 2,
        }
        await networks.core.directory.add(Listing.CLUSTER, cluster)
        await networks.core.directory.add(Listing.MODULE, module)
        again = msgspec.structs.replace(start, id=str(uuid4()))
        await _send_old(broker, again)
        requests = await broker.consume(BUILDERS, prefetch=1)
        [delivery] = await receive(requests, 1)
        request = terms.decode(delivery.message.body)
        assert (request.id, request.current_step, request.docker_build_etcd_token) == (again.id, "build", "b-1")
        assert (request.workflow_orchestration_exchange_id, request.workflow_orchestration_broker_id) == ("2", "1")
        await requests.ack([delivery])
        await _send_old(broker, request)
        assert (await networks.until_ended(again.id)).state == "completed"
        await requests.close()


async def _send_old(broker: Broker, message: m.OriginalMessage) -> None:
    body = terms.encode_workflow(msgspec.structs.asdict(message))
    await broker.publish(Address(routing_key=INTAKE), Message(body=body, content_type=None))


async def test_a_release_without_a_choice_stays_in_the_own_exchange(networks: Networks) -> None:
    async with networks.orchestrator("1"), networks.worker("1", _nothing):
        workflow_id = await networks.client.submit(NewWorkflow(milestones=["build"]))
        assert (await networks.until_ended(workflow_id)).state == "completed"


async def test_what_the_directory_does_not_know_fails_the_workflow_and_says_what_to_do(networks: Networks) -> None:
    async with networks.orchestrator("1"):
        workflow_id = await networks.client.submit(
            NewWorkflow(milestones=["build"], build_messaging_exchange_id=99)
        )
        workflow = await networks.until_ended(workflow_id)
    assert workflow.state == "failed"
    assert "exchange 99" in workflow.reason
    assert "build_messaging_exchange_id" in workflow.reason


async def test_the_password_of_a_broker_is_in_no_event(networks: Networks) -> None:
    await networks.core.directory.remove(Listing.CONNECTION, messaging_broker_id=2)
    wrong = {"host": "127.0.0.1", "port": networks.hosts["2"].port, "username": "nobody", "password": "geheim-7"}
    await networks.core.directory.add(Listing.CONNECTION, {**wrong, "messaging_broker_id": 2})
    async with networks.orchestrator("1"):
        workflow_id = await networks.client.submit(
            NewWorkflow(milestones=["deploy"], deploy_messaging_exchange_id=3)
        )

        async def in_trouble() -> bool:
            return (await networks.client.get_workflow(workflow_id)).explanation.code == "outbox"

        await until(in_trouble)
        shown = repr(await networks.client.get_workflow(workflow_id))
    assert "geheim-7" not in shown + repr(networks.events.told)

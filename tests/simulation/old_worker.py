"""A worker of the original, simulated: it speaks terms, claims nothing, and sends the whole workflow back."""

import asyncio
from random import Random

import msgspec

from openaperture.codecs import terms
from openaperture.domain import messages as m
from openaperture.domain.errors import OpenApertureError
from openaperture.ports import Address, Consumer, Delivery, Message
from tests.simulation.broker import SimulatedBroker
from tests.simulation.journal import OldBegan, OldFinished
from tests.simulation.world import INTAKE, Site

CLUSTER_SECRET = "the-secret-of-the-cluster"
OLD_QUEUES = ("old_builder", "old_deployer")


async def serve_old(site: Site) -> None:
    """Take requests, work, answer. It acks first, as those do whose work may take long."""
    broker = site.broker()
    async with asyncio.TaskGroup() as tasks:
        for queue in OLD_QUEUES:
            tasks.create_task(_serve(site, broker, queue))


async def _serve(site: Site, broker: SimulatedBroker, queue: str) -> None:
    consumer: Consumer | None = None
    while consumer is None:
        try:
            consumer = await broker.consume(queue, prefetch=2)
        except OpenApertureError:
            await asyncio.sleep(1.0)
    while True:
        for delivery in await consumer.receive(2):
            await consumer.ack([delivery])
            await _do(site, broker, delivery)


async def _do(site: Site, broker: SimulatedBroker, delivery: Delivery) -> None:
    request = terms.decode(delivery.message.body)
    journal, chance = site.world.journal, site.world.weather.chance
    name, step = site.process.name, request.current_step or ""
    journal.add(OldBegan(name, request.id, step, request.step_time))
    failed = await _work(chance)
    journal.add(OldFinished(name, request.id, step, request.step_time, "failed" if failed else "done"))
    answer = msgspec.structs.replace(
        request, workflow_error=failed, event_log=[*(request.event_log or ()), f"{step} by {name}"]
    )
    await send_old(broker, answer)


async def _work(chance: Random) -> bool:
    await asyncio.sleep(chance.expovariate(1 / 3.0))
    return chance.random() < 0.06


async def send_old(broker: SimulatedBroker, message: m.OriginalMessage) -> None:
    """Again and again until the broker has it; there is no id by which a second copy could be told."""
    body = terms.encode_workflow(msgspec.structs.asdict(message))
    while True:
        try:
            await broker.publish(Address(routing_key=INTAKE), Message(body=body, content_type=None))
        except OpenApertureError:
            await asyncio.sleep(1.0)
        else:
            return


def old_start(workflow_id: str, milestones: tuple[str, ...], **fields: str | None) -> m.OriginalMessage:
    """As the Manager of the original asks for a workflow."""
    return m.OriginalMessage(
        id=workflow_id,
        milestones=list(milestones),
        deployment_repo="team/shop",
        orchestration_queue_name=INTAKE,
        workflow_orchestration_exchange_id="1",
        workflow_orchestration_broker_id="1",
        docker_build_etcd_token=CLUSTER_SECRET,
        scheduled_start_time=fields.get("scheduled_start_time"),
    )

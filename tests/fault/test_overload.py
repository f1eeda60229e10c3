"""Far more starts than can be served: they wait where they are safe, and what runs goes on."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import replace

import pytest

from openaperture.app.manager import Api
from openaperture.client import ManagerClient
from openaperture.client.models import NewWorkflow
from openaperture.domain.errors import ManagerUnavailable
from openaperture.domain.workflow import State
from tests.contract.brokers import until
from tests.functional.engine_site import FaultyBroker, Site

BATCH = 10
LIMIT = 20
FLOOD = 300


@pytest.fixture
def narrow(site: Site) -> Site:
    """An engine that takes little at once and soon has enough."""
    tuning = site.core.settings.orchestrator.model_copy(update={"batch": BATCH, "outbox_limit": LIMIT})
    settings = site.core.settings.model_copy(update={"orchestrator": tuning})
    return replace(site, core=replace(site.core, settings=settings))


async def _flood(site: Site) -> list[str]:
    """Starts until the engine has enough, and then many more."""
    started: list[str] = []
    while site.events.count("admission.closed") == 0:
        started.append(await site.start("build"))
    return started + await asyncio.gather(*(site.start("build") for _ in range(FLOOD)))


@pytest.mark.fault("F38", "F66")
async def test_starts_wait_while_requests_pile_up_and_answers_of_workers_pass_them(narrow: Site) -> None:
    site = narrow
    broker = FaultyBroker(site.broker, site.workers)
    async with site.engine(broker=broker), site.hand() as hand:
        running = await site.start("build")
        request = await hand.take()
        broker.away = True
        flood = await _flood(site)
        # It comes behind them all, and many more of them than the engine takes at once.
        await hand.complete(request)
        await site.until_state(running, State.COMPLETED)
        begun = (await site.core.store.load(flood)).workflows
        assert LIMIT < len(begun) <= len(flood) - FLOOD + 1
        broker.away = False
        await site.events.wait_for("admission.opened")

        async def all_begun() -> bool:
            return len((await site.core.store.load(flood)).workflows) == len(flood)

        await until(all_begun)
    async with site.engine("later", store=site.store_in(40)), site.worker():
        await site.until_all_completed(flood)
    assert await site.broker.depth(site.error_queue) == 0
    await site.assert_nothing_left()


@pytest.mark.fault("F66")
async def test_starts_that_wait_go_back_to_the_queue_when_their_engine_stops(narrow: Site) -> None:
    site = narrow
    broker = FaultyBroker(site.broker, site.workers)
    broker.away = True
    async with site.engine(broker=broker) as engine:
        flood = await _flood(site)
        engine.stop()
        await engine.ended()
    begun = (await site.core.store.load(flood)).workflows
    assert await site.broker.depth(site.intake) == len(flood) - len(begun)
    async with site.engine("later", store=site.store_in(40)), site.worker():
        await site.until_all_completed(flood)


@pytest.fixture
async def client(narrow: Site) -> AsyncGenerator[ManagerClient]:
    async with Api(narrow.core, narrow.core.decider()).client() as client:
        yield client


@pytest.mark.fault("F66")
async def test_the_manager_starts_nothing_while_requests_pile_up_and_says_when_to_come_again(
    narrow: Site, client: ManagerClient
) -> None:
    broker = FaultyBroker(narrow.broker, narrow.workers)
    broker.away = True
    async with narrow.engine(broker=broker):
        await _flood(narrow)
        with pytest.raises(ManagerUnavailable):
            await client.submit(NewWorkflow(milestones=["build"]))

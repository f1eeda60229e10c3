"""An engine that ends, or fails, at one point between receiving a message and noting what was sent."""

from dataclasses import replace
from typing import Any

import pytest

from openaperture.domain.workflow import State
from openaperture.ports import Message
from tests.contract.brokers import receive, until, until_depth
from tests.functional.engine_site import FaultyStore, Site

MARK = b"unheard-of"
NEIGHBOURS = 10


@pytest.mark.fault("F01", "F02")
async def test_a_crash_before_anything_is_decided_leaves_no_trace(site: Site) -> None:
    store = FaultyStore(site.core)
    store.hold_load = True
    async with site.engine(store=store) as engine:
        workflow_id = await site.start("build")
        await store.held.wait()
        await engine.kill()
    assert store.tried == 0
    await until_depth(site.broker, site.intake, 1)
    async with site.engine("another"), site.worker():
        await site.until_all_completed([workflow_id])
    await site.assert_nothing_left()


@pytest.mark.fault("F09")
async def test_a_crash_between_confirm_and_noting_it_sends_the_same_message_again(site: Site) -> None:
    store = FaultyStore(site.core)
    store.hold_settle = True
    async with site.hand() as hand:
        async with site.engine(store=store) as engine:
            workflow_id = await site.start("build")
            [first] = await receive(hand.requests, 1)
            await store.held.wait()
            await engine.kill()
        assert await site.core.store.count_outbox() == 1
        # The lease of the dead one on its row is over in the time of the other.
        async with site.engine("another", store=site.store_in(10)):
            [second] = await receive(hand.requests, 1)
            assert first.message == second.message
            await hand.requests.ack([first])
            await hand.requests.requeue([second])
            await hand.complete(await hand.take())
            await site.until_state(workflow_id, State.COMPLETED)
    await site.assert_counted_once(workflow_id)
    await site.assert_nothing_left()


@pytest.mark.fault("F15", "F30")
@pytest.mark.parametrize("failure", [RecursionError("deep"), MemoryError(), ZeroDivisionError("a defect")])
async def test_a_message_whose_handling_fails_unforeseen_is_put_aside_and_the_others_go_on(
    site: Site, failure: Exception
) -> None:
    def decode(message: Message) -> Any:
        if MARK in message.body:
            raise failure
        return site.core.wire.decode(message)

    fragile = replace(site, core=replace(site.core, wire=replace(site.core.wire, decode=decode)))
    bad = [await site.start(source_repo=MARK.decode(), message_id=f"bad-{number}") for number in range(2)]
    good = [await site.start() for _ in range(NEIGHBOURS)]
    async with fragile.engine():
        for workflow_id in good:
            await site.until_state(workflow_id, State.COMPLETED)
        reasons = await site.dead_letters(len(bad))
    assert {"bad-0", "bad-1"} == set(reasons)
    assert all("a defect of the orchestrator" in reason for reason in reasons.values())
    assert site.events.count("message.failed") == len(bad)
    await site.assert_nothing_left()


@pytest.mark.fault("F23")
async def test_an_answer_that_overtakes_the_claim_and_the_output_counts_and_they_change_nothing(
    site: Site,
) -> None:
    """The result comes first, then the heartbeat and the claim of the same attempt."""
    async with site.engine(), site.hand() as hand:
        workflow_id = await site.start("build")
        request = await hand.take()
        await hand.complete(request)
        await site.until_state(workflow_id, State.COMPLETED)
        ended = await site.get(workflow_id)
        assert (await hand.claim(request)).verdict == "void"

    async def settled() -> bool:
        return await site.broker.depth(site.intake) == 0

    await until(settled)
    assert (await site.get(workflow_id)).state is State.COMPLETED
    assert (await site.get(workflow_id)).outputs == ended.outputs
    await site.assert_counted_once(workflow_id)

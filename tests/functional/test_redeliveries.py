"""Messages that came back, and an orchestrator that is told to stop in the middle of them."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import pytest

from openaperture.domain.errors import StoreUnavailable
from openaperture.domain.workflow import State
from openaperture.engine.orchestrator import Orchestrator
from tests.contract.brokers import Events, receive
from tests.functional.engine_site import Site

MESSAGES = 6
CALLS = [f"{name} {number}" for number in range(1, MESSAGES + 1) for name in ("begin", "finish")]


@dataclass(slots=True)
class StoppedAt:
    """Takes every message for one that came back before. At one call it is away, and the process is to stop."""

    call: str
    orchestrator: Orchestrator | None = None
    calls: list[str] = field(default_factory=list[str])

    async def count(self, keys: Collection[str]) -> Mapping[str, int]:
        await self._called("count")
        return dict.fromkeys(keys, 1)

    async def begin(self, counts: Mapping[str, int]) -> None:
        assert set(counts.values()) == {1}
        await self._called("begin")

    async def finish(self, keys: Collection[str]) -> None:
        assert len(keys) == 1
        await self._called("finish")

    async def _called(self, name: str) -> None:
        self.calls.append(name)
        if f"{name} {self.calls.count(name)}" == self.call:
            assert self.orchestrator is not None
            await self.orchestrator.drain()
            raise StoreUnavailable("the test took the database away")


async def _stopped_at(site: Site, call: str, *, queued: int) -> Events:
    """What an orchestrator tells that is handed so many redeliveries, and is told to stop at that call."""
    events, begun = Events(), StoppedAt(call)
    begun.orchestrator = Orchestrator(
        site.broker,
        site.core.decider(),
        site.core.wire,
        site.core.clock,
        events,
        queue=site.intake,
        begun=begun,
    )
    consumer = await site.broker.consume(site.intake, prefetch=queued)
    await consumer.requeue(await receive(consumer, queued))
    deliveries = await receive(consumer, queued)
    assert all(delivery.redelivered for delivery in deliveries)
    await begun.orchestrator.handle(consumer, deliveries)
    await consumer.close()
    return events


@pytest.mark.fault("F13")
@pytest.mark.parametrize("call", ["count 1", *CALLS[:5], CALLS[-1]])
async def test_only_what_is_not_settled_goes_back_when_it_is_told_to_stop(site: Site, call: str) -> None:
    """I9: each delivery is settled once, and the counts add up."""
    started = [await site.start() for _ in range(MESSAGES)]
    events = await _stopped_at(site, call, queued=MESSAGES)
    handled = 0 if call == "count 1" else (CALLS.index(call) + 1) // 2
    told = [details for name, details in events.told if name == "batch.settled"]
    assert sum(each["received"] for each in told) == MESSAGES
    assert sum(each["applied"] for each in told) == handled
    assert sum(each["requeued"] for each in told) == MESSAGES - handled
    assert await site.broker.depth(site.intake) == MESSAGES - handled
    stored = [found for key in started if (found := await site.core.store.find_workflow(key)) is not None]
    assert [workflow.state for workflow in stored] == [State.COMPLETED] * handled

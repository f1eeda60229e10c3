"""The product under the benchmark: the engine and an SDK worker, as `app.py` puts them together."""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

from openaperture.bench.shapes import MILESTONES, Silent, Site
from openaperture.codecs import incoming, terms
from openaperture.codecs import json as json_codec
from openaperture.domain.messages import StartMessage
from openaperture.domain.milestones import MilestoneKind, table_of
from openaperture.engine.decider import Decider
from openaperture.engine.orchestrator import Orchestrator
from openaperture.engine.outbox import OutboxWriter
from openaperture.engine.ports import Wire
from openaperture.engine.relay import Relay
from openaperture.engine.requests import Identity, RequestBuilder
from openaperture.engine.senders import RequestSender
from openaperture.engine.timers import Timers
from openaperture.engine.tokens import TokenMint
from openaperture.observability.clock import SystemClock
from openaperture.ports import Address, Message, OutboxRow, RowKind
from openaperture.stores.sql import SqlStore
from openaperture.worker import Context, Worker


class _Ends(Silent):
    """Tells of each workflow that ended."""

    def __init__(self) -> None:
        self.ended: asyncio.Queue[str] = asyncio.Queue()

    def emit(self, name: str, /, **details: Any) -> None:
        if name in {"workflow.completed", "workflow.failed"}:
            self.ended.put_nowait(details["workflow_id"])


class Product:
    """Orchestrator, relay, timers and a worker whose milestones do nothing."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._intake = f"{site.prefix}.intake"
        self._requests = f"{site.prefix}.requests"
        self._observer = _Ends()
        self._finished_at: dict[str, float] = {}
        self._hops: list[float] = []

    @classmethod
    @asynccontextmanager
    async def running(cls, site: Site) -> AsyncGenerator["Product"]:
        product = cls(site)
        async with asyncio.TaskGroup() as tasks:
            loops = [tasks.create_task(site.broker.run())]
            for queue in (product._intake, product._requests):
                await site.broker.declare(queue)
            loops += [tasks.create_task(loop) for loop in product._loops()]
            yield product
            for loop in reversed(loops):
                loop.cancel()

    def _loops(self) -> list[Any]:
        site, clock, observer = self._site, SystemClock(), self._observer
        kinds = table_of(MilestoneKind(name=name, queue=self._requests) for name in MILESTONES)
        wire = Wire(
            mint=TokenMint("benchmark"),
            encode=json_codec.encode,
            encode_workflow=terms.encode_workflow,
            decode=incoming.decode,
        )
        store = SqlStore(site.database, observer=observer)
        relay = Relay(store, site.broker, wire, clock, observer, owner="bench")
        identity = Identity(callback=Address(routing_key=self._intake))
        requests = RequestBuilder(identity, wire.mint, kinds, wire.encode, wire.encode_workflow)
        decider = Decider(store, OutboxWriter(requests), kinds, observer, owner="bench", hand_over=relay.hand_over)
        orchestrator = Orchestrator(site.broker, decider, wire, clock, observer, queue=self._intake)
        timers = Timers(store, decider, clock, observer)
        worker = Worker(queue=self._requests, slots=400, observer=observer)
        for milestone in MILESTONES:
            worker.milestone(milestone)(self._perform)
        return [
            orchestrator.run(),
            relay.run(decider, {RowKind.REQUEST: RequestSender(self._deliver)}),
            timers.run(),
            worker.serve(site.broker),
        ]

    async def _deliver(self, row: OutboxRow, message: Message) -> None:
        await self._site.broker.publish(Address(routing_key=row.queue), message)

    async def _perform(self, context: Context) -> None:
        now = time.perf_counter()
        if (finished := self._finished_at.pop(context.workflow_id, None)) is not None:
            self._hops.append(now - finished)
        self._finished_at[context.workflow_id] = time.perf_counter()

    async def run(self, workflows: int) -> float:
        """Seconds for that many workflows, started at once."""
        began = time.perf_counter()
        await asyncio.gather(*(self._start() for _ in range(workflows)))
        for _ in range(workflows):
            await self._observer.ended.get()
        return time.perf_counter() - began

    async def hops(self, count: int) -> list[float]:
        """Seconds of each hop, one workflow at a time."""
        self._hops.clear()
        while len(self._hops) < count:
            await self.run(1)
        return self._hops

    async def _start(self) -> None:
        start = StartMessage(id=str(uuid4()), milestones=list(MILESTONES))
        message = Message(body=json_codec.encode(start), message_id=f"start.{start.id}")
        await self._site.broker.publish(Address(routing_key=self._intake), message)

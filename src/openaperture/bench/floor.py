"""The floor: a bare script that does the broker and database operations a release needs, and no more.

Per milestone, as the product: a request, a claim and its answer, a result; for each batch of what
arrived one transaction that compares and sets the state, appends to a history and writes an outbox and
an inbox; a confirmed publish; then the outbox row is deleted. It decides nothing and checks nothing.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any
from uuid import uuid4

import msgspec
from sqlalchemy import Connection, bindparam, text

from openaperture.bench.shapes import MILESTONES, Site
from openaperture.ports import Address, Delivery, Message

_TABLES = (
    "create table floor_state (id varchar(80) primary key, version integer not null, document text not null)",
    "create table floor_history (workflow_id varchar(80) not null, entry text not null)",
    "create table floor_outbox (id varchar(80) primary key, body text not null)",
    "create table floor_inbox (id varchar(80) primary key)",
)
_DOCUMENT = "x" * 900
"""About what a workflow's row holds."""
_BODY = "y" * 900
"""About the size of a request."""


class Floor:
    """Orchestrator and worker of the floor, as two loops."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._intake = f"{site.prefix}.intake"
        self._requests = f"{site.prefix}.requests"
        self._answers = f"{site.prefix}.answers"
        self._ended: asyncio.Queue[str] = asyncio.Queue()
        self._finished_at: dict[str, float] = {}
        self._hops: list[float] = []

    @classmethod
    @asynccontextmanager
    async def running(cls, site: Site) -> AsyncGenerator["Floor"]:
        floor = cls(site)
        await site.database.write(lambda connection: [connection.execute(text(sql)) for sql in _TABLES])
        async with asyncio.TaskGroup() as tasks:
            loops = [tasks.create_task(site.broker.run())]
            for queue in (floor._intake, floor._requests, floor._answers):
                await site.broker.declare(queue)
            loops += [tasks.create_task(floor._orchestrate()), tasks.create_task(floor._work())]
            yield floor
            for loop in reversed(loops):
                loop.cancel()

    async def run(self, workflows: int) -> float:
        """Seconds for that many workflows, started at once."""
        began = time.perf_counter()
        await asyncio.gather(*(self._send(self._intake, "start", str(uuid4()), 0) for _ in range(workflows)))
        for _ in range(workflows):
            await self._ended.get()
        return time.perf_counter() - began

    async def hops(self, count: int) -> list[float]:
        """Seconds of each hop, one workflow at a time."""
        self._hops.clear()
        while len(self._hops) < count:
            await self.run(1)
        return self._hops

    async def _orchestrate(self) -> None:
        consumer = await self._site.broker.consume(self._intake, prefetch=400)
        while True:
            deliveries = await consumer.receive(200)
            messages = [_read(delivery) for delivery in deliveries]
            await self._site.database.write(partial(_save, messages=messages))
            await consumer.ack(deliveries)
            await asyncio.gather(*(self._follow(message) for message in messages))
            sent = [{"id": _key(m)} for m in messages if _asks(m)]
            if sent:
                await self._site.database.write(partial(_forget, rows=sent))

    async def _follow(self, message: dict[str, Any]) -> None:
        workflow, position = message["workflow"], message["position"]
        if message["type"] == "accepted":
            await self._send(self._answers, "run", workflow, position)
        elif _asks(message):
            await self._send(self._requests, "request", workflow, _next(message))
        else:
            self._ended.put_nowait(workflow)

    async def _work(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._accept())
            tasks.create_task(self._perform())

    async def _accept(self) -> None:
        consumer = await self._site.broker.consume(self._requests, prefetch=400)
        while True:
            deliveries = await consumer.receive(200)
            messages = [_read(delivery) for delivery in deliveries]
            await asyncio.gather(
                *(self._send(self._intake, "accepted", m["workflow"], m["position"]) for m in messages)
            )
            await consumer.ack(deliveries)

    async def _perform(self) -> None:
        consumer = await self._site.broker.consume(self._answers, prefetch=400)
        while True:
            deliveries = await consumer.receive(200)
            now = time.perf_counter()
            messages = [_read(delivery) for delivery in deliveries]
            for message in messages:
                if (finished := self._finished_at.pop(message["workflow"], None)) is not None:
                    self._hops.append(now - finished)
                self._finished_at[message["workflow"]] = now
            await asyncio.gather(
                *(self._send(self._intake, "completed", m["workflow"], m["position"]) for m in messages)
            )
            await consumer.ack(deliveries)

    async def _send(self, queue: str, kind: str, workflow: str, position: int) -> None:
        body = msgspec.json.encode({"type": kind, "workflow": workflow, "position": position, "body": _BODY})
        message = Message(body=body, message_id=f"{workflow}.{position}.{kind}")
        await self._site.broker.publish(Address(routing_key=queue), message)


def _read(delivery: Delivery) -> dict[str, Any]:
    message: dict[str, Any] = msgspec.json.decode(delivery.message.body)
    return message


def _next(message: dict[str, Any]) -> int:
    return 0 if message["type"] == "start" else message["position"] + 1


def _asks(message: dict[str, Any]) -> bool:
    return message["type"] != "accepted" and _next(message) < len(MILESTONES)


def _key(message: dict[str, Any]) -> str:
    return f"{message['workflow']}.{_next(message)}"


def _save(connection: Connection, messages: Sequence[dict[str, Any]]) -> None:
    """One batch: read, compare and set, append, outbox, inbox."""
    ids = sorted({message["workflow"] for message in messages})
    wanted = text("select id, version from floor_state where id in :ids").bindparams(
        bindparam("ids", expanding=True)
    )
    known: dict[str, int] = {row.id: row.version for row in connection.execute(wanted, {"ids": ids})}
    fresh = [{"id": value, "document": _DOCUMENT} for value in ids if value not in known]
    stale = [{"id": value, "version": known[value], "document": _DOCUMENT} for value in ids if value in known]
    asked = [{"id": _key(message), "body": _BODY} for message in messages if _asks(message)]
    history = [{"workflow_id": message["workflow"], "entry": message["type"]} for message in messages]
    handled = [{"id": f"{m['workflow']}.{m['position']}.{m['type']}"} for m in messages]
    for statement, rows in (
        ("insert into floor_state values (:id, 1, :document)", fresh),
        ("update floor_state set version = :version + 1, document = :document where id = :id", stale),
        ("insert into floor_history values (:workflow_id, :entry)", history),
        ("insert into floor_outbox values (:id, :body)", asked),
        ("insert into floor_inbox values (:id)", handled),
    ):
        if rows:
            connection.execute(text(statement), rows)


def _forget(connection: Connection, rows: Sequence[dict[str, str]]) -> None:
    connection.execute(text("delete from floor_outbox where id = :id"), rows)

"""Who uses the simulated world at random: customers, people with verbs, forgers, and handlers with moods."""

import asyncio
from contextlib import suppress
from collections.abc import Mapping
from datetime import timedelta
from random import Random
from uuid import UUID

from openaperture.codecs import json as json_codec
from openaperture.domain import messages as m
from openaperture.domain.errors import MilestoneFailed, OpenApertureError, WrongState
from openaperture.domain.events import Resolution, Resolved
from openaperture.domain.releases import Release
from openaperture.domain.workflow import State
from openaperture.engine.verbs import Verbs
from openaperture.ports import Address, Message
from openaperture.worker import Context
from tests.simulation.broker import SimulatedBroker
from tests.simulation.journal import Arrived, Asked, Journal
from tests.simulation.loop import Process
from tests.simulation.old_worker import old_start, send_old
from tests.simulation.world import INTAKE, Site

LISTS = (
    ("build",),
    ("build", "deploy"),
    ("config", "build", "deploy"),
    ("deploy",),
    ("scheduled", "build"),
    ("build", "nonsense"),
    (),
)
OLD_LISTS = (("old_build",), ("old_build", "old_deploy"), ("scheduled", "old_build"), ("old_deploy", "nonsense"))
OUR_RFC_1123 = "%a, %d %b %Y %H:%M:%S UTC"


class Moods:
    """Handlers that mostly work, and sometimes fail, hang or talk much."""

    def __init__(self, chance: Random) -> None:
        self._chance = chance

    async def __call__(self, context: Context, _process: Process) -> Mapping[str, str]:
        mood = self._chance.random()
        for _ in range(int(mood * 10) % 3):
            context.log("a line")
            await asyncio.sleep(self._chance.random())
        if mood < 0.06:
            raise MilestoneFailed("the handler is in a bad mood")
        if mood < 0.08:
            await asyncio.sleep(1_000.0)
        if mood < 0.2:
            context.notify("a sentence")
        await asyncio.sleep(self._chance.expovariate(1 / 3.0) if mood < 0.9 else 40.0)
        return {"made": context.milestone}


class Load:
    """What is asked for, by how many, until it is enough."""

    def __init__(self, chance: Random, *, workflows: int, seconds: float) -> None:
        self._chance = chance
        self._left = workflows
        self._pause = seconds / max(1, workflows)
        self.ids: list[str] = []

    @property
    def is_done(self) -> bool:
        return self._left == 0

    def new_id(self) -> str:
        return str(UUID(int=self._chance.getrandbits(128), version=4))

    def release(self, site: Site) -> Release:
        milestones = self._chance.choice(LISTS)
        start_at = site.world.now() + timedelta(seconds=self._chance.uniform(-5.0, 40.0))
        scheduled = start_at.strftime(OUR_RFC_1123) if "scheduled" in milestones else None
        return Release(milestones=milestones, source_repo="acme/shop", scheduled_start_time=scheduled)

    async def send_starts(self, site: Site) -> None:
        """Customers that publish starts, until the broker has them."""
        broker = site.broker()
        while self._left:
            self._left -= 1
            await asyncio.sleep(self._chance.expovariate(1 / self._pause))
            release = self.release(site)
            workflow_id = self.new_id()
            self.ids.append(workflow_id)
            self._tell_manager(site, workflow_id)
            if site.world.shape.old_workers and self._chance.random() < 0.4:
                await self._send_old_start(site, broker, workflow_id)
                continue
            message = m.StartMessage(
                id=workflow_id,
                milestones=list(release.milestones),
                source_repo=release.source_repo,
                scheduled_start_time=release.scheduled_start_time,
            )
            body = json_codec.encode(message)
            for copy in range(2 if self._chance.random() < 0.2 else 1):
                await publish_until_confirmed(broker, body, f"start.{workflow_id}.{copy}")
            site.world.journal.add(Asked("start", workflow_id))
        await asyncio.Event().wait()

    def _tell_manager(self, site: Site, workflow_id: str) -> None:
        """Where a Manager elsewhere holds the workflows, it is it that is asked for them first."""
        if site.world.manager is not None and self._chance.random() < 0.98:
            site.world.manager.add(workflow_id)

    async def _send_old_start(self, site: Site, broker: SimulatedBroker, workflow_id: str) -> None:
        milestones = self._chance.choice(OLD_LISTS)
        start_at = site.world.now() + timedelta(seconds=self._chance.uniform(-5.0, 40.0))
        await send_old(
            broker, old_start(workflow_id, milestones, scheduled_start_time=start_at.strftime(OUR_RFC_1123))
        )
        site.world.journal.add(Asked("start", workflow_id))

    async def use_verbs(self, site: Site) -> None:
        """People: create, start, cancel, resolve. Their process may die on them."""
        verbs = site.verbs()
        while True:
            await asyncio.sleep(self._chance.expovariate(1 / (2 * self._pause)))
            try:
                await self._one_verb(site, verbs)
            except OpenApertureError:
                continue

    async def _one_verb(self, site: Site, verbs: Verbs) -> None:
        chance, journal = self._chance, site.world.journal
        if self._left and chance.random() < 0.3:
            workflow_id = self.new_id()
            self._tell_manager(site, workflow_id)
            await verbs.create(workflow_id, self.release(site), "ann")
            journal.add(Asked("create", workflow_id))
            self.ids.append(workflow_id)
            return
        if not self.ids:
            return
        workflow_id = chance.choice(self.ids[-20:])
        stored = site.world.disk.workflows.get(workflow_id)
        state = stored.row["state"] if stored else None
        if state == State.HELD and chance.random() < 0.7:
            resolution = chance.choice(list(Resolution))
            await verbs.resolve(workflow_id, Resolved(resolution=resolution, by="a person"))
            journal.add(Asked("resolve", workflow_id, resolution))
        elif site.world.manager is not None and chance.random() < 0.2:
            if (row := site.world.manager.rows.get(workflow_id)) is not None:
                row["workflow_error"] = True
        elif chance.random() < 0.3:
            await verbs.cancel(workflow_id, "a person")
            journal.add(Asked("cancel", workflow_id))
        else:
            await verbs.start(workflow_id, "a person")
            journal.add(Asked("start", workflow_id))

    async def resolve_all(self, site: Site) -> None:
        """A person who looks after everything that is held."""
        verbs = site.verbs()
        while True:
            await asyncio.sleep(5.0)
            held = [key for key, stored in site.world.disk.under_way.items() if stored.row["state"] == State.HELD]
            for workflow_id in held:
                resolution = self._chance.choice(list(Resolution))
                with suppress(WrongState):
                    await verbs.resolve(workflow_id, Resolved(resolution=resolution, by="a person"))

    async def forge(self, site: Site) -> None:
        """Somebody who may write to the queue: says again what was said, changes it, makes things up."""
        broker = site.broker()
        while True:
            await asyncio.sleep(self._chance.expovariate(1 / (3 * self._pause)))
            said = self._overheard(site.world.journal)
            body = self._forgery(said)
            if body is not None:
                name = f"forged.{self._chance.getrandbits(64):016x}"
                if said is not None and said.message_id and self._chance.random() < 0.3:
                    # Under the id of the genuine one, which must not count as a repeat because of that.
                    name = said.message_id
                await publish_until_confirmed(broker, body, name)

    def _overheard(self, journal: Journal) -> Arrived | None:
        """One of the last things that were said to the orchestrators."""
        recent = journal.records[-200:]
        said = recent[self._chance.randrange(len(recent))] if recent else None
        if isinstance(said, Arrived) and said.queue == INTAKE and said.content_type is not None:
            return said
        return None

    def _forgery(self, said: Arrived | None) -> bytes | None:
        chance = self._chance
        if chance.random() < 0.1:
            return b'{"garbage": [' + bytes([chance.randrange(256)])
        if said is None:
            return None
        if chance.random() < 0.4:
            return said.body
        if chance.random() < 0.5 and self.ids:
            # A token of one workflow for another one.
            return said.body.replace(_id_in(said.body), chance.choice(self.ids).encode())
        token = b'"attempt_token":"'
        place = said.body.find(token)
        if place < 0:
            return None
        return said.body[: place + len(token)] + b"0.0.1." + said.body[place + len(token) + 6 :].replace(b"A", b"B", 1)


def _id_in(body: bytes) -> bytes:
    for mark in (b'"workflow_id":"', b'"id":"'):
        place = body.find(mark)
        if place >= 0:
            return body[place + len(mark) : place + len(mark) + 36]
    return b"\x00"


async def publish_until_confirmed(broker: SimulatedBroker, body: bytes, message_id: str) -> None:
    """Every copy carries the same id."""
    while True:
        try:
            await broker.publish(Address(routing_key=INTAKE), Message(body=body, message_id=message_id))
        except OpenApertureError:
            await asyncio.sleep(1.0)
        else:
            return

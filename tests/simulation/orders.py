"""What is asked of the simulated world: random releases, sent until there are enough, and forgeries among them."""

import asyncio
from datetime import timedelta
from random import Random
from uuid import UUID

from msgspec import structs

from openaperture.codecs import json as json_codec
from openaperture.domain import messages as m
from openaperture.domain.errors import OpenApertureError
from openaperture.domain.releases import Entry, OnGroupFailure, Release, WhenLocked
from openaperture.ports import Address, Message
from tests.simulation.broker import SimulatedBroker
from tests.simulation.journal import Arrived, Asked, Journal
from tests.simulation.old_worker import old_start, send_old
from tests.simulation.world import INTAKE, Site

LISTS: tuple[tuple[Entry, ...], ...] = (
    ("build",),
    ("build", "deploy"),
    ("config", "build", "deploy"),
    ("deploy",),
    ("scheduled", "build"),
    ("build", "nonsense"),
    (),
    (("build", "config"), "deploy"),
    ("test", ("deploy", "deploy_too")),
    (("test", "build", "sign_off"), "deploy"),
    ("build", "deploy", "scan", "deploy"),
    (("test", "deploy"), "scan", "deploy"),
    ("deploy_too", ("scan", "deploy_too", "build"), "deploy", "scan"),
)
OLD_LISTS = (("old_build",), ("old_build", "old_deploy"), ("scheduled", "old_build"), ("old_deploy", "nonsense"))
FOLLOW_UPS: tuple[tuple[str, ...], ...] = ((), (), ("config",), ("test", "deploy_too"), ("deploy",))
LOCKS: tuple[tuple[str, ...], ...] = (
    (),
    (),
    ("environment:prod",),
    ("environment:prod", "database"),
    ("database",),
)
RFC_1123 = "%a, %d %b %Y %H:%M:%S UTC"
TOKEN_MARK = b'"attempt_token":"'


class Orders:
    """So many workflows within so many seconds."""

    def __init__(self, chance: Random, *, workflows: int, seconds: float) -> None:
        self._chance = chance
        self._left = workflows
        self.pause_seconds = seconds / max(1, workflows)
        self.ids: list[str] = []

    @property
    def are_left(self) -> bool:
        return self._left > 0

    def new_id(self, site: Site) -> str:
        """A Manager elsewhere that holds the workflows is asked for them first, and mostly knows them."""
        workflow_id = str(UUID(int=self._chance.getrandbits(128), version=4))
        self.ids.append(workflow_id)
        if site.world.manager is not None and self._chance.random() < 0.98:
            site.world.manager.add(workflow_id)
        return workflow_id

    def release(self, site: Site) -> Release:
        chance = self._chance
        milestones = chance.choice(LISTS)
        scheduled = self._start_time(site) if "scheduled" in milestones else None
        locks = chance.choice(LOCKS)
        return Release(
            milestones=milestones,
            on_failure=chance.choice(FOLLOW_UPS),
            on_group_failure=chance.choice(list(OnGroupFailure)),
            locks=locks,
            locks_from="deploy" if locks and "deploy" in milestones and chance.random() < 0.5 else None,
            when_locked=chance.choice([WhenLocked.WAIT, WhenLocked.WAIT, WhenLocked.NEWEST, WhenLocked.REFUSE]),
            source_repo="acme/shop",
            scheduled_start_time=scheduled,
        )

    def _start_time(self, site: Site) -> str:
        return (site.world.now() + timedelta(seconds=self._chance.uniform(-5.0, 40.0))).strftime(RFC_1123)

    async def send(self, site: Site) -> None:
        """Customers that publish starts, until the broker has them."""
        broker = site.broker()
        while self._left > 0:
            self._left -= 1
            await asyncio.sleep(self._chance.expovariate(1 / self.pause_seconds))
            workflow_id = self.new_id(site)
            if site.world.shape.old_workers and self._chance.random() < 0.4:
                milestones = self._chance.choice(OLD_LISTS)
                start = old_start(workflow_id, milestones, scheduled_start_time=self._start_time(site))
                await send_old(broker, start)
            else:
                body = json_codec.encode(start_of(workflow_id, self.release(site)))
                for copy in range(2 if self._chance.random() < 0.2 else 1):
                    await publish_until_confirmed(broker, body, f"start.{workflow_id}.{copy}")
            site.world.journal.add(Asked("start", workflow_id))
        await asyncio.Event().wait()


def start_of(workflow_id: str, release: Release) -> m.StartMessage:
    """The message that asks for it."""
    known = {field.name for field in structs.fields(m.StartMessage)}
    given = {name: getattr(release, name) for name in release.__slots__ if name in known and name != "milestones"}
    entries: list[str | list[str]] = [
        entry if isinstance(entry, str) else list(entry) for entry in release.milestones
    ]
    given |= {"on_failure": list(release.on_failure), "locks": list(release.locks), "milestone_options": {}}
    return m.StartMessage(id=workflow_id, milestones=entries, **given)


class Forger:
    """Somebody who may write to the queue: says again what was said, changes it, makes things up."""

    def __init__(self, orders: Orders, chance: Random) -> None:
        self._orders = orders
        self._chance = chance

    async def act(self, site: Site) -> None:
        broker = site.broker()
        while True:
            await asyncio.sleep(self._chance.expovariate(1 / (3 * self._orders.pause_seconds)))
            said = self._overheard(site.world.journal)
            body = self._forgery(site, said)
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

    def _forgery(self, site: Site, said: Arrived | None) -> bytes | None:
        chance = self._chance
        if chance.random() < 0.1:
            return b'{"garbage": [' + bytes([chance.randrange(256)])
        if said is None:
            return None
        if chance.random() < 0.4:
            return said.body
        if chance.random() < 0.5 and self._orders.ids:
            # A token of one workflow for another one, or for none.
            nobody = str(UUID(int=chance.getrandbits(128), version=4))
            other = chance.choice([*self._orders.ids[-50:], nobody])
            return said.body.replace(_id_in(said.body), other.encode())
        place = said.body.find(TOKEN_MARK)
        if place < 0:
            return None
        head, token = said.body[: place + len(TOKEN_MARK)], said.body[place + len(TOKEN_MARK) :]
        # Another attempt, or another signature.
        return head + (b"0.0.1." + token[6:] if chance.random() < 0.5 else token.replace(b"A", b"B", 1))


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

"""People of the simulated world: some do anything at random, one looks after everything at the end."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from random import Random
from typing import Any

from openaperture.domain.errors import OpenApertureError
from openaperture.domain.events import Resolution, Resolved, Voted
from openaperture.domain.lineage import Repeat
from openaperture.domain.workflow import Workflow
from openaperture.engine.verbs import Verbs
from tests.simulation.journal import Asked
from tests.simulation.orders import Orders
from tests.simulation.world import Site

NAMES = ("bob", "eve", "kim")
RECENT = 20
"""Workflows that people still care about."""


class People:
    """Whatever a person can do, at random, by a process that may die on them."""

    def __init__(self, orders: Orders, chance: Random) -> None:
        self._orders = orders
        self._chance = chance

    async def act(self, site: Site) -> None:
        verbs = site.verbs()
        while True:
            await asyncio.sleep(self._chance.expovariate(1 / (2 * self._orders.pause_seconds)))
            with suppress(OpenApertureError):
                await self._one(site, verbs)

    async def _one(self, site: Site, verbs: Verbs) -> None:
        if self._orders.are_left and self._chance.random() < 0.3:
            await self._create(site, verbs)
        elif self._orders.ids:
            workflow_id = self._chance.choice(self._orders.ids[-RECENT:])
            stored = site.world.disk.workflows.get(workflow_id)
            workflow = stored.workflow if stored else None
            if workflow is not None:
                await self._chance.choice(self._fitting(site, verbs, workflow))()

    async def _create(self, site: Site, verbs: Verbs) -> None:
        workflow_id = self._orders.new_id(site)
        await verbs.create(workflow_id, self._orders.release(site), "ann")
        site.world.journal.add(Asked("create", workflow_id))

    def _fitting(self, site: Site, verbs: Verbs, w: Workflow) -> list[Callable[[], Awaitable[Any]]]:
        """What could be done to it. Some of it does not fit, and is refused."""
        chance, by = self._chance, self._chance.choice(NAMES)
        fitting: dict[str, list[Callable[[], Awaitable[Any]]]] = {
            "created": [lambda: verbs.start(w.id, by)] * 3,
            "held": [lambda: self._resolve(verbs, w, chance.choice(list(Resolution)))] * 3,
            "waiting": [lambda: verbs.vote(w.id, _vote(w, by, approves=chance.random() < 0.8))] * 4,
            "paused": [lambda: verbs.resume(w.id, by)] * 3,
            "failed": [lambda: self._repeat(site, verbs, w, Repeat.RETRY)] * 3,
            "cancelled": [lambda: self._repeat(site, verbs, w, Repeat.AGAIN)],
            "completed": [lambda: self._repeat(site, verbs, w, Repeat.RERUN)],
        }
        everywhere: list[Callable[[], Awaitable[Any]]] = [
            lambda: verbs.cancel(w.id, by, force=chance.random() < 0.2),
            lambda: verbs.pause(w.id, by),
            lambda: verbs.resume(w.id, by),
            lambda: verbs.start(w.id, by),
            lambda: self._cancel_elsewhere(site, w),
            lambda: self._take_a_lock_away(verbs, w, by),
        ]
        return everywhere + fitting.get(w.state.value, [])

    async def _resolve(self, verbs: Verbs, w: Workflow, resolution: Resolution) -> None:
        held = [step.milestone for step in w.steps if step.unknown]
        milestone = self._chance.choice(held) if held else None
        await verbs.resolve(w.id, Resolved(resolution=resolution, by="kim", milestone=milestone))

    async def _repeat(self, site: Site, verbs: Verbs, w: Workflow, repeat: Repeat) -> None:
        milestone = self._chance.choice(w.release.flat) if w.release.flat and repeat is Repeat.RERUN else None
        # Also what repeats something already, now and then: without end there would be no end of workflows.
        if w.lineage is None or self._chance.random() < 0.3:
            new_id = self._orders.new_id(site)
            await verbs.repeat(w.id, repeat, "kim", milestone=milestone, new_id=new_id)

    async def _cancel_elsewhere(self, site: Site, w: Workflow) -> None:
        rows: Mapping[str, dict[str, Any]] = site.world.manager.rows if site.world.manager else {}
        if w.id in rows:
            rows[w.id]["workflow_error"] = True

    async def _take_a_lock_away(self, verbs: Verbs, w: Workflow, by: str) -> None:
        if w.lock_tokens and self._chance.random() < 0.2:
            await verbs.release_lock(self._chance.choice(sorted(w.lock_tokens)), by, force=True)


class Caretaker:
    """Once the faults are over: whatever waits for a person gets its person."""

    def __init__(self, chance: Random) -> None:
        self._chance = chance

    async def act(self, site: Site) -> None:
        verbs = site.verbs()
        while True:
            await asyncio.sleep(5.0)
            for stored in list(site.world.disk.under_way.values()):
                if stored.workflow is not None:
                    with suppress(OpenApertureError):
                        await self._look_after(verbs, stored.workflow)
            for claim in list(site.world.disk.locks.claims):
                if claim.kept is not None:
                    with suppress(OpenApertureError):
                        await verbs.release_lock(claim.name, "the caretaker", force=True)

    async def _look_after(self, verbs: Verbs, w: Workflow) -> None:
        if w.pause is not None:
            await verbs.resume(w.id, "the caretaker")
        for step in w.steps:
            if step.unknown:
                resolution = self._chance.choice(list(Resolution))
                await verbs.resolve(w.id, Resolved(resolution=resolution, by="kim", milestone=step.milestone))
            elif step.wait is not None and step.wait.code == "approval":
                await verbs.vote(w.id, _vote(w, self._chance.choice(NAMES), approves=True))


def _vote(w: Workflow, by: str, *, approves: bool) -> Voted:
    asked = [step.milestone for step in w.steps if step.wait is not None and step.wait.code == "approval"]
    return Voted(approves=approves, by=by, groups=frozenset({"ops"}), milestone=asked[0] if asked else None)

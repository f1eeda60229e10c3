"""Keeps the Manager's record of each workflow up to date, and honours what is written there.

    claim the row -> load our state -> look at the Manager's row -> PUT ours -> free what waited for it

One at a time per workflow: the lease on its RECORD row keeps an older state from being put over a newer one.
A PUT whose outcome is unknown is made again: it only ever tells the newest state. A cancel that somebody made
in the Manager (its `workflow_error` set) becomes one here before anything is overwritten.
"""

import asyncio
from typing import Any, Protocol

from openaperture.domain.errors import (
    AccessRefused,
    BadInput,
    ManagerUnavailable,
    TryLater,
    UnknownWorkflow,
    UnusableAnswer,
)
from openaperture.domain.events import CancelRequested, Unsaved
from openaperture.domain.workflow import State, Workflow
from openaperture.engine.decider import Decider
from openaperture.engine.intake import Item
from openaperture.engine.originals import recorded_fields
from openaperture.engine.ports import Register
from openaperture.engine.senders import Handled, deferral
from openaperture.ports import Clock, Deferred, Observer, OutboxRow, Records, Store, WorkflowFilter, record_id

RECORD_SECONDS = 15.0
"""One look and one PUT, with all their tries."""
LEASE_SECONDS = 20.0
"""Longer than that, and short enough that a peer takes over soon when we die."""
FREED_LEASE_SECONDS = 20.0
MAX_TURNS = 20
"""States recorded in one go before the others get their turn."""
WATCH_SECONDS = 30.0
WATCHED = 200
"""Workflows under way whose row is looked at for a cancel; more are noticed when they are recorded next."""
BY = "the Manager"


class _Source(Store, Records, Protocol):
    """Both sides of the store."""


class Recorder:
    """Sender of RECORD rows, and the watch for cancels."""

    def __init__(
        self, store: _Source, register: Register, decider: Decider, observer: Observer, *, owner: str
    ) -> None:
        self._store = store
        self._register = register
        self._decider = decider
        self._observer = observer
        self._owner = owner
        self._stopping = False

    async def __call__(self, row: OutboxRow) -> Handled:
        freed: list[OutboxRow] = []
        try:
            for _ in range(MAX_TURNS):
                if not await self._store.claim_row(row.id, self._owner, lease_seconds=LEASE_SECONDS):
                    break
                async with asyncio.timeout(RECORD_SECONDS):
                    recorded = await self._record(row.workflow_id)
                if recorded is not None:
                    freed += recorded
            else:
                busy = Deferred(
                    id=row.id, seconds=0.0, error="the workflow changes faster than it can be recorded"
                )
                return Handled(deferred=busy, freed=freed)
        except (TryLater, AccessRefused, UnusableAnswer) as exc:
            self._observer.emit("record.deferred", workflow_id=row.workflow_id, error=exc)
            return Handled(deferred=deferral(row, exc).deferred, freed=freed)
        except TimeoutError:
            late = ManagerUnavailable(f"the Manager did not answer within {RECORD_SECONDS:.0f} s")
            self._observer.emit("record.deferred", workflow_id=row.workflow_id, error=late)
            return Handled(deferred=deferral(row, late).deferred, freed=freed)
        return Handled(is_settled=True, freed=freed)

    async def _record(self, workflow_id: str) -> list[OutboxRow] | None:
        """One state; None when it changed meanwhile and has to be looked at again."""
        loaded = await self._store.load([workflow_id])
        workflow = loaded.workflows.get(workflow_id)
        if workflow is None:
            raise ManagerUnavailable(f"workflow {workflow_id} cannot be read, so it cannot be recorded")
        may_be_cancelled = not workflow.ended and workflow.state is not State.CANCELLING
        if may_be_cancelled and await self._is_cancelled_there(workflow_id):
            await self._apply(workflow_id, CancelRequested(by=BY))
            return None
        try:
            await self._register.put_workflow(workflow_id, recorded_fields(workflow, loaded.now))
        except UnknownWorkflow as exc:
            return await self._give_up(workflow, f"the Manager does not know this workflow any more ({exc})")
        except BadInput as exc:
            if may_be_cancelled and await self._is_cancelled_there(workflow_id):
                # Somebody did so since we looked, and the Manager stands by it.
                await self._apply(workflow_id, CancelRequested(by=BY))
                return None
            return await self._give_up(workflow, f"the Manager refuses to record this workflow: {exc}")
        freed = await self._settle(workflow)
        await self._put_end_again(workflow)
        return freed

    async def _put_end_again(self, put: Workflow) -> None:
        """Who stood still past its lease may have put an older state over the end that a peer has recorded."""
        loaded = await self._store.load([put.id])
        newest = loaded.workflows.get(put.id)
        if newest is None or put.ended or not newest.ended:
            return
        # While its row is there, the end is recorded next anyway.
        if not await self._store.claim_row(record_id(put.id), self._owner, lease_seconds=LEASE_SECONDS):
            await self._register.put_workflow(put.id, recorded_fields(newest, loaded.now))

    async def _give_up(self, workflow: Workflow, reason: str) -> list[OutboxRow] | None:
        """What cannot be recorded is not done: it fails, and the next state is not recorded either."""
        if not workflow.ended:
            await self._apply(workflow.id, Unsaved(reason=reason))
            return None
        self._observer.emit("record.refused", workflow_id=workflow.id, reason=reason)
        return await self._settle(workflow)

    async def _settle(self, workflow: Workflow) -> list[OutboxRow]:
        return await self._store.settle_record(
            workflow.id,
            workflow.version,
            live=[str(attempt.key) for attempt in workflow.live],
            owner=self._owner,
            lease_seconds=FREED_LEASE_SECONDS,
        )

    async def _is_cancelled_there(self, workflow_id: str) -> bool:
        try:
            row = await self._register.find_workflow(workflow_id)
        except ManagerUnavailable:
            # It may take the PUT all the same. If it was cancelled there, the next look finds out.
            return False
        return is_cancelled(row)

    async def _apply(self, workflow_id: str, event: CancelRequested | Unsaved) -> None:
        await self._decider.apply([Item(workflow_id=workflow_id, event=event)])

    # ---------------------------------------------------------------------------------------- watch

    async def watch(self, clock: Clock) -> None:
        """Look for cancels of what is under way, until drained: a long milestone is recorded seldom."""
        slept = 0.0
        while not self._stopping:
            await clock.sleep(1.0)
            slept += 1.0
            if slept >= WATCH_SECONDS:
                slept = 0.0
                await self.watch_once()

    async def drain(self) -> None:
        self._stopping = True

    async def watch_once(self) -> None:
        """Cancel here what was cancelled there."""
        under_way = WorkflowFilter(states=[State.RUNNING, State.WAITING, State.HELD])
        try:
            for workflow in await self._store.list_workflows(under_way, limit=WATCHED):
                if is_cancelled(await self._register.find_workflow(workflow.id)):
                    await self._apply(workflow.id, CancelRequested(by=BY))
        except (TryLater, AccessRefused, UnusableAnswer) as exc:
            self._observer.emit("record.unwatched", error=exc)


def is_cancelled(row: Any) -> bool:
    """Whether somebody ended it in the Manager. A row that is gone is no cancel: the PUT tells of that."""
    return row is not None and bool(row.get("workflow_error"))

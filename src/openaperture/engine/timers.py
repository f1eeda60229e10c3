"""Wakes workflows whose instant has come, and looks after what nobody looks at.

A wait is the column `wake_at` of its workflow and nothing else, so any orchestrator can end it. Waking
twice, early or late is harmless: the decision looks at the store's clock again.
"""

import asyncio

from openaperture.domain.errors import TryLater
from openaperture.domain.events import Woken
from openaperture.engine.decider import Decider
from openaperture.engine.intake import Item
from openaperture.ports import Clock, Observer, Store

BATCH = 200
INBOX_SECONDS = 7 * 86_400.0
"""A message that comes back later than this is judged by its attempt alone, which is enough."""
HOUSEKEEPING_SECONDS = 60.0


class Timers:
    """The loop over due workflows, and once a minute the check of invariant I8."""

    def __init__(
        self, store: Store, decider: Decider, clock: Clock, observer: Observer, *, poll_seconds: float = 0.5
    ) -> None:
        self._store = store
        self._decider = decider
        self._clock = clock
        self._observer = observer
        self._poll_seconds = poll_seconds
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        checked_at = self._clock.monotonic()
        while not self._stopping.is_set():
            try:
                woken = await self.run_once()
                if self._clock.monotonic() - checked_at >= HOUSEKEEPING_SECONDS:
                    checked_at = self._clock.monotonic()
                    await self.keep_house()
            except TryLater as exc:
                self._observer.emit("timers.waiting", error=exc)
                woken = 0
            if woken < BATCH:
                await self._clock.sleep(self._poll_seconds)

    async def drain(self) -> None:
        self._stopping.set()

    async def run_once(self) -> int:
        """Wake what is due; returns how many workflows that were."""
        ids = await self._store.list_due(BATCH)
        if ids:
            await self._decider.apply([Item(workflow_id=workflow_id, event=Woken()) for workflow_id in ids])
        return len(ids)

    async def keep_house(self) -> None:
        """Report workflows that nothing would ever move (I8), and forget old message ids."""
        for workflow_id in await self._store.list_stranded(100):
            self._observer.emit("workflow.stranded", workflow_id=workflow_id)
        await self._store.prune(inbox_seconds=INBOX_SECONDS, limit=10_000)

"""Wakes workflows whose instant has come, and looks after what nobody looks at.

A wait is the column `wake_at` of its workflow and nothing else, so any orchestrator can end it. Waking
twice, early or late is harmless: the decision looks at the store's clock again.

What is due is woken page by page, from what is longest overdue to now, and then from the start again. A workflow
that stays due, because it cannot be judged yet or fails, keeps none of those behind it from their turn.
"""

import asyncio
import math
from collections.abc import Callable

from openaperture.domain.errors import TryLater
from openaperture.domain.events import Woken
from openaperture.engine.decider import Decider, Outcome
from openaperture.engine.intake import Item
from openaperture.ports import Clock, Due, Observer, Store

BATCH = 200
INBOX_SECONDS = 7 * 86_400.0
"""A message that comes back later than this is judged by its attempt alone, which is enough."""
HOUSEKEEPING_SECONDS = 60.0
SET_ASIDE_SECONDS = 60.0
PRUNED_AT_ONCE = 10_000
LONGEST_PAUSE_SECONDS = 5.0
"""Between two rounds, however long they take: a deadline may not wait much longer than they make it."""
STILL_SECONDS = 10.0
"""A pause that took so much longer than it should means that this process stood still: a stopped machine."""


class Timers:
    """The loop over due workflows, and once a minute the check of invariant I8."""

    def __init__(
        self,
        store: Store,
        decider: Decider,
        clock: Clock,
        observer: Observer,
        *,
        poll_seconds: float = 0.5,
        heard_seconds: Callable[[], float] = lambda: math.inf,
    ) -> None:
        """`heard_seconds`: for how long the intake has been hearing workers without a gap."""
        self._store = store
        self._decider = decider
        self._clock = clock
        self._observer = observer
        self._poll_seconds = poll_seconds
        self._heard_seconds = heard_seconds
        self._set_aside: dict[str, float] = {}
        """Workflows that could not be decided about, and until when they are left alone (monotonic)."""
        self._woken: Due | None = None
        """The last one that had its turn in this round; None at its beginning."""
        self._looked_at = math.inf
        self._awake_since = -math.inf
        """Monotonic. What workers said while we stood still lies unread, as if they had been silent."""
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        checked_at = began_at = self._clock.monotonic()
        while not self._stopping.is_set():
            is_more = False
            try:
                is_more = await self.run_once()
                if self._clock.monotonic() - checked_at >= HOUSEKEEPING_SECONDS:
                    checked_at = self._clock.monotonic()
                    await self.keep_house()
            except TryLater as exc:
                self._observer.emit("timers.waiting", error=exc)
            if not is_more:
                await self._pause(self._clock.monotonic() - began_at)
                began_at = self._clock.monotonic()

    async def _pause(self, busy_seconds: float) -> None:
        """As long as the round took, and once at least: most of what is due may be due in vain."""
        until = self._clock.monotonic() + min(busy_seconds, LONGEST_PAUSE_SECONDS)
        is_over = False
        while not is_over:
            self._look_at_clock()
            await self._clock.sleep(self._poll_seconds)
            is_over = self._look_at_clock(self._poll_seconds) >= until or self._stopping.is_set()

    def _look_at_clock(self, expected_seconds: float = 0.0) -> float:
        """The time. When much more has passed since the last look than was to be expected, we stood still."""
        now = self._clock.monotonic()
        if now - self._looked_at > expected_seconds + STILL_SECONDS:
            self._awake_since = now
        self._looked_at = now
        return now

    async def drain(self) -> None:
        self._stopping.set()

    async def run_once(self) -> bool:
        """Wake the next page of what is due; returns whether more waits to have its turn."""
        now = self._clock.monotonic()
        self._set_aside = {key: until for key, until in self._set_aside.items() if until > now}
        due = await self._store.list_due(BATCH, after=self._woken)
        # Before they are woken: what fails now has its next turn when the others had theirs.
        self._woken = due[-1] if len(due) == BATCH else None
        ids = [each.workflow_id for each in due if each.workflow_id not in self._set_aside]
        if ids:
            awake_seconds = self._look_at_clock() - self._awake_since
            woken = Woken(heard_seconds=min(self._heard_seconds(), awake_seconds))
            outcomes = await self._decider.apply([Item(workflow_id=key, event=woken) for key in ids])
            refused = [key for key, outcome in zip(ids, outcomes, strict=True) if outcome is Outcome.REFUSED]
            self._set_aside |= dict.fromkeys(refused, now + SET_ASIDE_SECONDS)
        is_more_news = await self._tell_of_locks()
        return self._woken is not None or is_more_news

    async def _tell_of_locks(self) -> bool:
        """Let those who wait for locks know that they have them, or do not get them; returns whether more wait."""
        news = await self._store.list_lock_news(BATCH)
        if not news:
            return False
        outcomes = await self._decider.apply(
            [Item(workflow_id=told.workflow_id, event=told.event) for told in news]
        )
        # Those of another outcome come again, and would keep us from ever pausing.
        return outcomes.count(Outcome.APPLIED) == BATCH

    async def keep_house(self) -> None:
        """Report workflows that nothing would ever move (I8), free dead locks, forget old message ids."""
        await self._store.tend_locks()
        for workflow_id in await self._store.list_stranded(100):
            self._observer.emit("workflow.stranded", workflow_id=workflow_id)
        while await self._store.prune(inbox_seconds=INBOX_SECONDS, limit=PRUNED_AT_ONCE) == PRUNED_AT_ONCE:
            await self._clock.sleep(0)

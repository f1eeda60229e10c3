"""Load, decide, commit: the one path by which anything changes a workflow.

Messages, timers, the relay and people all come through here. The steps, and what a crash between them
leaves behind:

  1. load the workflows of the whole batch, and which of its messages were handled before
  2. decide each event in memory, several events of one workflow in their order
  3. commit every changed workflow in one transaction       crash before: nothing happened
  4. hand the new outbox rows and answers to the relay      crash before: the rows are in the database

A change whose workflow somebody else was faster to change is loaded and decided again. A commit whose
outcome is unknown raises; the caller repeats the batch, and step 1 then finds what was already saved.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum

from openaperture.domain.commands import Answer, Decision
from openaperture.domain.decide import decide
from openaperture.domain.errors import StoreUnavailable
from openaperture.domain.milestones import MilestoneKind
from openaperture.domain.workflow import Workflow
from openaperture.engine.intake import Item
from openaperture.engine.outbox import OutboxWriter
from openaperture.ports import Change, CommitOutcome, Loaded, Observer, OutboxRow, Store

MAX_ROUNDS = 8
"""How often a batch is decided again after conflicts before we let the caller try later."""

HandOver = Callable[[Sequence[OutboxRow], Sequence[tuple[str, Answer]]], None]


class Outcome(StrEnum):
    """What became of an item."""

    APPLIED = "applied"
    """Decided and safe. That includes the late and repeated ones, which changed nothing."""
    DUPLICATE = "duplicate"
    """The same message was handled before."""
    UNKNOWN = "unknown"
    """There is no such workflow."""
    REFUSED = "refused"
    """It cannot be decided or stored, now or later."""


@dataclass(slots=True)
class _Fold:
    """The events of one workflow in a batch, and what they add up to."""

    before: Workflow
    now: datetime
    after: Workflow
    decisions: list[Decision] = field(default_factory=list[Decision])
    rows: list[OutboxRow] = field(default_factory=list[OutboxRow])
    outbox: list[OutboxRow] = field(default_factory=list[OutboxRow])
    message_ids: list[str] = field(default_factory=list[str])
    members: list[int] = field(default_factory=list[int])
    """Indexes of its items in the batch."""

    @property
    def changed(self) -> bool:
        return self.after is not self.before or any(d.changes(self.before) for d in self.decisions)

    def change(self, outbox: OutboxWriter) -> Change:
        saved = replace(self.after, version=self.before.version + 1)
        self.outbox = outbox.complete(self.after, self.rows, saved.version)
        if self.before.version == 0:
            saved = replace(saved, created_at=self.now)
        return Change(
            workflow=saved,
            expected_version=self.before.version,
            entries=[entry for d in self.decisions for entry in d.entries],
            requested=[
                *(dispatch.attempt for d in self.decisions for dispatch in d.dispatches),
                *(attempt for d in self.decisions for attempt in d.claimed),
            ],
            ended=[ended for d in self.decisions for ended in d.ended],
            logs=[chunk for d in self.decisions for chunk in d.logs],
            locks=[command for d in self.decisions for command in d.locks],
            outbox=self.outbox,
            message_ids=self.message_ids,
        )


class Decider:
    """Applies events to workflows, in batches. Stateless but for its collaborators."""

    def __init__(
        self,
        store: Store,
        outbox: OutboxWriter,
        kinds: Mapping[str, MilestoneKind],
        observer: Observer,
        *,
        owner: str = "",
        hand_over: HandOver | None = None,
    ) -> None:
        self._store = store
        self._outbox = outbox
        self._kinds = kinds
        self._observer = observer
        self._owner = owner
        self._hand_over = hand_over

    async def apply(self, items: Sequence[Item]) -> list[Outcome]:
        """Decide and save. Raises StoreUnavailable when that cannot be done now; repeating is harmless."""
        outcomes: list[Outcome] = [Outcome.APPLIED] * len(items)
        pending = list(range(len(items)))
        for _ in range(MAX_ROUNDS):
            pending = await self._round(items, pending, outcomes)
            if not pending:
                return outcomes
        ids = ", ".join(sorted({items[index].workflow_id for index in pending})[:3])
        raise StoreUnavailable(f"workflows {ids} are being changed by others without pause; trying again later")

    async def _round(self, items: Sequence[Item], pending: list[int], outcomes: list[Outcome]) -> list[int]:
        """Decide the pending items once; return those that have to be decided again."""
        loaded = await self._store.load(
            {items[index].workflow_id for index in pending},
            {message_id for index in pending if (message_id := items[index].message_id)},
        )
        folds = self._fold(items, pending, loaded, outcomes)
        changed = [fold for fold in folds if fold.changed]
        changes = [fold.change(self._outbox) for fold in changed]
        results = await self._store.commit(changes, owner=self._owner) if changes else []
        again: list[int] = []
        saved = [fold for fold in folds if not fold.changed]
        for fold, result in zip(changed, results, strict=True):
            match result:
                case CommitOutcome.SAVED:
                    saved.append(fold)
                case CommitOutcome.CONFLICT:
                    again += fold.members
                case CommitOutcome.REFUSED:
                    self._refuse(fold.members, items, outcomes, "the database cannot store it")
        self._after_commit(saved)
        return again

    def _fold(
        self, items: Sequence[Item], pending: list[int], loaded: Loaded, outcomes: list[Outcome]
    ) -> list[_Fold]:
        folds: dict[str, _Fold] = {}
        handled = set(loaded.handled)
        for index in pending:
            item = items[index]
            outcomes[index] = Outcome.APPLIED
            if item.message_id in handled:
                outcomes[index] = Outcome.DUPLICATE
                continue
            fold = folds.get(item.workflow_id) or self._open(item, loaded)
            if fold is None:
                outcomes[index] = Outcome.UNKNOWN
                continue
            folds[item.workflow_id] = fold
            fold.members.append(index)
            self._decide(fold, item, index, outcomes)
            if item.message_id and outcomes[index] is Outcome.APPLIED:
                # One that was refused may come again from the error queue, when its cause is mended.
                handled.add(item.message_id)
                fold.message_ids.append(item.message_id)
        return list(folds.values())

    def _open(self, item: Item, loaded: Loaded) -> _Fold | None:
        workflow = loaded.workflows.get(item.workflow_id)
        workflow = workflow or item.seed
        return _Fold(before=workflow, now=loaded.now, after=workflow) if workflow else None

    def _decide(self, fold: _Fold, item: Item, index: int, outcomes: list[Outcome]) -> None:
        """One event. Whatever goes wrong with it stays its own: the others of the batch go on."""
        try:
            decision = decide(fold.after, item.event, fold.now, self._kinds)
            decision, rows = self._outbox.write(fold.after, decision, fold.now)
        except Exception as exc:  # noqa: BLE001 - a bug in one decision must not stop the loop for the others
            self._observer.emit(
                "decision.failed", workflow_id=item.workflow_id, event=type(item.event).__name__, error=exc
            )
            outcomes[index] = Outcome.REFUSED
            return
        fold.after = decision.workflow
        fold.decisions.append(decision)
        # A later event of the batch may end the attempt of such a row. The request goes out all the same;
        # the worker that takes it is told "void".
        fold.rows += rows

    def _refuse(self, members: list[int], items: Sequence[Item], outcomes: list[Outcome], why: str) -> None:
        for index in members:
            outcomes[index] = Outcome.REFUSED
            self._observer.emit("decision.refused", workflow_id=items[index].workflow_id, reason=why)

    def _after_commit(self, saved: Sequence[_Fold]) -> None:
        for fold in saved:
            for entry in (entry for decision in fold.decisions for entry in decision.entries):
                self._observer.emit(entry.kind, workflow_id=fold.before.id, text=entry.text)
        if self._hand_over is not None:
            rows = [row for fold in saved for row in fold.outbox]
            answers = [(f.before.id, answer) for f in saved for d in f.decisions for answer in d.answers]
            if rows or answers:
                self._hand_over(rows, answers)

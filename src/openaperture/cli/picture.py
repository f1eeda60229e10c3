"""What following a release has shown so far: one row per milestone, folded from its history and its output.

It knows nothing of terminals. The history is told in order; output may come a little later than its event.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from openaperture.cli.untrusted import one_line, output_line
from openaperture.client.models import Event, LogChunk

TAIL_LINES = 20
"""Lines of output kept per milestone: enough for the end of a failure."""


class Mark(StrEnum):
    """How a milestone stands."""

    PENDING = "pending"
    REQUESTED = "requested"
    RUNNING = "running"
    WAITING = "waiting"
    HELD = "held"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


ENDED = frozenset({Mark.DONE, Mark.FAILED, Mark.CANCELLED})
ENDS = frozenset({"workflow.completed", "workflow.failed", "workflow.cancelled"})
"""Events after which a release never moves again."""
_OF_MILESTONE = {
    "milestone.started": Mark.REQUESTED,
    "milestone.requested": Mark.REQUESTED,
    "milestone.claimed": Mark.RUNNING,
    "milestone.regained": Mark.RUNNING,
    "milestone.lost": Mark.WAITING,
    "milestone.completed": Mark.DONE,
    "milestone.failed": Mark.FAILED,
    "milestone.timed_out": Mark.FAILED,
    "milestone.refused": Mark.FAILED,
    "milestone.unclaimed": Mark.REQUESTED,
    "milestone.undeliverable": Mark.FAILED,
    "milestone.released": Mark.REQUESTED,
    "milestone.cancelled": Mark.CANCELLED,
    "approval.asked": Mark.WAITING,
    "approval.rejected": Mark.FAILED,
    "lock.asked": Mark.WAITING,
}
_OF_WORKFLOW = {
    "workflow.waiting": Mark.WAITING,
    "workflow.held": Mark.HELD,
    "workflow.completed": Mark.DONE,
    "workflow.failed": Mark.FAILED,
    "workflow.cancelled": Mark.CANCELLED,
}
"""What the workflow's own events say of the milestone that it is at."""
_SAID = frozenset(
    {
        *("milestone.note", "milestone.lost", "milestone.unclaimed", "milestone.stopping"),
        *(
            "workflow.waiting",
            "workflow.held",
            "approval.asked",
            "approval.given",
            "approval.voided",
            "lock.asked",
        ),
    }
)
"""Events whose text stands beside the milestone until it moves on."""


@dataclass(slots=True)
class Row:
    """One milestone."""

    name: str
    position: int = 0
    is_grouped: bool = False
    """Others run beside it."""
    mark: Mark = Mark.PENDING
    began_at: datetime | None = None
    ended_at: datetime | None = None
    said: str = ""
    """The latest sentence about it."""
    taken_over_from: str = ""
    """The workflow that has done it, of which this one repeats what came after."""
    outputs: dict[str, str] = field(default_factory=dict[str, str])
    tail: deque[str] = field(default_factory=lambda: deque(maxlen=TAIL_LINES))

    def elapsed_seconds(self, now: datetime) -> float | None:
        """None before it began. Clocks of two machines may differ: never less than zero."""
        if self.began_at is None:
            return None
        return max(0.0, ((self.ended_at or now) - self.began_at).total_seconds())


@dataclass(frozen=True, slots=True, kw_only=True)
class TakenOver:
    """What a workflow has from the one that it repeats."""

    workflow_id: str
    first_position: int
    """All before it is taken over; of the group at it, what the history says was skipped."""
    outputs: Mapping[str, Mapping[str, str]]
    """By the name of the milestone."""

    def fill(self, row: Row) -> None:
        row.mark = Mark.DONE
        row.taken_over_from = self.workflow_id
        row.outputs = _one_lined(self.outputs.get(row.name, {}))


Plan = Sequence[str | Sequence[str]]
"""Names by position; those of a group run side by side."""


class Picture:
    """The rows of a release, and where it is."""

    def __init__(self, plan: Plan, on_failure: Sequence[str] = (), taken_over: TakenOver | None = None) -> None:
        self.rows = _rows_of(plan)
        self._taken_over = taken_over
        for row in self.rows:
            if taken_over is not None and row.position < taken_over.first_position:
                taken_over.fill(row)
        self._course = self.rows
        """What positions count: its milestones, or those that follow its failure."""
        self._on_failure = on_failure
        self.started_at: datetime | None = None
        self.ended_at: datetime | None = None

    @property
    def current(self) -> Row | None:
        """The first milestone that is not done; None when all are."""
        unfinished = [row for row in self._course if row.mark is not Mark.DONE]
        return next((row for row in unfinished if row.mark not in ENDED), unfinished[0] if unfinished else None)

    @property
    def failed(self) -> Row | None:
        """The milestone to look at when it has failed or is held."""
        return next((row for row in self.rows if row.mark in {Mark.FAILED, Mark.HELD}), None)

    def tell(self, event: Event) -> None:
        """Take in the next event of the history."""
        position = self._find_position(event.details.get("attempt"))
        if position is not None:
            self._finish_rows_before(position, event.at)
        row = self._find_row(position, event.details.get("milestone"))
        mark = _OF_MILESTONE.get(event.kind) or _OF_WORKFLOW.get(event.kind)
        if event.kind == "workflow.started":
            self.started_at = event.at
        if event.kind in ENDS:
            self.ended_at = event.at
        if event.kind == "workflow.completed":
            self._finish_rows_before(len(self._course), event.at)
        elif event.kind == "workflow.failing":
            self._course = _rows_of(self._on_failure)
            self.rows = [*self.rows, *self._course]
        elif row is not None and event.kind == "milestone.skipped" and self._taken_over is not None:
            self._taken_over.fill(row)
        elif row is not None and not (event.kind in ENDS and (row.mark is Mark.PENDING or row.mark in ENDED)):
            # A workflow that ends before a milestone began does not blame it.
            _update(row, event, mark)

    def tell_output(self, chunk: LogChunk) -> None:
        """Take in lines of a worker."""
        row = self._find_row(self._find_position(chunk.attempt), chunk.milestone)
        if row is not None:
            row.tail.extend(output_line(line) for line in chunk.lines)

    def _find_row(self, position: int | None, milestone: object) -> Row | None:
        """The row of that name; the current one for what names none."""
        if position is None:
            named = [row for row in self._course if row.name == milestone and row.mark not in ENDED]
            return named[0] if named else self.current
        at = [row for row in self._course if row.position == position]
        return next((row for row in at if row.name == milestone), at[0])

    def _find_position(self, attempt: object) -> int | None:
        """The second number of an attempt such as `0.1.2`; None for what names no row."""
        numbers = str(attempt).split(".")
        position = int(numbers[1]) if len(numbers) == 3 and numbers[1].isdecimal() else None
        return position if any(row.position == position for row in self._course) else None

    def _finish_rows_before(self, position: int, at: datetime) -> None:
        """A milestone without a worker (a start time) and one that a person resolved end without an event."""
        for row in self._course:
            if row.position < position and row.mark is not Mark.DONE:
                row.mark = Mark.DONE
                row.ended_at = row.ended_at or at
                row.said = ""


def _rows_of(plan: Plan) -> list[Row]:
    groups = [[entry] if isinstance(entry, str) else list(entry) for entry in plan]
    return [
        Row(name, position, is_grouped=len(group) > 1) for position, group in enumerate(groups) for name in group
    ]


def _update(row: Row, event: Event, mark: Mark | None) -> None:
    if mark is not None:
        row.mark = mark
        row.said = ""
        row.began_at = row.began_at or event.at
        row.ended_at = event.at if mark in ENDED else None
    if event.kind in _SAID:
        row.said = one_line(event.text)
    if event.kind == "milestone.completed":
        row.outputs = _one_lined(event.details.get("outputs") or {})


def _one_lined(outputs: Mapping[str, object]) -> dict[str, str]:
    return {one_line(name): one_line(str(text)) for name, text in outputs.items()}

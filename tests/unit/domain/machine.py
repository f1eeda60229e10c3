"""A workflow that a test leads through its life, event by event."""

from datetime import UTC, datetime, timedelta
from typing import Any

from openaperture.domain import events as e
from openaperture.domain.attempts import Attempt
from openaperture.domain.commands import Decision
from openaperture.domain.decide import decide
from openaperture.domain.history import KINDS as ENTRY_KINDS
from openaperture.domain.milestones import ApprovalRule, MilestoneKind, table_of
from openaperture.domain.releases import Entry, Release
from openaperture.domain.workflow import State, Step, Workflow

NOW = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
KINDS = table_of(
    [
        MilestoneKind(name="test", queue="tester"),
        MilestoneKind(name="scan", queue="scanner"),
        MilestoneKind(name="rollback", queue="deployer"),
        MilestoneKind(name="clean", queue="cleaner"),
        MilestoneKind(name="two", queue=None, approval=ApprovalRule(role="leads", required=2, not_author=True)),
    ]
)


class Machine:
    """Remembers the last decision. Its clock stands still unless told."""

    def __init__(self, *milestones: Entry, created_by: str = "ann", **fields: Any) -> None:
        release = Release(milestones=milestones, **fields)
        self.workflow = Workflow(id="w", release=release, created_by=created_by)
        self.seconds = 0.0
        self.decision = Decision(workflow=self.workflow)
        self.tell(e.StartRequested(by=created_by))

    @property
    def state(self) -> State:
        return self.workflow.state

    @property
    def now(self) -> datetime:
        return NOW + timedelta(seconds=self.seconds)

    def tell(self, event: e.Event) -> Decision:
        self.decision = decide(self.workflow, event, self.now, KINDS)
        assert all(entry.kind in ENTRY_KINDS for entry in self.decision.entries)
        self.workflow = self.decision.workflow
        return self.decision

    def wait(self, seconds: float) -> Decision:
        """Let time pass, and wake it as the timers would."""
        self.seconds += seconds
        return self.tell(e.Woken())

    def step(self, milestone: str) -> Step:
        return next(step for step in self.workflow.steps if step.milestone == milestone)

    def attempt(self, milestone: str) -> Attempt:
        return next(attempt for attempt in self.workflow.live if attempt.milestone == milestone)

    def claim(self, *milestones: str) -> None:
        for milestone in milestones:
            key = self.attempt(milestone).key
            self.tell(e.Claimed(key=key, worker=f"worker-{milestone}", reply_to=f"{milestone}.answers"))

    def complete(self, milestone: str, **outputs: str) -> Decision:
        key = self.attempt(milestone).key
        return self.tell(e.MilestoneCompleted(key=key, worker=f"worker-{milestone}", outputs=outputs))

    def fail(self, milestone: str, **fields: Any) -> Decision:
        key = self.attempt(milestone).key
        told = {"message": "no", **fields}
        return self.tell(e.MilestoneFailed(key=key, worker=f"worker-{milestone}", **told))

    def lose(self, milestone: str) -> Decision:
        return self.fail(milestone, interrupted=True, message="the machine stops")

    def vote(self, by: str, *, approves: bool = True, group: str = "approver", **fields: Any) -> Decision:
        return self.tell(e.Voted(approves=approves, by=by, groups=frozenset({group}), **fields))

    @property
    def asked(self) -> list[str]:
        """The milestones that workers are asked for by now, in order."""
        return [attempt.milestone for attempt in self.workflow.live]

    @property
    def told(self) -> list[str]:
        """The kinds of the entries of the last decision."""
        return [entry.kind for entry in self.decision.entries]

"""A decision in the making: the workflow as it is by now, and what was said and asked on the way.

Lives as long as one call of `decide`; outside it there are only the values that it leaves.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from openaperture.domain.attempts import Attempt, AttemptKey, Ended
from openaperture.domain.commands import Answer, Decision, Dispatch, LockCommand, Verdict
from openaperture.domain.history import Entry, LogChunk
from openaperture.domain.milestones import MilestoneKind, kind_of
from openaperture.domain.workflow import Step, Workflow

Kinds = Mapping[str, MilestoneKind]


class Draft:
    """Begins as "nothing changes".

    `workflow` is the given value until something changes, and then a copy of it that nobody else has before
    `decision` hands it out: so changes are written into it. One copy for each of them would be most of what a
    decision costs. Read what you need of it before you change it.
    """

    def __init__(self, workflow: Workflow, now: datetime, kinds: Kinds) -> None:
        self.workflow = workflow
        self._given = workflow
        self.now = now
        self.kinds = kinds
        self._entries: list[Entry] = []
        self._dispatches: list[Dispatch] = []
        self._answers: list[Answer] = []
        self._claimed: list[Attempt] = []
        self._ended: list[Ended] = []
        self._logs: list[LogChunk] = []
        self._locks: list[LockCommand] = []

    def decision(self) -> Decision:
        return Decision(
            workflow=self.workflow,
            entries=tuple(self._entries),
            dispatches=tuple(self._dispatches),
            answers=tuple(self._answers),
            claimed=tuple(self._claimed),
            ended=tuple(self._ended),
            logs=tuple(self._logs),
            locks=tuple(self._locks),
        )

    # ------------------------------------------------------------------------------ what there is

    def kind(self, milestone: str) -> MilestoneKind:
        """The row of the table, with what this workflow asks for in place of its limits."""
        kind = kind_of(self.kinds, milestone)
        options = self.workflow.release.milestone_options.get(milestone)
        return kind if options is None else options.applied_to(kind)

    def step(self, milestone: str) -> Step:
        """As it is by now."""
        return next(step for step in self.workflow.steps if step.milestone == milestone)

    # --------------------------------------------------------------------------------- what changes

    def change(self, **fields: Any) -> None:
        """What stays equal stays the same value: a decision that changes nothing is seen as such."""
        for name, value in fields.items():
            if getattr(self.workflow, name) != value:
                if self.workflow is self._given:
                    self.workflow = replace(self._given)
                object.__setattr__(self.workflow, name, value)

    def put(self, step: Step, **fields: Any) -> Step:
        """Replace the step of that milestone by this one, with these changes; answers what it is now."""
        changed = replace(step, **fields) if fields else step
        steps = self.workflow.steps
        self.change(steps=tuple(changed if old.milestone == step.milestone else old for old in steps))
        return changed

    def end(self, attempt: Attempt, outcome: str, message: str) -> None:
        """The attempt is over. What its worker still has to say about it may come later."""
        self._ended.append(Ended(attempt=attempt, outcome=outcome, message=message, ended_at=self.now))
        position = attempt.key.position
        others = [
            old
            for old in self.workflow.closing
            if old.key.position == position and old.milestone != attempt.milestone
        ]
        self.change(closing=(*others, attempt))

    # ---------------------------------------------------------------------------- what is said and asked

    def tell(self, kind: str, text: str, /, **details: Any) -> None:
        """Write it down."""
        self._entries.append(Entry(kind=kind, text=text, at=self.now, details=details))

    def warn(self, kind: str, text: str, /, **details: Any) -> None:
        """Write down that something did not go well."""
        self._entries.append(Entry(kind=kind, text=text, at=self.now, success=False, details=details))

    def dispatch(self, attempt: Attempt) -> None:
        self._dispatches.append(Dispatch(attempt=attempt))

    def answer(self, reply_to: str | None, key: AttemptKey, verdict: Verdict, reason: str = "") -> None:
        """To a worker, if it waits for one."""
        if reply_to is not None:
            self._answers.append(Answer(reply_to=reply_to, key=key, verdict=verdict, reason=reason))

    def claim(self, attempt: Attempt) -> None:
        """A worker took it: its row in the history of attempts changes."""
        self._claimed.append(attempt)

    def log(self, chunk: LogChunk) -> None:
        self._logs.append(chunk)

    def lock(self, command: LockCommand) -> None:
        self._locks.append(command)


def about(what: Attempt | Step, **more: Any) -> dict[str, Any]:
    """The details of an entry about an attempt, or about a milestone and the attempt of it that is live."""
    attempt = what if isinstance(what, Attempt) else what.live
    key = {"attempt": str(attempt.key)} if attempt else {}
    return {"milestone": what.milestone, **key, **more}

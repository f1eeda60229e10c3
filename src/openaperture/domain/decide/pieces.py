"""What every decision is made of."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime

from openaperture.domain.commands import Answer, Decision, Verdict
from openaperture.domain.history import Entry
from openaperture.domain.milestones import MilestoneKind
from openaperture.domain.workflow import Attempt, AttemptKey, Ended

Kinds = Mapping[str, MilestoneKind]


def about(attempt: Attempt) -> dict[str, str]:
    """The details of an entry about an attempt."""
    return {"milestone": attempt.milestone, "attempt": str(attempt.key)}


def end(attempt: Attempt, outcome: str, message: str, now: datetime) -> Ended:
    return Ended(attempt=attempt, outcome=outcome, message=message, ended_at=now)


def before(decision: Decision, *entries: Entry) -> Decision:
    """The decision with these entries ahead of its own."""
    return replace(decision, entries=(*entries, *decision.entries))


def with_ended(decision: Decision, *ended: Ended) -> Decision:
    return replace(decision, ended=(*decision.ended, *ended))


def reply(reply_to: str | None, key: AttemptKey, verdict: Verdict, reason: str = "") -> tuple[Answer, ...]:
    """The answer to a worker, if it waits for one."""
    if reply_to is None:
        return ()
    return (Answer(reply_to=reply_to, key=key, verdict=verdict, reason=reason),)

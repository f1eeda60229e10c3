"""What is written down about a workflow: the append-only history that people and pages read."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Any

KINDS: Mapping[str, str] = MappingProxyType(
    {
        "workflow.created": "stored, and not started yet",
        "workflow.revised": "what it asks for was changed before it started",
        "workflow.started": "somebody asked to run it",
        "workflow.taken_over": "begun by an orchestrator of the original, and gone on with here",
        "workflow.waiting": "nothing is asked for until a known instant; the text says why",
        "workflow.held": "the outcome of a milestone is unknown and a person has to say what happened",
        "workflow.resolved": "a person said what became of a held milestone",
        "workflow.cancelling": "cancelled; the workers were told to stop",
        "workflow.pausing": "a person wants nothing more to be begun; what runs may end",
        "workflow.paused": "nothing more is asked for until a person resumes it",
        "workflow.resumed": "a person lets it go on",
        "workflow.failing": "it has failed, and what is to follow a failure is run before it ends",
        "workflow.completed": "all milestones are done",
        "workflow.failed": "it ended without success; the text says why",
        "workflow.cancelled": "it ended because somebody cancelled it",
        "milestone.started": "its turn has come",
        "milestone.due": "the scheduled start time has come",
        "milestone.redirected": "the workflow itself names the exchange of its workers",
        "milestone.dispatched": "the way to its workers was found, and the request goes there",
        "milestone.refused": "there is no way to a worker; the text says why and what to do",
        "milestone.requested": "a request for a worker was saved, to be published",
        "milestone.claimed": "a worker took the attempt",
        "milestone.note": "a sentence from the worker",
        "milestone.completed": "the worker has done it; the outputs are in the details",
        "milestone.failed": "the worker could not do it",
        "milestone.timed_out": "it ran longer than it may",
        "milestone.lost": "the worker stopped answering, or was stopped on the way",
        "milestone.released": "the worker gave it back before it began, and it is requested again",
        "milestone.regained": "a worker that was given up is back and still at it",
        "milestone.cancelled": "it was ended before it was done; the text says why",
        "milestone.stopping": "its worker was told to stop; the text says why",
        "milestone.skipped": "the workflow that this one repeats has completed it",
        "milestone.undeliverable": "no queue took its request for too long",
        "milestone.unclaimed": "no worker took it in time; it is requested again, or fails",
        "approval.asked": "it waits for people; the details say whose approval, and by when",
        "approval.given": "a person approved",
        "approval.rejected": "a person rejected",
        "approval.voided": "what was approved has changed, so that those approvals do not count any more",
        "lock.asked": "it queued up for its locks",
        "lock.taken": "it has its locks now",
        "lock.denied": "it does not get a lock; the text says why",
        "lock.kept": "it keeps its locks though it has ended, since a deploy may still be under way",
        "lock.freed": "it gave back its locks after it had ended",
        "lock.forced": "a person took a lock away from it",
        "callback.late": "a worker answered for an attempt that is over; nothing changed",
        "callback.forged": "a callback without a valid token of this workflow was refused",
        "start.repeated": "a start was asked for again; nothing changed",
    }
)
"""Every kind of entry, and what it means."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One line of a workflow's history."""

    kind: str
    """One of `KINDS`."""
    text: str
    at: datetime
    success: bool = True
    details: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Plain JSON values; never a secret, a token or a payload."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogChunk:
    """Some lines of a worker's output. (workflow, attempt, sequence) is unique; a repeat is dropped."""

    attempt: str
    """The attempt key as text, such as `0.1.2`."""
    milestone: str
    sequence: int
    lines: tuple[str, ...]
    at: datetime

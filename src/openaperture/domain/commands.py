"""What a decision asks the shell to do, beside saving the new state. Values, not actions."""

from dataclasses import dataclass
from typing import Literal

from openaperture.domain.attempts import Attempt, AttemptKey, Ended
from openaperture.domain.history import Entry, LogChunk
from openaperture.domain.releases import WhenLocked
from openaperture.domain.workflow import Workflow

Verdict = Literal["run", "void", "cancel"]
"""See `messages.Answer`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dispatch:
    """Ask a worker for this attempt: an outbox row, published after the commit."""

    attempt: Attempt


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Answer a worker. Sent after the commit and not saved: a worker that misses it asks again."""

    reply_to: str
    key: AttemptKey
    verdict: Verdict
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AskLocks:
    """Queue up for these locks, all at once, so that no two workflows can wait for each other."""

    names: tuple[str, ...]
    when_locked: WhenLocked


@dataclass(frozen=True, slots=True, kw_only=True)
class KeepLocks:
    """The grant of these was heard: they are the workflow's until it gives them back."""

    names: tuple[str, ...]
    why: str = ""
    """Of a workflow that has ended: why it keeps them all the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FreeLocks:
    """Give these back, or leave the queue for them; the next in the queue gets them."""

    names: tuple[str, ...]


LockCommand = AskLocks | KeepLocks | FreeLocks
"""Done in the transaction that saves the decision."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The answer to one event."""

    workflow: Workflow
    entries: tuple[Entry, ...] = ()
    dispatches: tuple[Dispatch, ...] = ()
    answers: tuple[Answer, ...] = ()
    claimed: tuple[Attempt, ...] = ()
    """Attempts whose row in the history of attempts changes because a worker took them."""
    ended: tuple[Ended, ...] = ()
    logs: tuple[LogChunk, ...] = ()
    locks: tuple[LockCommand, ...] = ()

    def changes(self, before: Workflow) -> bool:
        """Whether there is anything to save. Answers alone are not saved."""
        return self.workflow is not before or bool(
            self.entries or self.dispatches or self.ended or self.logs or self.locks
        )

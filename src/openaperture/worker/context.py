"""What a milestone handler is given: the request, and the ways to tell people how it goes.

Every method may be called from any thread. Nothing here waits for the broker: what is told is collected,
within bounds, and sent by the run that owns the context.
"""

import threading
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from openaperture.domain.messages import Request
from openaperture.domain.milestones import OnLoss

MAX_LINE_CHARACTERS = 4_000
MAX_PENDING_LINES = 10_000
"""Lines that wait for the broker. The oldest of more are dropped, and their number is told."""
MAX_LOG_CHARACTERS = 8 * 1_048_576
"""Output kept per attempt; the orchestrator keeps twice that."""
MAX_PENDING_NOTES = 1_000
MAX_TIMEOUT_SECONDS = 30 * 86_400.0


class Context:
    """One attempt of one milestone."""

    def __init__(self, request: Request, *, on_news: Callable[[], None]) -> None:
        """`on_news` is called, from whatever thread, when there is something new to send."""
        self.request = request
        self.outputs: dict[str, str] = {}
        """What this milestone leaves for the later ones: name -> text, 64 of at most 4,096 characters.
        What the handler returns is added."""
        self.source_commit_hash: str | None = None
        """Assign the commit that was released; later milestones get it."""
        self.notifications_config: dict[str, Any] | None = None
        """Assign `deployments.notifications` of the repository."""
        self.timeout_seconds: float | None = None
        self.on_loss: OnLoss | None = None
        self.fraction: float | None = None
        self._on_news = on_news
        self._cancelled = threading.Event()
        self._guard = threading.Lock()
        self._lines: deque[str] = deque()
        self._notes: deque[tuple[str, bool]] = deque()
        self._dropped = 0
        self._logged_characters = 0
        self._declared = False

    @property
    def workflow_id(self) -> str:
        return self.request.id

    @property
    def milestone(self) -> str:
        return self.request.attempt.milestone

    @property
    def idempotency_key(self) -> str:
        """The same for every attempt of this milestone: give it to what must not do a thing twice."""
        return self.request.idempotency_key

    @property
    def inputs(self) -> Mapping[str, Mapping[str, str]]:
        """Outputs of the earlier milestones: milestone -> name -> text."""
        return self.request.inputs

    @property
    def locks(self) -> Mapping[str, int]:
        """Locks that the workflow has: name -> token, which grows each time that the lock is given."""
        return self.request.locks

    @property
    def cancelled(self) -> bool:
        """Whether the attempt has to stop. A handler in a thread looks at it; an async one is cancelled."""
        return self._cancelled.is_set()

    def wait_cancelled(self, timeout_seconds: float) -> bool:
        """For handlers in a thread: sleep so long, or until the attempt has to stop; answers `cancelled`."""
        return self._cancelled.wait(timeout_seconds)

    def log(self, text: str) -> None:
        """Lines of output, for the log of the attempt."""
        with self._guard:
            for line in text.splitlines() or [""]:
                self._add_line(sendable(line, MAX_LINE_CHARACTERS))
        self._on_news()

    def notify(self, text: str, *, success: bool = True) -> None:
        """A sentence for the people who follow the workflow; it becomes part of its history."""
        with self._guard:
            if len(self._notes) < MAX_PENDING_NOTES:
                self._notes.append((sendable(text, MAX_LINE_CHARACTERS), success))
        self._on_news()

    def progress(self, fraction: float) -> None:
        """How much is done, from 0 to 1. Told along with the next heartbeat."""
        self.fraction = min(1.0, max(0.0, fraction))

    def declare(self, *, timeout_seconds: float | None = None, on_loss: OnLoss | None = None) -> None:
        """How long this attempt may run, and what its loss means. Told to the orchestrator at once.

        Raises ValueError for a time of no seconds or of more than 30 days.
        """
        if timeout_seconds is not None and not 0 < timeout_seconds <= MAX_TIMEOUT_SECONDS:
            raise ValueError(
                f"a timeout of {timeout_seconds} s cannot be kept; declare more than 0 and up to 30 days"
            )
        self.timeout_seconds = timeout_seconds if timeout_seconds is not None else self.timeout_seconds
        self.on_loss = on_loss if on_loss is not None else self.on_loss
        self._declared = True
        self._on_news()

    # ------------------------------------------------------------------- for the run that owns it

    def cancel(self) -> None:
        """Make `cancelled` true."""
        self._cancelled.set()

    @property
    def has_news(self) -> bool:
        """Whether there is anything to send."""
        return bool(self._lines or self._dropped or self._notes)

    def take_lines(self, limit: int, characters: int) -> list[str]:
        """The oldest lines that were not sent yet; before them, how many had to be dropped."""
        with self._guard:
            taken: list[str] = []
            if self._dropped:
                taken.append(f"[{self._dropped} lines were dropped: more than can be kept, or sent in time]")
                self._dropped = 0
            room = characters
            while self._lines and len(taken) < limit and len(self._lines[0]) <= room:
                room -= len(self._lines[0])
                taken.append(self._lines.popleft())
            return taken

    def take_notes(self) -> list[tuple[str, bool]]:
        """(text, success) of the sentences that were not sent yet."""
        with self._guard:
            taken = list(self._notes)
            self._notes.clear()
            return taken

    def take_declared(self) -> bool:
        """Whether something was declared since the last call."""
        declared, self._declared = self._declared, False
        return declared

    def _add_line(self, line: str) -> None:
        if self._logged_characters > MAX_LOG_CHARACTERS:
            self._dropped += 1
            return
        self._logged_characters += len(line) + 1
        if len(self._lines) == MAX_PENDING_LINES:
            # The newest are kept: why something failed stands in its last words.
            self._lines.popleft()
            self._dropped += 1
        self._lines.append(line)


def sendable(text: str, limit: int) -> str:
    """Without what JSON or a database cannot hold, and cut to so many characters."""
    clean = text.encode("utf-8", "replace").decode().replace("\x00", "\N{REPLACEMENT CHARACTER}")
    return clean if len(clean) <= limit else clean[: limit - 1] + "…"

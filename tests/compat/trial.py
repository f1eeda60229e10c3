"""One case on a stage: an orchestrator that runs, its Manager, its queue, and what was seen of the case so far."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from openaperture.codecs.etf import encode
from tests.compat.cases import Case
from tests.compat.journal import Call, Journal, Seen
from tests.compat.manager import Tables
from tests.compat.notation import Window, atom_map, plain_of, rfc1123
from tests.compat.saves import FIELDS


class Letterbox(Protocol):
    """The queue of an orchestrator."""

    def deliver(self, body: bytes) -> None: ...

    def bind_observer(self, exchange: str) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """What the cases of a group share."""

    group: str
    tables: Tables
    journal: Journal
    post: Letterbox


@dataclass(slots=True, kw_only=True)
class Trial:
    """One case that is being played, or was."""

    case: Case
    stage: Stage
    start: float = field(default_factory=time.time)
    """The clock of the case: when its message was delivered."""
    incoming: dict[str, Any] = field(default_factory=dict)
    body: bytes = b""
    """The delivery."""
    complaints: list[str] = field(default_factory=list)
    """What was wrong while it was played."""
    is_left: bool = False
    """Whether its delivery was still in the queue after the orchestrator had ended."""
    is_dead: bool = False
    """Whether its delivery is in the dead-letter queue."""

    @property
    def seen(self) -> Seen:
        return self.stage.journal.of(self.case.workflow_id)

    @property
    def unattributed(self) -> Seen:
        """What names no workflow, of all groups."""
        return self.stage.journal.of()

    @property
    def group_calls(self) -> list[Call]:
        return self.stage.journal.calls_of_group(self.stage.group)

    def window(self, end: float) -> Window:
        return Window(start=self.start, end=end)

    def deliver(self, **changes: Any) -> None:
        """Send the message of the case, and have the Manager know the workflow."""
        self.start = time.time()
        if (raw := self.case.given.get("delivery", {}).get("raw_body_hex")) is not None:
            self.body = bytes.fromhex(raw)
        else:
            self.incoming = self.case.incoming | changes
            self.body = encode(atom_map(self.incoming, self.start))
            self._add_row(self.case.workflow_id)
        self.stage.post.deliver(self.body)

    def deliver_copy(self, workflow_id: str) -> None:
        """Send the same workflow under another id."""
        self._add_row(workflow_id)
        self.stage.post.deliver(encode(atom_map(self.incoming | {"id": workflow_id}, time.time())))

    def wait_for(self, holds: Callable[[Seen], bool], timeout_seconds: float) -> bool:
        """Wait until it holds of what was seen. A case without a workflow waits for what names none."""
        watched = self.case.workflow_id if self.case.incoming else ""
        return self.stage.journal.wait(watched, lambda: holds(self.seen), timeout_seconds)

    def _add_row(self, workflow_id: str) -> None:
        """The row matches the incoming payload, but for what the case says of it."""
        now = rfc1123(self.start, "UTC")
        row = {name: plain_of(self.incoming.get(name), self.start) for name in FIELDS}
        given: Mapping[str, Any] = self.case.manager.get("workflows", {}).get(self.case.workflow_id, {})
        with self.stage.tables.lock:
            self.stage.tables.workflows[workflow_id] = (
                row | {"inserted_at": now, "updated_at": now} | dict(given) | {"id": workflow_id}
            )

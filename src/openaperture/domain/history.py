"""What is written down about a workflow: the append-only history that people and pages read."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One line of a workflow's history."""

    kind: str
    """Stable dotted name, listed in docs/reference/events.md, such as `milestone.completed`."""
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

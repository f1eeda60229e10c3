"""How the runner tells the kinds of notes apart. The wording is the product's own; these words must be in it."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.compat.elapsed import is_elapsed, may_read

KINDS: Mapping[str, str] = {
    "workflow_started": r"\bworkflow\b.*\b(start|began|begin)",
    "milestone_started": r"\bmilestone\b.*\b(start|begin)",
    "milestone_completed": r"\bmilestone\b.*\b(complete|finish|end)",
    "workflow_completed": r"\bworkflow\b.*\bcomplete",
    "build_exchange_overridden": r"\bbuild\b.*\bexchange\b.*\b(overrid|instead)",
    "deploy_exchange_overridden": r"\bdeploy\b.*\bexchange\b.*\b(overrid|instead)",
    "build_dispatched": r"\b(sent|dispatch|request)\w*\b.*\bexchange\b",
    "deploy_dispatched": r"\b(sent|dispatch|request)\w*\b.*\bexchange\b",
    "ecs_deploy_dispatched": r"\b(sent|dispatch|request)\w*\b.*\bexchange\b",
    "milestone_failed": r"\bmilestone\b.*\bfail",
    "workflow_failed": r"\bworkflow\b.*\bfail",
    "schedule_waiting": r"\b(wait|scheduled)",
    "schedule_due": r"\bschedule\w*\b.*\b(due|reached|arrived|passed|come)\b",
    "email_sent": r"\be-?mail",
}

REASONS: Mapping[str, str] = {
    "worker_reported_failure": r"\bworker\b",
    "no_build_clusters": r"\bcluster",
    "no_builders": r"\bbuilder",
    "invalid_etcd_token": r"\betcd_token\b",
    "cluster_without_exchange": r"\bexchange\b",
    "no_deployers": r"\bdeployer",
    "no_ecs_deployers": r"\bdeployer",
    "missing_scheduled_start_time": r"\bscheduled_start_time\b",
}

CARRIED = ("step", "exchange", "etcd_token")


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """A message to notifications_hipchat."""

    is_success: Any
    prefix: Any
    message: Any
    room_names: Any

    @property
    def entry(self) -> str:
        """As it stands in the event log."""
        return f"{self.prefix} {self.message}"


def is_of(kind: str, note: Note) -> bool:
    """Whether the text reads like that kind. The success flag is another matter."""
    return isinstance(note.message, str) and re.search(KINDS[kind], note.message, re.IGNORECASE) is not None


def fits(expected: Mapping[str, Any], note: Note, window_seconds: float) -> bool:
    """Whether the note is of the kind, has the flag, and carries what the case names."""
    return (
        is_of(expected["kind"], note)
        and note.is_success is expected["is_success"]
        and all(_carries(note.message, str(expected[key])) for key in CARRIED if key in expected)
        and ("reason" not in expected or _says(REASONS[expected["reason"]], note.message))
        and ("elapsed" not in expected or _tells_elapsed(note.message, expected["elapsed"], window_seconds))
    )


def missing_notes(
    expected: Sequence[Mapping[str, Any]], seen: Sequence[Note], window_seconds: float
) -> Iterator[str]:
    """The first expected note that does not come after the ones before it. Others in between are fine."""
    rest = iter(seen)
    for entry in expected:
        if not any(fits(entry, note, window_seconds) for note in rest):
            told = [f"{note.message!r} ({note.is_success})" for note in seen]
            yield f"notes: expected {dict(entry)!r} in its place, seen {', '.join(told) or 'none'}"
            return


def _carries(message: str, word: str) -> bool:
    return re.search(rf"(?<![\w.]){re.escape(word)}(?![\w-])", message) is not None


def _says(pattern: str, message: str) -> bool:
    return re.search(pattern, message, re.IGNORECASE) is not None


def _tells_elapsed(message: str, expected: str, window_seconds: float) -> bool:
    found = re.findall(r"\d+ \w+\(s\)", message)
    return any(is_elapsed(text) and may_read(expected, text, window_seconds) for text in found)

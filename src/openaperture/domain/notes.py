"""What people are told, in the original's kinds: its log, its chat rooms, its e-mail at the end. Pure.

The kinds, their order and their success flags are the original's, and old Notifications modules show them;
the wording is ours. A failure ends with a note that its milestone is over, as there.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, cast

from openaperture.domain.history import Entry
from openaperture.domain.times import elapsed_text
from openaperture.domain.workflow import TERMINAL, State, Workflow

MAX_LOG_LINES = 1_000
MAX_LOG_BYTES = 400_000
"""Of the log that travels in every message; the oldest lines go first. The history keeps all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """A sentence for people."""

    text: str
    success: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Email:
    """The e-mail at the end of a workflow."""

    subject: str
    text: str
    addresses: Sequence[str]


_TOLD_AS_WRITTEN = frozenset(
    {
        "approval.asked",
        "lock.kept",
        "workflow.failing",
        "workflow.paused",
        "milestone.started",
        "milestone.redirected",
        "milestone.dispatched",
        "milestone.due",
        "milestone.note",
        "workflow.started",
        "workflow.completed",
        "workflow.held",
    }
)
"""Entries whose own text is the note."""


def notes_of(workflow: Workflow, entries: Sequence[Entry], now: datetime) -> list[Note]:
    """The notes for these entries of the history; `workflow` is as it is after them."""
    return [note for entry in entries for note in _notes_of(workflow, entry, now)]


def _notes_of(workflow: Workflow, entry: Entry, now: datetime) -> list[Note]:
    match entry.kind:
        case "milestone.completed":
            milestone, elapsed = entry.details["milestone"], entry.details["elapsed"]
            return [Note(text=f"milestone {milestone} completed after {elapsed}")]
        case "workflow.waiting" if entry.details["code"] == "scheduled":
            return [Note(text=f"{workflow.current_milestone} {entry.text}")]
        case "workflow.failed":
            return _failure(workflow, now)
        case "workflow.cancelled":
            text = f"workflow failed after {elapsed_text(workflow.started_at, now)}: {workflow.reason}"
            return [Note(text=text, success=False)]
        case kind if kind in _TOLD_AS_WRITTEN:
            return [Note(text=entry.text, success=entry.success)]
        case _:
            return []


def _failure(workflow: Workflow, now: datetime) -> list[Note]:
    milestone = workflow.current_milestone or "(none)"
    step_elapsed = workflow.step_durations.get(milestone, elapsed_text(workflow.step_started_at, now))
    blamed = f"milestone {milestone} failed"
    reason = workflow.reason if workflow.reason.startswith(blamed) else f"{blamed}: {workflow.reason}"
    return [
        Note(text=reason, success=False),
        Note(text=f"workflow failed after {elapsed_text(workflow.started_at, now)}", success=False),
        Note(text=f"milestone {milestone} ended after {step_elapsed}"),
    ]


def prefix_of(workflow: Workflow) -> str:
    return f"[OA][{workflow.id}][{workflow.release.deployment_repo or 'Unknown'}]"


def with_log(workflow: Workflow, notes: Sequence[Note]) -> Workflow:
    """The workflow with these notes at the end of its log."""
    if not notes:
        return workflow
    lines = [*workflow.event_log, *(f"{prefix_of(workflow)} {note.text}" for note in notes)][-MAX_LOG_LINES:]
    room = MAX_LOG_BYTES
    kept = len(lines)
    while kept and (room := room - len(lines[kept - 1].encode())) >= 0:
        kept -= 1
    return replace(workflow, event_log=tuple(lines[kept:]))


def rooms_of(workflow: Workflow) -> list[str] | None:
    """Chat rooms that the repository names; None when it names none."""
    rooms = _table(workflow.notifications_config, "hipchat").get("room_names")
    return [str(room) for room in cast("list[object]", rooms)] if isinstance(rooms, list) else None


def email_of(workflow: Workflow, ui_url: str | None) -> Email | None:
    """The e-mail about the end of this workflow; None unless it has ended and somebody wants one."""
    addresses = _addresses(_table(workflow.notifications_config, "email"))
    if workflow.state not in TERMINAL or not addresses:
        return None
    outcome = "SUCCEEDED" if workflow.state is State.COMPLETED else "FAILED -"
    page = f"{ui_url or ''}/index.html#/oa/workflows/workflows/{workflow.id}"
    reason = f"\n\n{workflow.reason}" if workflow.reason else ""
    text = f"Source:\n{_source_of(workflow)}{reason}\n\nThe workflow:\n{page}"
    return Email(subject=f"{outcome} {prefix_of(workflow)}", text=text, addresses=addresses)


def _source_of(workflow: Workflow) -> str:
    release = workflow.release
    ref = workflow.carried.get("source_repo_git_ref") or release.source_repo_git_ref
    if not release.source_repo:
        return f"https://github.com/{release.deployment_repo}"
    return f"{release.source_repo}/commit/{ref}" if ref else release.source_repo


def _addresses(config: Mapping[str, Any]) -> list[str]:
    """Those of `on_workflow_completed`; a name of a group stands for its members, in order."""
    wanted = _table(config, "events").get("on_workflow_completed")
    groups = _table(config, "groups")
    if not isinstance(wanted, list):
        return []
    names = [str(name) for name in cast("list[object]", wanted)]
    return [address for name in names for address in _members(groups.get(name), name)]


def _members(group: Any, name: str) -> list[str]:
    return [str(member) for member in cast("list[object]", group)] if isinstance(group, list) else [name]


def _table(config: Mapping[str, Any] | None, key: str) -> Mapping[str, Any]:
    """A table of the repository's configuration, which may hold anything."""
    value = (config or {}).get(key)
    return cast("Mapping[str, object]", value) if isinstance(value, Mapping) else {}

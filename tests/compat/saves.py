"""The rules of saves: what PUT /workflows/<id> must have said, when consecutive saves may be merged."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from tests.compat.notation import Window, differences

FIELDS = frozenset(
    {
        *("id", "deployment_repo", "deployment_repo_git_ref", "source_repo", "source_repo_git_ref"),
        *("source_commit_hash", "milestones", "current_step", "elapsed_step_time", "elapsed_workflow_time"),
        *("workflow_duration", "workflow_step_durations", "workflow_error", "workflow_completed", "event_log"),
        *("scheduled_start_time", "execute_options"),
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Save:
    """The body of one PUT, and when it came (Unix seconds)."""

    at: float
    body: Any


def sum_of(expected: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What the expected saves add up to: a later one replaces what an earlier one said.

    An event log may hold more than is expected, as entries of merged saves do.
    """
    added = {key: value for save in expected for key, value in save.items()}
    if isinstance(log := added.get("event_log"), list):
        added["event_log"] = {"$len": len(log)}
    return added


def wrong_last(
    expected: Sequence[Mapping[str, Any]], saves: Sequence[Save], start: float, what: str
) -> Iterator[str]:
    """Whether the last of `saves` says all that the expected ones add up to."""
    if not saves:
        yield f"saves: expected one before {what}, seen none"
        return
    last = saves[-1]
    window = Window(start=start, end=last.at)
    yield from differences(sum_of(expected), last.body, window, f"last save before {what}")


def wrong_shapes(saves: Sequence[Save]) -> Iterator[str]:
    """Every save has exactly the 17 fields: one that is missing would erase a column."""
    for save in saves:
        if not isinstance(save.body, dict) or set(save.body) != FIELDS:
            keys = sorted(save.body) if isinstance(save.body, dict) else save.body
            yield f"save: expected the 17 fields, seen {keys!r}"
        elif not isinstance(save.body["current_step"], str):
            yield f"save: expected current_step as text, seen {save.body['current_step']!r}"


def steps_back(saves: Sequence[Save]) -> Iterator[str]:
    """A save that goes behind an earlier one."""
    bodies = [save.body for save in saves if isinstance(save.body, dict)]
    for before, after in pairwise(bodies):
        for flag in ("workflow_completed", "workflow_error"):
            if before.get(flag) is True and after.get(flag) is not True:
                yield f"saves: expected {flag} to stay true, seen {after.get(flag)!r}"
        old, new = before.get("event_log") or [], after.get("event_log") or []
        if new[: len(old)] != old:
            yield f"saves: expected event_log to grow only, seen {len(old)} entries and then {len(new)} others"
        if _is_behind(after, before):
            yield f"saves: expected no step back, seen {before['current_step']} and then {after['current_step']!r}"


def _is_behind(after: Mapping[str, Any], before: Mapping[str, Any]) -> bool:
    """A step that stands in the list twice says nothing."""
    places = [_position(before), _position(after)]
    return None not in places and places != sorted(places, key=lambda place: place or 0)


def _position(body: Mapping[str, Any]) -> int | None:
    step, milestones = body.get("current_step"), list(body.get("milestones") or [])
    if not step:
        return -1
    if milestones.count(step) > 1:
        return None
    return milestones.index(step) if step in milestones else len(milestones)

"""The table of legal moves, and the only judge of them.

Rules that the table keeps:
  - a state that ends a workflow (completed, failed, cancelled) is never left;
  - an event that a state does not list changes nothing there: it is late, repeated or early;
  - a decision that leads to a state which its row does not list is our bug (`IllegalMove`).

The diagram in ARCHITECTURE.md is generated from this table (`make diagram`).
"""

from collections.abc import Mapping

from openaperture.domain import events as e
from openaperture.domain.errors import IllegalMove
from openaperture.domain.workflow import State

_C, _R, _W, _H, _X = State.CREATED, State.RUNNING, State.WAITING, State.HELD, State.CANCELLING
_DONE, _FAIL, _GONE = State.COMPLETED, State.FAILED, State.CANCELLED

_NEXT_MILESTONE = frozenset({_R, _W, _DONE, _FAIL})
"""Where the end of one milestone, or the start, can lead."""

MOVES: Mapping[State, Mapping[type[e.Event], frozenset[State]]] = {
    State.CREATED: {
        e.Created: frozenset({_C}),
        e.StartRequested: _NEXT_MILESTONE,
        e.HandedOver: _NEXT_MILESTONE,
        e.Unsaved: frozenset({_FAIL}),
        e.CancelRequested: frozenset({_GONE}),
    },
    State.RUNNING: {
        e.Claimed: frozenset({_R}),
        e.HeartbeatSeen: frozenset({_R}),
        e.Logged: frozenset({_R}),
        e.Noted: frozenset({_R}),
        e.MilestoneCompleted: _NEXT_MILESTONE,
        e.MilestoneFailed: frozenset({_FAIL, _W, _H}),
        e.Released: frozenset({_R}),
        e.HandedOver: _NEXT_MILESTONE,
        e.Undeliverable: frozenset({_R, _W, _FAIL}),
        e.Routed: frozenset({_R}),
        e.Sent: frozenset({_R}),
        e.Unsure: frozenset({_W, _H, _FAIL}),
        e.RouteRefused: frozenset({_FAIL}),
        e.Unsaved: frozenset({_FAIL}),
        e.Woken: frozenset({_R, _W, _H, _FAIL}),
        e.CancelRequested: frozenset({_X, _GONE}),
    },
    State.WAITING: {
        e.Unsaved: frozenset({_FAIL}),
        e.Woken: frozenset({_R, _W, _DONE, _FAIL}),
        e.CancelRequested: frozenset({_GONE}),
    },
    State.HELD: {
        e.HeartbeatSeen: frozenset({_R}),
        e.HandedOver: _NEXT_MILESTONE,
        e.Logged: frozenset({_H}),
        e.Noted: frozenset({_H}),
        e.MilestoneCompleted: _NEXT_MILESTONE,
        e.MilestoneFailed: frozenset({_FAIL, _H}),
        e.Released: frozenset({_R}),
        e.Unsaved: frozenset({_FAIL}),
        e.Resolved: _NEXT_MILESTONE,
        e.CancelRequested: frozenset({_GONE}),
    },
    State.CANCELLING: {
        e.HeartbeatSeen: frozenset({_X}),
        e.Logged: frozenset({_X}),
        e.Noted: frozenset({_X}),
        e.MilestoneCompleted: frozenset({_GONE}),
        e.MilestoneFailed: frozenset({_GONE}),
        e.Released: frozenset({_GONE}),
        e.Unsaved: frozenset({_FAIL}),
        e.Woken: frozenset({_X, _GONE}),
    },
    State.COMPLETED: {},
    State.FAILED: {},
    State.CANCELLED: {},
}


def accepts(state: State, event: e.Event) -> bool:
    """Whether the event can mean anything in this state."""
    return type(event) in MOVES[state]


def verify(before: State, event: e.Event, after: State) -> None:
    """Raise IllegalMove unless the table allows the event to lead from `before` to `after`.

    To stay is always allowed: an event of an old attempt means nothing to the current one.
    """
    if after is not before and after not in MOVES[before].get(type(event), frozenset()):
        raise IllegalMove(
            f"{type(event).__name__} may not lead from {before} to {after}; the table of moves forbids it"
        )


def diagram() -> str:
    """The table as a Mermaid state diagram; moves that stay in their state are left out."""
    lines = ["stateDiagram-v2", f"    [*] --> {State.CREATED}"]
    labels: dict[tuple[State, State], list[str]] = {}
    for state, row in MOVES.items():
        for event, targets in row.items():
            for target in targets - {state}:
                labels.setdefault((state, target), []).append(event.__name__)
    order = list(State)
    for (state, target), names in sorted(labels.items(), key=lambda item: [order.index(s) for s in item[0]]):
        lines.append(f"    {state} --> {target}: {', '.join(sorted(names))}")
    lines += [f"    {state} --> [*]" for state, row in MOVES.items() if not row]
    return "\n".join(lines)

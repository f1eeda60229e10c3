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
from openaperture.domain.workflow import TERMINAL, State

_C, _R, _W, _H = State.CREATED, State.RUNNING, State.WAITING, State.HELD
_P, _X = State.PAUSED, State.CANCELLING
_DONE, _FAIL, _GONE = State.COMPLETED, State.FAILED, State.CANCELLED

_ON = frozenset({_R, _W, _P, _DONE, _FAIL})
"""Where the end of a milestone can lead, or a start: on to the next one, to what follows a failure, to the end."""
_ON_OR_HELD = _ON | {_H}
"""The same where it is one of a group, of whose others a person may have to say what became of them."""

MOVES: Mapping[State, Mapping[type[e.Event], frozenset[State]]] = {
    State.CREATED: {
        e.Created: frozenset({_C}),
        e.StartRequested: _ON,
        e.HandedOver: _ON,
        e.Unsaved: frozenset({_FAIL}),
        e.CancelRequested: frozenset({_GONE}),
    },
    State.RUNNING: {
        e.Claimed: frozenset({_R}),
        e.HeartbeatSeen: frozenset({_R, _H}),
        e.Logged: frozenset({_R}),
        e.Noted: frozenset({_R}),
        e.MilestoneCompleted: _ON_OR_HELD,
        e.MilestoneFailed: _ON_OR_HELD,
        e.Released: frozenset({_R, _W, _P, _FAIL}),
        e.HandedOver: _ON,
        e.Undeliverable: _ON,
        e.Routed: frozenset({_R}),
        e.Sent: frozenset({_R}),
        e.Unsure: _ON_OR_HELD,
        e.RouteRefused: _ON,
        e.Unsaved: frozenset({_FAIL}),
        e.Woken: _ON_OR_HELD,
        e.Voted: _ON,
        e.CancelRequested: frozenset({_X, _GONE}),
        e.PauseRequested: frozenset({_R}),
        e.ResumeRequested: frozenset({_R}),
        e.LockForced: frozenset({_R}),
    },
    State.WAITING: {
        e.LocksGranted: _ON,
        e.LockDenied: frozenset({_GONE, _FAIL, _R, _W, _P}),
        e.HeartbeatSeen: frozenset({_H}),
        e.MilestoneCompleted: frozenset({_H}),
        e.MilestoneFailed: frozenset({_H}),
        e.Unsaved: frozenset({_FAIL}),
        e.Woken: _ON,
        e.Voted: _ON,
        e.CancelRequested: frozenset({_GONE}),
        e.PauseRequested: frozenset({_W}),
        e.ResumeRequested: frozenset({_W, _R}),
        e.LockForced: frozenset({_W}),
    },
    State.HELD: {
        e.Claimed: frozenset({_H}),
        e.HeartbeatSeen: frozenset({_R, _H}),
        e.HandedOver: _ON,
        e.Logged: frozenset({_H}),
        e.Noted: frozenset({_H}),
        e.MilestoneCompleted: _ON_OR_HELD,
        e.MilestoneFailed: _ON_OR_HELD,
        e.Released: frozenset({_R, _W, _P, _FAIL}),
        e.Undeliverable: frozenset({_H}),
        e.Routed: frozenset({_H}),
        e.Sent: frozenset({_H}),
        e.Unsure: frozenset({_H}),
        e.RouteRefused: frozenset({_H}),
        e.Unsaved: frozenset({_FAIL}),
        e.Woken: frozenset({_H}),
        e.Voted: frozenset({_H}),
        e.Resolved: _ON_OR_HELD,
        e.CancelRequested: frozenset({_X, _GONE}),
        e.PauseRequested: frozenset({_H}),
        e.ResumeRequested: frozenset({_H}),
        e.LockForced: frozenset({_H}),
    },
    State.PAUSED: {
        e.HeartbeatSeen: frozenset({_H}),
        e.MilestoneCompleted: frozenset({_H}),
        e.MilestoneFailed: frozenset({_H}),
        e.Unsaved: frozenset({_FAIL}),
        e.CancelRequested: frozenset({_GONE}),
        e.ResumeRequested: _ON,
        e.LockForced: frozenset({_P}),
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
        e.CancelRequested: frozenset({_X, _GONE}),
        e.LockForced: frozenset({_X}),
    },
    # Locks that outlast a workflow can still be taken away from it.
    State.COMPLETED: {e.LockForced: frozenset({_DONE})},
    State.FAILED: {e.LockForced: frozenset({_FAIL})},
    State.CANCELLED: {e.LockForced: frozenset({_GONE})},
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
    lines += [f"    {state} --> [*]" for state in order if state in TERMINAL]
    return "\n".join(lines)

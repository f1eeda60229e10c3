"""The table of moves, and the picture that is made of it."""

from pathlib import Path

from openaperture.domain import events as e
from openaperture.domain.moves import MOVES, accepts, diagram
from openaperture.domain.workflow import TERMINAL, State

ARCHITECTURE = Path(__file__).parents[3] / "ARCHITECTURE.md"


def test_every_state_has_a_row_and_the_ends_are_never_left() -> None:
    assert set(MOVES) == set(State)
    for state in TERMINAL:
        assert {target for targets in MOVES[state].values() for target in targets} == {state}


def test_every_state_but_created_can_be_reached() -> None:
    reached = {target for row in MOVES.values() for targets in row.values() for target in targets}
    assert reached == set(State)


def test_a_person_can_cancel_whatever_has_not_ended() -> None:
    cancel = e.CancelRequested(by="someone")
    assert all(accepts(state, cancel) for state in State if state not in TERMINAL)


def test_the_diagram_in_the_architecture_page_is_the_table() -> None:
    text = ARCHITECTURE.read_text(encoding="utf-8")
    drawn = text.split("```mermaid\n", 1)[1].split("\n```", 1)[0]
    assert drawn == diagram(), 'the picture is stale: run "make diagram"'

"""The planted defects: their list does not rot, and a few of them are really looked for."""

from pathlib import Path

import pytest
from scripts.mutants import search

from tests.simulation.mutants import MUTANTS, Mutant

ROOT = Path(__file__).parents[2]
SAMPLE = ("ack before commit", "no confirm", "forgotten retry count")
"""All of them are looked for by `make mutants`."""


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_the_place_of_a_mutant_stands_in_the_source_once(mutant: Mutant) -> None:
    assert (ROOT / mutant.file).read_text().count(mutant.old) == 1


def test_mutants_have_names_of_their_own() -> None:
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS) >= 30


@pytest.mark.timeout(300)
@pytest.mark.parametrize("mutant", [mutant for mutant in MUTANTS if mutant.name in SAMPLE], ids=lambda m: m.name)
def test_a_planted_defect_is_found(mutant: Mutant) -> None:
    assert search(mutant)

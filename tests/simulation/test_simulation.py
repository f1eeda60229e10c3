"""The product under simulation: random runs, of which each can be played again."""

import os
import subprocess
import sys
from itertools import count, islice
from pathlib import Path

import pytest

from tests.simulation.__main__ import describe, kept_seeds, play
from tests.simulation.run import run_seed

pytestmark = pytest.mark.filterwarnings(
    "ignore::RuntimeWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)

DELIVERIES = 100_000
"""At random; the crashes of the golden scenarios (`test_enumeration.py` and so on) make about as many again."""
FIRST_SEED = 1_000


@pytest.mark.parametrize("seed", kept_seeds())
def test_a_seed_that_failed_once_fails_no_more(seed: int) -> None:
    verdict = run_seed(seed)
    assert not verdict.violations, describe(verdict)


@pytest.mark.timeout(600)
def test_a_hundred_thousand_random_deliveries_break_no_invariant() -> None:
    total = play(count(FIRST_SEED), deliveries=DELIVERIES)
    print(total)
    assert not total.failures, (
        f"replay: python -m tests.simulation --seed {next(iter(total.failures))}; {total.failures}"
    )
    assert total.deliveries >= DELIVERIES
    assert total.crashes > 0


def test_the_same_seed_goes_the_same_way_in_every_process() -> None:
    """Sets of texts are walked in another order in each process: nothing may hang on that."""
    program = "from tests.simulation.run import run_seed; print(run_seed(3, workflows=60).journal.fingerprint())"
    prints = {
        subprocess.run(
            [sys.executable, "-W", "ignore", "-c", program],
            cwd=Path(__file__).parents[2],
            env={**os.environ, "PYTHONHASHSEED": hashes, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hashes in ("1", "2")
    }
    assert len(prints) == 1


def test_other_seeds_go_other_ways() -> None:
    prints = {run_seed(seed, workflows=6).journal.fingerprint() for seed in islice(count(1), 4)}
    assert len(prints) == 4

"""The product under simulation: random runs, golden scenarios with crashes everywhere."""

import os
import subprocess
import sys
from itertools import count, islice
from pathlib import Path

import pytest

from tests.simulation.__main__ import describe, kept_seeds, play
from tests.simulation.enumeration import enumerate_pairs, enumerate_singles
from tests.simulation.faults import Faults
from tests.simulation.run import run_seed
from tests.simulation.scenarios import SCENARIOS
from tests.simulation.stage import Scenario, perform

pytestmark = pytest.mark.filterwarnings(
    "ignore::RuntimeWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)

DELIVERIES = 200_000
FIRST_SEED = 1_000
PAIRS_EVERY = 23
"""Of the first crashes of a pair, one in so many is played here; all of them by `make soak`."""


def _named(scenario: Scenario) -> str:
    return scenario.name


@pytest.mark.parametrize("seed", kept_seeds())
def test_a_seed_that_failed_once_fails_no_more(seed: int) -> None:
    verdict = run_seed(seed)
    assert not verdict.violations, describe(verdict)


@pytest.mark.timeout(600)
def test_two_hundred_thousand_deliveries_break_no_invariant() -> None:
    total = play(count(FIRST_SEED), deliveries=DELIVERIES)
    print(total)
    assert not total.failures, (
        f"replay: python -m tests.simulation --seed {next(iter(total.failures))}; {total.failures}"
    )
    assert total.deliveries >= DELIVERIES
    assert total.crashes > 0


@pytest.mark.parametrize("scenario", SCENARIOS, ids=_named)
def test_a_golden_scenario_survives_a_crash_at_every_await(scenario: Scenario) -> None:
    found = enumerate_singles(scenario)
    print(f"{scenario.name}: {found.singles} crashes")
    assert not found.failures
    assert found.singles > 10


@pytest.mark.parametrize("scenario", SCENARIOS, ids=_named)
def test_a_golden_scenario_survives_a_crash_inside_its_recovery(scenario: Scenario) -> None:
    place = SCENARIOS.index(scenario)
    found = enumerate_pairs(scenario, stride=PAIRS_EVERY * 4, offset=place % 17)
    print(f"{scenario.name}: {found.pairs} pairs of crashes")
    assert not found.failures


@pytest.mark.parametrize("scenario", SCENARIOS, ids=_named)
def test_a_golden_scenario_ends_the_same_in_any_order(scenario: Scenario) -> None:
    for seed in range(1, 9):
        performance = perform(scenario, seed=seed, faults=Faults(latency=0.1))
        assert not performance.violations, f"shuffled by {seed}"


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

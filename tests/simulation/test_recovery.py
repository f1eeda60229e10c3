"""Golden scenarios with a second crash inside the recovery from a first one, and in other orders."""

import pytest

from tests.simulation.enumeration import enumerate_pairs
from tests.simulation.faults import Faults
from tests.simulation.scenarios import SCENARIOS
from tests.simulation.stage import Scenario, perform

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")

ONE_FIRST_CRASH = 1_000_000
SECOND_CRASHES = 60
"""Only one of the first crashes is played here, with about so many second ones; `make soak` plays all pairs."""


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda each: each.name)
def test_a_golden_scenario_survives_a_crash_inside_its_recovery(scenario: Scenario) -> None:
    place = SCENARIOS.index(scenario)
    every = 1 + perform(scenario).passes // SECOND_CRASHES
    found = enumerate_pairs(scenario, stride=ONE_FIRST_CRASH, offset=7 + 3 * place % 10, every=every)
    print(f"{scenario.name}: {found.pairs} pairs of crashes")
    assert not found.failures


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda each: each.name)
def test_a_golden_scenario_ends_the_same_in_any_order(scenario: Scenario) -> None:
    for seed in range(1, 6):
        performance = perform(scenario, seed=seed, faults=Faults(latency=0.1))
        assert not performance.violations, f"shuffled by {seed}"

"""Golden scenarios with a crash at every await, and a second one inside the recovery."""

import pytest

from tests.simulation.enumeration import enumerate_pairs, enumerate_singles
from tests.simulation.faults import Faults
from tests.simulation.scenarios import SCENARIOS
from tests.simulation.stage import Scenario, perform

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")

ONE_FIRST_CRASH = 1_000_000
"""Of the first crashes of a pair only one is played here, with every second one; `make soak` plays all."""


LONG = {"undeliverable"}
"""Their hundreds of awaits are alike; `make soak` crashes at each."""


def _named(scenario: Scenario) -> str:
    return scenario.name


@pytest.mark.parametrize("scenario", [each for each in SCENARIOS if each.name not in LONG], ids=_named)
def test_a_golden_scenario_survives_a_crash_at_every_await(scenario: Scenario) -> None:
    found = enumerate_singles(scenario)
    print(f"{scenario.name}: {found.singles} crashes")
    assert not found.failures
    assert found.singles > 10


@pytest.mark.parametrize("scenario", SCENARIOS, ids=_named)
def test_a_golden_scenario_survives_a_crash_inside_its_recovery(scenario: Scenario) -> None:
    place = SCENARIOS.index(scenario)
    found = enumerate_pairs(scenario, stride=ONE_FIRST_CRASH, offset=7 + 3 * place % 10)
    print(f"{scenario.name}: {found.pairs} pairs of crashes")
    assert not found.failures


@pytest.mark.parametrize("scenario", SCENARIOS, ids=_named)
def test_a_golden_scenario_ends_the_same_in_any_order(scenario: Scenario) -> None:
    for seed in range(1, 6):
        performance = perform(scenario, seed=seed, faults=Faults(latency=0.1))
        assert not performance.violations, f"shuffled by {seed}"

"""Golden scenarios with a crash at every await, or nearly."""

import pytest

from tests.simulation.enumeration import enumerate_singles
from tests.simulation.scenarios import SCENARIOS
from tests.simulation.stage import Scenario, perform

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")

CRASHES = 200
"""Scenarios with more awaits than these have hundreds that are alike: every second, third … is crashed at here,
and each of them by `make soak`."""


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda each: each.name)
def test_a_golden_scenario_survives_a_crash_at_every_await(scenario: Scenario) -> None:
    found = enumerate_singles(scenario, every=1 + perform(scenario).passes // CRASHES)
    print(f"{scenario.name}: {found.singles} crashes")
    assert not found.failures
    assert found.singles > 10

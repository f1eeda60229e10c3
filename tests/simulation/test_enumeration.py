"""Golden scenarios with a crash at every await."""

import pytest

from tests.simulation.enumeration import enumerate_singles
from tests.simulation.scenarios import LONG, SCENARIOS
from tests.simulation.stage import Scenario

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda each: each.name)
def test_a_golden_scenario_survives_a_crash_at_every_await(scenario: Scenario) -> None:
    found = enumerate_singles(scenario, every=10 if scenario.name in LONG else 1)
    print(f"{scenario.name}: {found.singles} crashes")
    assert not found.failures
    assert found.singles > 10

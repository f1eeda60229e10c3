"""Looks for a defect in the product: in scenarios, seeds, then with crashes everywhere. Ends at the first.

`python -m tests.simulation.hunt` prints what was found and ends with FOUND, or with 0 when nothing was.
"""

import sys
import warnings
from collections.abc import Iterator, Sequence

from tests.simulation.enumeration import enumerate_singles
from tests.simulation.faults import Faults
from tests.simulation.loop import Stuck
from tests.simulation.run import run_seed
from tests.simulation.scenarios import SCENARIOS
from tests.simulation.stage import perform

FOUND = 9
SEEDS = 30
SHUFFLES = 20
SLOW = Faults(latency=0.1)


def hunt(seeds: int = SEEDS) -> Iterator[str]:
    """All that is wrong, the quickest to be found first."""
    for scenario in SCENARIOS:
        yield from _told(f'"{scenario.name}"', perform(scenario).violations)
    for seed in range(seeds):
        yield from _told(f"seed {seed}", run_seed(seed).violations)
    for scenario in SCENARIOS:
        for seed in range(1, SHUFFLES):
            yield from _told(
                f'"{scenario.name}" shuffled {seed}', perform(scenario, seed=seed, faults=SLOW).violations
            )
    for scenario in SCENARIOS:
        yield from enumerate_singles(scenario).failures


def _told(where: str, violations: Sequence[str]) -> Iterator[str]:
    for violation in violations:
        yield f"{where}: {violation}"


def main() -> int:
    warnings.simplefilter("ignore", RuntimeWarning)
    try:
        found = next(hunt(), None)
    except Stuck as exc:
        found = f"stuck: {exc}"
    print(found or "nothing was found")
    return FOUND if found else 0


if __name__ == "__main__":
    sys.exit(main())

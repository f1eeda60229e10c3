"""The short form of `make chaos`: every part is struck once or more while releases stream through."""

import pytest

from tests.chaos.report import lines, percentile
from tests.chaos.run import Wanted, run
from tests.chaos.strikes import Blow

STRIKES = {
    ("orchestrator", Blow.KILL): 6,
    ("orchestrator", Blow.KILL_STARTING): 1,
    ("orchestrator", Blow.TERMINATE): 1,
    ("orchestrator", Blow.PAUSE): 1,
    ("worker", Blow.KILL): 1,
    ("rabbitmq", Blow.KILL): 1,
    ("postgresql", Blow.KILL): 1,
}


@pytest.mark.timeout(900)
@pytest.mark.usefixtures("installed_servers")
@pytest.mark.fault("F11", "F12", "F13", "F14", "F17", "F45", "F57")
def test_every_part_is_struck_and_nothing_is_lost_or_doubled() -> None:
    outcome = run(Wanted(counts=STRIKES, minutes=10.0))
    told = "\n".join(lines(outcome))
    assert outcome.verdict.problems == [], told
    assert len(outcome.recoveries) == sum(STRIKES.values()), told
    assert outcome.verdict.completed == outcome.verdict.accepted > 0, told


def test_percentiles_are_by_nearest_rank() -> None:
    figures = [float(number) for number in range(1, 201)]
    assert (percentile(figures, 50), percentile(figures, 99)) == (100.0, 198.0)
    assert percentile([3.0], 99) == 3.0

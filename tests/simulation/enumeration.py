"""Crash enumeration: each golden scenario with a crash at its first await, at its second, and so on.

It goes on until one performance is through before its crash would come. Then all pairs: the second crash may
hit the recovery from the first. Complete, and without any chance.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.simulation.stage import Performance, Scenario, perform


@dataclass(slots=True)
class Enumerated:
    """What the enumeration of one scenario found."""

    scenario: str
    singles: int = 0
    pairs: int = 0
    failures: list[str] = field(default_factory=list[str])

    def note(self, crash_at: tuple[int, ...], performance: Performance) -> None:
        if performance.violations:
            where = ",".join(map(str, crash_at)) or "none"
            self.failures.append(f'"{self.scenario}" with crashes at {where}: {"; ".join(performance.violations)}')


def enumerate_singles(scenario: Scenario, *, every: int = 1) -> Enumerated:
    """A crash at each await in turn, or at every so manieth, and one performance without."""
    found = Enumerated(scenario.name)
    for crash_at, performance in _from(scenario, (), every):
        found.note(crash_at, performance)
        found.singles += 1
    found.note((), perform(scenario))
    return found


def enumerate_pairs(scenario: Scenario, *, stride: int = 1, offset: int = 0, every: int = 1) -> Enumerated:
    """Pairs of crashes whose first is one of `offset`, `offset + stride`, …: all of them for a stride of one.

    The second is at each await after it, or at every so manieth.
    """
    found = Enumerated(scenario.name)
    first = 1 + offset
    while perform(scenario, crash_at=(first,)).passes >= first:
        for crash_at, performance in _from(scenario, (first,), every):
            found.note(crash_at, performance)
            found.pairs += 1
        first += stride
    return found


def _from(
    scenario: Scenario, before: tuple[int, ...], every: int
) -> Iterator[tuple[tuple[int, ...], Performance]]:
    """Performances with one more crash after those, until the run is through before it."""
    point = before[-1] + 1 if before else 1
    while True:
        crash_at = (*before, point)
        performance = perform(scenario, crash_at=crash_at)
        if performance.passes < point:
            return
        yield crash_at, performance
        point += every

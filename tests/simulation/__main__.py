"""The simulation from a terminal.

python -m tests.simulation --seed 7 --about <workflow id>    one seed again, with its trace
python -m tests.simulation --deliveries 10000000             a soak on two processors, from a fresh seed on
python -m tests.simulation --enumerate                       every crash and every pair of crashes
"""

import argparse
import os
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from tests.simulation.enumeration import Enumerated, enumerate_pairs, enumerate_singles
from tests.simulation.run import Verdict, run_seed
from tests.simulation.scenarios import SCENARIOS
from tests.simulation.stage import Scenario

SEEDS_FILE = Path(__file__).parent / "seeds.txt"
PROCESSES = 2


def kept_seeds() -> list[int]:
    """Seeds that failed once. They are played first, for ever."""
    lines = (line.partition("#")[0].strip() for line in SEEDS_FILE.read_text().splitlines())
    return [int(line) for line in lines if line]


@dataclass(slots=True)
class Sum:
    """What many seeds came to."""

    seeds: int = 0
    deliveries: int = 0
    workflows: int = 0
    crashes: int = 0
    failures: dict[int, Sequence[str]] = field(default_factory=dict[int, Sequence[str]])

    def add(self, seed: int, verdict: "Figures") -> None:
        self.seeds += 1
        self.deliveries += verdict.deliveries
        self.workflows += verdict.workflows
        self.crashes += verdict.crashes
        if verdict.violations:
            self.failures[seed] = verdict.violations

    def __str__(self) -> str:
        return (
            f"{self.seeds} seeds, {self.deliveries:,} deliveries, {self.workflows:,} workflows, "
            f"{self.crashes:,} crashes and stops: {len(self.failures)} seeds failed"
        )


@dataclass(frozen=True, slots=True)
class Figures:
    """A verdict without its journal, to be sent between processes."""

    deliveries: int
    workflows: int
    crashes: int
    violations: Sequence[str]


def figures_of(seed: int) -> Figures:
    warnings.simplefilter("ignore", RuntimeWarning)
    verdict = run_seed(seed)
    return Figures(verdict.deliveries, verdict.workflows, verdict.crashes, verdict.violations)


def play(seeds: Iterator[int], *, deliveries: int) -> Sum:
    """Seed after seed on all processors, until so many messages were delivered."""
    total = Sum()
    with ProcessPoolExecutor(PROCESSES) as pool:
        waiting = {
            pool.submit(figures_of, seed): seed for seed, _ in zip(seeds, range(2 * PROCESSES), strict=False)
        }
        while waiting:
            done = next(as_completed(waiting))
            total.add(waiting.pop(done), done.result())
            if total.deliveries < deliveries and (seed := next(seeds, None)) is not None:
                waiting[pool.submit(figures_of, seed)] = seed
    return total


def soak(first: int, deliveries: int) -> int:
    """Keep playing; print what failed, and keep its seed."""
    began_at = time.monotonic()
    total = Sum()
    seeds = count(first)
    while total.deliveries < deliveries:
        part = play(seeds, deliveries=min(200_000, deliveries - total.deliveries))
        for seed, violations in part.failures.items():
            print(
                f"seed {seed} failed: {violations[0]}\n  replay: python -m tests.simulation --seed {seed}",
                flush=True,
            )
            with SEEDS_FILE.open("a") as file:
                file.write(f"{seed}  # {violations[0][:100]}\n")
        _add(total, part)
        rate = total.deliveries / (time.monotonic() - began_at)
        print(f"{total}; {rate:,.0f} deliveries a second", flush=True)
    return 1 if total.failures else 0


def _add(total: Sum, part: Sum) -> None:
    total.seeds += part.seeds
    total.deliveries += part.deliveries
    total.workflows += part.workflows
    total.crashes += part.crashes
    total.failures |= part.failures


def enumerate_all() -> int:
    """Every crash and every pair, of every scenario."""
    failed = singles = pairs = 0
    with ProcessPoolExecutor(PROCESSES) as pool:
        for found in pool.map(enumerate_one, SCENARIOS):
            singles, pairs, failed = singles + found.singles, pairs + found.pairs, failed + len(found.failures)
            print(f"{found.scenario}: {found.singles} crashes, {found.pairs} pairs", flush=True)
            for failure in found.failures[:3]:
                print(f"  {failure}", flush=True)
    print(f"{len(SCENARIOS)} scenarios, {singles:,} crashes, {pairs:,} pairs of crashes: {failed} failed")
    return 1 if failed else 0


def enumerate_one(scenario: Scenario) -> Enumerated:
    warnings.simplefilter("ignore", RuntimeWarning)
    found, pairs = enumerate_singles(scenario), enumerate_pairs(scenario)
    found.pairs = pairs.pairs
    found.failures += pairs.failures
    return found


def replay(seed: int, about: str) -> int:
    verdict = run_seed(seed)
    for line in verdict.journal.trace(about):
        print(line)
    print(describe(verdict))
    return 1 if verdict.violations else 0


def describe(verdict: Verdict) -> str:
    """What a person needs to know of a seed."""
    played = f"seed {verdict.seed}: {verdict.deliveries} deliveries, {verdict.workflows} workflows"
    trace = f"{verdict.crashes} crashes and stops, trace {verdict.journal.fingerprint()}"
    return "\n".join([f"{played}, {trace}", verdict.description, *(verdict.violations or ["no violation"])])


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, help="play this one, and print its trace")
    parser.add_argument("--about", default="", help="of the trace only what is about this workflow")
    parser.add_argument("--deliveries", type=int, default=200_000, help="play seeds until so many")
    parser.add_argument("--first", type=int, help="the first seed; by default one that nobody has played")
    parser.add_argument("--enumerate", action="store_true", help="crashes in golden scenarios instead of seeds")
    asked = parser.parse_args()
    warnings.simplefilter("ignore", RuntimeWarning)
    if asked.seed is not None:
        return replay(asked.seed, asked.about)
    if asked.enumerate:
        return enumerate_all()
    first = asked.first if asked.first is not None else int.from_bytes(os.urandom(5)) * 1_000
    return soak(first, asked.deliveries)


if __name__ == "__main__":
    sys.exit(main())

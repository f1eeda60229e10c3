"""The outcome of a run in words and figures."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tests.chaos.check import Verdict
from tests.chaos.strikes import Recovery


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """A run that is over."""

    verdict: Verdict
    recoveries: Sequence[Recovery]
    answers: Counter[str]
    """What the person said of held deploys."""
    seconds: float


def lines(outcome: Outcome) -> Iterator[str]:
    verdict = outcome.verdict
    yield (
        f"{verdict.accepted} releases accepted, {verdict.completed} completed, {verdict.milestones} milestones, "
        f"{verdict.effects} effects, in {outcome.seconds:.0f} s"
    )
    yield from _recovery_lines(outcome.recoveries)
    yield f"repeats after a declared loss, of kinds that may be repeated: {verdict.repeats}"
    said = ", ".join(f"{number} {word}" for word, number in sorted(outcome.answers.items())) or "never asked"
    late = f"effects of a deploy asked for again: {verdict.late_effects}"
    yield f"held deploys, as a person answered: {said}; {late}"
    yield from (f"PROBLEM: {problem}" for problem in verdict.problems)
    yield "0 lost, 0 doubled" if not verdict.problems else f"{len(verdict.problems)} problems"


def _recovery_lines(recoveries: Sequence[Recovery]) -> Iterator[str]:
    by_strike: dict[tuple[str, str], list[Recovery]] = {}
    for recovery in recoveries:
        by_strike.setdefault((recovery.strike.target, recovery.strike.blow.value), []).append(recovery)
    yield f"{'part':14}{'blow':26}{'count':>6}  works again p50/p99 (s)  next result p50/p99 (s)"
    for (target, blow), group in sorted(by_strike.items()):
        works = _figures([each.works_seconds for each in group])
        result = _figures([each.result_seconds for each in group])
        yield f"{target:14}{blow:26}{len(group):>6}  {works:23}  {result}"


def _figures(seconds: Sequence[float | None]) -> str:
    known = sorted(each for each in seconds if each is not None)
    missing = len(seconds) - len(known)
    if not known:
        return "never"
    text = f"{percentile(known, 50):.2f} / {percentile(known, 99):.2f}"
    return f"{text} ({missing} never)" if missing else text


def percentile(ordered: Sequence[float], percent: float) -> float:
    """Nearest rank."""
    rank = max(1, -(-len(ordered) * percent // 100))
    return ordered[int(rank) - 1]

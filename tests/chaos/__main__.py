"""`python -m tests.chaos --orchestrator-kills 1000 --rabbitmq-kills 200 …`: strikes the product for long."""

import argparse
import signal
import sys
import threading

from tests.chaos.report import lines
from tests.chaos.run import Wanted, run
from tests.chaos.strikes import Blow

TARGETS = ("orchestrator", "worker", "rabbitmq", "postgresql")
OPTIONS = {
    "kills": (Blow.KILL, TARGETS),
    "starting-kills": (Blow.KILL_STARTING, ("orchestrator", "worker")),
    "stops": (Blow.PAUSE, TARGETS),
    "terms": (Blow.TERMINATE, TARGETS),
}


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    for option, (blow, targets) in OPTIONS.items():
        for target in targets:
            made.add_argument(
                f"--{target}-{option}", type=int, default=0, metavar="N", help=f"{blow.value}, N times"
            )
    made.add_argument("--minutes", type=float, default=90.0, help="strike no longer than this")
    made.add_argument("--together", action="store_true", help="strike different parts at the same time")
    made.add_argument("--quorum", action="store_true", help="use quorum queues")
    made.add_argument("--orchestrators", type=int, default=3)
    made.add_argument("--workers", type=int, default=3)
    made.add_argument("--rate", type=float, default=8.0, help="releases started per second")
    made.add_argument("--seed", type=int, default=0, help="of the order of the strikes")
    return made


def wanted_of(arguments: list[str]) -> Wanted:
    given = parser().parse_args(arguments)
    counts = {
        (target, blow): getattr(given, f"{target}_{option}".replace("-", "_"))
        for option, (blow, targets) in OPTIONS.items()
        for target in targets
    }
    return Wanted(
        counts={key: count for key, count in counts.items() if count},
        minutes=given.minutes,
        together=given.together,
        quorum=given.quorum,
        orchestrators=given.orchestrators,
        workers=given.workers,
        releases_per_second=given.rate,
        seed=given.seed,
    )


def main(arguments: list[str]) -> int:
    """A Ctrl-C or SIGTERM ends the strikes; what was done until then is judged all the same."""
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    outcome = run(wanted_of(arguments), stop)
    for line in lines(outcome):
        print(line)
    return 1 if outcome.verdict.problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

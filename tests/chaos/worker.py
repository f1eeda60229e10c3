"""A worker of the SDK whose every effect is a line in a file of its own, so that thousands of them are cheap.

`python -m tests.chaos.worker LEDGER` serves builds and deploys of the broker in OPENAPERTURE_BROKER.
"""

import asyncio
import os
import random
import sys
from dataclasses import dataclass
from pathlib import Path

from openaperture.worker import Context, Worker

QUEUES = ("builder", "deployer")
SLOTS = 4
LONGEST_SECONDS = 0.06
"""Milestones take a moment, so that a kill can meet one in the middle: before its effect or after it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """One line of a ledger: that a milestone was really done."""

    key: str
    """The idempotency key of the milestone."""
    workflow_id: str
    milestone: str
    generation: int
    number: int

    def line(self) -> bytes:
        fields = (self.key, self.workflow_id, self.milestone, str(self.generation), str(self.number))
        return (" ".join(fields) + "\n").encode()


def read_ledger(path: Path) -> list[Effect]:
    """All effects of a file. The last line is left out unless it is whole."""
    effects: list[Effect] = []
    for line in path.read_text().splitlines(keepends=True):
        if line.endswith("\n"):
            key, workflow_id, milestone, generation, number = line.split()
            effects.append(
                Effect(
                    key=key,
                    workflow_id=workflow_id,
                    milestone=milestone,
                    generation=int(generation),
                    number=int(number),
                )
            )
    return effects


class Handler:
    """Does a milestone: a pause, the effect, a pause."""

    def __init__(self, ledger: Path) -> None:
        # One write per line to a file opened for appending: the kernel has it whole, whatever kills us next.
        self._ledger = os.open(ledger, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    async def __call__(self, context: Context) -> None:
        await asyncio.sleep(random.uniform(0, LONGEST_SECONDS))
        attempt = context.request.attempt
        effect = Effect(
            key=context.idempotency_key,
            workflow_id=context.workflow_id,
            milestone=context.milestone,
            generation=attempt.generation,
            number=attempt.number,
        )
        os.write(self._ledger, effect.line())
        await asyncio.sleep(random.uniform(0, LONGEST_SECONDS))


def main(ledger: str) -> None:
    worker = Worker(queues=QUEUES, slots=SLOTS)
    worker.every_milestone(Handler(Path(ledger)))
    # The queues are there: which kind they are of is for the one who declared them.
    worker.run(os.environ["OPENAPERTURE_BROKER"], declare=False)


if __name__ == "__main__":
    main(sys.argv[1])

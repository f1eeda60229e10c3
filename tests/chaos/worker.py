"""A worker of the SDK whose every effect is a line in a file of its own, so that thousands of them are cheap.

`python -m tests.chaos.worker LEDGER` serves builds and deploys of the broker in OPENAPERTURE_BROKER.
"""

import asyncio
import os
import random
import sys
from pathlib import Path

from openaperture.worker import Context, Worker
from tests.chaos.ledger import QUEUES, Effect

SLOTS = 4
LONGEST_SECONDS = 0.06
"""Milestones take a moment, so that a kill can meet one in the middle: before its effect or after it."""


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

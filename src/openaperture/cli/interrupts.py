"""Ctrl-C while a command follows a release: the first ends the following, the second everything.

The command then still has its say (how to come back) and leaves its blocks in order, which drains the
services of this process. SIGTERM is taken the same.
"""

import asyncio
import signal
from collections.abc import Coroutine
from typing import Any, TypeVar

from openaperture.cli.exits import ExitCode

_EXIT_CODES = {signal.SIGINT: ExitCode.INTERRUPTED, signal.SIGTERM: ExitCode.TERMINATED}

Result = TypeVar("Result")


class Interrupted(Exception):
    """A signal came before the work was done."""

    def __init__(self, number: signal.Signals) -> None:
        super().__init__(f"interrupted by {number.name}")
        self.exit_code = _EXIT_CODES[number]


async def until_interrupted(work: Coroutine[Any, Any, Result]) -> Result:
    """The result of the work. Raises Interrupted, with the work cancelled, when a signal was faster.

    Any further signal, and any after the work, cancels the command itself.
    """
    loop, command = asyncio.get_running_loop(), asyncio.current_task()
    caught: list[signal.Signals] = []
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(work)

        def stop(number: signal.Signals) -> None:
            first_in_time = not caught and not task.done()
            caught.append(number)
            if first_in_time:
                task.cancel()
            elif command is not None:
                command.cancel()

        for number in _EXIT_CODES:
            # They stay until the loop is closed: a KeyboardInterrupt would break into whatever runs then.
            loop.add_signal_handler(number, stop, number)
        await asyncio.wait({task})
    if caught and task.cancelled():
        raise Interrupted(caught[0])
    return task.result()

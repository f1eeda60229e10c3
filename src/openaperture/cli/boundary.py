"""The one place that turns what went wrong into a sentence and an exit code. Nobody sees a traceback."""

import asyncio
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

from openaperture.cli.exits import ExitCode
from openaperture.cli.speech import say
from openaperture.cli.untrusted import one_line
from openaperture.domain.errors import (
    AccessRefused,
    BadInput,
    ConfigError,
    NothingRuns,
    OpenApertureError,
    TryLater,
    UnusableAnswer,
)

DEBUG_VARIABLE = "OPENAPERTURE_DEBUG"

Crashed = Callable[[BaseException], Path | None]
"""Writes an unexpected error down; returns where, or None when there is no place yet."""


def guard(action: Callable[[], int], crashed: Crashed) -> int:
    """Run a command; whatever it raises becomes an exit code and a word on standard error."""
    try:
        return action()
    except (KeyboardInterrupt, asyncio.CancelledError):
        return ExitCode.INTERRUPTED
    except Exception as exc:  # noqa: BLE001  the boundary of the process: everything else ends here
        return _report(exc, crashed)


def _report(error: BaseException, crashed: Crashed) -> int:
    if os.environ.get(DEBUG_VARIABLE) == "1":
        traceback.print_exception(error)
    causes = list(_flattened(error))
    if any(isinstance(cause, BrokenPipeError) for cause in causes):
        # The reader of our output has gone, as `head` does: nothing is wrong, and nobody is left to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.ABANDONED
    unexpected = [cause for cause in causes if not isinstance(cause, OpenApertureError)]
    if unexpected:
        _say_unexpected(unexpected[0], crashed(error))
        return ExitCode.INTERNAL
    for sentence in dict.fromkeys(sentence for cause in causes for sentence in _sentences(cause)):
        say(f"openaperture: {sentence}")
    return max(_exit_code(cause) for cause in causes)


def _flattened(error: BaseException) -> Iterator[BaseException]:
    """The errors of a group, for tasks run in groups."""
    if isinstance(error, BaseExceptionGroup):
        for inner in cast("BaseExceptionGroup[BaseException]", error).exceptions:
            yield from _flattened(inner)
    else:
        yield error


def _sentences(error: BaseException) -> list[str]:
    problems = error.problems if isinstance(error, ConfigError) else [str(error)]
    return [one_line(problem) for problem in problems]


def _exit_code(error: BaseException) -> ExitCode:
    match error:
        case TryLater() | NothingRuns():
            return ExitCode.UNAVAILABLE
        case BadInput() | ConfigError() | AccessRefused() | UnusableAnswer():
            return ExitCode.REFUSED
        case _:
            return ExitCode.FAILED


def _say_unexpected(error: BaseException, log: Path | None) -> None:
    # The text of a foreign error may hold anything, a password of a URL too: the log masks, a terminal does not.
    where = f"{log} has the details" if log else f"set {DEBUG_VARIABLE}=1 to see the details"
    say(f"openaperture: stopped by an unexpected {type(error).__name__}, a defect of the program; {where}")

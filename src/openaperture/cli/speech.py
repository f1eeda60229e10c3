"""The two ways a command speaks: its result to standard output, anything else to standard error."""

import sys


def answer(line: str) -> None:
    """A line of the result."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def say(sentence: str) -> None:
    """A word to the user that is no result."""
    sys.stderr.write(f"{sentence}\n")
    sys.stderr.flush()

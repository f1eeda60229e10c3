"""Exit codes of the command line: a script reads from them what became of a release."""

from enum import IntEnum

from openaperture.domain.workflow import State


class ExitCode(IntEnum):
    """The numbers are part of the interface: documented in docs/reference/cli.md, never changed."""

    COMPLETED = 0
    """Done; of a release that was followed: it completed."""
    FAILED = 1
    """The release failed."""
    REFUSED = 2
    """The command cannot be carried out as it was given: usage, configuration, unknown id, wrong state."""
    CANCELLED = 3
    """The release was cancelled."""
    HELD = 4
    """The release stopped and waits for a person."""
    UNAVAILABLE = 5
    """The orchestrator, its database or its broker does not answer; trying again later may help."""
    INTERNAL = 70
    """A defect of the program; EX_SOFTWARE of sysexits."""
    INTERRUPTED = 130
    """Ctrl-C, as shells count it: 128 and the number of the signal."""
    ABANDONED = 141
    """Whoever read the output has gone; as if by SIGPIPE."""
    TERMINATED = 143
    """SIGTERM, likewise."""


RESULTS = {
    State.COMPLETED: ExitCode.COMPLETED,
    State.FAILED: ExitCode.FAILED,
    State.CANCELLED: ExitCode.CANCELLED,
    State.HELD: ExitCode.HELD,
}
"""How following a release ends. States that are not listed here go on."""

"""Processes by their pid, as the kernel shows them in /proc (Linux)."""

import os
import signal
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

POLL_SECONDS = 0.02


def is_alive(pid: int, mention: str = "") -> bool:
    """Whether the process runs, and has `mention` in its arguments. A zombie does not run."""
    try:
        arguments = Path(f"/proc/{pid}/cmdline").read_bytes()
        state = _after_name(Path(f"/proc/{pid}/stat"))[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    if state in {"Z", "X"}:
        return False
    # While it turns into another program, a process has no arguments for a moment.
    return not arguments or mention.encode() in arguments


def descendants(pid: int) -> list[int]:
    """Pids of its children, of theirs, and so on."""
    children = [child for child, parent in _parents().items() if parent == pid]
    return [*children, *(further for child in children for further in descendants(child))]


def send_signal(pid: int, number: signal.Signals) -> None:
    """A process that is gone already needs none."""
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def wait_gone(pids: Iterable[int], timeout_seconds: float) -> None:
    """Wait until none of them runs. Raises TimeoutError with those that do."""
    deadline = time.monotonic() + timeout_seconds
    left = list(pids)
    while left := [pid for pid in left if is_alive(pid)]:
        if time.monotonic() > deadline:
            raise TimeoutError(f"processes {left} still run after {timeout_seconds:g} s")
        time.sleep(POLL_SECONDS)


def _parents() -> dict[int, int]:
    """Pid -> pid of its parent, of all processes."""
    found: dict[int, int] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(FileNotFoundError, ProcessLookupError):
            found[int(path.parent.name)] = int(_after_name(path)[1])
    return found


def _after_name(stat: Path) -> list[str]:
    """State, parent and so on. The second field is the name in parentheses and may hold anything."""
    return stat.read_text().rpartition(")")[2].split()

"""One command in a session of its own: its output as lines, its end, and the certain end of all it left behind.

Linux only: the end is seen through a pidfd, so that the group is signalled while its leader's id is still taken.
"""

import asyncio
import os
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from openaperture.domain.errors import MilestoneFailed

OnLine = Callable[[str], None]

MAX_LINE_BYTES = 3_900
"""A longer line is cut; what is kept fits a line of the log."""
READ_BYTES = 65_536
STOP_SECONDS = 5.0
"""Between the request to stop and the kill."""
DRAIN_SECONDS = 2.0
"""How long output is still read when a daemon that left the group keeps the pipe open."""
POLL_SECONDS = 0.05
MEASURE_SECONDS = 1.0
MARK = "OPENAPERTURE_ATTEMPT_DIR"
"""Variable that names the folder of the attempt which a process belongs to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """What to run. The environment is complete: nothing is inherited."""

    argv: Sequence[str]
    cwd: Path
    environment: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderLimit:
    """A command is stopped when this folder outgrows the limit."""

    folder: Path
    max_bytes: int


async def run(
    command: Command,
    on_line: OnLine,
    *,
    limit: FolderLimit | None = None,
    stop_seconds: float = STOP_SECONDS,
) -> int:
    """Run to the end and return the exit code (negative: the signal that ended it).

    When this returns or raises, cancellation included, no process of its group is alive. Raises MilestoneFailed
    when the command cannot be started or the folder outgrew its limit.
    """
    group = _Group(command, on_line)
    try:
        await _wait_within(group, limit)
    finally:
        await group.stop(stop_seconds)
    return group.exit_code


def kill_leftovers(folder: Path) -> None:
    """Kill the processes of attempts in `folder`: daemons that left their group, commands of a dead worker.

    They are known by MARK in their environment, which every command has; one that cleared it is not found.
    """
    mark = f"{MARK}={folder}".encode()
    for path in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):  # gone meanwhile, or somebody else's
            entries = path.read_bytes().split(b"\0")
            if any(entry == mark or entry.startswith(mark + b"/") for entry in entries):
                os.kill(int(path.parent.name), signal.SIGKILL)


def folder_bytes(folder: Path) -> int:
    """Bytes on disk below `folder`. What vanishes meanwhile counts nothing."""
    total = 0
    folders = [folder]
    while folders:
        with suppress(OSError), os.scandir(folders.pop()) as entries:
            for entry in entries:
                with suppress(OSError):
                    total += entry.stat(follow_symlinks=False).st_blocks * 512
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(Path(entry.path))
    return total


async def _wait_within(group: "_Group", limit: FolderLimit | None) -> None:
    """Wait for the end, measuring the folder on the way and then; a slow measurement is repeated less often."""
    loop = asyncio.get_running_loop()
    pause = MEASURE_SECONDS
    while limit is not None and not group.ended.is_set():
        with suppress(TimeoutError):
            async with asyncio.timeout(pause):
                await group.ended.wait()
        started = loop.time()
        size = await asyncio.to_thread(folder_bytes, limit.folder)
        if size > limit.max_bytes:
            mebibytes = limit.max_bytes // 2**20
            raise MilestoneFailed(f"stopped: its work folder grew beyond the limit of {mebibytes} MiB")
        pause = max(MEASURE_SECONDS, 20 * (loop.time() - started))
    await group.ended.wait()


class _Group:
    """A started command and everything in its process group."""

    def __init__(self, command: Command, on_line: OnLine) -> None:
        self._loop = asyncio.get_running_loop()
        self._lines = LineSplitter(on_line)
        self.ended = asyncio.Event()
        self._drained = asyncio.Event()
        self.exit_code = 0
        self._process = _start(command)
        if self._process.stdout is None:
            raise AssertionError("the output is a pipe")
        self._output = self._process.stdout.fileno()
        os.set_blocking(self._output, False)
        self._pidfd = os.pidfd_open(self._process.pid)
        self._loop.add_reader(self._output, self._on_output)
        self._loop.add_reader(self._pidfd, self._on_end)

    async def stop(self, stop_seconds: float) -> None:
        """Ask what is left to stop, kill it, collect the leader, and read what they still said."""
        try:
            if not self.ended.is_set():
                self._signal(signal.SIGTERM)
                await self._wait_empty(stop_seconds)
        finally:
            # The leader is not collected yet, so nobody else can have got the group's id.
            self._signal(signal.SIGKILL)
            await self._close()

    async def _close(self) -> None:
        try:
            await self.ended.wait()
            with suppress(TimeoutError):
                async with asyncio.timeout(DRAIN_SECONDS):
                    await self._drained.wait()
        finally:
            self._loop.remove_reader(self._pidfd)
            self._loop.remove_reader(self._output)
            self._lines.close()
            # Not a wait: the leader has ended, or was killed a moment ago.
            self.exit_code = self._process.wait()
            os.close(self._pidfd)
            if self._process.stdout is not None:
                self._process.stdout.close()

    async def _wait_empty(self, seconds: float) -> None:
        """Until no process of the group runs any more, at most `seconds`."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                # Processes of others set no event of ours, hence the polling.
                while not self.ended.is_set() or _has_members(self._process.pid):  # noqa: ASYNC110
                    await asyncio.sleep(POLL_SECONDS)

    def _signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError, PermissionError):  # gone, or became another user's
            os.killpg(self._process.pid, number)

    def _on_end(self) -> None:
        self._loop.remove_reader(self._pidfd)
        self.ended.set()

    def _on_output(self) -> None:
        try:
            piece = os.read(self._output, READ_BYTES)
        except BlockingIOError:
            return
        if piece:
            self._lines.feed(piece)
        else:
            self._loop.remove_reader(self._output)
            self._drained.set()


class LineSplitter:
    """Bytes in, lines of text out. Lines are cut at MAX_LINE_BYTES; what is no UTF-8 becomes U+FFFD."""

    def __init__(self, on_line: OnLine) -> None:
        self._on_line = on_line
        self._rest = b""
        self._dropping = False
        """Inside the tail of a line that was cut."""

    def feed(self, piece: bytes) -> None:
        *whole, self._rest = (self._rest + piece).split(b"\n")
        for line in whole:
            if self._dropping:
                self._dropping = False
            else:
                self._emit(line)
        if self._dropping:
            self._rest = b""
        elif len(self._rest) > MAX_LINE_BYTES:
            self._emit(self._rest)
            self._rest = b""
            self._dropping = True

    def close(self) -> None:
        """The last line may lack its newline."""
        if self._rest and not self._dropping:
            self._emit(self._rest)
        self._rest = b""

    def _emit(self, line: bytes) -> None:
        text = line[:MAX_LINE_BYTES].removesuffix(b"\r").decode("utf-8", "replace")
        self._on_line(f"{text} … (line cut)" if len(line) > MAX_LINE_BYTES else text)


def _start(command: Command) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            command.argv,
            cwd=command.cwd,
            env=command.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            bufsize=0,
            start_new_session=True,
        )
    except FileNotFoundError as exc:
        name = command.argv[0]
        raise MilestoneFailed(f'cannot run "{name}": it is neither a file nor on the PATH of this worker') from exc
    except OSError as exc:
        raise MilestoneFailed(f'cannot run "{command.argv[0]}": {exc.strerror}') from exc


def _has_members(group: int) -> bool:
    """Whether a process of the group runs. Zombies do not."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            # After the name in parentheses, which may hold anything: state, parent, group.
            state, _, its_group = path.read_text(errors="replace").rpartition(")")[2].split()[:3]
            if int(its_group) == group and state not in "ZX":
                return True
    return False

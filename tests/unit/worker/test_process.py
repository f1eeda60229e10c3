"""A command ends, whatever it does, and nothing of it stays behind."""

import asyncio
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from openaperture.domain.errors import MilestoneFailed
from openaperture.worker.command.output import BoundedLog
from openaperture.worker.command.process import (
    MARK,
    MAX_LINE_BYTES,
    Command,
    FolderLimit,
    LineSplitter,
    folder_bytes,
    kill_leftovers,
    run,
)
from tests.processes import is_alive, wait_gone

_DAEMON = "mkfifo up; setsid sh -c 'echo > up; exec sleep 300'"
_DAEMON_IS_UP = "& read -r _ < up; echo daemon $!"


def _shell(text: str, folder: Path, **environment: str) -> Command:
    return Command(
        argv=["/bin/sh", "-c", text], cwd=folder, environment={"PATH": os.environ["PATH"], **environment}
    )


class _Heard:
    """Collects lines, and tells when one was said."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._waiting: dict[str, asyncio.Event] = {}

    def __call__(self, line: str) -> None:
        self.lines.append(line)
        for start, event in self._waiting.items():
            if line.startswith(start):
                event.set()

    async def wait_for(self, start: str) -> str:
        """The first line with this start."""
        event = self._waiting.setdefault(start, asyncio.Event())
        if not any(line.startswith(start) for line in self.lines):
            await event.wait()
        return next(line for line in self.lines if line.startswith(start))


async def test_output_of_both_kinds_comes_line_by_line_with_the_exit_code(tmp_path: Path) -> None:
    heard = _Heard()
    code = await run(_shell("echo one; echo two >&2; printf 'last'; exit 7", tmp_path), heard)
    assert (code, heard.lines) == (7, ["one", "two", "last"])


async def test_a_signal_is_a_negative_exit_code(tmp_path: Path) -> None:
    assert await run(_shell("kill -KILL $$", tmp_path), _Heard()) == -signal.SIGKILL


async def test_a_command_has_only_the_environment_it_is_given_and_no_input(tmp_path: Path) -> None:
    heard = _Heard()
    await run(Command(argv=["/usr/bin/env"], cwd=tmp_path, environment={"ONLY": "this"}), heard)
    assert heard.lines == ["ONLY=this"]
    assert await run(_shell("! read -r anything", tmp_path), heard) == 0


async def test_a_command_inherits_no_open_files(tmp_path: Path) -> None:
    heard = _Heard()
    with (tmp_path / "secret").open("w") as file:
        os.set_inheritable(file.fileno(), True)
        await run(_shell("ls -l /proc/self/fd", tmp_path), heard)
    assert not any("secret" in line for line in heard.lines)


async def test_a_command_has_a_session_of_its_own(tmp_path: Path) -> None:
    heard = _Heard()
    await run(_shell("echo $$ $(cut -d' ' -f5,6 /proc/$$/stat)", tmp_path), heard)
    pid, group, session = heard.lines[0].split()
    assert pid == group == session != str(os.getsid(0))


@pytest.mark.parametrize("argv", [["no-such-program"], ["/nonexistent/program"], ["/etc/hostname"]])
async def test_a_command_that_cannot_start_is_named(argv: list[str], tmp_path: Path) -> None:
    with pytest.raises(MilestoneFailed, match=argv[0]):
        await run(Command(argv=argv, cwd=tmp_path, environment={"PATH": "/usr/bin"}), _Heard())


async def test_a_cancel_kills_the_whole_group_even_when_it_ignores_the_request(tmp_path: Path) -> None:
    heard = _Heard()
    stubborn = "trap '' TERM; sleep 300 & echo child $!; echo leader $$; while :; do sleep 300; done"
    task = asyncio.create_task(run(_shell(stubborn, tmp_path), heard, stop_seconds=0.2))
    pids = [int((await heard.wait_for(who)).split()[1]) for who in ("child", "leader")]
    assert all(is_alive(pid) for pid in pids)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    wait_gone(pids, 5)


async def test_a_command_may_clean_up_when_it_is_asked_to_stop(tmp_path: Path) -> None:
    heard = _Heard()
    polite = "trap 'echo cleaned; exit 3' TERM; echo ready; while :; do sleep 0.05; done"
    task = asyncio.create_task(run(_shell(polite, tmp_path), heard, stop_seconds=30))
    await heard.wait_for("ready")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert heard.lines[-1] == "cleaned"


async def test_a_child_may_clean_up_after_its_leader_is_gone(tmp_path: Path) -> None:
    heard = _Heard()
    text = "(trap 'sleep 0.3; echo child cleaned; exit' TERM; echo ready; while :; do sleep 0.05; done) & wait"
    task = asyncio.create_task(run(_shell(text, tmp_path), heard, stop_seconds=30))
    await heard.wait_for("ready")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert "child cleaned" in heard.lines


async def test_a_second_cancel_kills_at_once(tmp_path: Path) -> None:
    heard = _Heard()
    text = "trap 'echo asked' TERM; echo leader $$; while :; do sleep 0.05; done"
    task = asyncio.create_task(run(_shell(text, tmp_path), heard, stop_seconds=300))
    pid = int((await heard.wait_for("leader")).split()[1])
    task.cancel()
    await heard.wait_for("asked")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    wait_gone([pid], 5)


async def test_what_a_command_leaves_in_its_group_is_killed_when_it_ends(tmp_path: Path) -> None:
    heard = _Heard()
    assert await run(_shell("sleep 300 & echo orphan $!", tmp_path), heard) == 0
    wait_gone([int(heard.lines[0].split()[1])], 5)


async def test_a_daemon_that_left_the_group_is_found_by_its_folder(tmp_path: Path) -> None:
    heard = _Heard()
    command = _shell(f"{_DAEMON} >/dev/null 2>&1 {_DAEMON_IS_UP}", tmp_path, **{MARK: f"{tmp_path}/1"})
    await run(command, heard)
    pid = int(heard.lines[0].split()[1])
    try:
        kill_leftovers(tmp_path / "2")
        assert is_alive(pid)
        kill_leftovers(tmp_path)
        wait_gone([pid], 5)
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


async def test_a_daemon_that_keeps_the_output_open_does_not_hold_the_command(tmp_path: Path) -> None:
    heard = _Heard()
    command = _shell(f"{_DAEMON} {_DAEMON_IS_UP}", tmp_path, **{MARK: f"{tmp_path}/1"})
    try:
        assert await run(command, heard) == 0
    finally:
        kill_leftovers(tmp_path)


async def test_a_folder_that_outgrows_its_limit_ends_the_command(tmp_path: Path) -> None:
    heard = _Heard()
    text = "echo leader $$; dd if=/dev/zero of=big bs=1M count=8 2>/dev/null; sleep 300"
    limit = FolderLimit(folder=tmp_path, max_bytes=4 * 2**20)
    with pytest.raises(MilestoneFailed, match="limit of 4 MiB"):
        await run(_shell(text, tmp_path), heard, limit=limit)
    wait_gone([int(heard.lines[0].split()[1])], 5)


def test_a_folder_is_measured_with_its_subfolders_and_without_following_links(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "file").write_bytes(os.urandom(1_000_000))
    (tmp_path / "a" / "loop").symlink_to(tmp_path)
    assert 1_000_000 <= folder_bytes(tmp_path) < 1_100_000


async def test_a_flood_is_cut_and_does_not_stop_the_command(tmp_path: Path) -> None:
    kept: list[str] = []
    output = BoundedLog(kept.append, max_lines=10, tail_lines=3)
    flood = f"{sys.executable} -c 'for i in range(200000): print(i)'"
    assert await run(_shell(flood, tmp_path), output.add) == 0
    output.close()
    assert kept[:10] == [str(number) for number in range(10)]
    assert kept[10:] == [
        "[199987 lines are left out here: more than can be kept]",
        "199997",
        "199998",
        "199999",
    ]


def test_a_log_within_its_bounds_is_passed_on_as_it_is() -> None:
    kept: list[str] = []
    output = BoundedLog(kept.append, max_lines=3, max_characters=10)
    for line in ("one", "two", "six"):
        output.add(line)
    output.close()
    assert kept == ["one", "two", "six"]


def test_a_log_is_cut_by_its_characters_too() -> None:
    kept: list[str] = []
    output = BoundedLog(kept.append, max_characters=10, tail_lines=1)
    for line in ("12345678", "abc", "d"):
        output.add(line)
    output.close()
    assert kept == ["12345678", "[1 lines are left out here: more than can be kept]", "d"]


def test_a_burst_loses_its_middle_and_later_lines_are_whole_again() -> None:
    kept: list[str] = []
    now = [0.0]
    output = BoundedLog(kept.append, burst_lines=5, tail_lines=2, clock=lambda: now[0])
    for number in range(20):
        output.add(str(number))
    assert kept == ["0", "1", "2", "3", "4"]
    now[0] += 60
    output.add("later")
    assert kept[5:] == ["[13 lines are left out here: more than can be kept]", "18", "19", "later"]
    output.close()
    assert kept[-1] == "later"


@pytest.mark.parametrize("piece_bytes", [1, 7, 65_536])
def test_lines_are_the_same_however_they_arrive(piece_bytes: int) -> None:
    heard = _Heard()
    lines = LineSplitter(heard)
    body = b"plain\r\n\n" + b"x" * (3 * MAX_LINE_BYTES) + b"\n\xff\xfe\n\x1b[31mred\x1b[0m\nlast"
    for start in range(0, len(body), piece_bytes):
        lines.feed(body[start : start + piece_bytes])
    lines.close()
    plain, empty, long, broken, red, last = heard.lines
    assert (plain, empty, broken, red, last) == ("plain", "", "��", "\x1b[31mred\x1b[0m", "last")
    assert long.startswith("x" * 100)
    assert long.endswith("(line cut)")
    assert len(long) < MAX_LINE_BYTES + 20


def test_a_line_of_the_exact_limit_is_whole() -> None:
    heard = _Heard()
    lines = LineSplitter(heard)
    lines.feed(b"y" * MAX_LINE_BYTES)
    lines.feed(b"\nnext\n")
    assert heard.lines == ["y" * MAX_LINE_BYTES, "next"]

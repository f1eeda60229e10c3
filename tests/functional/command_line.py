"""The command line as its users have it: real processes, a data folder and a git repository of the test."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, Queue
from typing import Any

TIMEOUT_SECONDS = 60.0


def make_repository(folder: Path, manifest: Mapping[str, Any] | None) -> Path:
    """A git repository with one commit; without a manifest it has a readme only."""
    folder.mkdir()
    git(folder, "init", "-q", "-b", "main")
    (folder / "README").write_text("a product\n")
    if manifest is not None:
        (folder / "openaperture.json").write_text(json.dumps(manifest))
    commit(folder)
    return folder


def commit(folder: Path) -> str:
    """Commit everything; returns the full hash."""
    git(folder, "add", ".")
    git(folder, "-c", "user.name=test", "-c", "user.email=test@example.test", "commit", "-qm", "a change")
    return git(folder, "rev-parse", "HEAD")


def git(folder: Path, *arguments: str) -> str:
    command = ["git", *arguments]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


class Running:
    """A command that runs while the test goes on; its output is read line by line."""

    def __init__(self, popen: subprocess.Popen[str]) -> None:
        self.popen = popen
        self.lines: list[str] = []
        self._arriving: Queue[str | None] = Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.popen.stdout is not None
        for line in self.popen.stdout:
            self._arriving.put(line.rstrip("\n"))
        self._arriving.put(None)

    def wait_for(self, text: str) -> str:
        """The next line that has the text. Fails with all that was written when it does not come."""
        while True:
            try:
                line = self._arriving.get(timeout=TIMEOUT_SECONDS)
            except Empty:
                line = None
            if line is None:
                raise AssertionError(f"no line with {text!r} came; the output was\n" + "\n".join(self.lines))
            self.lines.append(line)
            if text in line:
                return line

    def wait(self) -> int:
        """The exit code; the rest of the output is in `lines`."""
        code = self.popen.wait(TIMEOUT_SECONDS)
        self._reader.join(TIMEOUT_SECONDS)
        while not self._arriving.empty():
            if (line := self._arriving.get()) is not None:
                self.lines.append(line)
        return code

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        if self.popen.poll() is None:
            self.popen.send_signal(number)
        return self.wait()


@dataclass
class Site:
    """One user on one machine: a current folder, a data folder, environment variables."""

    folder: Path
    variables: dict[str, str] = field(default_factory=dict[str, str])
    started: list[Running] = field(default_factory=list[Running])

    def environment(self) -> dict[str, str]:
        ours = ("OPENAPERTURE_", "NO_COLOR", "TERM")
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        return {**inherited, "OPENAPERTURE_DATA_DIR": str(self.folder / "data"), **self.variables}

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """A command from beginning to end."""
        return subprocess.run(
            _command(arguments),
            cwd=self.folder,
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            text=True,
            timeout=TIMEOUT_SECONDS,
        )

    def start(self, *arguments: str) -> Running:
        """A command that runs until it ends or is stopped, at the latest with the test."""
        popen = subprocess.Popen(
            _command(arguments),
            cwd=self.folder,
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        running = Running(popen)
        self.started.append(running)
        return running

    def json(self, *arguments: str) -> Any:
        """What a command prints as JSON. Fails unless it is one document and the exit code is 0."""
        done = self.run(*arguments, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def clean_up(self) -> None:
        for running in self.started:
            running.stop(signal.SIGKILL)


def _command(arguments: Sequence[str]) -> list[str]:
    return [sys.executable, "-m", "openaperture", *arguments]

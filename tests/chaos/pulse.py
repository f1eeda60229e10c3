"""Follows the files that the parts write, to know at which moment which of them did something useful."""

import threading
import time
from collections.abc import Collection, Mapping
from pathlib import Path

POLL_SECONDS = 0.02


class _Tail:
    """The lines of one file with a certain text in them, as they come."""

    def __init__(self, path: Path, mark: bytes) -> None:
        self._path = path
        self._mark = mark
        self._offset = 0
        self._rest = b""

    def count_new(self) -> int:
        if not self._path.exists():
            return 0
        with self._path.open("rb") as file:
            file.seek(self._offset)
            read = file.read()
        self._offset += len(read)
        *lines, self._rest = (self._rest + read).split(b"\n")
        return sum(self._mark in line for line in lines)


class Pulse:
    """When each file last got a line that counts. Instants are `time.monotonic()`."""

    def __init__(self, files: Mapping[str, tuple[Path, bytes]]) -> None:
        """name -> a file, and what the lines that count hold."""
        self._tails = {name: _Tail(path, mark) for name, (path, mark) in files.items()}
        self._beats: dict[str, list[float]] = {name: [] for name in files}
        self._news = threading.Condition()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="pulse", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()

    def now(self) -> float:
        """An instant before which all that is in the files has been counted."""
        with self._news:
            self._look()
            return time.monotonic()

    def first_after(self, names: Collection[str], instant: float, timeout_seconds: float) -> float | None:
        """When one of these first got a line after `instant`; waits for it. None if it takes too long."""
        deadline = time.monotonic() + timeout_seconds
        with self._news:
            while True:
                if found := [at for name in names if (at := self._find_after(name, instant)) is not None]:
                    return min(found)
                if (left := deadline - time.monotonic()) <= 0:
                    return None
                self._news.wait(left)

    def _find_after(self, name: str, instant: float) -> float | None:
        beats = self._beats[name]
        later = None
        for at in reversed(beats):
            if at <= instant:
                break
            later = at
        return later

    def _follow(self) -> None:
        while not self._stopped.wait(POLL_SECONDS):
            with self._news:
                self._look()

    def _look(self) -> None:
        for name, tail in self._tails.items():
            if tail.count_new():
                self._beats[name].append(time.monotonic())
                self._news.notify_all()

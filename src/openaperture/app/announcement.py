"""Where a running `up` says how to reach its Manager, and where commands on the same data folder find it."""

import fcntl
import json
import os
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

SESSION_FILE = "manager.json"
"""Readable by its owner alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Announced:
    """How to reach a running `up`."""

    url: str
    token: str
    pid: int


def find_running(data_dir: Path) -> Announced | None:
    """The `up` that runs on this data folder; a file left behind by a killed one is ignored."""
    try:
        with (data_dir / SESSION_FILE).open(encoding="utf-8") as file:
            if _is_free(file):
                return None
            fields = json.load(file)
        return Announced(url=fields["url"], token=fields["token"], pid=fields["pid"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _is_free(file: TextIO) -> bool:
    """Whether its writer is gone: the kernel frees the lock however a process ends. A pid may be reused."""
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def announced(data_dir: Path, url: str, token: str) -> Generator[None]:
    """Let commands find this process while the block lasts."""
    path = data_dir / SESSION_FILE
    path.unlink(missing_ok=True)
    fields = {"url": url, "token": token, "pid": os.getpid()}
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        json.dump(fields, file)
        file.flush()
        try:
            yield
        finally:
            path.unlink(missing_ok=True)

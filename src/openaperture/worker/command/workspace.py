"""Folders of the attempts: fresh for each, removed afterwards, swept when their process died first.

<work folder>/lock                      held while folders are made or swept
<work folder>/kept/<repository>/        what outlives attempts: caches, local deployments
<work folder>/<process>/alive           locked as long as the process lives; the kernel lets go when it dies
<work folder>/<process>/<attempt>/      tree, home, git, tmp, inputs
"""

import fcntl
import hashlib
import os
import secrets
import shutil
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any

from openaperture.worker.command.process import kill_leftovers

_KEPT = "kept"
_ALIVE = "alive"


@dataclass(frozen=True, slots=True, kw_only=True)
class Workspace:
    """The folders of one attempt."""

    root: Path
    kept: Path
    """Of this repository, on this worker, for as long as nobody removes it."""

    @property
    def tree(self) -> Path:
        return self.root / "tree"

    @property
    def home(self) -> Path:
        return self.root / "home"

    @property
    def git_home(self) -> Path:
        """HOME of git, which has settings of its own there."""
        return self.root / "git"

    @property
    def scratch(self) -> Path:
        return self.root / "tmp"

    @property
    def inputs(self) -> Path:
        return self.root / "inputs"

    def remove(self) -> None:
        """End what still runs in it, then delete it. What cannot be deleted is left for the next sweep."""
        kill_leftovers(self.root)
        _delete(self.root)


class WorkFolder:
    """The work folder, as one process uses it. Processes on one machine may share a folder."""

    def __init__(self, folder: Path) -> None:
        """Create it if need be, and remove what dead processes left there. Raises OSError."""
        self._folder = folder.resolve()
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._numbers = count(1)
        with self._locked():
            self._sweep()
            # Short names: sockets that a build makes below its tmp folder have at most 107 characters of path.
            self._own = self._folder / f"w-{secrets.token_hex(3)}"
            self._own.mkdir(mode=0o700)
            self._alive = _lock(self._own / _ALIVE, wait=True)

    def open(self, repository: str) -> Workspace:
        """Fresh folders for an attempt on this repository."""
        name = hashlib.sha256(repository.encode()).hexdigest()[:16]
        space = Workspace(root=self._own / str(next(self._numbers)), kept=self._folder / _KEPT / name)
        space.kept.mkdir(parents=True, exist_ok=True)
        space.root.mkdir(mode=0o700)
        for folder in (space.tree, space.home, space.git_home, space.scratch, space.inputs):
            folder.mkdir()
        return space

    def close(self) -> None:
        """Remove the folders of this process."""
        with self._locked():
            os.close(self._alive)
            _delete(self._own)

    def _sweep(self) -> None:
        for folder in self._folder.iterdir():
            if folder.name == _KEPT or not folder.is_dir() or folder.is_symlink():
                continue
            try:
                descriptor = _lock(folder / _ALIVE, wait=False)
            except BlockingIOError:
                continue  # its process lives
            kill_leftovers(folder)
            os.close(descriptor)
            _delete(folder)

    @contextmanager
    def _locked(self) -> Generator[None]:
        descriptor = _lock(self._folder / "lock", wait=True)
        try:
            yield
        finally:
            os.close(descriptor)


def _lock(path: Path, *, wait: bool) -> int:
    """An open, locked file. Commands do not inherit it. Raises BlockingIOError."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _delete(folder: Path) -> None:
    """Links are removed, never followed. Folders that a tool made read-only are opened first."""
    shutil.rmtree(folder, onerror=_delete_read_only)


def _delete_read_only(
    _function: Any, path: str, _error: tuple[type[BaseException], BaseException, TracebackType]
) -> None:
    stubborn = Path(path)
    with suppress(OSError):
        stubborn.parent.chmod(0o700)
        if stubborn.is_dir() and not stubborn.is_symlink():
            stubborn.chmod(0o700)
            shutil.rmtree(stubborn, ignore_errors=True)
        else:
            stubborn.unlink()

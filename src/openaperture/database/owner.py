"""One process per SQLite file (failure model, F51): two would hand out the same messages twice."""

import fcntl
import os
from pathlib import Path

from openaperture.domain.errors import ConfigError


class OwnerLock:
    """A lock on `<file>.lock`, which holds our pid. The kernel frees it however the process ends."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    @classmethod
    def take(cls, database: Path) -> "OwnerLock":
        """Raises ConfigError that names the owner when another process, or this one, has the file open."""
        path = database.with_name(f"{database.name}.lock")
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = os.pread(descriptor, 20, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(descriptor)
            problem = (
                f"{database} is in use by process {pid}, and one process at a time can use it; "
                "stop that one, or use PostgreSQL to run several"
            )
            raise ConfigError([problem]) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        return cls(descriptor)

    def release(self) -> None:
        # The file stays: removing it could remove the lock of one that has just opened it.
        os.ftruncate(self._descriptor, 0)
        os.close(self._descriptor)

"""How many milestones a worker runs at once, shared by all its queues."""

from collections.abc import Callable


class Slots:
    """A slot is taken when a request is received and freed when its run is over, or never began."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.taken = 0
        self.running = 0
        """Those of the taken whose request is acked: the broker does not count them any more."""
        self._watchers: list[Callable[[], None]] = []

    @property
    def free(self) -> int:
        return self.total - self.taken

    def watch(self, changed: Callable[[], None]) -> None:
        """Have `changed` called whenever a slot is taken, begins to run, or is freed."""
        self._watchers.append(changed)

    def take(self) -> None:
        self.taken += 1
        self._tell()

    def begin(self) -> None:
        """A taken slot has begun to run."""
        self.running += 1
        self._tell()

    def release(self, *, began: bool) -> None:
        """Free a slot; `began` says whether it was running."""
        self.taken -= 1
        self.running -= began
        self._tell()

    def _tell(self) -> None:
        for changed in self._watchers:
            changed()

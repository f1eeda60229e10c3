"""The command worker: releases any git repository by what its openaperture.json declares."""

import asyncio
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from openaperture.domain.errors import MilestoneFailed
from openaperture.ports import Broker, Observer
from openaperture.worker.command.addresses import networks
from openaperture.worker.command.artifacts import ArtifactStore
from openaperture.worker.command.environment import passed_to_commands, passed_to_git
from openaperture.worker.command.git import GitLimits
from openaperture.worker.command.release import Site, release
from openaperture.worker.command.workspace import WorkFolder
from openaperture.worker.context import Context
from openaperture.worker.worker import Worker


class CommandWorker:
    """Serves every milestone of its queues."""

    def __init__(
        self,
        broker: Broker,
        *,
        queues: Sequence[str],
        work_dir: Path,
        artifacts_dir: Path,
        slots: int = 1,
        local_repositories: Sequence[Path | str] = (),
        private_networks: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        grace_seconds: float = 10.0,
        observer: Observer | None = None,
    ) -> None:
        """`private_networks`: CIDR ranges of the git servers that are not on the public internet."""
        self._broker = broker
        self._work_dir = work_dir
        self._artifacts = ArtifactStore(artifacts_dir.resolve())
        self._local_repositories = [Path(folder) for folder in local_repositories]
        self._git_limits = GitLimits(private_networks=networks(private_networks))
        self._environment = dict(environment or {})
        self._site: Site | None = None
        self._worker = Worker(queues=queues, slots=slots, grace_seconds=grace_seconds, observer=observer)
        self._worker.every_milestone(self._release)

    async def run(self) -> None:
        """Serve until drained. Folders that dead workers left in the work folder are removed first."""
        folder = await asyncio.to_thread(WorkFolder, self._work_dir)
        try:
            self._site = Site(
                folder=folder,
                artifacts=self._artifacts,
                local_repositories=self._local_repositories,
                environment=self._environment,
                inherited=passed_to_commands(os.environ),
                inherited_by_git=passed_to_git(os.environ),
                git_limits=self._git_limits,
            )
            await self._worker.serve(self._broker)
        finally:
            await asyncio.to_thread(folder.close)

    @property
    def is_draining(self) -> bool:
        return self._worker.is_draining

    async def drain(self) -> None:
        """Take nothing more, end what runs, then let `run` return."""
        await self._worker.drain()

    async def _release(self, context: Context) -> None:
        if self._site is None:
            raise MilestoneFailed("this worker has not started yet")
        await release(context, self._site)

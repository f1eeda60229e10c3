"""One milestone of a repository: clone, read what it declares, run that, collect what it leaves."""

import asyncio
import shlex
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from openaperture.domain.errors import BadManifest, BadReference, MilestoneFailed
from openaperture.domain.messages import Request
from openaperture.domain.milestones import FailureKind, OnLoss
from openaperture.worker.command.artifacts import ArtifactStore, collect, find_artifact
from openaperture.worker.command.environment import Masking, variables_of_inputs, variables_of_locks
from openaperture.worker.command.git import Clone, GitLimits
from openaperture.worker.command.manifest import (
    FILE_NAME,
    MAX_BYTES,
    Manifest,
    Milestone,
    missing_file,
    read_manifest,
)
from openaperture.worker.command.output import BoundedLog
from openaperture.worker.command.process import MARK, Command, FolderLimit, run
from openaperture.worker.command.references import Ref, Repository, parse_commit, parse_ref, parse_repository
from openaperture.worker.command.workspace import WorkFolder, Workspace
from openaperture.worker.context import Context

MAX_WORK_BYTES = 20 * 2**30
FINISHING_SECONDS = 120.0
"""For stopping commands and storing outputs, on top of the timeout that a repository declares."""
SHOWN_COMMAND_CHARS = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """What every attempt on this worker has in common: its folders and its settings."""

    folder: WorkFolder
    artifacts: ArtifactStore
    local_repositories: Sequence[Path] = ()
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    """Variables that the worker's settings give to all commands; they win over a repository's."""
    inherited: Mapping[str, str] = field(default_factory=dict[str, str])
    """Variables of the worker's own environment that commands get."""
    inherited_by_git: Mapping[str, str] = field(default_factory=dict[str, str])
    git_limits: GitLimits = field(default_factory=GitLimits)
    max_work_bytes: int = MAX_WORK_BYTES


async def release(context: Context, site: Site) -> None:
    """Do the milestone of `context`. Raises BadReference, BadManifest, MilestoneFailed.

    Whatever happens, nothing of the attempt runs or lies around afterwards.
    """
    repository, ref = source_of(context.request, site.local_repositories)
    try:
        space = site.folder.open(repository.url)
        try:
            await _Attempt(context=context, site=site, space=space, repository=repository).run(ref)
        finally:
            await asyncio.to_thread(space.remove)
    except OSError as exc:
        raise MilestoneFailed(
            f"the worker cannot use its folders: {exc}; look at its disk and permissions"
        ) from exc


def source_of(request: Request, local_repositories: Sequence[Path]) -> tuple[Repository, Ref]:
    """What to clone: the source repository, or the deployment repository of a workflow without one."""
    if request.source_repo:
        return parse_repository(request.source_repo, local_repositories), parse_ref(request.source_repo_git_ref)
    if request.deployment_repo:
        return parse_repository(request.deployment_repo, local_repositories), parse_ref(
            request.deployment_repo_git_ref
        )
    raise BadReference(
        f"workflow {request.id} names neither a source_repo nor a deployment_repo; start it with one"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Attempt:
    context: Context
    site: Site
    space: Workspace
    repository: Repository

    async def run(self, ref: Ref) -> None:
        loop = asyncio.get_running_loop()
        started = loop.time()
        commit = await self._check_out(ref)
        manifest = await asyncio.to_thread(self._read_manifest)
        self.context.notifications_config = dict(manifest.deployments.notifications) or None
        milestone = manifest.milestone(self.context.milestone)
        self._declare(milestone, loop.time() - started)
        environment = await asyncio.to_thread(self._environment, milestone, commit)
        await self._run_commands(milestone, environment)
        for name, output in milestone.outputs.items():
            text = await asyncio.to_thread(collect, name, output, self.space.tree, self.site.artifacts)
            self.context.outputs[name] = text

    async def _check_out(self, ref: Ref) -> str:
        """An earlier milestone may have resolved the commit: then this one releases the same."""
        known = self.context.request.source_commit_hash
        clone = Clone(
            repository=self.repository,
            space=self.space,
            inherited=self.site.inherited_by_git,
            limits=self.site.git_limits,
        )
        commit = await clone.check_out(ref, parse_commit(known) if known else None, self.context.log)
        self.context.source_commit_hash = commit
        return commit

    def _read_manifest(self) -> Manifest:
        path = self.space.tree / FILE_NAME
        if path.is_symlink():
            raise BadManifest(f"{FILE_NAME} is a symbolic link; put the file itself into the repository")
        try:
            with path.open("rb") as file:
                body = file.read(MAX_BYTES + 1)
        except (FileNotFoundError, IsADirectoryError) as exc:
            raise missing_file(self.context.milestone) from exc
        return read_manifest(body)

    def _declare(self, milestone: Milestone, elapsed_seconds: float) -> None:
        """The orchestrator counts from the claim, a repository from its first command: add what lies between."""
        on_loss = milestone.on_loss if isinstance(milestone.on_loss, OnLoss) else None
        seconds = milestone.timeout_seconds
        if seconds is not None:
            seconds += elapsed_seconds + FINISHING_SECONDS
        if seconds is not None or on_loss is not None:
            self.context.declare(timeout_seconds=seconds, on_loss=on_loss)

    def _environment(self, milestone: Milestone, commit: str) -> dict[str, str]:
        """Later ones win: the machine, the repository, the worker's settings, the workflow."""
        return {
            **self.site.inherited,
            "HOME": str(self.space.home),
            "TMPDIR": str(self.space.scratch),
            **milestone.environment,
            **self.site.environment,
            **variables_of_inputs(self._local_inputs()),
            **variables_of_locks(self.context.locks),
            "OPENAPERTURE_WORKFLOW_ID": self.context.workflow_id,
            "OPENAPERTURE_MILESTONE": self.context.milestone,
            "OPENAPERTURE_COMMIT": commit,
            "OPENAPERTURE_IDEMPOTENCY_KEY": self.context.idempotency_key,
            "OPENAPERTURE_KEPT_DIR": str(self.space.kept),
            MARK: str(self.space.root),
        }

    def _local_inputs(self) -> dict[str, dict[str, str]]:
        """Outputs of earlier milestones, artifacts replaced by the paths of verified copies."""
        local: dict[str, dict[str, str]] = {}
        for milestone, outputs in self.context.inputs.items():
            for name, text in outputs.items():
                if (artifact := find_artifact(text)) is not None:
                    # Numbered, since names from other workers may hold anything.
                    folder = self.space.inputs / str(sum(map(len, local.values())))
                    text = str(self.site.artifacts.fetch(artifact, folder))  # noqa: PLW2901 - its local form
                local.setdefault(milestone, {})[name] = text
        return local

    async def _run_commands(self, milestone: Milestone, environment: Mapping[str, str]) -> None:
        output = BoundedLog(self.context.log)
        masked = Masking(self.site.environment)
        limit = FolderLimit(folder=self.space.root, max_bytes=self.site.max_work_bytes)
        running = ""
        try:
            async with asyncio.timeout(milestone.timeout_seconds):
                for number, command in enumerate(milestone.run, start=1):
                    running = f"command {number} of {len(milestone.run)} ({_shown(command)})"
                    output.add(f"$ {_shown(command)}")
                    self.context.progress((number - 1) / len(milestone.run))
                    order = Command(argv=_argv(command), cwd=self.space.tree, environment=environment)
                    code = await run(order, lambda line: output.add(masked(line)), limit=limit)
                    if code != 0:
                        raise MilestoneFailed(f"{running} {_ending(code)}")
        except TimeoutError as exc:
            raise MilestoneFailed(
                f"{running} was stopped: the milestone's timeout of {milestone.timeout_seconds:g} s was over",
                kind=FailureKind.TIMED_OUT,
            ) from exc
        finally:
            output.close()


def _argv(command: str | list[str]) -> list[str]:
    return ["/bin/sh", "-eu", "-c", command] if isinstance(command, str) else command


def _shown(command: str | list[str]) -> str:
    """On one line, and short. It holds no values of variables: nothing is ever substituted into a command."""
    text = command if isinstance(command, str) else shlex.join(command)
    line = " ".join(text.split())
    return line if len(line) <= SHOWN_COMMAND_CHARS else f"{line[:SHOWN_COMMAND_CHARS]}…"


def _ending(code: int) -> str:
    if code > 0:
        return f"ended with exit code {code}"
    name = f"{-code}"
    with suppress(ValueError):
        name = signal.Signals(-code).name
    return f"was ended by signal {name}"

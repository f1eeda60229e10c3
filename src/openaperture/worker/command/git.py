"""git by subprocess: one commit of one repository into an empty folder. The only file that runs git.

Nothing that a sender chose reaches git before it passed the grammar in `references`, options end before it,
and refspecs are fixed. git has no helpers, hooks, prompts, submodules or settings of anybody, one protocol,
bounded time and bounded space.
"""

import asyncio
import re
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from openaperture.domain.errors import BadReference, MilestoneFailed
from openaperture.worker.command.addresses import Network, checked_addresses, is_literal, is_proxied
from openaperture.worker.command.process import MARK, Command, FolderLimit, run
from openaperture.worker.command.references import Ref, Repository, without_credentials
from openaperture.worker.command.workspace import Workspace

CLONE_SECONDS = 900.0
MAX_CLONE_BYTES = 4 * 2**30
ERROR_LINES = 6
ERROR_CHARS = 800
SSH = "ssh -o BatchMode=yes -o StrictHostKeyChecking=yes -o ClearAllForwardings=yes -o ConnectTimeout=20"
"""Hosts that the worker's user does not know yet are refused, not asked about."""

_SETTINGS = (
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.askPass=",
    "core.protectHFS=true",
    "core.protectNTFS=true",
    "credential.helper=",
    "submodule.recurse=false",
    "fetch.recurseSubmodules=false",
    "gc.auto=0",
    "maintenance.auto=false",
    "advice.detachedHead=false",
    "http.followRedirects=false",  # a redirect would lead past the check of the address
    "http.lowSpeedLimit=1000",
    "http.lowSpeedTime=60",
    "protocol.allow=never",
)
_TARGET = "refs/openaperture/target"
_EVERYTHING = ("+refs/heads/*:refs/remotes/origin/*", "+refs/tags/*:refs/tags/*")
_HASH = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


class GitFailed(MilestoneFailed):
    """git ended with an error. The text holds its last lines, without credentials."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GitLimits:
    """What one clone may take."""

    seconds: float = CLONE_SECONDS
    bytes_on_disk: int = MAX_CLONE_BYTES
    private_networks: tuple[Network, ...] = ()
    """Where repositories may lie beside the public internet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Clone:
    """An order: this repository into the tree of a workspace."""

    repository: Repository
    space: Workspace
    inherited: Mapping[str, str]
    """What git gets of the worker's environment."""
    limits: GitLimits = field(default_factory=GitLimits)

    async def check_out(self, ref: Ref, commit: str | None, log: Callable[[str], None]) -> str:
        """Check out `commit`, or what `ref` means now, and return the commit.

        Raises BadReference (no such ref or commit), MilestoneFailed (git failed, or took too much).
        """
        try:
            async with asyncio.timeout(self.limits.seconds):
                git = await self._prepare()
                return await git.check_out(ref, commit or ref.commit, log)
        except TimeoutError as exc:
            raise MilestoneFailed(
                f"git did not get {self.repository.url} within {self.limits.seconds:.0f} s; try again, or look at "
                "its server"
            ) from exc

    async def _prepare(self) -> "_Git":
        settings = [*_SETTINGS, f"protocol.{self.repository.transport}.allow=always"]
        if self.repository.transport != "file":
            settings += ["protocol.file.allow=never", *await self._pinned()]
        config = self.space.git_home / "config"
        await asyncio.to_thread(config.write_text, self._configuration(), encoding="utf-8")
        return _Git(
            repository=self.repository,
            tree=self.space.tree,
            options=tuple(part for setting in settings for part in ("-c", setting)),
            environment=self._environment(config),
            limit=FolderLimit(folder=self.space.tree, max_bytes=self.limits.bytes_on_disk),
        )

    async def _pinned(self) -> list[str]:
        """Check the host's addresses; https connects to the checked ones, whatever the name means by then."""
        host = self.repository.host or ""
        literal = is_literal(host)
        proxied = self.repository.transport == "https" and is_proxied(host, self.inherited)
        if proxied and not literal:
            return []
        port = self.repository.port or (443 if self.repository.transport == "https" else 22)
        addresses = await checked_addresses(host, port, self.limits.private_networks)
        if literal or self.repository.transport != "https":
            return []  # ssh is bound to the host keys that the worker's user knows
        return [f"http.curloptResolve={host}:{port}:{','.join(map(_bracketed, addresses))}"]

    def _configuration(self) -> str:
        """git refuses repositories of other users; the one that the settings allow is named as an exception."""
        if self.repository.transport != "file":
            return ""
        quoted = self.repository.url.replace("\\", "\\\\").replace('"', '\\"')
        return f'[safe]\n\tdirectory = "{quoted}"\n\tdirectory = "{quoted}/.git"\n'

    def _environment(self, config: Path) -> dict[str, str]:
        return {
            **self.inherited,
            "HOME": str(self.space.git_home),
            "XDG_CONFIG_HOME": str(self.space.git_home),
            MARK: str(self.space.root),
            "LC_ALL": "C",
            "GIT_ALLOW_PROTOCOL": self.repository.transport,
            "GIT_ASKPASS": "false",
            "GIT_ATTR_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": str(config),
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_SSH_COMMAND": SSH,
            "GIT_SSH_VARIANT": "ssh",
            "GIT_TERMINAL_PROMPT": "0",
            "SSH_ASKPASS_REQUIRE": "never",
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class _Git:
    """git with its options, environment and limits."""

    repository: Repository
    tree: Path
    options: tuple[str, ...]
    environment: Mapping[str, str]
    limit: FolderLimit

    async def check_out(self, ref: Ref, commit: str | None, log: Callable[[str], None]) -> str:
        url = self.repository.url
        if commit is not None:
            log(f"fetching {url} at {commit}")
            await self._init(commit)
            await self._fetch_commit(commit, log)
        else:
            name, advertised = await self._resolve(ref)
            log(f"fetching {url} at {name}")
            await self._init(advertised)
            await self._fetch("--depth=1", f"+{name}:{_TARGET}")
            # Not the advertised one: the ref may have moved since, and this is the one that is here.
            commit = await self._commit_of(_TARGET)
        await self._run("checkout", "--quiet", "--detach", "--force", commit)
        log(f"checked out {commit}")
        return commit

    async def _resolve(self, ref: Ref) -> tuple[str, str]:
        """(full name, hash) of the first candidate that the repository has."""
        lines = await self._run("ls-remote", "--quiet", "--", self.repository.url, *ref.candidates)
        pairs = [line.split("\t", 1) for line in lines if "\t" in line]
        found = {name: value for value, name in pairs if _HASH.fullmatch(value)}
        for name in ref.candidates:
            if name in found:
                return name, found[name]
        if ref.text == "HEAD":
            raise BadReference(f"the repository {self.repository.url} has no default branch, or no commit yet")
        raise BadReference(f'"{ref.text}" is neither a branch nor a tag of {self.repository.url}')

    async def _init(self, example: str) -> None:
        """Hashes of 64 digits need a repository of the same kind."""
        kind = "sha256" if len(example) == 64 else "sha1"
        await self._run(
            "init",
            "--quiet",
            "--template=",
            "--initial-branch=main",
            f"--object-format={kind}",
            "--",
            str(self.tree),
        )

    async def _fetch_commit(self, commit: str, log: Callable[[str], None]) -> None:
        try:
            await self._fetch("--depth=1", f"+{commit}:{_TARGET}")
        except GitFailed:
            # Some servers give only what a branch or tag points to. Then history is the way.
            log("the server does not give single commits; fetching all branches and tags")
            await self._fetch("--tags", *_EVERYTHING)
        try:
            found = await self._commit_of(commit)
        except GitFailed:
            found = None
        if found != commit:
            raise BadReference(f"the repository {self.repository.url} has no commit {commit}")

    async def _fetch(self, option: str, *refspecs: str) -> None:
        fixed = ("fetch", "--quiet", "--no-write-fetch-head", "--no-recurse-submodules", "--force")
        tags = () if option == "--tags" else ("--no-tags",)
        await self._run(*fixed, *tags, option, "--", self.repository.url, *refspecs)

    async def _commit_of(self, name: str) -> str:
        lines = await self._run("rev-parse", "--verify", "--quiet", f"{name}^{{commit}}")
        if not lines or not _HASH.fullmatch(lines[-1]):
            raise GitFailed(f"git does not know the commit of {name}")
        return lines[-1]

    async def _run(self, *arguments: str) -> list[str]:
        """The last lines of what git said. Raises GitFailed."""
        lines: deque[str] = deque(maxlen=1_000)
        command = Command(argv=["git", *self.options, *arguments], cwd=self.tree, environment=self.environment)
        code = await run(command, lines.append, limit=self.limit)
        if code != 0:
            told = [line.strip() for line in lines if line.strip()]
            said = without_credentials("; ".join(told[-ERROR_LINES:]))[:ERROR_CHARS]
            raise GitFailed(f"git {arguments[0]} of {self.repository.url} failed: {said or f'exit code {code}'}")
        return list(lines)


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address

"""Which repositories and refs we take: an allow-list grammar, applied before git sees a character of them.

Git reads options out of anything that starts with a dash, runs commands for `ext::` addresses, and reads any
path that its user can read. So nothing is quoted or escaped here: what does not fit the grammar is refused.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from openaperture.domain.errors import BadReference

_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,62})(?<!-)"
_HOST = rf"(?P<host>{_LABEL}(?:\.{_LABEL})*|\[[0-9A-Fa-f:.]+\])"
_PORT = r"(?::(?P<port>[0-9]{1,5}))?"
_USER = r"(?P<user>[A-Za-z_][A-Za-z0-9._-]{0,63})"
_PATH = r"(?P<path>[A-Za-z0-9_~](?:[A-Za-z0-9._~+/-]|%[0-9A-Fa-f]{2})*)"

_HTTPS = re.compile(rf"https://{_HOST}{_PORT}/{_PATH}", re.ASCII)
_SSH = re.compile(rf"ssh://(?:{_USER}@)?{_HOST}{_PORT}/{_PATH}", re.ASCII)
_SCP = re.compile(rf"{_USER}@{_HOST}:/?{_PATH}", re.ASCII)
_GITHUB = re.compile(
    r"(?P<owner>[A-Za-z0-9][A-Za-z0-9-]{0,38})/(?P<name>[A-Za-z0-9_][A-Za-z0-9._-]{0,99})", re.ASCII
)
_REF = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,254}", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}", re.ASCII)
_USERINFO = re.compile(r"(?<=://)[^/@\s]*@")

MAX_REPOSITORY_CHARS = 2_048
ACCEPTED = (
    "https://host/path, ssh://user@host/path, git@host:path, owner/name (on GitHub), "
    "or the absolute path of a folder that the worker's local_repositories allow"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Repository:
    """A repository that passed the grammar, as git is to be told of it."""

    url: str
    transport: str
    """`https`, `ssh` or `file`: the only protocol that git may use for it."""
    host: str | None = None
    port: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ref:
    """What to check out: a commit, or the first of `candidates` that the repository has."""

    text: str
    candidates: tuple[str, ...] = ()
    commit: str | None = None


def parse_repository(text: str, local_repositories: Sequence[Path] = ()) -> Repository:
    """Raises BadReference, with a text that never repeats a password."""
    if len(text) > MAX_REPOSITORY_CHARS or not text.isprintable():
        raise BadReference(f"a repository has at most {MAX_REPOSITORY_CHARS} printable characters")
    if text.startswith("/"):
        return _local(text, local_repositories)
    if match := _HTTPS.fullmatch(text):
        return _remote(text, "https", match)
    if match := _SSH.fullmatch(text) or _SCP.fullmatch(text):
        return _remote(text, "ssh", match)
    if match := _GITHUB.fullmatch(text):
        name = match["name"].removesuffix(".git")
        return Repository(
            url=f"https://github.com/{match['owner']}/{name}.git", transport="https", host="github.com"
        )
    raise BadReference(f"the repository {shown(text)} is refused: {_reason(text)}")


def parse_ref(text: str | None) -> Ref:
    """A branch, a tag, a full commit hash; nothing and `HEAD` mean the default branch. Raises BadReference."""
    if not text or text == "HEAD":
        return Ref(text="HEAD", candidates=("HEAD",))
    if _COMMIT.fullmatch(text.lower()):
        return Ref(text=text, commit=text.lower())
    if not _REF.fullmatch(text) or ".." in text or any(_is_bad_part(part) for part in text.split("/")):
        raise BadReference(
            f"the ref {shown(text)} is refused: write a branch, a tag or a full commit hash, in letters, digits "
            "and . _ / - that start with a letter or digit"
        )
    if text.startswith(("refs/heads/", "refs/tags/")):
        return Ref(text=text, candidates=(text,))
    return Ref(text=text, candidates=(f"refs/heads/{text}", f"refs/tags/{text}"))


def parse_commit(text: str) -> str:
    """A full hash. Raises BadReference: a short one may mean another commit tomorrow."""
    if not _COMMIT.fullmatch(text.lower()):
        raise BadReference(
            f"the commit {shown(text)} is refused: write all 40 (or 64) hexadecimal digits of its hash"
        )
    return text.lower()


def without_credentials(text: str) -> str:
    """The same text with whatever stands before the @ of a URL masked."""
    return _USERINFO.sub("***@", text)


def shown(text: str) -> str:
    """A refused value as an error may repeat it: credentials masked, one line, short."""
    masked = ascii(without_credentials(text))
    return masked if len(masked) <= 120 else f"{masked[:120]}…"


def _is_bad_part(part: str) -> bool:
    return not part or part.startswith((".", "-")) or part.endswith((".", ".lock"))


def _remote(text: str, transport: str, match: re.Match[str]) -> Repository:
    groups = match.groupdict()
    parts = groups["path"].rstrip("/").split("/")
    if any(part in {"", ".", ".."} or part.startswith("-") for part in parts) or "%2e" in text.lower():
        raise BadReference(f"the repository {shown(text)} is refused: its path has empty, dotted or dashed parts")
    port = int(groups["port"]) if groups.get("port") else None
    if port is not None and not 0 < port < 65_536:
        raise BadReference(f"the repository {shown(text)} is refused: {port} is no port")
    return Repository(url=text, transport=transport, host=groups["host"].strip("[]"), port=port)


def _local(text: str, allowed: Sequence[Path]) -> Repository:
    # Resolved first: a symlink inside an allowed folder must not lead out of it.
    path = Path(text).resolve()
    if not any(path.is_relative_to(folder.resolve()) for folder in allowed):
        raise BadReference(
            f"the repository {shown(text)} is refused: this worker takes local repositories only below the "
            "folders of its setting worker.local_repositories; add one that contains it, or give its https or "
            "ssh address"
        )
    if not path.is_dir():
        raise BadReference(f"the repository {shown(text)} is no folder on this worker's machine")
    return Repository(url=str(path), transport="file")


def _reason(text: str) -> str:
    if text != without_credentials(text) and not text.startswith("ssh://"):
        return "credentials do not belong into an address, where logs and process lists show them; use an ssh key"
    if re.match(r"ssh://[^/@]*:[^/@]*@", text):
        return "a password does not belong into an address; use an ssh key"
    if text.startswith("http://"):
        return "plain http can be tampered with on its way; write https://"
    if text.startswith("file:"):
        return "a local repository is given by its absolute path"
    return f"write {ACCEPTED}"

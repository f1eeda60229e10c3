"""What a person names as a repository, as the workflow names it.

A path becomes the absolute path of the git repository that it lies in, and, without a ref, the full hash of
its current commit: what is released is what was there when it was asked for. Anything else is a URL or the
shorthand `owner/name`, and is passed on; the worker judges it.
"""

import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from openaperture.cli.untrusted import one_line
from openaperture.domain.errors import BadReference

GIT_TIMEOUT_SECONDS = 30.0

_SCP_FORM = re.compile(r"^[^/\\:]+@[^/\\:]+:")
_SHORTHAND = re.compile(r"^[^/\\\s]+/[^/\\\s]+$")
_FULL_HASH = re.compile(r"^[0-9a-f]{40}(?:[0-9a-f]{24})?$")
# The repository is the user's own, and still nothing in its configuration may run: a look is no release.
_GIT = ("git", "-c", "core.fsmonitor=", "-c", "core.hooksPath=/dev/null")


@dataclass(frozen=True, slots=True, kw_only=True)
class Repository:
    """A repository and ref for the workflow, and what the user should know about them."""

    url: str
    ref: str | None
    notes: tuple[str, ...] = ()


def find_repository(named: str, ref: str | None) -> Repository:
    """Raises BadReference, which says what to write instead."""
    if not named.strip():
        raise BadReference('the repository is empty; name a folder such as ".", a URL, or owner/name')
    if "://" in named and urlsplit(named).password:
        raise BadReference("the repository's URL holds a password, which everybody would see; name it without one")
    if _is_remote(named):
        return Repository(url=named, ref=ref)
    return _local(Path(named).expanduser(), ref)


def _is_remote(named: str) -> bool:
    if "://" in named or _SCP_FORM.match(named):
        return True
    looks_like_path = named.startswith((".", "/", "~")) or Path(named).is_dir()
    return not looks_like_path and _SHORTHAND.match(named) is not None


def _local(folder: Path, ref: str | None) -> Repository:
    if not folder.is_dir():
        raise BadReference(f'there is no folder "{folder}"; name a git repository on this machine, or a URL')
    top = _top_of(folder)
    commit = _commit_of(top, "HEAD" if ref is None else ref)
    if commit is None and ref is None:
        raise BadReference(f"the repository {top} has no commit yet; commit something to release")
    if commit is None:
        raise BadReference(f'{top} has no branch, tag or commit "{ref}"; "git branch -a" lists its branches')
    kept = ref if ref is not None and _is_name(top, ref) else commit
    return Repository(url=str(top), ref=kept, notes=_notes(top, ref))


def _top_of(folder: Path) -> Path:
    """The work tree that the folder lies in, or the folder of a bare repository."""
    bare = _git(folder, "rev-parse", "--is-bare-repository")
    if bare.returncode != 0:
        why = one_line(bare.stderr.removeprefix("fatal: ").splitlines()[0]) if bare.stderr else "git said no more"
        raise BadReference(
            f"{folder.resolve()} is not in a git repository that can be read ({why}); "
            "name one, or a URL such as https://github.com/owner/name"
        )
    question = "--absolute-git-dir" if bare.stdout.strip() == "true" else "--show-toplevel"
    return Path(_git(folder, "rev-parse", question).stdout.removesuffix("\n")).resolve()


def _commit_of(top: Path, ref: str) -> str | None:
    answer = _git(top, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}")
    # git 2.39 repeats --end-of-options before the answer.
    lines = answer.stdout.split()
    return lines[-1] if answer.returncode == 0 and lines and _FULL_HASH.match(lines[-1]) else None


def _is_name(top: Path, ref: str) -> bool:
    """Whether it is the short name of a branch or a tag, which the worker finds too. `HEAD~1` is not."""
    full_names = (f"refs/heads/{ref}", f"refs/tags/{ref}")
    return any(_git(top, "show-ref", "--verify", "--quiet", "--", name).returncode == 0 for name in full_names)


def _notes(top: Path, ref: str | None) -> tuple[str, ...]:
    if ref is not None:
        return ()
    changed = [line for line in _git(top, "status", "--porcelain").stdout.splitlines() if line]
    if not changed:
        return ()
    files = "1 file has" if len(changed) == 1 else f"{len(changed)} files have"
    return (f"{files} uncommitted changes in {top}; they are not part of this release",)


def _git(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    # A caller's GIT_DIR (a hook has one) would answer for another repository than the one that is named.
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    environment = {**inherited, "GIT_TERMINAL_PROMPT": "0", "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"}
    try:
        return subprocess.run(
            [*_GIT, *arguments],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            text=True,
            errors="replace",
            timeout=GIT_TIMEOUT_SECONDS,
        )
    except FileNotFoundError as exc:
        raise BadReference("git is not installed or not on the PATH; install it to release a folder") from exc
    except subprocess.TimeoutExpired as exc:
        raise BadReference(
            f"git did not answer about {folder} within {GIT_TIMEOUT_SECONDS:.0f} s; try it by hand"
        ) from exc

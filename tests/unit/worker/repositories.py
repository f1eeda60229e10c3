"""Real git repositories for tests, made by the real git."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

_ENVIRONMENT = {
    "PATH": os.environ["PATH"],
    "HOME": "/nonexistent",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_AUTHOR_NAME": "Ada",
    "GIT_AUTHOR_EMAIL": "ada@example.com",
    "GIT_COMMITTER_NAME": "Ada",
    "GIT_COMMITTER_EMAIL": "ada@example.com",
}


def git(folder: Path, *arguments: str) -> str:
    """Run git in a folder; return what it printed."""
    done = subprocess.run(
        ["git", "-C", str(folder), *arguments], env=_ENVIRONMENT, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def make_repository(folder: Path, files: dict[str, str] | None = None, *, kind: str = "sha1") -> Path:
    """A repository with one commit on main."""
    folder.mkdir(parents=True)
    git(folder, "init", "--quiet", "--initial-branch=main", f"--object-format={kind}")
    commit(folder, files or {"README": "hello\n"})
    return folder


def make_release(folder: Path, milestones: dict[str, Any], files: dict[str, str] | None = None) -> Path:
    """A repository whose openaperture.json declares these milestones."""
    return make_repository(folder, {"openaperture.json": json.dumps({"milestones": milestones}), **(files or {})})


def commit(folder: Path, files: dict[str, str], message: str = "change") -> str:
    """Write the files and commit them; return the commit."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    git(folder, "add", "--all", "--force")
    git(folder, "commit", "--quiet", "--allow-empty", f"--message={message}")
    return git(folder, "rev-parse", "HEAD")

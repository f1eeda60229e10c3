"""Files that one milestone leaves for a later one, perhaps on another worker that shares the folder.

    <artifacts folder>/sha256/<digest>/<file name>

The digest is the address: what travels with the workflow is `artifact:sha256:<digest>/<file name>`, and a file
that does not have its digest any more is refused. A file is complete before it gets its name.
"""

import hashlib
import os
import re
import secrets
import stat
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from openaperture.domain.errors import MilestoneFailed
from openaperture.worker.command.manifest import Output

MAX_ARTIFACT_BYTES = 4 * 2**30
MAX_TEXT_CHARACTERS = 4_096
PIECE_BYTES = 1_048_576

_REFERENCE = re.compile(r"artifact:sha256:(?P<digest>[0-9a-f]{64})/(?P<name>[A-Za-z0-9_][A-Za-z0-9._+-]{0,199})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """The address of a stored file. Its text form is what an output holds."""

    digest: str
    name: str

    def __str__(self) -> str:
        return f"artifact:sha256:{self.digest}/{self.name}"


def find_artifact(text: str) -> Artifact | None:
    """The artifact that an output names, or None for an output that is plain text."""
    match = _REFERENCE.fullmatch(text)
    return Artifact(digest=match["digest"], name=match["name"]) if match else None


def collect(name: str, output: Output, tree: Path, store: "ArtifactStore") -> str:
    """The text of one declared output, its file stored. Raises MilestoneFailed."""
    if isinstance(output.file, str):
        path = _only_match(name, output.file, tree)
        with _open_inside(path, tree, name) as file:
            return str(store.save(file, path.name))
    if isinstance(output.text, str):
        return _text_of(name, output.text, tree)
    raise AssertionError("the schema refuses an output that is neither")


class ArtifactStore:
    """A folder of files by digest. Several processes may use it at once."""

    def __init__(self, folder: Path, *, max_bytes: int = MAX_ARTIFACT_BYTES) -> None:
        self._folder = folder
        self._max_bytes = max_bytes

    def save(self, source: BinaryIO, name: str) -> Artifact:
        """Store what `source` holds. Storing the same again changes nothing."""
        self._folder.mkdir(parents=True, exist_ok=True)
        waiting = self._folder / f".saving-{secrets.token_hex(8)}"
        try:
            with waiting.open("xb") as target:
                digest = _copy(source, target, self._max_bytes, f"the output {name}")
                target.flush()
                os.fsync(target.fileno())
            artifact = Artifact(digest=digest, name=_plain_name(name))
            self._publish(waiting, self._path(artifact))
        finally:
            waiting.unlink(missing_ok=True)
        return artifact

    def fetch(self, artifact: Artifact, folder: Path) -> Path:
        """A private copy in `folder`, verified while copying. Raises MilestoneFailed."""
        source = self._path(artifact)
        folder.mkdir(parents=True, exist_ok=True)
        copy = folder / artifact.name
        try:
            with source.open("rb") as stored, copy.open("xb") as target:
                digest = _copy(stored, target, self._max_bytes, str(artifact))
        except FileNotFoundError as exc:
            raise MilestoneFailed(
                f"the artifact {artifact} is not in {self._folder}: let the workers of both milestones share one "
                "artifacts folder, or run the milestone again that made it"
            ) from exc
        if digest != artifact.digest:
            copy.unlink()
            raise MilestoneFailed(
                f"the artifact {artifact} was changed after it was made: {source} now has the digest {digest}; "
                "find out who wrote to it, remove it, and run the milestone again that made it"
            )
        return copy

    def _path(self, artifact: Artifact) -> Path:
        return self._folder / "sha256" / artifact.digest / artifact.name

    def _publish(self, waiting: Path, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        waiting.chmod(0o644)
        # Replaces: a copy that somebody tampered with is healed by whoever makes the artifact again.
        waiting.replace(target)
        for folder in (target.parent, target.parent.parent, self._folder):
            _sync_folder(folder)


def _copy(source: BinaryIO, target: BinaryIO, max_bytes: int, what: str) -> str:
    """Copy all and return the SHA-256 of what was copied."""
    digest = hashlib.sha256()
    size = 0
    while piece := source.read(PIECE_BYTES):
        size += len(piece)
        if size > max_bytes:
            raise MilestoneFailed(f"{what} is larger than {max_bytes // 2**20} MiB, the limit for an artifact")
        digest.update(piece)
        target.write(piece)
    return digest.hexdigest()


def _sync_folder(folder: Path) -> None:
    """Make a rename durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _plain_name(name: str) -> str:
    """Letters, digits and . _ + - only, and nothing hidden."""
    plain = re.sub(r"[^A-Za-z0-9._+-]", "_", name)[-200:]
    return plain if re.match(r"[A-Za-z0-9_]", plain) else f"_{plain[1:]}"


def _only_match(name: str, pattern: str, tree: Path) -> Path:
    # Hidden from the pattern: what git keeps there is no product of the milestone.
    matches = [path for path in _matches(pattern, tree) if path.relative_to(tree).parts[0] != ".git"]
    if len(matches) == 1:
        return matches[0]
    found = ", ".join(sorted(str(path.relative_to(tree)) for path in matches[:5]))
    told = f"{len(matches)} files match ({found})" if matches else "no file matches"
    raise MilestoneFailed(f'output "{name}": {told} "{pattern}"; exactly one must')


def _matches(pattern: str, tree: Path) -> list[Path]:
    try:
        return [path for path in tree.glob(pattern) if path.is_symlink() or path.is_file()]
    except (ValueError, NotImplementedError) as exc:
        raise MilestoneFailed(f'"{pattern}" is no pattern for files: {exc}') from exc


@contextmanager
def _open_inside(path: Path, tree: Path, name: str) -> Generator[BinaryIO]:
    """Open a regular file below `tree`. A link, or a way through one that leads out, is refused."""
    place = path.relative_to(tree)
    if not path.resolve().is_relative_to(tree.resolve()):
        raise MilestoneFailed(f'output "{name}": {place} leads out of the work folder')
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as exc:
        why = "it is a symbolic link" if path.is_symlink() else exc.strerror
        raise MilestoneFailed(f'output "{name}": {place} cannot be read: {why}') from exc
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise MilestoneFailed(f'output "{name}": {place} is no regular file')
        yield file


def _text_of(name: str, place: str, tree: Path) -> str:
    with _open_inside(tree / place, tree, name) as file:
        body = file.read(4 * MAX_TEXT_CHARACTERS + 3)
    with suppress(UnicodeDecodeError):
        text = body.decode("utf-8").removesuffix("\n").removesuffix("\r")
        if len(text) <= MAX_TEXT_CHARACTERS and "\x00" not in text:
            return text
    raise MilestoneFailed(
        f'output "{name}": {place} is not UTF-8 text of at most {MAX_TEXT_CHARACTERS} characters; '
        'a file is declared by "file"'
    )

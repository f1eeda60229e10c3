"""A file that one milestone leaves reaches the next one unchanged, or not at all."""

import os
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from openaperture.domain.errors import MilestoneFailed
from openaperture.worker.command.artifacts import Artifact, ArtifactStore, collect, find_artifact
from openaperture.worker.command.manifest import Output


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    folder = tmp_path / "tree"
    (folder / "dist").mkdir(parents=True)
    (folder / "dist" / "shop-1.whl").write_bytes(b"wheel")
    (folder / "version.txt").write_text("1.2.3\n")
    return folder


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path / "artifacts")


def _output(**fields: Any) -> Output:
    return msgspec.convert(fields, Output)


def _stored(tmp_path: Path, artifact: Artifact) -> Path:
    return tmp_path / "artifacts" / "sha256" / artifact.digest / artifact.name


def _wheel(tree: Path, store: ArtifactStore) -> Artifact:
    artifact = find_artifact(collect("wheel", _output(file="dist/*.whl"), tree, store))
    assert artifact is not None
    return artifact


def test_a_file_is_stored_under_its_digest_and_fetched_as_it_was(
    tree: Path, store: ArtifactStore, tmp_path: Path
) -> None:
    artifact = _wheel(tree, store)
    assert re.fullmatch(r"artifact:sha256:[0-9a-f]{64}/shop-1\.whl", str(artifact))
    copy = store.fetch(artifact, tmp_path / "inputs")
    assert copy == tmp_path / "inputs" / "shop-1.whl"
    assert copy.read_bytes() == b"wheel"


def test_storing_the_same_file_again_changes_nothing_and_leaves_nothing(
    tree: Path, store: ArtifactStore, tmp_path: Path
) -> None:
    assert _wheel(tree, store) == _wheel(tree, store)
    files = [path for path in (tmp_path / "artifacts").rglob("*") if path.is_file()]
    assert [path.name for path in files] == ["shop-1.whl"]


def test_a_change_to_the_copy_does_not_reach_the_store(tree: Path, store: ArtifactStore, tmp_path: Path) -> None:
    artifact = _wheel(tree, store)
    store.fetch(artifact, tmp_path / "one").write_bytes(b"changed")
    assert store.fetch(artifact, tmp_path / "two").read_bytes() == b"wheel"


def test_a_file_that_was_tampered_with_is_refused(tree: Path, store: ArtifactStore, tmp_path: Path) -> None:
    artifact = _wheel(tree, store)
    stored = _stored(tmp_path, artifact)
    stored.write_bytes(b"whee1")
    with pytest.raises(MilestoneFailed, match="was changed") as caught:
        store.fetch(artifact, tmp_path / "inputs")
    assert str(artifact) in str(caught.value)
    assert str(stored) in str(caught.value)
    assert list((tmp_path / "inputs").iterdir()) == []
    # Made again, it is whole again.
    assert store.fetch(_wheel(tree, store), tmp_path / "inputs").read_bytes() == b"wheel"


def test_a_file_that_is_missing_is_named_with_its_folder(tree: Path, store: ArtifactStore, tmp_path: Path) -> None:
    artifact = _wheel(tree, store)
    _stored(tmp_path, artifact).unlink()
    with pytest.raises(MilestoneFailed, match="share one artifacts folder") as caught:
        store.fetch(artifact, tmp_path / "inputs")
    assert str(tmp_path / "artifacts") in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "1.2.3",
        "",
        "artifact:sha256:" + "a" * 63 + "/x",
        "artifact:sha256:" + "A" * 64 + "/x",
        "artifact:sha256:" + "a" * 64 + "/",
        "artifact:sha256:" + "a" * 64 + "/../x",
        "artifact:sha256:" + "a" * 64 + "/..",
        "artifact:sha256:" + "a" * 64 + "/a/b",
        "artifact:sha256:" + "a" * 64 + "/x\n",
        "artifact:sha256:../../../etc/passwd",
    ],
)
def test_other_text_is_no_artifact(text: str) -> None:
    assert find_artifact(text) is None


def test_exactly_one_file_must_match(tree: Path, store: ArtifactStore) -> None:
    with pytest.raises(MilestoneFailed, match=r'output "wheel": no file matches "dist/\*\.zip"'):
        collect("wheel", _output(file="dist/*.zip"), tree, store)
    (tree / "dist" / "shop-2.whl").write_bytes(b"wheel")
    with pytest.raises(MilestoneFailed, match=r"2 files match \(dist/shop-1\.whl, dist/shop-2\.whl\)"):
        _wheel(tree, store)


def test_a_folder_is_no_file(tree: Path, store: ArtifactStore) -> None:
    with pytest.raises(MilestoneFailed, match="no file matches"):
        collect("wheel", _output(file="dist"), tree, store)


def test_what_git_keeps_is_no_output(tree: Path, store: ArtifactStore) -> None:
    (tree / ".git").mkdir()
    (tree / ".git" / "config").write_text("x")
    with pytest.raises(MilestoneFailed, match="no file matches"):
        collect("x", _output(file=".git/config"), tree, store)


@pytest.mark.parametrize("kind", ["file", "text"])
def test_a_link_is_no_output(kind: str, tree: Path, store: ArtifactStore, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    (tree / "link").symlink_to(tmp_path / "secret")
    (tree / "inner").symlink_to(tree / "version.txt")
    (tree / "way").symlink_to(tmp_path)
    for place in ("link", "inner", "way/secret"):
        with pytest.raises(MilestoneFailed, match=r"leads out|symbolic link"):
            collect("x", _output(**{kind: place}), tree, store)


def test_a_pipe_is_no_output_and_is_not_waited_for(tree: Path, store: ArtifactStore) -> None:
    os.mkfifo(tree / "pipe")
    with pytest.raises(MilestoneFailed, match="no regular file"):
        collect("x", _output(text="pipe"), tree, store)
    with pytest.raises(MilestoneFailed):
        collect("x", _output(file="pipe"), tree, store)


def test_a_file_that_is_too_large_is_refused_and_not_kept(tree: Path, tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path / "artifacts", max_bytes=4)
    with pytest.raises(MilestoneFailed, match="larger than"):
        _wheel(tree, store)
    assert not [path for path in (tmp_path / "artifacts").rglob("*") if path.is_file()]


@pytest.mark.parametrize("name", ["ünïcode name.whl", "-rf.whl", ".hidden", "a;b$(id)", "x" * 240, "…"])
def test_a_strange_file_name_becomes_a_plain_one(
    name: str, tree: Path, store: ArtifactStore, tmp_path: Path
) -> None:
    (tree / "strange").mkdir()
    (tree / "strange" / name).write_bytes(b"x")
    artifact = find_artifact(collect("x", _output(file="strange/*"), tree, store))
    assert artifact is not None
    assert re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._+-]{0,199}", artifact.name)
    assert store.fetch(artifact, tmp_path / "inputs").read_bytes() == b"x"


def test_the_text_of_a_file_is_an_output_without_its_last_newline(tree: Path, store: ArtifactStore) -> None:
    assert collect("version", _output(text="version.txt"), tree, store) == "1.2.3"


@pytest.mark.parametrize("body", [b"x" * 4097, b"\xff\xfe", b"a\x00b"])
def test_other_content_is_no_text(body: bytes, tree: Path, store: ArtifactStore) -> None:
    (tree / "version.txt").write_bytes(body)
    with pytest.raises(MilestoneFailed, match="not UTF-8 text of at most 4096 characters"):
        collect("version", _output(text="version.txt"), tree, store)


def test_a_text_that_is_missing_is_named(tree: Path, store: ArtifactStore) -> None:
    with pytest.raises(MilestoneFailed, match=r'output "version": no\.txt cannot be read: No such file'):
        collect("version", _output(text="no.txt"), tree, store)

"""What a person names, and what the workflow then releases."""

import subprocess
from pathlib import Path

import pytest

from openaperture.cli.repository import find_repository
from openaperture.domain.errors import BadReference


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "a product"
    folder.mkdir()
    git(folder, "init", "-q", "-b", "main")
    commit(folder, "one")
    commit(folder, "two")
    git(folder, "tag", "v1")
    git(folder, "branch", "feature/login")
    return folder


def git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=test", "-c", "user.email=test@example.test")
    command = ["git", *identity, *arguments]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


def commit(folder: Path, text: str) -> None:
    (folder / "README").write_text(text)
    git(folder, "add", ".")
    git(folder, "commit", "-qm", text)


def test_a_url_with_a_password_is_refused_without_showing_it() -> None:
    with pytest.raises(BadReference, match="holds a password") as caught:
        find_repository("https://ann:s3cret-canary@example.test/shop", None)
    assert "s3cret-canary" not in str(caught.value)


@pytest.mark.parametrize("named", ["nowhere", "--upload-pack=touch x", "a b/c", "a/b/c"])
def test_what_is_neither_a_folder_nor_an_address_is_refused_at_once(
    named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadReference, match="there is no folder"):
        find_repository(named, None)


@pytest.mark.parametrize(
    "named",
    [
        "https://github.com/acme/shop",
        "ssh://git@example.test/shop.git",
        "git@github.com:acme/shop.git",
        "acme/shop",
        "file:///etc",
    ],
)
def test_what_is_no_folder_is_passed_on_for_the_worker_to_judge(
    named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = find_repository(named, None)
    assert (found.url, found.ref, found.notes) == (named, None, ())


def test_a_folder_becomes_its_repository_at_its_current_commit(repository: Path) -> None:
    inner = repository / "src" / "deep"
    inner.mkdir(parents=True)
    found = find_repository(str(inner), None)
    assert found.url == str(repository)
    assert found.ref == git(repository, "rev-parse", "HEAD")
    assert found.notes == ()


@pytest.mark.parametrize("named", [".", "./", "../a product"])
def test_relative_names_are_meant_from_the_current_folder(
    repository: Path, named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(repository)
    assert find_repository(named, None).url == str(repository)


@pytest.mark.parametrize("ref", ["main", "v1", "feature/login"])
def test_the_name_of_a_branch_or_tag_is_kept(repository: Path, ref: str) -> None:
    assert find_repository(str(repository), ref).ref == ref


def test_other_names_of_a_commit_become_its_hash(repository: Path) -> None:
    older = git(repository, "rev-parse", "HEAD~1")
    for ref in ("HEAD~1", older[:8], older, "main^", "refs/tags/v1~1"):
        assert find_repository(str(repository), ref).ref == older


@pytest.mark.parametrize("ref", ["nowhere", "--output=x", "-x", "main:README", "", "HEAD~99", "a b"])
def test_a_ref_that_is_no_commit_is_refused_with_its_name(repository: Path, ref: str) -> None:
    with pytest.raises(BadReference, match="has no branch, tag or commit"):
        find_repository(str(repository), ref)
    assert {path.name for path in repository.iterdir()} == {".git", "README"}


def test_uncommitted_changes_are_noted(repository: Path) -> None:
    (repository / "README").write_text("changed")
    (repository / "new").write_text("new")
    [note] = find_repository(str(repository), None).notes
    assert note.startswith("2 files have uncommitted changes")


def test_a_named_ref_has_nothing_to_do_with_uncommitted_changes(repository: Path) -> None:
    (repository / "README").write_text("changed")
    assert find_repository(str(repository), "v1").notes == ()


def test_a_bare_repository_and_a_linked_work_tree_are_repositories_too(repository: Path, tmp_path: Path) -> None:
    git(repository, "clone", "-q", "--bare", ".", str(tmp_path / "bare.git"))
    git(repository, "worktree", "add", "-q", str(tmp_path / "linked"), "feature/login")
    head = git(repository, "rev-parse", "HEAD")
    bare, linked = (find_repository(str(tmp_path / name), None) for name in ("bare.git", "linked"))
    assert (bare.url, bare.ref) == (str(tmp_path / "bare.git"), head)
    assert (linked.url, linked.ref) == (str(tmp_path / "linked"), head)


def test_a_folder_outside_of_any_repository_says_so(tmp_path: Path) -> None:
    with pytest.raises(BadReference, match="is not in a git repository"):
        find_repository(str(tmp_path), None)


def test_a_folder_that_does_not_exist_says_so(tmp_path: Path) -> None:
    with pytest.raises(BadReference, match="there is no folder"):
        find_repository(str(tmp_path / "missing"), None)


def test_a_repository_without_a_commit_says_so(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    with pytest.raises(BadReference, match="has no commit yet"):
        find_repository(str(tmp_path), None)


def test_the_git_variables_of_a_hook_do_not_lead_to_another_repository(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    assert find_repository(str(repository), None).url == str(repository)


def test_looking_runs_nothing_that_the_repository_configures(repository: Path, tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    trap.write_text(f"#!/bin/sh\ntouch {tmp_path}/sprung\n")
    trap.chmod(0o755)
    git(repository, "config", "core.fsmonitor", str(trap))
    (repository / "README").write_text("changed")
    find_repository(str(repository), None)
    assert not (tmp_path / "sprung").exists()


def test_a_machine_without_git_says_so(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    with pytest.raises(BadReference, match="git is not installed"):
        find_repository(str(repository), None)

"""Folders of attempts are fresh, and go when the attempt or its process does."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from openaperture.worker.command.process import MARK
from openaperture.worker.command.workspace import WorkFolder
from tests.processes import is_alive, wait_gone

_DYING = """
import os, subprocess, sys
from pathlib import Path
from openaperture.worker.command.workspace import WorkFolder
space = WorkFolder(Path(sys.argv[1])).open("shop")
(space.tree / "file").write_text("x")
marked = {**os.environ, sys.argv[2]: str(space.root)}
child = subprocess.Popen(["sleep", "300"], env=marked, stdout=subprocess.DEVNULL, start_new_session=True)
print(space.root, child.pid, flush=True)
sys.stdin.read()
"""


def test_an_attempt_has_empty_folders_and_leaves_none(tmp_path: Path) -> None:
    folder = WorkFolder(tmp_path / "work")
    first, second = folder.open("shop"), folder.open("shop")
    assert first.root != second.root
    for space in (first, second):
        assert [list(path.iterdir()) for path in (space.tree, space.home, space.scratch, space.inputs)] == [[]] * 4
    (first.tree / "x").write_text("x")
    first.remove()
    assert not first.root.exists()
    assert second.tree.is_dir()
    folder.close()
    assert sorted(path.name for path in (tmp_path / "work").iterdir()) == ["kept", "lock"]


def test_what_is_kept_belongs_to_one_repository_and_outlives_the_process(tmp_path: Path) -> None:
    folder = WorkFolder(tmp_path / "work")
    (folder.open("shop").kept / "cache").write_text("warm")
    assert not list(folder.open("other").kept.iterdir())
    folder.close()
    again = WorkFolder(tmp_path / "work")
    assert (again.open("shop").kept / "cache").read_text() == "warm"
    again.close()


def test_read_only_folders_and_links_are_removed_without_touching_what_they_point_to(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("x")
    folder = WorkFolder(tmp_path / "work")
    space = folder.open("shop")
    (space.tree / "link").symlink_to(outside)
    deep = space.tree / "a" / "b"
    deep.mkdir(parents=True)
    (deep / "file").write_text("x")
    deep.chmod(0o500)
    (space.tree / "a").chmod(0o500)
    space.remove()
    folder.close()
    assert not space.root.exists()
    assert (outside / "precious").exists()


def test_folders_and_commands_of_a_killed_process_are_swept_and_those_of_a_living_one_are_not(
    tmp_path: Path,
) -> None:
    living = WorkFolder(tmp_path / "work")
    kept = living.open("shop")
    order = [sys.executable, "-c", _DYING, str(tmp_path / "work"), MARK]
    with subprocess.Popen(order, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as dying:
        assert dying.stdout is not None
        root, pid = dying.stdout.readline().split()
        dying.kill()
    assert Path(root).exists()
    assert is_alive(int(pid))

    sweeping = WorkFolder(tmp_path / "work")

    wait_gone([int(pid)], 5)
    assert not Path(root).parent.exists()
    assert kept.tree.is_dir()
    sweeping.close()
    living.close()


def test_the_work_folder_is_for_its_user_alone(tmp_path: Path) -> None:
    folder = WorkFolder(tmp_path / "work")
    space = folder.open("shop")
    assert space.root.stat().st_mode & 0o077 == 0
    folder.close()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_work_folder_that_cannot_be_made_is_an_error_of_the_system(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(OSError, match="denied"):
        WorkFolder(tmp_path / "work")

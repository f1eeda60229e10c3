"""Plants each defect of tests/simulation/mutants.py in a copy of the source, and asks the simulation to find it.

`python -m scripts.mutants [NAME …]`. Ends with 1 when one was not found. Never changes this tree.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from tests.simulation.hunt import FOUND
from tests.simulation.mutants import MUTANTS, Mutant

ROOT = Path(__file__).parent.parent
COPIED = ("src", "tests/simulation")
MINUTES = 30


def plant(mutant: Mutant, root: Path) -> None:
    """Change its one place under `root`. Raises ValueError when the old text is not there exactly once."""
    file = root / mutant.file
    text = file.read_text()
    if text.count(mutant.old) != 1:
        raise ValueError(
            f'mutant "{mutant.name}": its old text stands {text.count(mutant.old)} times in {mutant.file}'
        )
    file.write_text(text.replace(mutant.old, mutant.new))


@contextmanager
def copied(root: Path) -> Iterator[Path]:
    """A copy of what the simulation needs of `root`."""
    with tempfile.TemporaryDirectory(prefix="mutant-") as folder:
        copy = Path(folder)
        for part in COPIED:
            shutil.copytree(root / part, copy / part, ignore=shutil.ignore_patterns("__pycache__"))
        (copy / "tests/__init__.py").touch()
        yield copy


def search(mutant: Mutant, root: Path = ROOT) -> str | None:
    """What the simulation found wrong with it; None when it found nothing in time."""
    with copied(root) as copy:
        plant(mutant, copy)
        environment = {**os.environ, "PYTHONPATH": f"{copy / 'src'}{os.pathsep}{copy}"}
        command = [sys.executable, "-m", "tests.simulation.hunt"]
        try:
            ended = subprocess.run(
                command,
                cwd=copy,
                env=environment,
                capture_output=True,
                text=True,
                timeout=60 * MINUTES,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return None
    if ended.returncode not in {0, FOUND}:
        return f"it cannot even be run: {ended.stderr.strip().splitlines()[-1]}"
    return ended.stdout.strip() if ended.returncode == FOUND else None


def main(names: Sequence[str]) -> int:
    chosen = [mutant for mutant in MUTANTS if not names or mutant.name in names]
    missed: list[str] = []
    # Of one moment, though somebody goes on working here meanwhile.
    with copied(ROOT) as snapshot, ThreadPoolExecutor(max_workers=2) as pool:
        for mutant, found in zip(chosen, pool.map(partial(search, root=snapshot), chosen), strict=True):
            print(f"{'found' if found else 'MISSED':8} {mutant.name}: {(found or mutant.why)[:160]}", flush=True)
            if found is None:
                missed.append(mutant.name)
    print(f"{len(chosen) - len(missed)} of {len(chosen)} planted defects found")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

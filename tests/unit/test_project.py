"""What the project's own files promise: pinned packages, no address of a package index, reasons for exceptions."""

import os
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
REQUIREMENTS = PROJECT / "requirements"
PYPROJECT = (PROJECT / "pyproject.toml").read_text(encoding="utf-8")
CONFIG = tomllib.loads(PYPROJECT)

SCRIPTS = [
    str(file.relative_to(PROJECT))
    for file in (PROJECT / ".ci" / "run", *sorted((PROJECT / "scripts").iterdir()))
    if file.is_file() and not file.suffix
]
CONFIGURATION_FILES = (
    "Makefile",
    "openaperture.json",
    "pyproject.toml",
    ".pre-commit-config.yaml",
    *SCRIPTS,
    *(f"requirements/{name}.txt" for name in ("runtime", "build", "dev")),
)


def name_of(requirement: str) -> str:
    """The package's name as indexes compare it."""
    match = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert match is not None, requirement
    return re.sub(r"[-_.]+", "-", match[0]).lower()


def pinned(name: str) -> dict[str, str]:
    """Package to version."""
    text = (REQUIREMENTS / f"{name}.txt").read_text(encoding="utf-8")
    return {name_of(package): version for package, version in re.findall(r"^(\S+?)==(\S+)", text, re.MULTILINE)}


def asked_for_directly(name: str) -> set[str]:
    """Packages that the lock file says are there because pyproject.toml names them."""
    text = (REQUIREMENTS / f"{name}.txt").read_text(encoding="utf-8")
    entries = re.split(r"\n(?=\S)", text)
    return {
        name_of(entry) for entry in entries if re.search(r"\(pyproject\.toml|\(.*pyproject\.toml:\w+\)", entry)
    }


def group(name: str) -> set[str]:
    found: set[str] = set()
    for entry in CONFIG["dependency-groups"][name]:
        found |= group(entry["include-group"]) if isinstance(entry, dict) else {name_of(entry)}
    return found


@pytest.mark.parametrize("file", CONFIGURATION_FILES)
def test_no_file_names_a_package_index(file: str) -> None:
    text = (PROJECT / file).read_text(encoding="utf-8")
    assert re.findall(r"\b(?:https?|file)://\S*", text) == []
    assert re.findall(r"--(?:extra-)?index-url\s+\S|--find-links|--trusted-host", text) == []


@pytest.mark.parametrize("name", ["runtime", "build", "dev"])
def test_every_pinned_package_has_a_hash(name: str) -> None:
    text = (REQUIREMENTS / f"{name}.txt").read_text(encoding="utf-8")
    entries = [entry for entry in re.split(r"\n(?=\S)", text) if "==" in entry.split("\n")[0]]
    assert len(entries) == len(pinned(name)) > 2
    assert [entry for entry in entries if "--hash=sha256:" not in entry] == []


def test_the_pinned_packages_are_in_step_with_the_project() -> None:
    runtime = {name_of(requirement) for requirement in CONFIG["project"]["dependencies"]}
    assert asked_for_directly("runtime") == runtime
    assert asked_for_directly("build") == group("build")
    assert asked_for_directly("dev") == runtime | group("dev")


def test_development_uses_the_versions_that_users_get() -> None:
    dev = pinned("dev")
    for name in ("runtime", "build"):
        assert {package: dev.get(package) for package in pinned(name)} == pinned(name)


def test_every_suppressed_rule_has_its_reason() -> None:
    block = PYPROJECT.split("\nignore = [\n", 1)[1].split("\n]", 1)[0]
    lines = block.splitlines()
    assert lines
    assert [line for line in lines if not re.search(r"# \S+ \S+", line)] == []


SUPPRESSION = re.compile(r"#\s*(?:noqa|type:\s*ignore|pyright:\s*ignore)\b(?P<rest>[^#]*)(?P<more>.*)")
CODES = re.compile(r":?\s*(?:\[[\w, -]+\]|[A-Z]+\d+(?:, ?[A-Z]+\d+)*)\s*(?P<reason>.*)")


def suppressions(folder: str) -> list[tuple[str, str, str, str]]:
    """(place, what follows the first `ignore` up to the next comment, the further comments, the line above)."""
    found: list[tuple[str, str, str, str]] = []
    for file in sorted((PROJECT / folder).rglob("*.py")):
        above = ""
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
            if match := SUPPRESSION.search(line):
                place = f"{file.relative_to(PROJECT)}:{number}"
                found.append((place, match["rest"].strip(), match["more"].strip(), above))
            above = line.strip()
    return found


@pytest.mark.parametrize("folder", ["src", "tests", "scripts"])
def test_every_suppression_in_the_code_names_its_rule(folder: str) -> None:
    assert [place for place, rest, *_ in suppressions(folder) if not CODES.fullmatch(rest)] == []


def test_every_suppression_in_the_product_has_its_reason_behind_it_or_above() -> None:
    bare: list[str] = []
    for place, rest, more, above in suppressions("src"):
        codes = CODES.fullmatch(rest)
        reasons = (codes["reason"] if codes else "", more, above if above.startswith(("#", '"""')) else "")
        if not any(re.search(r"\w+ \w+", reason) for reason in reasons):
            bare.append(place)
    assert bare == []


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_can_be_run_and_parsed(script: str) -> None:
    path = PROJECT / script
    assert os.access(path, os.X_OK)
    interpreter = (
        path.read_text(encoding="utf-8").splitlines()[0].removeprefix("#!").split()[-1].rsplit("/", 1)[-1]
    )
    assert interpreter in {"sh", "bash"}
    subprocess.run([interpreter, "-n", path], check=True, timeout=30)

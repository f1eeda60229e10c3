"""The documents say what the code does: nothing missing, nothing stale, no dead link."""

import ast
import logging
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from openaperture.config import known_keys, load, shown, variable_of
from openaperture.config.sources import NO_SETTINGS, PLAIN_VARIABLES
from openaperture.domain.history import KINDS
from openaperture.domain.milestones import MilestoneKind
from openaperture.observability.logs import ERRORS, QUIET, WARNINGS

PROJECT = Path(__file__).parents[2]
SOURCE = PROJECT / "src" / "openaperture"
REFERENCE = PROJECT / "docs" / "reference"

PAGES = sorted(page for page in (*PROJECT.glob("*.md"), *(PROJECT / "docs").rglob("*.md")))


def rows_of(page: Path) -> Iterator[list[str]]:
    """The cells of every table row whose first cell is a name in backquotes."""
    for line in page.read_text(encoding="utf-8").splitlines():
        if line.startswith("| `"):
            yield [cell.strip() for cell in line.strip("|").split(" | ")]


def name_in(cell: str) -> str:
    return cell.strip("` ")


# ---------------------------------------------------------------------------------------- settings


def test_every_setting_is_documented_and_no_other() -> None:
    documented = [name_in(row[0]) for row in rows_of(REFERENCE / "configuration.md")]
    assert sorted(documented) == sorted(".".join(key) for key in known_keys())


def test_the_documented_variables_set_their_settings() -> None:
    plain = {setting: variable for variable, setting in PLAIN_VARIABLES.items()}
    for name, variables, *_ in rows_of(REFERENCE / "configuration.md"):
        key = tuple(name_in(name).split("."))
        expected = [variable_of(key) + ("__NAME" if key == ("worker", "environment") else "")]
        if key[0] in plain:
            expected.append(plain[key[0]])
        assert re.findall(r"`(\w+)`", variables) == expected, name


def test_documented_plain_defaults_are_those_of_the_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    defaults = shown(load(environ={}))
    kind = MilestoneKind(name="NAME", queue="NAME")
    checked = 0
    for name, _, default, *_ in rows_of(REFERENCE / "configuration.md"):
        *sections, leaf = name_in(name).split(".")
        if not re.fullmatch(r"`[\w.]+`", default) or leaf == "data_dir":
            continue
        actual = getattr(kind, leaf) if sections[:1] == ["milestones"] else defaults
        for part in () if sections[:1] == ["milestones"] else (*sections, leaf):
            actual = actual[part]
        written = f"{actual:g}" if isinstance(actual, float) else str(actual).lower()
        assert name_in(default).lower() == written.lower(), name
        checked += 1
    assert checked > 15


def test_what_a_worker_gives_its_commands_is_no_setting_and_documented() -> None:
    text = (REFERENCE / "configuration.md").read_text(encoding="utf-8")
    given = {
        name
        for file in (SOURCE / "worker").rglob("*.py")
        for name in re.findall(r'"(OPENAPERTURE_[A-Z_]*[A-Z])"', file.read_text(encoding="utf-8"))
    }
    load(environ=dict.fromkeys(given, "x"))
    assert [name for name in sorted(given | NO_SETTINGS) if f"`{name}`" not in text] == []


# ------------------------------------------------------------------------------------------- events


def emitted_names() -> set[str]:
    """The names that the code gives to `emit`, where they are written out."""
    names: set[str] = set()
    for file in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if not (
                isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "emit"
            ):
                continue
            first = node.args[0] if node.args else None
            if isinstance(first, ast.Constant) and isinstance(first.value, str):
                names.add(first.value)
    return names


def test_every_event_is_documented_and_no_other() -> None:
    emitted = emitted_names()
    assert "request.deferred" in emitted
    documented = [name_in(row[0]) for row in rows_of(REFERENCE / "events.md")]
    assert sorted(documented) == sorted(emitted | set(KINDS))


def test_the_documented_levels_are_those_of_the_log() -> None:
    for name, level, *_ in rows_of(REFERENCE / "events.md"):
        event = name_in(name)
        actual = logging.INFO
        for names, number in ((QUIET, logging.DEBUG), (WARNINGS, logging.WARNING), (ERRORS, logging.ERROR)):
            actual = number if event in names else actual
        assert level == logging.getLevelName(actual).lower(), event


def test_the_log_gives_levels_to_existing_events_only() -> None:
    assert sorted((QUIET | WARNINGS | ERRORS) - emitted_names() - set(KINDS)) == []


# ------------------------------------------------------------------------------------ make and links


def test_every_make_target_is_in_contributing_and_no_other() -> None:
    makefile = (PROJECT / "Makefile").read_text(encoding="utf-8")
    targets = re.findall(r"^([a-z]+):", makefile, re.MULTILINE)
    phony = re.findall(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)[0].split()
    documented = [name_in(row[0]) for row in rows_of(PROJECT / "CONTRIBUTING.md")]
    commands = [name.removeprefix("make ") for name in documented if name.startswith("make ")]
    assert sorted(commands) == sorted(targets)
    assert sorted(phony) == sorted(targets)


def anchors_of(page: Path) -> set[str]:
    """The anchors of its headings, made as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(PROJECT)))
def test_relative_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\[[^\]]*\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        linked = page.parent / path if path else page
        assert linked.exists(), target
        if anchor and linked.suffix == ".md":
            assert anchor in anchors_of(linked), target


def test_every_decision_is_listed() -> None:
    folder = PROJECT / "docs" / "decisions"
    listed = re.findall(r"\]\((\d{4}-[^)]*)\)", (folder / "README.md").read_text(encoding="utf-8"))
    assert listed == sorted(page.name for page in folder.glob("[0-9]*.md"))
    assert len(listed) >= 7

"""The commands as a whole: they are quick to list, each has help, and each is documented."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from openaperture.cli.access_commands import RoleName
from openaperture.cli.commands import app
from openaperture.cli.exits import ExitCode
from openaperture.cli.options import StateName
from openaperture.domain.access import Role
from openaperture.domain.workflow import State

REFERENCE = Path(__file__).parents[3] / "docs" / "reference" / "cli.md"
HEAVY = {
    "alembic",
    "fastapi",
    "httpx",
    "msgspec",
    "pika",
    "pydantic",
    "rich",
    "sqlalchemy",
    "structlog",
    "uvicorn",
}


def commands() -> Iterator[tuple[str, Any]]:
    """Every command with its full name, such as `config show`."""

    def walk(name: str, command: Any) -> Iterator[tuple[str, Any]]:
        inner = getattr(command, "commands", None)
        if inner is None:
            yield name, command
            return
        for inner_name, inner_command in inner.items():
            yield from walk(f"{name} {inner_name}".strip(), inner_command)

    return walk("", typer.main.get_command(app))


DIRECTORY = ("brokers", "exchanges", "clusters", "modules")
NAMES = [name for name, _ in commands()]


def section_of(name: str) -> str:
    """What the reference says of one command."""
    text = REFERENCE.read_text(encoding="utf-8")
    found = re.search(rf"^### `openaperture {re.escape(name)}\b.*?(?=^##|\Z)", text, re.MULTILINE | re.DOTALL)
    assert found, f"docs/reference/cli.md has no section for {name}"
    return found[0]


def test_the_commands_are_those_that_we_promise() -> None:
    assert set(NAMES) == {
        *("run", "submit", "list", "show", "watch"),
        *("explain", "cancel", "pause", "resume", "retry", "rerun", "again", "approve", "reject", "resolve"),
        *("events", "logs", "locks list", "locks release", "db upgrade"),
        *(f"{kind} {verb}" for kind in DIRECTORY for verb in ("list", "add", "remove")),
        *("login", "logout", "tokens list", "tokens create", "tokens revoke"),
        *("clients list", "clients add", "clients disable", "audit list", "audit verify"),
        *("up", "orchestrator", "manager", "worker", "config show", "config check", "bench", "version"),
    }


@pytest.mark.parametrize("name", NAMES)
def test_every_command_is_documented_with_all_its_options(name: str) -> None:
    section = section_of(name)
    command = dict(commands())[name]
    for parameter in command.params:
        if parameter.param_type_name == "argument":
            assert (parameter.metavar or parameter.name.upper()) in section
        else:
            for option in {*parameter.opts} - {"--help", "-h"}:
                assert f"`{option}" in section, f"{option} of {name} is not documented"


def test_the_reference_names_no_command_and_no_option_that_does_not_exist() -> None:
    text = REFERENCE.read_text(encoding="utf-8")
    groups = "|".join({name.partition(" ")[0] for name in NAMES if " " in name})
    named = re.findall(rf"^### `openaperture ((?:(?:{groups}) )?[a-z]+)", text, re.MULTILINE)
    assert sorted(named) == sorted(NAMES)
    group = typer.main.get_command(app)
    known = {option for _, command in [*commands(), ("", group)] for p in command.params for option in p.opts}
    assert set(re.findall(r"`(--[a-z-]+)", text)) <= {*known, "--help"}


def test_every_exit_code_is_documented() -> None:
    text = REFERENCE.read_text(encoding="utf-8")
    table = text[text.index("## Exit codes") :]
    documented = {int(code) for code in re.findall(r"^\| (\d+) \|", table, re.MULTILINE)}
    assert documented == {code.value for code in ExitCode}


def test_the_states_to_filter_by_are_those_that_there_are() -> None:
    assert [name.value for name in StateName] == [state.value for state in State]


def test_the_roles_to_choose_from_are_those_that_there_are() -> None:
    assert [name.value for name in RoleName] == [role.value for role in Role]


def test_what_help_needs_is_light() -> None:
    program = "import sys, openaperture.cli; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    loaded = subprocess.check_output([sys.executable, "-c", program], text=True, timeout=30).split()
    assert not HEAVY & set(loaded)

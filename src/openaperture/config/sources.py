"""Where settings come from: one TOML file and the environment, the later over the earlier.

    the file  <  the plain variables that the original system read  <  OPENAPERTURE_* variables

Knows the names of variables and files, and nothing of what a setting may hold.
"""

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

PREFIX = "OPENAPERTURE_"
CONFIG_VARIABLE = "OPENAPERTURE_CONFIG"
DEFAULT_FILE = "openaperture.toml"

PLAIN_VARIABLES = {
    "EXCHANGE_ID": "exchange_id",
    "BROKER_ID": "broker_id",
    "MANAGER_URL": "manager_url",
    "OAUTH_LOGIN_URL": "oauth_login_url",
    "OAUTH_CLIENT_ID": "oauth_client_id",
    "OAUTH_CLIENT_SECRET": "oauth_client_secret",
    "QUEUE_NAME": "queue_name",
    "UI_URL": "ui_url",
    "HOSTNAME": "hostname",
}

NO_SETTINGS = {
    CONFIG_VARIABLE,
    "OPENAPERTURE_DEBUG",
    # A worker gives these to the commands of a milestone, which may well call us again.
    "OPENAPERTURE_WORKFLOW_ID",
    "OPENAPERTURE_MILESTONE",
    "OPENAPERTURE_COMMIT",
    "OPENAPERTURE_IDEMPOTENCY_KEY",
    "OPENAPERTURE_KEPT_DIR",
    "OPENAPERTURE_ATTEMPT_DIR",
}
NO_SETTINGS_PREFIXES = ("OPENAPERTURE_INPUT_", "OPENAPERTURE_LOCK_", "OPENAPERTURE_TEST_")

Key = tuple[str, ...]


@dataclass(slots=True, kw_only=True)
class Sources:
    """The values that were found, as nested tables, and who gave each."""

    file: str = ""
    values: dict[str, Any] = field(default_factory=dict[str, Any])
    variables: dict[Key, str] = field(default_factory=dict[Key, str])
    """The variable that gave a value; what is not here came from the file."""
    problems: list[str] = field(default_factory=list[str])

    def origin_of(self, key: Key) -> str:
        """Where to look for this value, in words; empty for a default."""
        for length in range(len(key), 0, -1):
            if key[:length] in self.variables:
                return f"environment variable {self.variables[key[:length]]}"
        return "" if self.value_of(key) is None else f"in {self.file}"

    def value_of(self, key: Key) -> Any:
        """What is written under a key, or None. TOML has no null, so None never means a value."""
        place: Any = self.values
        for part in key:
            if not isinstance(place, dict):
                return None
            place = cast("dict[str, Any]", place).get(part)
        return place


def read(config_file: Path | None, environ: Mapping[str, str], sections: Iterable[Key]) -> Sources:
    """Everything that is set. `sections` are the keys that hold tables, and so cannot be one variable."""
    sources = Sources()
    named = config_file or (Path(text) if (text := environ.get(CONFIG_VARIABLE)) else None)
    _read_file(sources, named or Path(DEFAULT_FILE), must_exist=named is not None)
    for variable, name in PLAIN_VARIABLES.items():
        if text := environ.get(variable):
            _put(sources, (name,), text, variable)
    tables = set(sections)
    for variable in sorted(environ):
        if _is_setting(variable) and (text := environ[variable]):
            _read_variable(sources, variable, text, tables)
    return sources


def variable_of(key: Key) -> str:
    """The variable that sets a key."""
    return PREFIX + "__".join(part.upper() for part in key)


def _is_setting(variable: str) -> bool:
    return (
        variable.startswith(PREFIX)
        and variable not in NO_SETTINGS
        and not variable.startswith(NO_SETTINGS_PREFIXES)
    )


def _read_file(sources: Sources, path: Path, *, must_exist: bool) -> None:
    sources.file = str(path)
    try:
        sources.values = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if must_exist:
            sources.problems.append(f"{path} does not exist; write that file, or name another one with --config")
    except OSError as error:
        sources.problems.append(
            f"{path} cannot be read ({error.strerror}); make it a file that this user can read"
        )
    except UnicodeDecodeError:
        sources.problems.append(f"{path} is not UTF-8 text; save it as UTF-8")
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        sources.problems.append(f"{path} is not valid TOML: {error}")


def _read_variable(sources: Sources, variable: str, text: str, tables: set[Key]) -> None:
    parts = variable.removeprefix(PREFIX).split("__")
    key = tuple(part.lower() for part in parts)
    if key[:2] == ("worker", "environment"):
        key = (*key[:2], "__".join(parts[2:])) if len(parts) > 2 else key
    if not variable.isascii():
        sources.problems.append(f"{variable} is not a setting: the names of settings are plain ASCII; unset it")
        return
    if key in tables:
        sources.problems.append(f"{variable} names a section; name one setting of it, as {variable}__NAME")
        return
    _put(sources, key, text, variable)


def _put(sources: Sources, key: Key, text: str, variable: str) -> None:
    table = sources.values
    for part in key[:-1]:
        inner = table.setdefault(part, {})
        if not isinstance(inner, dict):
            return  # What stands there is no table, and is reported as that.
        table = cast("dict[str, Any]", inner)
    table[key[-1]] = text
    sources.variables[key] = variable

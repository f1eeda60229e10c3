"""Environment and TOML file to validated settings.

    sources.py   what was written where          settings.py  the settings and their defaults
    values.py    what one setting may hold       problems.py  what is wrong, in sentences
    show.py      the result, masked

Only the command line and the composition root read settings; every other part receives values.
"""

import os
from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from openaperture.config.problems import bad_names, describe_clash, describe_error, key_of, known_keys, sections
from openaperture.config.settings import Settings
from openaperture.config.show import shown, shown_toml
from openaperture.config.sources import Key, Sources, read, variable_of
from openaperture.domain.errors import ConfigError

__all__ = ["Settings", "known_keys", "load", "shown", "shown_toml", "variable_of"]


def load(config_file: Path | None = None, environ: Mapping[str, str] | None = None) -> Settings:
    """The effective settings. Raises ConfigError with every problem that there is.

    Without `config_file` it is the file that OPENAPERTURE_CONFIG names, else `openaperture.toml` in the
    current folder if there is one.
    """
    sources = read(config_file, os.environ if environ is None else environ, sections())
    problems = [*sources.problems, *bad_names(sources)]
    wrong: list[Key] = []
    try:
        settings = Settings.model_validate(sources.values)
    except ValidationError as error:
        details = error.errors(include_url=False)
        problems += [describe_error(detail, sources) for detail in details]
        wrong = [key_of(detail) for detail in details]
        settings = Settings.model_validate(_without(sources.values, wrong))
    problems += _clashes(settings, wrong, sources)
    if problems:
        raise ConfigError([_printable(problem) for problem in problems])
    return settings.completed()


def _clashes(settings: Settings, wrong: Sequence[Key], sources: Sources) -> list[str]:
    """The clashes that are not the mere consequence of a value reported already."""
    return [
        describe_clash(clash, sources)
        for clash in settings.clashes()
        if not any(key[: len(bad)] == bad for bad in wrong for key in clash.keys)
    ]


def _without(values: Mapping[str, Any], keys: Sequence[Key]) -> dict[str, Any]:
    """The values that can be used although others cannot."""
    rest = deepcopy(dict(values))
    for key in keys:
        table = rest
        for part in key[:-1]:
            table = table[part]  # there, and a table: pydantic found the wrong value in it
        table.pop(key[-1], None)
    return rest


def _printable(text: str) -> str:
    """Variables and files hold any character, among them those that steer a terminal."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)

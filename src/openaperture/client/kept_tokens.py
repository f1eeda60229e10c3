"""The tokens that this user keeps for Managers elsewhere: one file, for its owner alone."""

import json
import os
import stat
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import cast

from openaperture.domain.errors import ConfigError


def default_file(environ: Mapping[str, str]) -> Path:
    """XDG base directories: `$XDG_CONFIG_HOME`, else `~/.config`. Raises ConfigError without a home."""
    named = environ.get("XDG_CONFIG_HOME", "")
    try:
        base = Path(named) if Path(named).is_absolute() else Path.home() / ".config"
    except RuntimeError as exc:
        raise ConfigError(["the home folder of this user is not known; set XDG_CONFIG_HOME"]) from exc
    return base / "openaperture" / "tokens.json"


class KeptTokens:
    """URL of a Manager -> token. Every method raises ConfigError where the file cannot be used."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def find(self, url: str) -> str | None:
        return self._read().get(url.rstrip("/"))

    def keep(self, url: str, token: str) -> None:
        self._write({**self._read(), url.rstrip("/"): token})

    def forget(self, url: str) -> bool:
        """False when none was kept."""
        tokens = self._read()
        known = tokens.pop(url.rstrip("/"), None) is not None
        if known:
            self._write(tokens)
        return known

    def _read(self) -> dict[str, str]:
        try:
            with self._file.open(encoding="utf-8") as file:
                # Of the open file: a name may mean another one a moment later.
                mode = os.fstat(file.fileno()).st_mode
                if stat.S_IMODE(mode) & 0o077:
                    problem = f"{self._file} holds tokens, and others can read it; run chmod 600 on it"
                    raise ConfigError([problem])
                document = json.load(file)
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as exc:
            raise ConfigError([f"{self._file} cannot be read ({exc}); repair or remove it"]) from exc
        if not isinstance(document, dict):
            raise ConfigError([f"{self._file} is no table of tokens; remove it and log in again"])
        table = cast("dict[str, object]", document)
        return {url: token for url, token in table.items() if isinstance(token, str)}

    def _write(self, tokens: Mapping[str, str]) -> None:
        """Whole or not at all, and at no moment readable by others."""
        folder = self._file.parent
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor, name = tempfile.mkstemp(dir=folder, prefix=".tokens-")  # made with 0600
            try:
                with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                    json.dump(tokens, file, indent=2)
                Path(name).replace(self._file)
            except BaseException:
                Path(name).unlink(missing_ok=True)
                raise
        except OSError as exc:
            raise ConfigError([f"{self._file} cannot be written ({exc.strerror}); see to its folder"]) from exc

"""One run of the program: its settings, and the exit with a code whatever happens."""

# ruff: noqa: PLC0415  this file is loaded for every `--help`, which needs none of what is imported in functions

import asyncio
import os
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from openaperture.cli.boundary import guard
from openaperture.cli.speech import say

if TYPE_CHECKING:
    from openaperture.config import Settings


class Invocation:
    """One run of the program: where its settings are, and where an unexpected error is written down."""

    def __init__(self, config_file: Path | None) -> None:
        self._config_file = config_file
        self._data_dir: Path | None = None

    def settings(self, **overriding: str) -> "Settings":
        """Settings with variables that options replace. Raises ConfigError; says what settings warn of."""
        from openaperture import config

        settings = config.load(self._config_file, {**os.environ, **overriding})
        self._data_dir = settings.data_dir
        for warning in settings.warnings():
            say(f"warning: {warning}")
        return settings

    def settings_and_folder(self, **overriding: str) -> "Settings":
        """The settings, for a command that writes to the data folder. Raises ConfigError when it cannot."""
        from openaperture.domain.errors import ConfigError

        settings = self.settings(**overriding)
        try:
            settings.data_dir.mkdir(parents=True, exist_ok=True)
            # It often lies in a work tree, and holds what nobody wants to commit.
            ignore = settings.data_dir / ".gitignore"
            if not ignore.exists():
                ignore.write_text("*\n", encoding="utf-8")
        except OSError as exc:
            problem = f"the folder {settings.data_dir} cannot be made ({exc.strerror}); name another in data_dir"
            raise ConfigError([problem]) from exc
        if not os.access(settings.data_dir, os.W_OK | os.X_OK):
            problem = f"the folder {settings.data_dir} is not writable for this user; name another in data_dir"
            raise ConfigError([problem])
        return settings

    def finish(self, action: Callable[[], int]) -> None:
        """Run the command's work and exit with its code."""
        raise typer.Exit(guard(action, self._write_down))

    def complete(self, work: Callable[["Settings"], Coroutine[Any, Any, int]]) -> None:
        """Run work that needs the settings and an event loop, and exit with its code."""
        self.finish(lambda: asyncio.run(work(self.settings_and_folder())))

    def _write_down(self, error: BaseException) -> Path | None:
        from openaperture.observability.logs import open_log

        if self._data_dir is None:
            return None
        path = self._data_dir / "openaperture.log"  # that of a `run`; to import its name could fail now
        try:
            open_log(path).emit("command.crashed", error=error)
        except OSError:
            return None  # the error itself may well be that nothing can be written
        return path


def invocation_of(context: typer.Context) -> Invocation:
    invocation: Invocation = context.obj
    return invocation

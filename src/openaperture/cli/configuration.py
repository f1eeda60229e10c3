"""Shows and checks the configuration."""

from openaperture.cli.exits import ExitCode
from openaperture.cli.speech import answer
from openaperture.cli.terminal import show_json
from openaperture.config import Settings, shown, shown_toml


def show(settings: Settings, *, as_json: bool) -> ExitCode:
    """The settings as they apply: as TOML that could be the file, or as JSON."""
    if as_json:
        show_json(shown(settings))
    else:
        answer(shown_toml(settings).rstrip("\n"))
    return ExitCode.COMPLETED


def check(settings: Settings, *, as_json: bool = False) -> ExitCode:
    """Loading found no problem; how many warnings there were was said on the way."""
    warnings = len(settings.warnings())
    if as_json:
        show_json({"usable": True, "warnings": list(settings.warnings())})
        return ExitCode.COMPLETED
    answer("the configuration can be used" + (f"; see the {warnings} warning(s) above" if warnings else ""))
    return ExitCode.COMPLETED

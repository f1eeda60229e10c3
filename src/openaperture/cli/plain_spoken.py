"""What the parser says of an argument or option that it cannot use, in words for people."""

# ruff: noqa: PLC0415  the validator is loaded already when it has something to say, and never for `--help`

from collections.abc import Callable, Mapping
from typing import Any

import typer
from typer.core import TyperGroup

_WORDS: Mapping[str, Callable[[str, Mapping[str, Any]], str]] = {
    "int_parsing": lambda given, _: f"'{given}' is no whole number; write digits",
    "float_parsing": lambda given, _: f"'{given}' is no number; write digits",
    "greater_than_equal": lambda given, limits: f"{given} is too small; write {limits['ge']} or more",
    "less_than_equal": lambda given, limits: f"{given} is too large; write {limits['le']} or less",
    "value_error": lambda _, limits: str(limits["error"]),
}
"""By the kind of problem. Of others the validator's own words are shown."""


class PlainSpoken(TyperGroup):
    """The program, with its words for what the validator below the parser calls things."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except typer.BadParameter as exc:
            exc.message = _in_words(exc)
            raise


def _in_words(error: typer.BadParameter) -> str:
    from pydantic import ValidationError

    cause = error.__cause__
    if not isinstance(cause, ValidationError):
        return str(error.message)
    found = cause.errors()[0]
    words = _WORDS.get(found["type"])
    return str(error.message) if words is None else words(str(found["input"]), found.get("ctx", {}))

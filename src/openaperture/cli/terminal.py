"""What standard output is, and so how a release is shown on it."""

import os
import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from enum import Enum
from typing import TextIO

import msgspec
from rich.console import Console
from rich.text import Text

from openaperture.cli.follower import View
from openaperture.cli.live import LiveView
from openaperture.cli.picture import Picture
from openaperture.cli.plain import PlainView, SilentView, write_lines
from openaperture.cli.speech import answer
from openaperture.cli.summary import release_text, summarise
from openaperture.client.models import Workflow

_UNLIMITED_COLUMNS = 10_000
"""Width for output that a program reads: nothing is cut or wrapped."""


class Style(Enum):
    """How a command shows what it has to show."""

    LIVE = "live"
    PLAIN = "plain"
    JSON = "json"


def style_for(*, as_json: bool, plain: bool) -> Style:
    """JSON when asked for; live on a terminal that can do it; else plain."""
    if as_json:
        return Style.JSON
    return Style.PLAIN if plain or not _is_capable(sys.stdout, os.environ) else Style.LIVE


def _is_capable(stream: TextIO, environ: Mapping[str, str]) -> bool:
    return stream.isatty() and not environ.get("NO_COLOR") and environ.get("TERM") not in {"dumb", "unknown"}


def open_console(style: Style) -> Console:
    """A console that takes no text as markup: what is shown may come from a worker."""
    plain = style is not Style.LIVE
    return Console(
        file=sys.stdout,
        markup=False,
        highlight=False,
        emoji=False,
        no_color=plain,
        color_system=None if plain else "auto",
        force_terminal=False if plain else None,
        width=_UNLIMITED_COLUMNS if plain else None,
    )


@contextmanager
def showing(style: Style, workflow: Workflow, picture: Picture) -> Generator[View]:
    """A view of the release for as long as the block lasts."""
    match style:
        case Style.JSON:
            yield SilentView()
        case Style.PLAIN:
            answer(_header(workflow))
            yield PlainView(sys.stdout, picture)
        case Style.LIVE:
            with LiveView(open_console(style), picture, _header(workflow)) as view:
                yield view


def show_end(style: Style, workflow: Workflow, picture: Picture) -> None:
    """What is left to read when it has ended or is held."""
    match style:
        case Style.JSON:
            show_json(workflow)
        case Style.PLAIN:
            write_lines(summarise(workflow, picture), sys.stdout)
        case Style.LIVE:
            console = open_console(style)
            for line in summarise(workflow, picture):
                console.print(Text(line.text, style=line.style), soft_wrap=True)


def show_json(document: object) -> None:
    """One JSON document. Anything beyond ASCII in it is escaped by no one: JSON is UTF-8."""
    encoded = msgspec.json.format(msgspec.json.encode(document), indent=2)
    sys.stdout.buffer.write(encoded + b"\n")
    sys.stdout.buffer.flush()


def _header(workflow: Workflow) -> str:
    return f"release {workflow.id}: {release_text(workflow)}"

"""The live view: one line per milestone on a terminal, with the last lines of the one that runs."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Self

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.text import Text

from openaperture.cli.durations import duration_text
from openaperture.cli.picture import ENDED, Mark, Picture, Row
from openaperture.cli.summary import taken_over_text
from openaperture.cli.untrusted import one_line
from openaperture.client.models import Event, LogChunk

SHOWN_OUTPUT_LINES = 5
REFRESHES_PER_SECOND = 8.0
_SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_ASCII_SPINNER = "|/-\\"
_SYMBOLS = {
    Mark.PENDING: ("·", ".", "dim"),
    Mark.REQUESTED: ("…", "~", "cyan"),
    Mark.WAITING: ("…", "~", "yellow"),
    Mark.HELD: ("?", "?", "bold magenta"),
    Mark.DONE: ("✓", "+", "green"),
    Mark.FAILED: ("✗", "x", "bold red"),
    Mark.CANCELLED: ("-", "-", "yellow"),
}
"""Symbol, the same for terminals without Unicode, style."""
_WORDS = {Mark.REQUESTED: "waits for a worker", Mark.FAILED: "failed", Mark.CANCELLED: "cancelled"}
"""What is said of a milestone when nothing better is known."""


class LiveView:
    """A renderable of the picture, redrawn by Rich; a context manager that owns the screen's lower part."""

    def __init__(self, console: Console, picture: Picture, header: str) -> None:
        self._picture = picture
        self._header = header
        self._away = ""
        # Rich draws from a thread of its own; a row that changes while it is drawn is right the next time.
        self._live = Live(self, console=console, refresh_per_second=REFRESHES_PER_SECOND, transient=False)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def tell(self, event: Event) -> None:
        self._picture.tell(event)

    def tell_output(self, chunk: LogChunk) -> None:
        self._picture.tell_output(chunk)

    def tell_away(self, reason: str) -> None:
        self._away = f"no news for a while: {one_line(reason)}; still trying"

    def tell_back(self) -> None:
        self._away = ""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield from self.render(options, console.height, datetime.now(UTC))

    def render(self, options: ConsoleOptions, height: int, now: datetime) -> Iterator[Text]:
        """The lines of one drawing, each cut to the width and together no more than `height`."""
        yield _line(self._header, "bold")
        current = self._picture.current
        name_width = max((len(one_line(row.name)) for row in self._picture.rows), default=0)
        at_work = _at_work(self._picture)
        rows = _window(self._picture.rows, current, height - SHOWN_OUTPUT_LINES - 4)
        for row in rows:
            if isinstance(row, str):
                yield _line(f"  {row}", "dim")
                continue
            yield _row_line(row, name_width, now, ascii_only=options.ascii_only)
            if row in at_work:
                shown = list(row.tail)[-max(1, SHOWN_OUTPUT_LINES // len(at_work)) :]
                yield from (_line(f"      {line}", "dim") for line in shown)
        if self._away:
            yield _line(self._away, "yellow")


def _at_work(picture: Picture) -> list[Row]:
    """The current milestone, or those of its group that have not ended: their output is shown."""
    current = picture.current
    if current is None or current.mark in ENDED:
        return []
    beside = [row for row in picture.rows if row.is_grouped and row.mark is Mark.RUNNING]
    return beside if current in beside else [current]


def _window(rows: Sequence[Row], current: Row | None, limit: int) -> Iterator[Row | str]:
    """The rows that fit around the current one, and a word in place of those that do not."""
    size = max(3, limit)
    if len(rows) <= size:
        yield from rows
        return
    at = rows.index(current) if current else len(rows) - 1
    first = max(0, min(at - size // 2, len(rows) - size))
    if first:
        yield f"{first} earlier milestones"
    yield from rows[first : first + size]
    if left := len(rows) - first - size:
        yield f"{left} later milestones"


def _row_line(row: Row, name_width: int, now: datetime, *, ascii_only: bool) -> Text:
    symbol, style = _symbol(row.mark, now, ascii_only=ascii_only)
    seconds = row.elapsed_seconds(now)
    elapsed = duration_text(seconds) if seconds is not None else ""
    inherited = taken_over_text(row.taken_over_from) if row.taken_over_from else ""
    said = row.said or inherited or _WORDS.get(row.mark, "")
    line = Text.assemble(
        "| " if row.is_grouped else "  ", (symbol, style), f" {one_line(row.name):<{name_width}}  {elapsed:>10}  "
    )
    line.append(said, "dim" if row.mark is Mark.DONE else "yellow" if row.said else style)
    return _cut(line)


def _symbol(mark: Mark, now: datetime, *, ascii_only: bool) -> tuple[str, str]:
    if mark is Mark.RUNNING:
        frames = _ASCII_SPINNER if ascii_only else _SPINNER
        return frames[int(now.timestamp() * REFRESHES_PER_SECOND) % len(frames)], "cyan"
    symbol, plain, style = _SYMBOLS[mark]
    return (plain if ascii_only else symbol), style


def _line(text: str, style: str) -> Text:
    """Text is never read as markup: it may come from a worker."""
    return _cut(Text(text, style=style))


def _cut(text: Text) -> Text:
    text.no_wrap = True
    text.overflow = "ellipsis"
    return text

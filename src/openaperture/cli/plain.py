"""The plain view: one line as each thing happens, for files, pipes and terminals without colours."""

from collections.abc import Iterable
from datetime import datetime
from typing import TextIO

from openaperture.cli.echoes import Echoes
from openaperture.cli.picture import ENDS, Picture
from openaperture.cli.summary import Line
from openaperture.cli.untrusted import one_line, output_line
from openaperture.client.models import Event, LogChunk


class PlainView:
    """Writes no control codes. Every line is written out at once; of the end speaks the summary."""

    def __init__(self, stream: TextIO, picture: Picture) -> None:
        self._stream = stream
        self._picture = picture
        self._echoes = Echoes()

    def tell(self, event: Event) -> None:
        self._picture.tell(event)
        is_echo = self._echoes.is_one(event)
        if event.kind not in ENDS and not is_echo:
            self._write(f"{_clock(event.at)} {one_line(event.text)}")

    def tell_output(self, chunk: LogChunk) -> None:
        self._picture.tell_output(chunk)
        for line in chunk.lines:
            self._write(f"{_clock(chunk.at)} {one_line(chunk.milestone)} | {output_line(line)}")

    def tell_away(self, reason: str) -> None:
        self._write(f"no news for a while: {one_line(reason)}; still trying")

    def tell_back(self) -> None:
        self._write("the orchestrator answers again")

    def _write(self, line: str) -> None:
        print(line, file=self._stream, flush=True)


class OutputView:
    """Shows the output of workers and nothing else."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def tell(self, event: Event) -> None:
        """History is not output."""

    def tell_output(self, chunk: LogChunk) -> None:
        for line in chunk.lines:
            print(f"{one_line(chunk.milestone)} | {output_line(line)}", file=self._stream, flush=True)

    def tell_away(self, reason: str) -> None:
        """What is missing now is shown when it comes."""

    def tell_back(self) -> None:
        """Nothing was said of its absence."""


class SilentView:
    """Follows without a word: the result is told in another way."""

    def tell(self, event: Event) -> None: ...

    def tell_output(self, chunk: LogChunk) -> None: ...

    def tell_away(self, reason: str) -> None: ...

    def tell_back(self) -> None: ...


def write_lines(lines: Iterable[Line], stream: TextIO) -> None:
    """Lines without their styles."""
    for line in lines:
        print(line.text, file=stream, flush=True)


def _clock(at: datetime) -> str:
    return f"{at.astimezone():%H:%M:%S}"

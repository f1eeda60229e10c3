"""Runs the examples of a page of the documentation in their order, as a reader would, in one folder.

An HTML comment before a code block says what it is:

    example: file NAME            the block is this file
    example: append NAME          the block goes to the end of this file
    example: run                  commands for a shell, all of which succeed
    example: fails CODE           commands for a shell, the last of which ends with this exit code
    example: crash                as `run`, and the first service is killed after the first command
    example: service until TEXT   one command in a terminal of its own; ready when it writes TEXT
    example: shows                what the block before wrote; a line … stands for any lines
    example: settings             a configuration file that can be used

Times, durations, ids, hashes, names of workers and folders in `shows` stand for any of their kind.
"""

import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from openaperture.config import load
from tests.functional.command_line import Running, Site

TIMEOUT_SECONDS = 120.0
MARKED = re.compile(r"^<!-- example: (?P<what>[^>]+?) -->\n```\w*\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
STAND_FOR_ANY = (
    (re.compile(r"\d\d:\d\d:\d\d"), "TIME"),
    (re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"), "ID"),
    (re.compile(r"sha256:[0-9a-f]{64}"), "DIGEST"),
    (re.compile(r"[\w-]+\.[0-9a-f]{12}\b"), "WORKER"),
    (re.compile(r"\b([0-9a-f]{40}|[0-9a-f]{12})\b"), "COMMIT"),
    (re.compile(r"version [0-9a-f]{7}\b"), "VERSION"),
    (re.compile(r"(?<![\w.])/\S+"), "PATH"),
    (re.compile(r"(\d+ h )?(\d+ min )?\d+(\.\d+)? (s\b|second\(s\)|ms\b)"), "DURATION"),
    (re.compile(r" +"), " "),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One marked code block."""

    kind: str
    argument: str
    text: str


def examples_of(page: Path) -> list[Example]:
    """The marked blocks of a page, in order."""
    found = MARKED.finditer(page.read_text(encoding="utf-8"))
    words = [(*match["what"].partition(" "), match["text"]) for match in found]
    return [Example(kind=kind, argument=argument, text=text) for kind, _, argument, text in words]


def alike(line: str) -> str:
    """A line of output without what differs from run to run."""
    for pattern, name in STAND_FOR_ANY:
        line = pattern.sub(name, line)
    return line.strip()


def assert_shows(output: str, expected: str) -> None:
    """The expected lines follow each other in the output; a line … allows any between."""
    lines = [alike(line) for line in output.splitlines()]
    at, anything = 0, False
    for line in expected.splitlines():
        if line == "…":
            anything = True
            continue
        wanted = alike(line)
        here = lines.index(wanted, at) if wanted in lines[at:] else None
        assert here is not None, f"{wanted!r} does not come in\n" + "\n".join(lines[at:])
        assert anything or here == at, f"before {wanted!r} comes also {lines[at:here]}"
        at, anything = here + 1, False
    assert anything or at == len(lines), f"after the last line comes also {lines[at:]}"


@dataclass
class Reader:
    """Somebody who does what a page says. `stand_ins` replace names of the page by those of the test."""

    site: Site
    stand_ins: Mapping[str, str] = field(default_factory=dict[str, str])
    last_output: str = ""
    services: list[Running] = field(default_factory=list[Running])

    def follow(self, examples: Sequence[Example]) -> None:
        for example in examples:
            text = example.text
            for name, stand_in in self.stand_ins.items():
                text = text.replace(name, stand_in)
            self._do(example.kind, example.argument, text)

    def _do(self, kind: str, argument: str, text: str) -> None:
        match kind:
            case "file" | "append":
                self._write(argument, text, add=kind == "append")
            case "run":
                self._run(text, 0)
            case "fails":
                self._run(text, int(argument))
            case "crash":
                first, *others = text.splitlines(keepends=True)
                self._run(first, 0)
                self.services[0].stop(signal.SIGKILL)
                self._run("".join(others), 0)
            case "service":
                self._serve(text, argument.removeprefix("until "))
            case "shows":
                assert_shows(self.last_output, text)
            case "settings":
                self._load(text)
            case _:
                raise AssertionError(f"no example is of the kind {kind!r}")

    def _write(self, name: str, text: str, *, add: bool) -> None:
        path = self.site.folder / name
        path.parent.mkdir(exist_ok=True)
        before = path.read_text(encoding="utf-8") if add else ""
        path.write_text(before + text, encoding="utf-8")

    def _run(self, text: str, code: int) -> None:
        done = subprocess.run(
            ["bash", "-eu", "-c", self._remembering(text)],
            cwd=self.site.folder,
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
            text=True,
            timeout=TIMEOUT_SECONDS,
        )
        self.last_output = done.stdout
        assert done.returncode == code, f"{text}\nended with {done.returncode}:\n{done.stdout}"

    def _serve(self, text: str, ready: str) -> None:
        # The shell becomes the command, so that a signal reaches it.
        popen = subprocess.Popen(
            ["bash", "-eu", "-c", self._remembering(f"exec {text}")],
            cwd=self.site.folder,
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        running = Running(popen)
        self.site.started.append(running)
        self.services.append(running)
        running.wait_for(ready)

    def _remembering(self, text: str) -> str:
        """What one block assigns, the next ones find, as in one shell."""
        state = shlex.quote(str(self.site.folder / ".state"))
        return f"trap 'export -p > {state}' EXIT; set -a; [ ! -e {state} ] || . {state}\n{text}"

    def _environment(self) -> dict[str, str]:
        environment = self.site.environment()
        del environment["OPENAPERTURE_DATA_DIR"]
        identity = {
            f"GIT_{who}_{what}": value
            for who in ("AUTHOR", "COMMITTER")
            for what, value in (("NAME", "Ann"), ("EMAIL", "ann@example.test"))
        }
        programs = str(Path(sys.executable).parent)
        return {**environment, **identity, **self.site.variables, "PATH": f"{programs}:{environment['PATH']}"}

    def _load(self, text: str) -> None:
        path = self.site.folder / "example.toml"
        path.write_text(text, encoding="utf-8")
        load(path, environ={})

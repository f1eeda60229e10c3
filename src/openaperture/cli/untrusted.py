"""Text of workers and repositories, made safe for a terminal.

Build output may hold anything: colours, cursor movements, a title for the window, a line that overwrites the
one before it, text that reads right to left. What is shown keeps its letters and nothing else.
"""

import re
import unicodedata

MAX_LINE_CHARACTERS = 4096
"""Longer lines are cut; the Manager's API gives them whole."""

_ESCAPES = re.compile(
    r"""
      (?:\x1b\[|\x9b) [0-?]* [ -/]* [@-~]                         # CSI: colours, cursor, erase
    | (?:\x1b[\]PX^_]|[\x9d\x90\x98\x9e\x9f]) .*? (?:\x07|\x1b\\|\x9c|$)  # OSC, DCS, SOS, PM, APC with their text
    | \x1b [ -/]* [0-~]?                                          # any other escape
    """,
    re.VERBOSE | re.DOTALL,
)
_INVISIBLE = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Controls, formats (among them the marks that reverse text), lone surrogates, separators of lines."""
_TAB = "    "
_JOINERS = "\u200c\u200d"
"""Zero-width joiners: of the formats, the two that scripts and emoji need. They move nothing."""


def one_line(text: str) -> str:
    """The text as one line without controls. Several lines become one, with blanks between them."""
    return _visible(" ".join(text.split("\n"))).strip()


def output_line(line: str) -> str:
    """One line of output as a terminal would leave it: what stands after the last carriage return."""
    return _visible(line.rstrip("\r\n").rpartition("\r")[2])


def lines_of(text: str) -> list[str]:
    """The lines of a longer text, each made safe."""
    return [_visible(line) for line in text.splitlines()]


def _visible(text: str) -> str:
    plain = text if text.isascii() and text.isprintable() else _cleaned(text)
    return plain if len(plain) <= MAX_LINE_CHARACTERS else f"{plain[:MAX_LINE_CHARACTERS]} … (cut)"


def _cleaned(text: str) -> str:
    without_escapes = _ESCAPES.sub("", text).replace("\t", _TAB)
    return "".join(c for c in without_escapes if c in _JOINERS or unicodedata.category(c) not in _INVISIBLE)

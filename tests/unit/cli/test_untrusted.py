"""Text of others on our terminal."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openaperture.cli.untrusted import MAX_LINE_CHARACTERS, lines_of, one_line, output_line


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b[2J\x1b[1;1Hover", "over"),
        ("\x1b]0;a title\x07text", "text"),
        ("\x1b]8;;http://evil.test\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x9b31mred", "red"),
        ("\x1bPq#0\x1b\\after", "after"),
        ("a\tb", "a    b"),
        ("a\x00\x08\x7fb", "ab"),
        ("\u202egnp.exe", "gnp.exe"),
        ("line\u2028separator", "lineseparator"),
        ("\ud800", ""),
        ("grüße 世界 👩\u200d💻", "grüße 世界 👩\u200d💻"),
        ("[bold]no markup[/bold]", "[bold]no markup[/bold]"),
    ],
)
def test_only_letters_are_left(written: str, shown: str) -> None:
    assert one_line(written) == shown


def test_a_progress_bar_is_shown_as_it_ended() -> None:
    assert output_line("10 %\r 50 %\r100 %\r\n") == "100 %"


def test_one_line_is_one_line() -> None:
    assert one_line("two\nlines\r\n") == "two lines"


def test_lines_stay_lines() -> None:
    assert lines_of("one\n\x1b[1mtwo\n") == ["one", "two"]


def test_a_very_long_line_is_cut_and_says_so() -> None:
    shown = output_line("x" * 100_000)
    assert shown.startswith("x" * MAX_LINE_CHARACTERS)
    assert shown.endswith("… (cut)")
    assert len(shown) < MAX_LINE_CHARACTERS + 20


@given(st.text(alphabet=st.characters(), max_size=200))
def test_whatever_is_written_nothing_that_steers_is_left(text: str) -> None:
    for shown in (one_line(text), output_line(text)):
        categories = {unicodedata.category(char) for char in shown if char not in "\u200c\u200d"}
        assert not categories & {"Cc", "Cf", "Cs", "Zl", "Zp"}
        shown.encode()

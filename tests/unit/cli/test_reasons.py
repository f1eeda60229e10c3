"""Explanations as lines for people."""

from typing import Any

import pytest

from openaperture.cli.reasons import told
from openaperture.client.models import Explanation
from tests.unit.cli.told import BEGIN, at

WHEN = f"{BEGIN.astimezone():%Y-%m-%d %H:%M:%S %z}"


def lines(code: str, **details: Any) -> list[str]:
    return list(told(Explanation(code=code, text="because", until=BEGIN, details=details)))


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("lock", "fails if it has not got it by"),
        ("approval", "fails if nobody has decided by"),
        ("running", "looked at again by itself at"),
    ],
)
def test_the_instant_of_an_explanation_says_what_happens_then(code: str, words: str) -> None:
    assert lines(code) == [f"{code}: because", f"{words}: {WHEN}"]


def test_locks_are_told_in_words() -> None:
    kept = {"name": "prod", "holder": "41f", "since": at(0).isoformat(), "kept": "lost", "ahead": 2}
    free = {"name": "qa", "holder": None, "since": None, "kept": None, "ahead": 0}
    assert lines("lock", locks=[kept, free])[2:] == [
        f"lock: prod: workflow 41f has it since {WHEN}, kept after its end: lost; 2 before this one in the queue",
        "lock: qa: nobody has it; none before this one in the queue",
    ]


def test_what_is_not_there_has_no_line_and_lists_are_one_line() -> None:
    at_work = [{"worker": "w-1", "since": BEGIN.isoformat()}, {"worker": "w-2", "since": BEGIN.isoformat()}]
    found = lines("pickup", queue="builder", exchange=None, at_work=at_work, approved_by=[], milestones=["a", "b"])
    assert found[2:] == [
        "queue: builder",
        f"run now: worker w-1, since {WHEN}, worker w-2, since {WHEN}",
        "milestones: a, b",
    ]


def test_the_text_of_others_is_one_line_without_controls() -> None:
    found = lines("outbox", error="no\n\x1b[2Jway", again_at=BEGIN.isoformat())
    assert found[2:] == ["error: no way"]

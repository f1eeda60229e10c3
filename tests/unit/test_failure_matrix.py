"""Every row of the catalogue of faults has a test, and the document says which."""

import re
from pathlib import Path

from tests.failure_catalogue import CATALOGUE
from tests.failure_matrix import DOCUMENT, render, shown_by


def test_the_catalogue_has_every_number_once_and_says_what_is_wrong_and_what_must_be_true() -> None:
    assert sorted(CATALOGUE) == [f"F{number:02}" for number in range(1, 67)]
    assert [number for number, fault in CATALOGUE.items() if not (fault.wrong and fault.must)] == []


def test_every_row_has_a_test_and_every_mark_a_row() -> None:
    shown = shown_by()
    assert sorted(set(shown) - set(CATALOGUE)) == []
    assert sorted(set(CATALOGUE) - set(shown)) == [], "show these by a test, and mark it"


def test_the_document_is_what_the_marks_say() -> None:
    assert DOCUMENT.read_text(encoding="utf-8") == render(shown_by()), "run make matrix"


def test_marks_are_found_wherever_they_stand(tmp_path: Path) -> None:
    tests = tmp_path / "tests"
    (tests / "fault").mkdir(parents=True)
    (tests / "fault" / "test_it.py").write_text(
        '@pytest.mark.fault("F01", "F02")\n@pytest.mark.timeout(5)\nasync def test_one() -> None: ...\n\n'
        '@pytest.mark.parametrize("x", [1])\n@pytest.mark.fault("F02")\ndef test_two(x: int) -> None: ...\n\n'
        "def test_three() -> None: ...\n"
    )
    assert shown_by(tests) == {
        "F01": ["tests/fault/test_it.py::test_one"],
        "F02": ["tests/fault/test_it.py::test_one", "tests/fault/test_it.py::test_two"],
    }


def test_every_fault_that_a_test_speaks_of_exists() -> None:
    spoken = {
        number
        for file in Path(__file__).parents[1].rglob("*.py")
        for number in re.findall(r"\bF\d\d\b", file.read_text(encoding="utf-8"))
    }
    assert sorted(spoken - set(CATALOGUE)) == []

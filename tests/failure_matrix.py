"""Which test shows which fault: `@pytest.mark.fault("F05", …)` on tests, and the document made from it.

`python -m tests.failure_matrix` writes docs/explanation/failure-matrix.md. As a plugin of pytest it says at
the end of a run which rows were not shown by it, because a test of theirs failed or was skipped.
"""

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.failure_catalogue import CATALOGUE, SECTIONS

TESTS = Path(__file__).parent
DOCUMENT = TESTS.parent / "docs" / "explanation" / "failure-matrix.md"
MARK = "fault"
_HEAD = """# Failure matrix

What can go wrong, what must then be true, and the tests that show it. Made by `make matrix` from the marks on the
tests; a test fails when it is stale, or when a row has no test.

[What is promised](promises.md) is the same for users. `make chaos` strikes the parts for an hour, and judges what
is left.
"""


# ------------------------------------------------------------------------------------ the marks


def shown_by(tests: Path = TESTS) -> dict[str, list[str]]:
    """Fault -> the tests that are marked with it, as file::name, in the order of their files."""
    found: dict[str, list[str]] = {}
    for file in sorted(tests.rglob("test_*.py")):
        for name, faults in _marked_in(ast.parse(file.read_text(encoding="utf-8"))):
            for fault in faults:
                found.setdefault(fault, []).append(f"{file.relative_to(tests.parent)}::{name}")
    return found


def _marked_in(module: ast.Module) -> Iterator[tuple[str, list[str]]]:
    for node in module.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            faults = [fault for decorator in node.decorator_list for fault in _faults_of(decorator)]
            if faults:
                yield node.name, faults


def _faults_of(decorator: ast.expr) -> list[str]:
    """The arguments of `pytest.mark.fault(…)`. What is no text gives a name that no row has."""
    if not isinstance(decorator, ast.Call) or ast.unparse(decorator.func) != f"pytest.mark.{MARK}":
        return []
    return [str(each.value) if isinstance(each, ast.Constant) else ast.unparse(each) for each in decorator.args]


# --------------------------------------------------------------------------------- the document


def render(shown: Mapping[str, list[str]]) -> str:
    lines = [_HEAD]
    for title, rows in SECTIONS.items():
        lines += [f"## {title}\n", "| | what goes wrong | what must be true | shown by |", "|---|---|---|---|"]
        for number, fault in rows.items():
            tests = "<br>".join(f"`{test}`" for test in shown.get(number, []))
            lines.append(f"| {number} | {fault.wrong} | {fault.must} | {tests} |")
        lines.append("")
    return "\n".join(lines)


def main() -> None:
    DOCUMENT.write_text(render(shown_by()), encoding="utf-8")


# ----------------------------------------------------------------------------------- the plugin


class FailureMatrix:
    """Remembers how the marked tests of a run went."""

    def __init__(self) -> None:
        self._passed: set[str] = set()
        self._unshown: dict[str, list[str]] = {}

    @pytest.hookimpl
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        for item in items:
            for mark in item.iter_markers(MARK):
                # Properties travel with the reports, also from the processes of xdist.
                item.user_properties += [(MARK, fault) for fault in mark.args]

    @pytest.hookimpl
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        for name, fault in report.user_properties:
            if name != MARK:
                continue
            if report.failed or report.skipped:
                self._unshown.setdefault(str(fault), []).append(report.nodeid)
            elif report.when == "call":
                self._passed.add(str(fault))

    @pytest.hookimpl
    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        met = self._passed | set(self._unshown)
        if not met:
            return
        shown = len(self._passed - set(self._unshown))
        terminalreporter.write_line(f"failure matrix: {shown} of {len(CATALOGUE)} rows shown by this run")
        for fault, tests in sorted(self._unshown.items()):
            terminalreporter.write_line(f"{fault} is not shown: {', '.join(tests)}")


if __name__ == "__main__":
    main()

"""From what went wrong to a sentence and an exit code."""

from pathlib import Path

import pytest

from openaperture.cli.boundary import DEBUG_VARIABLE, guard
from openaperture.domain.errors import (
    AccessRefused,
    BadReference,
    BrokerUnavailable,
    ConfigError,
    OpenApertureError,
    StoreUnavailable,
    UnknownWorkflow,
    WrongState,
)

LOG = Path("/var/log/openaperture.log")


def code_of(error: BaseException) -> int:
    def action() -> int:
        raise error

    return guard(action, lambda _: LOG)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (BadReference("sentence"), 2),
        (UnknownWorkflow("sentence"), 2),
        (WrongState("sentence"), 2),
        (AccessRefused("sentence"), 2),
        (ConfigError(["sentence"]), 2),
        (StoreUnavailable("sentence"), 5),
        (BrokerUnavailable("sentence"), 5),
        (OpenApertureError("sentence"), 1),
    ],
)
def test_an_error_of_ours_is_its_sentence_and_a_code(
    error: OpenApertureError, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert code_of(error) == code
    assert capsys.readouterr().err == "openaperture: sentence\n"


def test_the_result_of_a_command_that_raises_nothing_is_its_code() -> None:
    assert guard(lambda: 4, lambda _: LOG) == 4


def test_every_problem_of_the_configuration_has_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert code_of(ConfigError(["one", "two\x1b[2J\nlines"])) == 2
    assert capsys.readouterr().err == "openaperture: one\nopenaperture: two lines\n"


def test_errors_that_came_together_are_told_once_each(capsys: pytest.CaptureFixture[str]) -> None:
    away = "the store is away"
    inner = ExceptionGroup("services", [StoreUnavailable(away), StoreUnavailable(away)])
    assert code_of(ExceptionGroup("process", [inner, BrokerUnavailable("so is the broker")])) == 5
    assert capsys.readouterr().err == "openaperture: the store is away\nopenaperture: so is the broker\n"


def test_an_unexpected_error_says_where_the_details_are_and_not_what_they_are(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert code_of(ValueError("postgresql://me:hunter2@host/")) == 70
    [line] = capsys.readouterr().err.splitlines()
    assert "ValueError" in line
    assert str(LOG) in line
    assert "hunter2" not in line


def test_before_there_is_a_log_the_details_are_had_by_a_variable(capsys: pytest.CaptureFixture[str]) -> None:
    def action() -> int:
        raise ValueError

    assert guard(action, lambda _: None) == 70
    assert f"{DEBUG_VARIABLE}=1" in capsys.readouterr().err


def test_the_variable_shows_the_traceback(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(DEBUG_VARIABLE, "1")
    assert code_of(ValueError("details")) == 70
    assert "Traceback" in capsys.readouterr().err


def test_ctrl_c_is_no_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert code_of(KeyboardInterrupt()) == 130
    assert capsys.readouterr().err == ""

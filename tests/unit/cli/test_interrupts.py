"""Signals while something is followed."""

import asyncio
import os
import signal

import pytest

from openaperture.cli.boundary import guard
from openaperture.cli.interrupts import Interrupted, until_interrupted


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_first_signal_ends_the_work_and_leaves_the_command_its_say(number: signal.Signals, code: int) -> None:
    said: list[str] = []

    async def work() -> None:
        os.kill(os.getpid(), number)
        try:
            await asyncio.Event().wait()
        finally:
            said.append("cleaned up")

    async def command() -> int:
        try:
            await until_interrupted(work())
        except Interrupted as stop:
            said.append("had its say")
            return stop.exit_code
        return 0

    assert guard(lambda: asyncio.run(command()), lambda _: None) == code
    assert said == ["cleaned up", "had its say"]


def test_a_second_signal_ends_the_command_without_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    async def work() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.Event().wait()

    async def command() -> int:
        try:
            await until_interrupted(work())
        except Interrupted:
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.Event().wait()
        return 0

    assert guard(lambda: asyncio.run(command()), lambda _: None) == 130
    assert capsys.readouterr().err == ""


def test_work_that_ends_by_itself_gives_its_result() -> None:
    async def work() -> int:
        return 4

    assert asyncio.run(until_interrupted(work())) == 4

"""One question for many, whatever becomes of the one who asks it."""

import asyncio

import pytest

from openaperture.client.single_flight import SingleFlight


class Question:
    """Answers when told to."""

    def __init__(self) -> None:
        self.asked = 0
        self.answer = asyncio.Event()
        self.arrived = asyncio.Event()
        self.error: BaseException | None = None

    async def __call__(self) -> int:
        self.asked += 1
        self.arrived.set()
        await self.answer.wait()
        if self.error is not None:
            raise self.error
        return self.asked


async def asked_by(number: int, flight: SingleFlight, question: Question) -> list["asyncio.Task[int]"]:
    """So many callers, all of them waiting."""
    tasks = [asyncio.ensure_future(flight.ask("key", question)) for _ in range(number)]
    await question.arrived.wait()
    await asyncio.sleep(0)
    return tasks


async def test_those_who_ask_together_share_one_answer() -> None:
    question = Question()
    tasks = await asked_by(10, SingleFlight(), question)
    question.answer.set()
    assert await asyncio.gather(*tasks) == [1] * 10


async def test_other_keys_are_other_questions_and_later_ones_are_asked_anew() -> None:
    question, flight = Question(), SingleFlight()
    question.answer.set()
    assert [await flight.ask("a", question), await flight.ask("b", question), await flight.ask("a", question)] == [
        1,
        2,
        3,
    ]


async def test_they_share_an_error_too() -> None:
    question = Question()
    tasks = await asked_by(5, SingleFlight(), question)
    question.error = ValueError("no")
    question.answer.set()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert [repr(outcome) for outcome in outcomes] == ["ValueError('no')"] * 5
    assert question.asked == 1


async def test_when_the_one_who_asks_is_cancelled_another_asks() -> None:
    question = Question()
    first, *others = await asked_by(5, SingleFlight(), question)
    first.cancel()
    question.arrived.clear()
    await question.arrived.wait()
    question.answer.set()
    assert await asyncio.gather(*others) == [2] * 4
    with pytest.raises(asyncio.CancelledError):
        await first


async def test_one_who_waits_can_leave_without_harm() -> None:
    question = Question()
    first, second, third = await asked_by(3, SingleFlight(), question)
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    question.answer.set()
    assert (await first, await third) == (1, 1)


async def test_nobody_waits_for_ever_when_the_one_who_asks_is_torn_down() -> None:
    class TornDown(BaseException):
        pass

    async def tear_down() -> int:
        raise TornDown

    question, flight = Question(), SingleFlight()
    question.answer.set()
    with pytest.raises(TornDown):
        await flight.ask("key", tear_down)
    assert await flight.ask("key", question) == 1

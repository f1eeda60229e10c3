"""How a process ends: in order, within its grace, at once when told twice, and with the error of a service."""

import asyncio
import os
import signal
from contextlib import suppress

import pytest

from openaperture.runtime.supervisor import Service, Supervisor
from tests.contract.brokers import Events

PATIENCE_SECONDS = 10.0
LONG_SECONDS = 3_600.0


class Loop:
    """A service that runs until it is drained, and writes down in a journal what happens to it."""

    def __init__(self, name: str, journal: list[str], *, stubborn: bool = False) -> None:
        """A stubborn one goes on when it is drained: only force ends it."""
        self.name = name
        self.started = asyncio.Event()
        self.asked = asyncio.Event()
        self.done = asyncio.Event()
        self.broken: Exception | None = None
        self._journal = journal
        self._stubborn = stubborn

    async def run(self) -> None:
        self.started.set()
        try:
            await self.done.wait()
        except asyncio.CancelledError:
            self._journal.append(f"{self.name} cancelled")
            raise
        if self.broken:
            raise self.broken
        self._journal.append(f"{self.name} done")

    async def drain(self) -> None:
        self._journal.append(f"{self.name} drained")
        self.asked.set()
        if not self._stubborn:
            self.done.set()

    def service(self) -> Service:
        return Service(name=self.name, run=self.run, drain=self.drain)


class Process:
    """A supervisor over loops, running."""

    def __init__(self, *loops: Loop, grace_seconds: float = LONG_SECONDS, handle_signals: bool = False) -> None:
        self.events = Events()
        self._loops = loops
        self.supervisor = Supervisor([loop.service() for loop in loops], self.events, grace_seconds=grace_seconds)
        self._task = asyncio.ensure_future(self.supervisor.run(handle_signals=handle_signals))

    async def started(self) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            for loop in self._loops:
                await loop.started.wait()

    async def ended(self) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            await self._task

    @property
    def is_running(self) -> bool:
        return not self._task.done()


async def test_services_are_drained_in_their_order_each_when_the_one_before_is_done() -> None:
    journal: list[str] = []
    first, second, third = (Loop(name, journal) for name in ("intake", "relay", "broker"))
    process = Process(first, second, third)
    await process.started()
    process.supervisor.stop()
    await process.ended()
    assert journal == [
        "intake drained", "intake done", "relay drained", "relay done", "broker drained", "broker done",
    ]  # fmt: skip
    assert process.events.count("process.draining") == 1
    assert process.events.count("process.forced") == 0


async def test_a_service_that_others_need_stays_while_they_finish() -> None:
    journal: list[str] = []
    slow, needed = Loop("intake", journal, stubborn=True), Loop("broker", journal)
    process = Process(slow, needed)
    await process.started()
    process.supervisor.stop()
    async with asyncio.timeout(PATIENCE_SECONDS):
        await slow.asked.wait()
    assert not needed.asked.is_set()
    slow.done.set()
    await process.ended()
    assert journal == ["intake drained", "intake done", "broker drained", "broker done"]


async def test_the_end_of_the_grace_period_forces_and_says_what_was_still_running() -> None:
    journal: list[str] = []
    stuck, behind = Loop("intake", journal, stubborn=True), Loop("broker", journal)
    process = Process(stuck, behind, grace_seconds=0.01)
    await process.started()
    process.supervisor.stop()
    await process.ended()
    assert (await process.events.wait_for("process.forced"))["running"] == ["intake", "broker"]
    assert sorted(journal) == ["broker cancelled", "intake cancelled", "intake drained"]


async def test_a_second_stop_forces_at_once() -> None:
    journal: list[str] = []
    stuck = Loop("intake", journal, stubborn=True)
    process = Process(stuck)
    await process.started()
    process.supervisor.stop()
    async with asyncio.timeout(PATIENCE_SECONDS):
        await stuck.asked.wait()
    assert process.is_running
    process.supervisor.stop()
    await process.ended()
    assert journal == ["intake drained", "intake cancelled"]


async def test_a_service_that_raises_ends_the_process_with_its_error() -> None:
    journal: list[str] = []
    bad, good = Loop("intake", journal), Loop("relay", journal)
    process = Process(bad, good)
    await process.started()
    bad.broken = RuntimeError("a bug")
    bad.done.set()
    with pytest.raises(ExceptionGroup) as caught:
        await process.ended()
    assert [str(error) for error in caught.value.exceptions] == ["a bug"]
    assert journal == ["relay cancelled"]


async def test_a_service_that_raises_while_it_drains_ends_the_process_with_its_error() -> None:
    journal: list[str] = []
    bad, behind = Loop("intake", journal), Loop("broker", journal)
    bad.broken = RuntimeError("a bug at the end")
    process = Process(bad, behind)
    await process.started()
    process.supervisor.stop()
    with pytest.raises(ExceptionGroup) as caught:
        await process.ended()
    assert [str(error) for error in caught.value.exceptions] == ["a bug at the end"]


async def test_a_service_that_ended_by_itself_does_not_hold_up_the_drain() -> None:
    journal: list[str] = []
    early, late = Loop("manager", journal), Loop("relay", journal)
    process = Process(early, late)
    await process.started()
    early.done.set()
    process.supervisor.stop()
    await process.ended()
    assert journal[-2:] == ["relay drained", "relay done"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.fault("F13")
async def test_a_signal_drains_a_second_one_forces_and_then_they_have_their_usual_meaning(
    number: signal.Signals,
) -> None:
    journal: list[str] = []
    before = signal.getsignal(number)
    stuck = Loop("intake", journal, stubborn=True)
    process = Process(stuck, handle_signals=True)
    await process.started()
    try:
        os.kill(os.getpid(), number)
        async with asyncio.timeout(PATIENCE_SECONDS):
            await stuck.asked.wait()
        os.kill(os.getpid(), number)
        await process.ended()
        assert signal.getsignal(number) in {signal.SIG_DFL, signal.default_int_handler}
    finally:
        signal.signal(number, before)
    assert journal == ["intake drained", "intake cancelled"]


async def test_a_cancelled_supervisor_cancels_its_services() -> None:
    journal: list[str] = []
    loop = Loop("intake", journal)
    supervisor = Supervisor([loop.service()], Events(), grace_seconds=LONG_SECONDS)
    task = asyncio.ensure_future(supervisor.run())
    await loop.started.wait()
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    assert task.cancelled()
    assert journal == ["intake cancelled"]

"""The worker SDK on a real broker of either kind, against a desk that plays the orchestrator's side.

The desk answers what it is told to, so that the tests see exactly what a worker says, and when.
"""

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from openaperture.codecs import json as json_codec
from openaperture.domain import messages as m
from openaperture.domain.milestones import OnLoss
from openaperture.ports import Address, Broker, Message
from openaperture.worker import Context, MilestoneFailed, Worker, run
from openaperture.worker.context import MAX_PENDING_LINES
from tests.contract.brokers import AmqpSite, BrokerSite, EmbeddedSite, Events, until, until_depth

PATIENCE_SECONDS = 20.0
Answering = Callable[[m.AnyCallback], str | None]
"""What to answer a claim or heartbeat: a verdict, or None for silence."""


@pytest.fixture(params=["embedded", "amqp"])
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Generator[BrokerSite]:
    if request.param == "embedded":
        yield EmbeddedSite(tmp_path / "broker.db")
        return
    amqp = AmqpSite(request.getfixturevalue("amqp_url"))
    yield amqp
    amqp.delete_queues()


def always_run(_callback: m.AnyCallback) -> str:
    return "run"


@dataclass
class Desk:
    """Sends requests, answers claims and heartbeats, and keeps what it hears."""

    broker: Broker
    requests: str
    callbacks: str
    answering: Answering = always_run
    heard: list[m.AnyCallback] = field(default_factory=list[m.AnyCallback])
    news: asyncio.Event = field(default_factory=asyncio.Event)

    async def ask(
        self, milestone: str = "build", workflow: str = "w1", number: int = 1, **fields: Any
    ) -> m.Request:
        request = m.Request(
            id=workflow,
            milestones=[milestone],
            current_step=milestone,
            attempt_token=f"token.{workflow}.{milestone}.{number}",
            attempt=m.AttemptInfo(milestone=milestone, position=0, generation=0, number=number),
            idempotency_key=f"{workflow}.0.0",
            inputs={"config": {"stage": "test"}},
            timeout_seconds=60.0,
            heartbeat_seconds=fields.pop("heartbeat_seconds", 3.0),
            callback_exchange="",
            callback_routing_key=self.callbacks,
            **fields,
        )
        await self.send(json_codec.encode(request))
        return request

    async def send(self, body: bytes) -> None:
        await self.broker.publish(Address(routing_key=self.requests), Message(body=body))

    async def answer(self, request: m.Request, reply_to: str, verdict: str, reason: str = "") -> None:
        answer = m.Answer(
            workflow_id=request.id, attempt_token=request.attempt_token, verdict=verdict, reason=reason
        )
        await self.broker.publish(Address(routing_key=reply_to), Message(body=json_codec.encode(answer)))

    async def listen(self) -> None:
        consumer = await self.broker.consume(self.callbacks, prefetch=100)
        while True:
            for delivery in await consumer.receive(100):
                callback = json_codec.decode_incoming(delivery.message.body)
                assert not isinstance(callback, m.StartMessage)
                self.heard.append(callback)
                self.news.set()
                await consumer.ack([delivery])
                reply_to = getattr(callback, "reply_to", None)
                verdict = self.answering(callback) if reply_to else None
                if reply_to and verdict:
                    answer = m.Answer(
                        workflow_id=callback.workflow_id, attempt_token=callback.attempt_token, verdict=verdict
                    )
                    address = Address(routing_key=reply_to)
                    await self.broker.publish(address, Message(body=json_codec.encode(answer)))

    def of(self, kind: type, workflow: str | None = None) -> list[Any]:
        return [x for x in self.heard if isinstance(x, kind) and workflow in {None, x.workflow_id}]

    async def hear(self, kind: type, times: int = 1, workflow: str | None = None) -> Any:
        """The `times`-th callback of this kind."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while len(found := self.of(kind, workflow)) < times:
                self.news.clear()
                await self.news.wait()
        return found[times - 1]


@asynccontextmanager
async def desk_and_worker(
    site: BrokerSite, answering: Answering = always_run, **options: Any
) -> AsyncGenerator[tuple[Desk, Worker, Events]]:
    """A worker that serves; register its handlers before the first request."""
    events = Events()
    async with site.open() as broker:
        desk = Desk(broker, site.queue(), site.queue(), answering)
        for queue in (desk.requests, desk.callbacks):
            await broker.declare(queue)
        worker = Worker(queue=desk.requests, observer=events, **options)
        async with asyncio.TaskGroup() as tasks:
            listening = tasks.create_task(desk.listen())
            serving = tasks.create_task(worker.serve(broker))
            await events.wait_for("worker.ready")
            yield desk, worker, events
            async with asyncio.timeout(PATIENCE_SECONDS):
                await worker.drain()
                await serving
            listening.cancel()


class Gate:
    """Holds handlers inside until it is opened; counts how many are in."""

    def __init__(self) -> None:
        self.inside = 0
        self.begun = 0
        self.entered = asyncio.Event()
        self.open = asyncio.Event()

    async def __call__(self, _context: Context) -> None:
        self.inside += 1
        self.begun += 1
        self.entered.set()
        try:
            await self.open.wait()
        finally:
            self.inside -= 1


# ------------------------------------------------------------------------------------ one request


async def test_a_milestone_is_claimed_run_and_reported_with_its_outputs(site: BrokerSite) -> None:
    async with desk_and_worker(site) as (desk, worker, _):

        @worker.milestone("build")
        async def build(context: Context) -> dict[str, str]:
            context.log("compiling\nlinking")
            context.notify("half way")
            context.source_commit_hash = "0" * 40
            return {"stage": context.inputs["config"]["stage"], "key": context.idempotency_key}

        request = await desk.ask()
        done = await desk.hear(m.Completed)
        assert done.outputs == {"stage": "test", "key": request.idempotency_key}
        assert done.source_commit_hash == "0" * 40
        assert {x.attempt_token for x in desk.heard} == {request.attempt_token}
        assert [line for log in desk.of(m.Log) for line in log.lines] == ["compiling", "linking"]
        assert [note.text for note in desk.of(m.Note)] == ["half way"]
        assert isinstance(desk.heard[0], m.Accepted)
        assert isinstance(desk.heard[-1], m.Completed)
        await until_depth(desk.broker, desk.requests, 0)


async def test_a_plain_function_runs_in_a_thread_and_its_exception_is_the_reason(site: BrokerSite) -> None:
    async with desk_and_worker(site) as (desk, worker, events):

        @worker.milestone("build")
        def build(_context: Context) -> None:
            assert threading.current_thread() is not threading.main_thread()
            raise KeyError("disk")

        await desk.ask()
        failed = await desk.hear(m.Failed)
        assert failed.message == "KeyError: 'disk'"
        assert not failed.interrupted
        assert isinstance((await events.wait_for("handler.failed"))["error"], KeyError)


async def test_an_object_that_is_called_like_a_coroutine_is_one(site: BrokerSite) -> None:
    async with desk_and_worker(site) as (desk, worker, _):
        gate = Gate()
        gate.open.set()
        worker.milestone("build")(gate)
        await desk.ask()
        await desk.hear(m.Completed)
        assert gate.begun == 1


async def test_a_failure_that_says_so_is_told_without_a_traceback(site: BrokerSite) -> None:
    async with desk_and_worker(site) as (desk, worker, events):

        @worker.milestone("build")
        async def build(_context: Context) -> None:
            raise MilestoneFailed("the tests do not pass")

        await desk.ask()
        assert (await desk.hear(m.Failed)).message == "the tests do not pass"
        assert events.count("handler.failed") == 0


async def test_a_milestone_without_a_handler_fails_and_says_which_there_are(site: BrokerSite) -> None:
    async with desk_and_worker(site) as (desk, worker, _):
        worker.milestone("build")(Gate())
        await desk.ask("paint")
        assert 'no handler for milestone "paint" (it has build)' in (await desk.hear(m.Failed)).message


@pytest.mark.parametrize(
    ("outputs", "problem"),
    [
        ({"x" * 65: "1"}, "output name"),
        ({"log": "x" * 4_097}, '"log" is no text of at most'),
        ({"log": "half \ud800"}, '"log" is no text'),
        ({f"n{i}": "" for i in range(65)}, "65 outputs"),
        ({"number": 1}, '"number" is no text'),
    ],
)
async def test_outputs_that_cannot_be_passed_on_fail_the_milestone(
    site: BrokerSite, outputs: dict[str, Any], problem: str
) -> None:
    async with desk_and_worker(site) as (desk, worker, _):

        @worker.milestone("build")
        async def build(_context: Context) -> dict[str, str]:
            return outputs

        await desk.ask()
        assert problem in (await desk.hear(m.Failed)).message


async def test_text_that_json_cannot_carry_is_replaced_and_long_lines_are_cut(site: BrokerSite) -> None:
    async with desk_and_worker(site) as (desk, worker, _):

        @worker.milestone("build")
        async def build(context: Context) -> None:
            context.log("nul \x00 half \ud800")
            context.log("x" * 100_000)
            raise ValueError("bad \x00 \udfff")

        await desk.ask()
        failed = await desk.hear(m.Failed)
        assert "\x00" not in failed.message
        lines = [line for log in desk.of(m.Log) for line in log.lines]
        assert lines[0] == "nul \N{REPLACEMENT CHARACTER} half ?"
        assert len(lines[1]) == 4_000


async def test_a_flood_of_output_is_bounded_and_the_dropped_lines_are_counted(site: BrokerSite) -> None:
    async with desk_and_worker(site) as (desk, worker, _):

        @worker.milestone("build")
        def build(context: Context) -> None:
            for number in range(2 * MAX_PENDING_LINES):
                context.log(f"line {number}")

        await desk.ask()
        await desk.hear(m.Completed)
        lines = [line for log in desk.of(m.Log) for line in log.lines]
        dropped = [int(line[1:].split()[0]) for line in lines if line.startswith("[")]
        assert sum(dropped) + len(lines) - len(dropped) == 2 * MAX_PENDING_LINES
        sequences = [log.sequence for log in desk.of(m.Log)]
        assert sequences == list(range(1, len(sequences) + 1))


# -------------------------------------------------------------------------------- claims and repeats


async def test_a_void_claim_is_dropped_and_nothing_runs(site: BrokerSite) -> None:
    async with desk_and_worker(site, lambda _: "void") as (desk, worker, _):
        gate = Gate()
        worker.milestone("build")(gate.__call__)
        await desk.ask()
        await desk.hear(m.Accepted)
        await until_depth(desk.broker, desk.requests, 0)
    assert gate.begun == 0
    assert len(desk.heard) == 1


async def test_a_claim_whose_answer_is_lost_is_made_again(site: BrokerSite) -> None:
    claims: list[m.AnyCallback] = []

    def lose_the_first(callback: m.AnyCallback) -> str | None:
        claims.append(callback)
        return "run" if len(claims) > 1 else None

    async with desk_and_worker(site, lose_the_first) as (desk, worker, _):

        @worker.milestone("build")
        async def build(_context: Context) -> None: ...

        await desk.ask()
        await desk.hear(m.Completed)
        assert len(desk.of(m.Accepted)) == 2


@pytest.mark.fault("F61")
async def test_the_same_attempt_twice_runs_once(site: BrokerSite) -> None:
    async with desk_and_worker(site, slots=2) as (desk, worker, events):
        gate = Gate()
        worker.milestone("build")(gate.__call__)
        await desk.ask()
        await gate.entered.wait()
        await desk.ask()
        await events.wait_for("request.repeated")
        gate.open.set()
        await desk.hear(m.Completed)
        await desk.ask()
        await events.wait_for("request.repeated", 2)
    assert gate.begun == 1
    assert len(desk.of(m.Completed)) == 1


@pytest.mark.fault("F61")
async def test_another_attempt_of_what_runs_here_is_adopted(site: BrokerSite) -> None:
    """The orchestrator had lost sight of the worker: the effect must still happen once (F61)."""
    async with desk_and_worker(site, slots=2) as (desk, worker, _):
        gate = Gate()
        worker.milestone("build")(gate.__call__)
        await desk.ask(number=1)
        await gate.entered.wait()
        second = await desk.ask(number=2)
        await desk.hear(m.Accepted, 2)
        await until_depth(desk.broker, desk.requests, 0)
        beat = await desk.hear(m.Heartbeat, 1)
        while beat.attempt_token != second.attempt_token:
            beat = await desk.hear(m.Heartbeat, len(desk.of(m.Heartbeat)) + 1)
        gate.open.set()
        assert (await desk.hear(m.Completed)).attempt_token == second.attempt_token
    assert gate.begun == 1


@pytest.mark.fault("F61")
async def test_another_attempt_of_what_was_done_here_gets_the_same_result(site: BrokerSite) -> None:
    async with desk_and_worker(site) as (desk, worker, _):
        runs: list[str] = []

        @worker.milestone("build")
        async def build(context: Context) -> dict[str, str]:
            runs.append(context.idempotency_key)
            return {"run": str(len(runs))}

        await desk.ask(number=1)
        await desk.hear(m.Completed)
        second = await desk.ask(number=2)
        again = await desk.hear(m.Completed, 2)
        assert again.attempt_token == second.attempt_token
        assert again.outputs == {"run": "1"}


async def test_a_message_that_is_no_request_is_dead_lettered_and_the_next_is_served(site: BrokerSite) -> None:
    async with desk_and_worker(site) as (desk, worker, _):

        @worker.milestone("build")
        async def build(_context: Context) -> None: ...

        for body in (b"", b"\x83h", b"{}", b"[" * 100_000):
            await desk.send(body)
        await desk.ask()
        await desk.hear(m.Completed)
        await until_depth(desk.broker, f"{desk.requests}_error", 4)


# ------------------------------------------------------------------------------------- being told


@pytest.mark.parametrize("verdict", ["cancel", "void"])
@pytest.mark.fault("F59", "F60")
async def test_an_answer_stops_a_coroutine(site: BrokerSite, verdict: str) -> None:
    def answering(callback: m.AnyCallback) -> str:
        return "run" if isinstance(callback, m.Accepted) else verdict

    async with desk_and_worker(site, answering) as (desk, worker, events):
        gate = Gate()
        worker.milestone("build")(gate.__call__)
        await desk.ask(heartbeat_seconds=0.3)
        if verdict == "cancel":
            failed = await desk.hear(m.Failed)
            assert "stopped" in failed.message
            assert not failed.interrupted
        else:
            await events.wait_for("attempt.voided")
        assert gate.inside == 0
    assert len(desk.of(m.Failed)) == (verdict == "cancel")


async def test_a_thread_sees_that_it_is_cancelled(site: BrokerSite) -> None:
    def answering(callback: m.AnyCallback) -> str:
        return "run" if isinstance(callback, m.Accepted) else "cancel"

    async with desk_and_worker(site, answering) as (desk, worker, _):

        @worker.milestone("build")
        def build(context: Context) -> None:
            if context.wait_cancelled(PATIENCE_SECONDS):
                raise MilestoneFailed("stopped as told")

        await desk.ask(heartbeat_seconds=0.3)
        assert (await desk.hear(m.Failed)).message == "stopped as told"


@dataclass
class Deaf:
    """A plain function that does not look whether it has to stop. It ends when the test lets it."""

    begun: int = 0
    entered: asyncio.Event = field(default_factory=asyncio.Event)
    left: threading.Event = field(default_factory=threading.Event)
    _loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.get_running_loop)

    def __call__(self, _context: Context) -> dict[str, str]:
        self.begun += 1
        self._loop.call_soon_threadsafe(self.entered.set)
        assert self.left.wait(PATIENCE_SECONDS), "the test never let it end"
        if self.begun > 1:
            return {"run": str(self.begun)}
        return self.first()

    def first(self) -> dict[str, str]:
        """How the first call ends."""
        return {"run": "1"}


class DeafAndFailing(Deaf):
    def first(self) -> dict[str, str]:
        raise KeyError("disk")


def cancel_the_first(callback: m.AnyCallback) -> str:
    """Of the attempts with the number 1; the others go on."""
    return "cancel" if isinstance(callback, m.Heartbeat) and callback.attempt_token.endswith(".1") else "run"


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that is told to stop has no time for it."""
    monkeypatch.setattr(run, "STOP_SECONDS", 0.0)


@pytest.mark.fault("F60", "F61")
@pytest.mark.usefixtures("impatient")
async def test_a_thread_that_goes_on_is_not_reported_as_stopped(site: BrokerSite) -> None:
    async with desk_and_worker(site, cancel_the_first) as (desk, worker, events):
        deaf = Deaf()
        worker.milestone("build")(deaf)
        await desk.ask(heartbeat_seconds=0.3)
        failed = await desk.hear(m.Failed)
        assert failed.interrupted
        assert "its handler goes on" in failed.message
        assert (await events.wait_for("attempt.abandoned"))["workflow_id"] == "w1"
        deaf.left.set()
        assert (await events.wait_for("attempt.ended_late"))["outcome"] == "completed"


@pytest.mark.fault("F61")
@pytest.mark.usefixtures("impatient")
async def test_what_a_thread_came_to_that_went_on_is_told_when_it_is_asked_for_again(site: BrokerSite) -> None:
    """The second attempt waits, alive and with its request acked, for what still works on the same target."""
    async with desk_and_worker(site, cancel_the_first, slots=2) as (desk, worker, _):
        deaf = Deaf()
        worker.milestone("build")(deaf)
        await desk.ask(heartbeat_seconds=0.3)
        await desk.hear(m.Failed)
        second = await desk.ask(number=2, heartbeat_seconds=0.3)
        beats = [await desk.hear(m.Heartbeat)]
        while beats[-1].attempt_token != second.attempt_token:
            beats.append(await desk.hear(m.Heartbeat, len(beats) + 1))
        await until_depth(desk.broker, desk.requests, 0)
        assert deaf.begun == 1
        deaf.left.set()
        done = await desk.hear(m.Completed)
        assert (done.attempt_token, done.outputs) == (second.attempt_token, {"run": "1"})
    assert deaf.begun == 1


@pytest.mark.fault("F61")
@pytest.mark.usefixtures("impatient")
async def test_a_thread_that_went_on_and_failed_is_followed_by_the_next_attempt(site: BrokerSite) -> None:
    async with desk_and_worker(site, cancel_the_first, slots=2) as (desk, worker, _):
        deaf = DeafAndFailing()
        worker.milestone("build")(deaf)
        await desk.ask(heartbeat_seconds=0.3)
        await desk.hear(m.Failed)
        await desk.ask(number=2)
        await desk.hear(m.Accepted, 2)
        deaf.left.set()
        assert (await desk.hear(m.Completed)).outputs == {"run": "2"}
        assert len(desk.of(m.Failed)) == 1


@pytest.mark.fault("F60", "F61")
@pytest.mark.usefixtures("impatient")
async def test_an_attempt_that_waits_for_a_thread_that_goes_on_can_be_cancelled(site: BrokerSite) -> None:
    """Nor may it be taken for stopped: the thread is at work on its target."""

    def cancel_all(callback: m.AnyCallback) -> str:
        return "cancel" if isinstance(callback, m.Heartbeat) else "run"

    async with desk_and_worker(site, cancel_all, slots=2) as (desk, worker, _):
        deaf = Deaf()
        worker.milestone("build")(deaf)
        await desk.ask(heartbeat_seconds=0.3)
        await desk.hear(m.Failed)
        second = await desk.ask(number=2, heartbeat_seconds=0.3)
        failed = await desk.hear(m.Failed, 2)
        assert failed.attempt_token == second.attempt_token
        assert failed.interrupted
        assert "an earlier run of it goes on" in failed.message
        deaf.left.set()
    assert deaf.begun == 1


@pytest.mark.usefixtures("impatient")
async def test_a_thread_that_goes_on_keeps_its_slot_until_it_ends(site: BrokerSite) -> None:
    async with desk_and_worker(site, cancel_the_first, slots=2) as (desk, worker, _):
        deaf, gate = Deaf(), Gate()
        worker.milestone("build")(deaf)
        worker.milestone("deploy")(gate)
        await desk.ask(heartbeat_seconds=0.3)
        await desk.hear(m.Failed)
        for workflow in ("w2", "w3"):
            await desk.ask("deploy", workflow, number=2, heartbeat_seconds=0.3)
        # The worker sends none of the first, so this is of whichever of the others it took.
        await desk.hear(m.Heartbeat, len(desk.of(m.Heartbeat)) + 1)
        assert gate.inside == 1
        await until_depth(desk.broker, desk.requests, 1)
        deaf.left.set()

        async def both() -> bool:
            return gate.inside == 2

        await until(both)
        gate.open.set()
        await desk.hear(m.Completed, 2)


@pytest.mark.usefixtures("impatient")
async def test_a_worker_stops_although_a_thread_goes_on_and_an_attempt_waits_for_it(site: BrokerSite) -> None:
    async with desk_and_worker(site, cancel_the_first, slots=2, grace_seconds=0.0) as (desk, worker, _):
        deaf = Deaf()
        worker.milestone("build")(deaf)
        await desk.ask(heartbeat_seconds=0.3)
        await desk.hear(m.Failed)
        second = await desk.ask(number=2, heartbeat_seconds=0.3)
        while second.attempt_token not in {beat.attempt_token for beat in desk.of(m.Heartbeat)}:
            await desk.hear(m.Heartbeat, len(desk.of(m.Heartbeat)) + 1)
        async with asyncio.timeout(PATIENCE_SECONDS):
            await worker.drain()
        failed = await desk.hear(m.Failed, 2)
        assert failed.attempt_token == second.attempt_token
        assert failed.interrupted
        assert not deaf.left.is_set()
        deaf.left.set()
    assert deaf.begun == 1


async def test_what_the_repository_declares_is_told_at_once_and_progress_along_with_it(site: BrokerSite) -> None:
    async with desk_and_worker(site) as (desk, worker, _):
        gate = Gate()

        @worker.milestone("build")
        async def build(context: Context) -> None:
            context.progress(0.5)
            context.declare(timeout_seconds=90.0, on_loss=OnLoss.HOLD)
            await gate(context)

        await desk.ask(heartbeat_seconds=3_000.0)
        beat = await desk.hear(m.Heartbeat)
        assert (beat.timeout_seconds, beat.on_loss, beat.progress) == (90.0, "hold", 0.5)
        gate.open.set()
        await desk.hear(m.Completed)


# ------------------------------------------------------------------------------- slots and stopping


@pytest.mark.parametrize("slots", [1, 3, 8])
async def test_a_busy_worker_leaves_on_the_queue_what_it_has_no_slot_for(site: BrokerSite, slots: int) -> None:
    async with desk_and_worker(site, slots=slots) as (desk, worker, _):
        gate = Gate()
        worker.milestone("build")(gate.__call__)
        for number in range(slots + 5):
            await desk.ask(workflow=f"w{number}")

        async def full() -> bool:
            return gate.inside == slots

        await until(full)
        # Ready on the queue, so any other worker could take them: none is held unacknowledged here.
        await until_depth(desk.broker, desk.requests, 5)
        assert len(desk.of(m.Accepted)) == slots
        gate.open.set()
        await desk.hear(m.Completed, slots + 5)
    assert gate.begun == slots + 5


async def test_one_slot_serves_two_queues_in_turn(site: BrokerSite) -> None:
    async with site.open() as broker:
        desk = Desk(broker, site.queue(), site.queue())
        other = site.queue()
        for queue in (desk.requests, desk.callbacks, other):
            await broker.declare(queue)
        events, gate = Events(), Gate()
        worker = Worker(queues=[desk.requests, other], slots=1, observer=events)
        worker.every_milestone(gate.__call__)
        async with asyncio.TaskGroup() as tasks:
            listening = tasks.create_task(desk.listen())
            serving = tasks.create_task(worker.serve(broker))
            await events.wait_for("worker.ready")
            await desk.ask(workflow="w1")
            await gate.entered.wait()
            desk.requests = other
            await desk.ask(workflow="w2")
            await until_depth(broker, other, 1)
            assert gate.inside == 1
            gate.open.set()
            await desk.hear(m.Completed, 2)
            await worker.drain()
            await serving
            listening.cancel()


async def test_few_slots_serve_many_messages_on_several_queues(site: BrokerSite) -> None:
    """A message that finds no slot must not go round between worker and queue."""
    async with site.open() as broker:
        desk = Desk(broker, site.queue(), site.queue())
        queues = [desk.requests, site.queue(), site.queue()]
        for queue in (*queues, desk.callbacks):
            await broker.declare(queue)
        events = Events()
        worker = Worker(queues=queues, slots=1, observer=events)

        @worker.every_milestone
        async def do(_context: Context) -> None:
            await asyncio.sleep(0)

        for number in range(30):
            desk.requests = queues[number % 3]
            await desk.ask(workflow=f"w{number}")
        async with asyncio.TaskGroup() as tasks:
            listening = tasks.create_task(desk.listen())
            serving = tasks.create_task(worker.serve(broker))
            await desk.hear(m.Completed, 30)
            await worker.drain()
            await serving
            listening.cancel()


async def test_an_adopted_run_still_hears_that_it_is_cancelled(site: BrokerSite) -> None:
    verdicts = {"heartbeat": "run"}

    def answering(callback: m.AnyCallback) -> str:
        return "run" if isinstance(callback, m.Accepted) else verdicts["heartbeat"]

    async with desk_and_worker(site, answering, slots=2) as (desk, worker, _):
        gate = Gate()
        worker.milestone("build")(gate)
        await desk.ask(number=1, heartbeat_seconds=0.3)
        await gate.entered.wait()
        await desk.ask(number=2, heartbeat_seconds=0.3)
        await desk.hear(m.Accepted, 2)
        verdicts["heartbeat"] = "cancel"
        assert "stopped" in (await desk.hear(m.Failed)).message
    assert gate.begun == 1


@pytest.mark.parametrize(
    "result",
    [
        {"source_commit_hash": "half \ud800"},
        {"source_commit_hash": "x" * 9_000},
        {"notifications_config": {1: None, None: 2}},
    ],
    ids=["text", "long", "keys"],
)
async def test_a_result_that_cannot_be_told_fails_the_milestone(site: BrokerSite, result: dict[str, Any]) -> None:
    async with desk_and_worker(site) as (desk, worker, _):

        @worker.milestone("build")
        async def build(context: Context) -> None:
            for name, value in result.items():
                setattr(context, name, value)

        await desk.ask()
        assert "its result cannot be told" in (await desk.hear(m.Failed)).message


async def test_a_handler_that_exits_ends_itself_alone(site: BrokerSite) -> None:
    async with desk_and_worker(site) as (desk, worker, _):

        @worker.milestone("build")
        def build(_context: Context) -> None:
            raise SystemExit(3)

        @worker.milestone("deploy")
        async def deploy(_context: Context) -> None:
            raise SystemExit(3)

        @worker.milestone("config")
        async def config(_context: Context) -> None:
            other = asyncio.ensure_future(asyncio.Event().wait())
            other.cancel()
            await other

        await desk.ask("build", workflow="w1")
        assert "SystemExit(3)" in (await desk.hear(m.Failed, 1)).message
        await desk.ask("deploy", workflow="w2")
        assert "exit (3)" in (await desk.hear(m.Failed, 2)).message
        await desk.ask("config", workflow="w3")
        assert "cancelled from within" in (await desk.hear(m.Failed, 3)).message


@pytest.mark.parametrize("seconds", [0.0, -1.0, 31 * 86_400.0])
async def test_a_time_that_cannot_be_kept_is_refused_where_it_is_declared(
    site: BrokerSite, seconds: float
) -> None:
    async with desk_and_worker(site) as (desk, worker, _):

        @worker.milestone("build")
        async def build(context: Context) -> None:
            context.declare(timeout_seconds=seconds)

        await desk.ask()
        assert "declare more than 0" in (await desk.hear(m.Failed)).message


async def test_a_stopping_worker_lets_its_runs_end(site: BrokerSite) -> None:
    async with desk_and_worker(site, grace_seconds=PATIENCE_SECONDS) as (desk, worker, _):
        gate = Gate()
        worker.milestone("build")(gate.__call__)
        await desk.ask(workflow="w1")
        await gate.entered.wait()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(worker.drain())
            await desk.ask(workflow="w2")
            await until_depth(desk.broker, desk.requests, 1)
            gate.open.set()
        assert [x.workflow_id for x in desk.of(m.Completed)] == ["w1"]
        await until_depth(desk.broker, desk.requests, 1)


async def test_a_run_that_does_not_end_in_the_grace_period_is_interrupted(site: BrokerSite) -> None:
    async with desk_and_worker(site, grace_seconds=0.0) as (desk, worker, _):
        gate = Gate()
        worker.milestone("build")(gate.__call__)
        await desk.ask()
        await gate.entered.wait()
        await worker.drain()
        failed = await desk.hear(m.Failed)
        assert failed.interrupted
        assert "its worker was stopped" in failed.message


async def test_a_stopping_worker_gives_back_what_it_has_claimed_and_not_begun(site: BrokerSite) -> None:
    async with desk_and_worker(site, lambda _: None) as (desk, worker, _):
        gate = Gate()
        worker.milestone("build")(gate.__call__)
        request = await desk.ask()
        await desk.hear(m.Accepted)
        await worker.drain()
        released = await desk.hear(m.Released)
        assert released.attempt_token == request.attempt_token
        await until_depth(desk.broker, desk.requests, 1)
    assert gate.begun == 0


async def test_a_claim_that_is_granted_to_a_stopping_worker_is_given_back(site: BrokerSite) -> None:
    async with desk_and_worker(site, lambda _: None) as (desk, worker, _):
        gate = Gate()
        worker.milestone("build")(gate.__call__)
        request = await desk.ask()
        accepted = await desk.hear(m.Accepted)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(worker.drain())
            await desk.answer(request, accepted.reply_to, "run")
            await desk.hear(m.Released)
        await until_depth(desk.broker, desk.requests, 0)
    assert gate.begun == 0

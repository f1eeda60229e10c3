"""A worker at work: takes requests, claims them, runs their handlers, and stops in order.

What happens to one request, and what a crash at each point leaves:

  take      a slot is free; the request stays unacknowledged      crash: redelivered to another worker
  claim     `accepted`, answered by `run` or `void`               crash: redelivered, but the attempt is ours
                                                                  until its lease ends: then it is lost
  ack, run  nothing is held on the broker while it runs           crash: the lease ends, as above
  report    sent until the broker has it                          crash: the lease ends, as above

The same attempt twice is acked and dropped. Another attempt of a milestone that runs here (the orchestrator
lost sight of us) is adopted by the run; of one that was done here, it is answered with the same result; of one
that was told to stop and goes on, it waits, with heartbeats, until that has ended. So an effect happens once per
worker process, however often it is asked for.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from openaperture.codecs import json as json_codec
from openaperture.domain.errors import BadMessage, TryLater
from openaperture.domain.messages import Request
from openaperture.ports import Broker, Consumer, Delivery, Observer
from openaperture.runtime.backoff import Backoff
from openaperture.worker.intake import Intake
from openaperture.worker.post import ANSWERS_AT_ONCE, Answers, Post
from openaperture.worker.run import Handler, Outcome, Run, Stop
from openaperture.worker.slots import Slots

REMEMBERED = 10_000
"""Attempts and results that are remembered, to know repeats by."""
BEAT_SECONDS = 1.0
"""How often it is looked which heartbeats are due."""
CLAIM_GRACE_SECONDS = 2.0
"""How long a stopping worker waits for the answers to its claims."""


class Service:
    """Serves queues of one broker until drained."""

    def __init__(
        self,
        broker: Broker,
        *,
        name: str,
        queues: Sequence[str],
        slots: int,
        grace_seconds: float,
        find_handler: Callable[[str], Handler],
        observer: Observer,
    ) -> None:
        """`grace_seconds`: how long runs may go on once it is drained, before they are interrupted."""
        self._broker = broker
        self._name = name
        self._queues = queues
        self._grace_seconds = grace_seconds
        self._find_handler = find_handler
        self._observer = observer
        self._slots = Slots(slots)
        self._post = Post(broker, observer)
        self._answers = Answers(name, observer)
        self._intakes: list[Intake] = []
        self._claiming: dict[str, Run] = {}
        """By attempt token."""
        self._running: dict[str, Run] = {}
        """By idempotency key."""
        self._waiting: set[Run] = set()
        """Claimed, and behind a run of the same milestone that is to stop and has not."""
        self._handled: OrderedDict[str, None] = OrderedDict()
        """Attempt tokens that were claimed here."""
        self._done: OrderedDict[str, Outcome] = OrderedDict()
        """By idempotency key."""
        self._draining = False
        self._idle = asyncio.Event()
        self._idle.set()
        self._stopped = asyncio.Event()
        self._tasks: asyncio.TaskGroup

    async def run(self) -> None:
        """Serve until drained; cancelled, it stops at once and its attempts are lost."""
        consumers = await self._subscribe_all()
        if self._draining:
            for consumer in consumers:
                await consumer.close()
            return
        answers, *consumers = consumers
        self._slots.watch(self._on_slots)
        self._intakes = [Intake(consumer, self._slots, self._on_request) for consumer in consumers]
        try:
            async with asyncio.TaskGroup() as self._tasks:
                loops = [self._answers.run(answers), self._beat(), *(intake.run() for intake in self._intakes)]
                tasks = [self._spawn(loop) for loop in loops]
                self._observer.emit("worker.ready", worker=self._name, queues=list(self._queues))
                await self._stopped.wait()
                for task in tasks:
                    task.cancel()
        finally:
            for consumer in (answers, *consumers):
                await consumer.close()

    async def drain(self) -> None:
        """Take nothing more; give back what was not begun; let the rest end, or interrupt it in time."""
        self._draining = True
        for intake in self._intakes:
            await intake.stop()
        asyncio.get_running_loop().call_later(CLAIM_GRACE_SECONDS, self._give_up_claims)
        try:
            async with asyncio.timeout(self._grace_seconds):
                await self._idle.wait()
        except TimeoutError:
            self._observer.emit("worker.interrupting", runs=len(self._running))
            for run in self._running.values():
                run.stop(Stop.DRAINED, "its worker was stopped")
            await self._idle.wait()
        self._stopped.set()

    # ------------------------------------------------------------------------------------- requests

    def _on_request(self, intake: Intake, delivery: Delivery) -> None:
        self._spawn(self._attend(intake, delivery))

    async def _attend(self, intake: Intake, delivery: Delivery) -> None:
        """One request in one slot, from its delivery to the end of its run."""
        run: Run | None = None
        try:
            request = await self._find_request(intake.consumer, delivery)
            if request is not None:
                run = self._new_run(request)
                await self._serve(run, intake, delivery)
        except Exception as exc:  # noqa: BLE001 - a defect met by one request must not end the worker
            self._observer.emit("request.failed", queue=delivery.queue, error=exc)
            await intake.consumer.dead_letter(delivery, f"a worker could not serve it: {exc!r}")
        finally:
            if run is not None:
                run.close()
            self._slots.release(began=run is not None and run.began)

    async def _find_request(self, consumer: Consumer, delivery: Delivery) -> Request | None:
        """The request, unless there is none to serve: then the delivery is settled."""
        try:
            request = json_codec.decode_request(delivery.message.body)
        except BadMessage as exc:
            self._observer.emit(
                "message.parked", message_id=delivery.message.message_id, queue=delivery.queue, reason=str(exc)
            )
            await consumer.dead_letter(delivery, str(exc))
            return None
        if request.attempt_token in self._handled or request.attempt_token in self._claiming:
            self._observer.emit("request.repeated", workflow_id=request.id, milestone=request.attempt.milestone)
            await consumer.ack([delivery])
            return None
        if self._draining:
            await consumer.requeue([delivery])
            return None
        return request

    def _new_run(self, request: Request) -> Run:
        return Run(
            request,
            worker=self._name,
            post=self._post,
            answers=self._answers,
            observer=self._observer,
            spawn=self._spawn,
        )

    async def _serve(self, run: Run, intake: Intake, delivery: Delivery) -> None:
        self._claiming[run.request.attempt_token] = run
        try:
            verdict = await run.claim()
        finally:
            del self._claiming[run.request.attempt_token]
        if verdict is None:
            await intake.consumer.requeue([delivery])
            # Our claim may have been granted since: then nobody waits for a lease that runs out.
            await run.release_once()
        elif verdict == "void":
            await intake.consumer.ack([delivery])
        elif verdict != "run" or self._draining:
            # Ours, and not to be begun: said at once, or the orchestrator would wait to hear how far it got.
            await run.release()
            await intake.consumer.ack([delivery])
        else:
            await self._begin(run, intake, delivery)

    async def _begin(self, run: Run, intake: Intake, delivery: Delivery) -> None:
        """The attempt is ours."""
        key = run.request.idempotency_key
        _remember(self._handled, run.request.attempt_token, None)
        # First, because one that is waited for may have come to its result after all.
        running = await self._find_running(run, intake, delivery)
        if (done := self._done.get(key)) is not None:
            await run.report(done)
        elif running is not None and running.is_stopping:
            await run.report_unbegun()
        elif running is not None:
            run.close()
            running.adopt(run.request)
        elif self._draining:
            await run.release()
        else:
            await self._execute(run, intake, delivery)
        if not run.began:
            await intake.consumer.ack([delivery])

    async def _execute(self, run: Run, intake: Intake, delivery: Delivery) -> None:
        """From its beginning until nothing of it goes on here.

        A thread that goes on keeps its slot, not only its key: handlers of a worker with one slot need not get
        on with each other, and threads that nobody counts would wear the machine out. One that hangs for ever is
        told of (`attempt.abandoned`), and a stop of the worker does not wait for it longer than for any other.
        """
        key = run.request.idempotency_key
        self._running[key] = run
        try:
            await self._take(run, intake, delivery)
            outcome = await run.execute(self._find_handler(run.request.attempt.milestone))
            outcome = await run.outlast() or outcome
        finally:
            del self._running[key]
            run.over.set_result(None)
        if outcome is not None and outcome.done:
            _remember(self._done, key, outcome)

    async def _find_running(self, run: Run, intake: Intake, delivery: Delivery) -> Run | None:
        """The other run of its milestone. One that is to stop is waited for: two never run.

        It is given up when this one has to stop, too, or when a thread goes on as long as this worker does.
        """
        other = self._running.get(run.request.idempotency_key)
        while other is not None and other.is_stopping:
            self._waiting.add(run)
            try:
                # That may take as long as a run, for which no delivery is held.
                await self._take(run, intake, delivery)
                await run.wait_for(other)
            finally:
                self._waiting.discard(run)
            if other.goes_on or not other.over.done():
                return other
            other = self._running.get(run.request.idempotency_key)
        return other

    async def _take(self, run: Run, intake: Intake, delivery: Delivery) -> None:
        """Ack the request of what is from now on running, or waiting to."""
        if not run.began:
            await intake.before_ack()
            self._slots.begin()
            run.began = True
            await intake.consumer.ack([delivery])

    # ---------------------------------------------------------------------------------------- pieces

    async def _beat(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(BEAT_SECONDS)
            for run in [run for run in (*self._running.values(), *self._waiting) if run.beat_at <= loop.time()]:
                self._spawn(run.beat())

    async def _subscribe_all(self) -> list[Consumer]:
        """To the answers, then to the queues; fewer when told to stop before the broker was there."""
        consumers: list[Consumer] = []
        backoff = Backoff()
        while len(consumers) <= len(self._queues) and not self._draining:
            try:
                if consumers:
                    consumer = await self._broker.consume(self._queues[len(consumers) - 1], prefetch=1)
                else:
                    consumer = await self._broker.consume(
                        self._answers.queue, prefetch=2 * ANSWERS_AT_ONCE, temporary=True
                    )
                consumers.append(consumer)
            except TryLater as exc:
                self._observer.emit("worker.waiting", error=exc)
                await asyncio.sleep(backoff.next_seconds())
        return consumers

    def _spawn(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        return self._tasks.create_task(work)

    def _on_slots(self) -> None:
        if self._slots.taken:
            self._idle.clear()
        else:
            self._idle.set()

    def _give_up_claims(self) -> None:
        for run in self._claiming.values():
            run.give_up_claim()


def _remember(memory: "OrderedDict[str, Any]", key: str, value: Any) -> None:
    memory[key] = value
    if len(memory) > REMEMBERED:
        memory.popitem(last=False)

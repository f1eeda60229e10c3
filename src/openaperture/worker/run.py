"""One attempt in the hands of this worker: claim it, run its handler, tell how it went.

  1. claim     `accepted` goes out, again and again, until the orchestrator answers `run` or `void`
  2. execute   the handler runs; heartbeats, output and notes go out meanwhile
  3. report    `completed` or `failed` goes out, until the broker has it

An answer can stop the handler at any time: `cancel` (then it is reported as failed) or `void` (the attempt
is somebody else's by now: nothing more is said). A stop of the worker interrupts it; what that means is for
the orchestrator to judge. A thread may go on though it was told to stop: that is reported as an interruption,
too, for what the milestone has done, or is still to do, is not known.
"""

import asyncio
import inspect
import math
import threading
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import Any, cast

import msgspec

from openaperture.codecs import json as json_codec
from openaperture.domain.errors import BadInput, BadMessage, MilestoneFailed, OpenApertureError
from openaperture.domain.messages import (
    Accepted,
    Answer,
    Completed,
    Failed,
    Heartbeat,
    Log,
    Note,
    Released,
    Request,
)
from openaperture.domain.milestones import FailureKind
from openaperture.ports import Observer
from openaperture.runtime.backoff import Backoff
from openaperture.worker.context import Context, sendable
from openaperture.worker.post import Answers, Post

Returned = Mapping[str, str] | None
Handler = Callable[[Context], Returned | Awaitable[Returned]]

CLAIM_SECONDS = 300.0
"""How long to ask for an attempt before its request goes back to the queue. Only the orchestrators' absence
takes so long."""
TOGETHER_SECONDS = 0.2
"""How long the first line of output waits for others to travel with it."""
LINES_AT_ONCE = 1_000
CHARACTERS_AT_ONCE = 200_000
LAST_WORDS_SECONDS = 10.0
"""How long a result waits for the output before it."""
MAX_OUTPUTS = 64
MAX_OUTPUT_CHARACTERS = 4_096
MAX_NAME_CHARACTERS = 64
MAX_MESSAGE_CHARACTERS = 8_000
STOP_SECONDS = 10.0
"""How long a handler in a thread may take to notice that it has to stop, before its run is reported without it."""


class Stop(Enum):
    """Why a handler has to stop before it is done."""

    CANCELLED = "cancelled"
    """A person or a deadline ended it: report that it stopped."""
    VOID = "void"
    """The attempt is over or somebody else's: say nothing."""
    DRAINED = "drained"
    """This worker stops."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How the handler ended: the fields of `Completed` (done) or of `Failed`."""

    done: bool
    fields: Mapping[str, Any]


class Run:
    """One request, from its claim to its report."""

    def __init__(
        self,
        request: Request,
        *,
        worker: str,
        post: Post,
        answers: Answers,
        observer: Observer,
        spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]],
    ) -> None:
        """`spawn` starts a task that the worker owns."""
        self.request = request
        self.began = False
        self._loop = asyncio.get_running_loop()
        self.over: asyncio.Future[None] = self._loop.create_future()
        """Done when it was reported and its handler has ended, or this worker ends."""
        self.beat_at = 0.0
        """When the next heartbeat is due, by the clock of the loop."""
        self._worker = worker
        self._post = post
        self._answers = answers
        self._observer = observer
        self._spawn = spawn
        self._verdict: asyncio.Future[str | None] = self._loop.create_future()
        self._stop: Stop | None = None
        self._stop_reason = ""
        self._task: asyncio.Task[Any] | None = None
        self._thread: asyncio.Future[Returned] | None = None
        self._told: asyncio.Future[None] = self._loop.create_future()
        """Done when it has to stop."""
        self._overdue: asyncio.Future[None] = self._loop.create_future()
        """Done when its thread had its time to stop."""
        self._left: asyncio.Future[Returned] | None = None
        """Its thread, if it went on after that."""
        self._drained: asyncio.Future[None] = self._loop.create_future()
        self._sequence = 0
        self._teller: asyncio.Task[None] | None = None
        self.context = Context(request, on_news=self._on_news)
        answers.listen(request.attempt_token, self._on_answer)

    # ---------------------------------------------------------------------------------------- claim

    async def claim(self) -> str | None:
        """Ask for the attempt: `run`, `void`, or None when nobody answered, or when told to give up."""
        asking = Backoff(first_seconds=2.0, longest_seconds=20.0)
        give_up_at = self._loop.time() + CLAIM_SECONDS
        while not self._verdict.done() and self._loop.time() < give_up_at:
            accepted = self._say(Accepted, reply_to=self._answers.queue)
            await self._post.send_once(self.request, accepted)
            await asyncio.wait([self._verdict], timeout=asking.next_seconds())
        return self._verdict.result() if self._verdict.done() else None

    def give_up_claim(self) -> None:
        """Let `claim` return None unless it has its answer."""
        if not self._verdict.done():
            self._verdict.set_result(None)

    def close(self) -> None:
        """Hear nothing more about it."""
        self._answers.forget(self.request.attempt_token, self._on_answer)

    def adopt(self, request: Request) -> None:
        """Go on under another attempt: the orchestrator had lost sight of us, and asks for the same again."""
        self.close()
        self.request = request
        self._answers.listen(request.attempt_token, self._on_answer)

    # -------------------------------------------------------------------------------------- execute

    async def execute(self, handler: Handler) -> Outcome | None:
        """Run the handler and report; answers what was reported, None for a void attempt.

        Raises nothing but CancelledError, when the process is forced to end.
        """
        self._task = asyncio.current_task()
        self.beat_at = self._loop.time() + self.request.heartbeat_seconds / 3
        outcome = await self._outcome(self._call(handler))
        self._task = None
        if self._is_void():
            return None
        await self._say_last_words()
        await self.report(outcome)
        return outcome

    async def outlast(self) -> Outcome | None:
        """How a thread ended that was reported before it did; None without one, or when this worker ends first."""
        if self._left is None:
            return None
        # Its attempt is over, and takes no more of them.
        self.beat_at = math.inf
        await _first_of(self._left, self._drained)
        if not self._left.done():
            return None
        outcome = await self._outcome(self._left)
        word = "completed" if outcome.done else "failed"
        self._observer.emit("attempt.ended_late", **self._labels, outcome=word)
        return outcome

    async def wait_for(self, other: "Run") -> None:
        """Return when that one is over, or when this one has to stop."""
        await _first_of(other.over, self._told)

    async def report_unbegun(self) -> None:
        """Report that it has to stop while an earlier run of the milestone goes on."""
        if not self._is_void():
            reason = self._stop_reason or "its worker stops"
            text = f"{reason}; an earlier run of it goes on in this worker though it was told to stop"
            await self.report(self._failed(text, goes_on=True))

    async def report(self, outcome: Outcome) -> None:
        """Return when the broker has it. An attempt that was adopted meanwhile is reported too."""
        reported: Request | None = None
        while reported is not self.request:
            reported = self.request
            callback = self._say(Completed if outcome.done else Failed, **outcome.fields)
            await self._post.send(reported, callback)
        word = "completed" if outcome.done else "failed"
        self._observer.emit("attempt.reported", **self._labels, outcome=word)

    async def release(self) -> None:
        """Give it back: it was not begun."""
        await self._post.send(self.request, self._say(Released))

    async def release_once(self) -> None:
        """The same, if the broker takes it now: it may not be ours at all."""
        await self._post.send_once(self.request, self._say(Released))

    def stop(self, why: Stop, reason: str) -> None:
        """Make the handler stop. The first reason counts, but void silences all."""
        first = self._stop is None
        if first or why is Stop.VOID:
            self._stop, self._stop_reason = why, reason
        if why is Stop.DRAINED:
            _settle(self._drained)
        if not first:
            return
        _settle(self._told)
        self.context.cancel()
        if self._thread is not None:
            # A thread cannot be ended from outside: it is asked, and after a while reported as going on.
            self._loop.call_later(STOP_SECONDS, _settle, self._overdue)
        elif self._task is not None:
            self._task.cancel()

    @property
    def is_stopping(self) -> bool:
        return self._stop is not None

    @property
    def goes_on(self) -> bool:
        """Whether its handler is at work in a thread, whatever was reported of it."""
        return self._thread is not None and not self._thread.done()

    async def beat(self) -> None:
        """Tell that it is still running, and what the repository declared for it."""
        self.beat_at = self._loop.time() + self.request.heartbeat_seconds / 3
        heartbeat = self._say(
            Heartbeat,
            reply_to=self._answers.queue,
            timeout_seconds=self.context.timeout_seconds,
            on_loss=self.context.on_loss,
            progress=self.context.fraction,
        )
        await self._post.send_once(self.request, heartbeat)

    async def _outcome(self, returned: Awaitable[Returned]) -> Outcome:
        try:
            return self._completed(await returned or {})
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or not task.cancelling():
                return self._failed("its handler was cancelled from within")
            if self._stop is None or self._thread is not None:
                # The process is forced to end. To stop a thread nothing is cancelled.
                raise
            task.uncancel()
            return self._failed(f"stopped: {self._stop_reason}")
        except SystemExit as exc:
            return self._failed(f"its handler asked the process to exit ({exc.code}), which would end others too")
        except BadInput as exc:
            return self._failed(str(exc), FailureKind.BAD_INPUT)
        except MilestoneFailed as exc:
            return self._failed(str(exc), exc.kind)
        except OpenApertureError as exc:
            return self._failed(str(exc))
        except Exception as exc:  # noqa: BLE001 - whatever a handler raises is the milestone's failure, not ours
            self._observer.emit("handler.failed", **self._labels, error=exc)
            return self._failed(f"{type(exc).__name__}: {exc}")

    async def _call(self, handler: Handler) -> Returned:
        if self._stop is not None:
            raise MilestoneFailed(f"stopped before it began: {self._stop_reason}")
        if inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(type(handler).__call__):
            return await cast("Awaitable[Returned]", handler(self.context))
        self._thread = _in_thread(partial(cast("Callable[[Context], Returned]", handler), self.context))
        await _first_of(self._thread, self._overdue)
        if not self._thread.done():
            self._left = self._thread
            self._observer.emit("attempt.abandoned", **self._labels, reason=self._stop_reason)
            raise MilestoneFailed(f"told to stop ({self._stop_reason}), but its handler goes on")
        return self._thread.result()

    def _is_void(self) -> bool:
        """Whether nothing may be said of it any more."""
        if self._stop is Stop.VOID:
            self._observer.emit("attempt.voided", **self._labels, reason=self._stop_reason)
        return self._stop is Stop.VOID

    def _completed(self, returned: Mapping[str, str]) -> Outcome:
        outputs = {**self.context.outputs, **returned}
        if problem := _problem_of(outputs):
            return self._failed(f"it was done, but {problem}")
        fields = {
            "outputs": outputs,
            "source_commit_hash": self.context.source_commit_hash,
            "notifications_config": self.context.notifications_config,
        }
        try:
            json_codec.decode_incoming(json_codec.encode(self._say(Completed, **fields)))
        except (BadMessage, msgspec.MsgspecError, TypeError, UnicodeError, RecursionError) as exc:
            return self._failed(f"it was done, but its result cannot be told: {exc}")
        return Outcome(done=True, fields=fields)

    def _failed(self, message: str, kind: FailureKind = FailureKind.CRASHED, *, goes_on: bool = False) -> Outcome:
        text = sendable(message, MAX_MESSAGE_CHARACTERS) or "it gave no reason"
        interrupted = goes_on or self.goes_on or self._stop is Stop.DRAINED
        return Outcome(done=False, fields={"message": text, "interrupted": interrupted, "kind": kind})

    # ------------------------------------------------------------------------------- while it runs

    def _on_answer(self, answer: Answer) -> None:
        if not self._verdict.done():
            self._verdict.set_result(answer.verdict)
        elif answer.verdict == "cancel":
            self.stop(Stop.CANCELLED, answer.reason or "cancelled")
        elif answer.verdict == "void":
            self.stop(Stop.VOID, answer.reason)

    def _on_news(self) -> None:
        # From any thread, and possibly after the loop has ended: then nobody is left to be told.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._start_telling)

    def _start_telling(self) -> None:
        if self.context.take_declared():
            self._spawn(self.beat())
        if self._teller is None and self.context.has_news:
            self._teller = self._spawn(self._tell())

    async def _tell(self) -> None:
        await asyncio.sleep(TOGETHER_SECONDS)
        await self._send_news()
        self._teller = None

    async def _send_news(self) -> None:
        while self.context.has_news:
            if lines := self.context.take_lines(LINES_AT_ONCE, CHARACTERS_AT_ONCE):
                self._sequence += 1
                await self._post.send(self.request, self._say(Log, sequence=self._sequence, lines=lines))
            for text, success in self.context.take_notes():
                await self._post.send(self.request, self._say(Note, text=text, success=success))

    async def _say_last_words(self) -> None:
        """Output and notes before the result: after it the attempt is over and takes none."""
        with suppress(TimeoutError):
            async with asyncio.timeout(LAST_WORDS_SECONDS):
                if self._teller is not None:
                    await asyncio.wait([self._teller])
                await self._send_news()

    # --------------------------------------------------------------------------------------- pieces

    @property
    def _labels(self) -> dict[str, str]:
        attempt = self.request.attempt
        key = f"{attempt.generation}.{attempt.position}.{attempt.number}"
        return {"workflow_id": self.request.id, "milestone": attempt.milestone, "attempt": key}

    def _say(self, kind: Any, /, **fields: Any) -> Any:
        """A callback of this kind, with what every callback carries."""
        return kind(
            workflow_id=self.request.id,
            attempt_token=self.request.attempt_token,
            worker=self._worker,
            **fields,
        )


def _problem_of(outputs: Mapping[Any, Any]) -> str:
    """Why these cannot be passed on; empty when they can."""
    if len(outputs) > MAX_OUTPUTS:
        return f"it left {len(outputs)} outputs, and at most {MAX_OUTPUTS} can be passed on"
    for name, value in outputs.items():
        if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME_CHARACTERS:
            return f"the output name {str(name)[:80]!r} is no text of 1 to {MAX_NAME_CHARACTERS} characters"
        if not isinstance(value, str) or sendable(value, MAX_OUTPUT_CHARACTERS) != value:
            return f'its output "{name}" is no text of at most {MAX_OUTPUT_CHARACTERS} characters'
    return ""


def _in_thread(work: Callable[[], Returned]) -> "asyncio.Future[Returned]":
    """Run it in a thread of its own, which does not keep the process from ending."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[Returned] = loop.create_future()

    def settle(returned: Returned, error: BaseException | None) -> None:
        if done.done():
            return
        if error is None:
            done.set_result(returned)
        else:
            done.set_exception(error)
            # Whoever waits still gets it; it is nothing to complain of when nobody waits any more.
            done.exception()

    def body() -> None:
        returned: Returned = None
        error: BaseException | None = None
        try:
            returned = work()
        except BaseException as exc:  # noqa: BLE001 - it is raised where the run waits
            # What is no plain error would end whoever waits for it, and the process with it.
            is_plain = isinstance(exc, Exception) and not isinstance(exc, StopIteration)
            error = exc if is_plain else RuntimeError(repr(exc))
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(settle, returned, error)

    threading.Thread(target=body, name="milestone", daemon=True).start()
    return done


async def _first_of(*futures: "asyncio.Future[Any]") -> None:
    """Return when one is done. The others go on, also when whoever waits is cancelled."""
    await asyncio.wait(futures, return_when=asyncio.FIRST_COMPLETED)


def _settle(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)

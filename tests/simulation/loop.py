"""An event loop without threads, sockets or real time, on which many processes run and may die.

Its time stands still while anything is ready to run, and jumps to the next timer when nothing is. What is ready
runs in an order drawn from a seed. Every callback belongs to the process whose context it carries; those of a
process that died are dropped, so nothing of it runs any more: no `finally`, no `except`, as after kill -9.

Knows nothing of what runs on it.
"""

import asyncio
import contextvars
import gc
import itertools
import sys
from asyncio import events
from collections.abc import Callable, Coroutine, Generator
from contextlib import contextmanager
from heapq import heappop, heappush
from random import Random
from typing import Any, Self, cast

START_SECONDS = 1_000.0
BUSY_STEPS = 2_000_000
"""So many callbacks in one instant are a loop that waits for nothing."""


class Stuck(Exception):
    """Callbacks without end while no time passes."""


class Process:
    """One operating system process of the simulated world."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.alive = True
        self.frozen = False
        """Stopped, as by SIGSTOP: its callbacks wait."""
        self.held: list[Handle] = []
        self.stop: Callable[[], object] | None = None
        """What SIGTERM does."""
        self.on_death: list[Callable[[], None]] = []
        self.context = contextvars.copy_context()
        self.context.run(_PROCESS.set, self)

    def kill(self) -> None:
        """As kill -9. What it has on the broker and on the store is cut by those who registered for it."""
        if self.alive:
            self.alive = False
            self.held.clear()
            for callback in self.on_death:
                callback()


_PROCESS: contextvars.ContextVar[Process | None] = contextvars.ContextVar("process", default=None)


class Handle:
    """A callback that waits for its turn."""

    __slots__ = ("args", "at", "callback", "context", "is_cancelled")

    def __init__(
        self, callback: Callable[..., Any], args: tuple[Any, ...], context: contextvars.Context, at: float
    ) -> None:
        self.callback = callback
        self.args = args
        self.context = context
        self.at = at
        self.is_cancelled = False

    def cancel(self) -> None:
        self.is_cancelled = True

    def cancelled(self) -> bool:
        return self.is_cancelled

    def when(self) -> float:
        return self.at


class NumberedTask(asyncio.Task[Any]):
    """A task whose hash is its number: sets of tasks are then walked in the same order in every run."""

    _numbers = itertools.count()
    _number: int

    def __new__(cls, *_args: Any, **_kwargs: Any) -> Self:
        task = super().__new__(cls)
        task._number = next(cls._numbers)
        return task

    def __hash__(self) -> int:
        return self._number

    @classmethod
    def restart_numbers(cls) -> None:
        cls._numbers = itertools.count()


class SimulationLoop:
    """`run_until` runs it; everything else is what asyncio asks of a loop."""

    def __init__(self, chance: Random, *, in_order: bool) -> None:
        """`in_order`: first come, first served, as asyncio does; otherwise anything that is ready may be next."""
        NumberedTask.restart_numbers()
        self._chance = chance
        self._in_order = in_order
        self._now = START_SECONDS
        self._ready: list[Handle] = []
        self._timers: list[tuple[float, int, Handle]] = []
        self._numbers = itertools.count()
        self._tasks: list[asyncio.Task[Any]] = []
        self.steps = 0
        self.failures: list[str] = []
        """What asyncio would have logged: exceptions that nobody took."""

    # ------------------------------------------------------------------------------------------ running

    def run_until(self, deadline: float, is_over: Callable[[], bool] = lambda: False) -> None:
        """Run until the virtual time `deadline`, or until `is_over` holds when time is about to pass."""
        busy_since = self.steps
        while True:
            if self._ready:
                self._run_one()
                if self.steps - busy_since > BUSY_STEPS:
                    raise Stuck(f"{BUSY_STEPS} steps at {self._now:.3f} s, and no end")
                continue
            if is_over():
                return
            busy_since = self.steps
            if not self._timers or self._timers[0][0] > deadline:
                self._now = max(self._now, deadline)
                return
            self._pass_time()

    def _pass_time(self) -> None:
        self._now = max(self._now, self._timers[0][0])
        while self._timers and self._timers[0][0] <= self._now:
            handle = heappop(self._timers)[2]
            if not handle.is_cancelled:
                self._ready.append(handle)

    def _run_one(self) -> None:
        ready = self._ready
        if self._in_order or len(ready) == 1:
            handle = ready.pop(0)
        else:
            index = int(self._chance.random() * len(ready))
            handle, ready[index] = ready[index], ready[-1]
            ready.pop()
        process = handle.context.get(_PROCESS)
        if handle.is_cancelled or (process is not None and not process.alive):
            return
        if process is not None and process.frozen:
            process.held.append(handle)
            return
        self.steps += 1
        handle.context.run(handle.callback, *handle.args)

    def freeze(self, process: Process, seconds: float) -> None:
        """Stop a process for a while; then it goes on as if nothing had been."""
        process.frozen = True
        self.call_at(self._now + seconds, self._thaw, process, context=contextvars.Context())

    def _thaw(self, process: Process) -> None:
        process.frozen = False
        self._ready.extend(process.held)
        process.held = []

    def spawn(self, process: Process, work: Coroutine[Any, Any, Any]) -> "asyncio.Task[Any]":
        """A task of that process."""
        task: asyncio.Task[Any] = self.create_task(work, context=process.context.copy())
        return task

    # ------------------------------------------------------------------------- what asyncio asks of a loop

    def time(self) -> float:
        return self._now

    def call_soon(self, callback: Any, *args: Any, context: contextvars.Context | None = None) -> Any:
        handle = Handle(callback, args, contextvars.copy_context() if context is None else context, self._now)
        self._ready.append(handle)
        return handle

    call_soon_threadsafe = call_soon

    def call_at(self, when: float, callback: Any, *args: Any, context: contextvars.Context | None = None) -> Any:
        handle = Handle(callback, args, contextvars.copy_context() if context is None else context, when)
        heappush(self._timers, (when, next(self._numbers), handle))
        return handle

    def call_later(
        self, delay: float, callback: Any, *args: Any, context: contextvars.Context | None = None
    ) -> Any:
        return self.call_at(self._now + delay, callback, *args, context=context)

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=cast("Any", self))

    def create_task(self, coro: Any, *, name: Any = None, context: Any = None) -> Any:
        task = NumberedTask(coro, loop=cast("Any", self), name=name, context=context)
        # Kept to the end: a dead process's coroutines must not be closed, and so run, in the middle.
        self._tasks.append(task)
        return task

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return False

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        self.failures.append(f"{context.get('message')}: {context.get('exception')!r}")

    def close(self) -> None:
        """Let go of everything. What the dead coroutines still do then is seen by nobody."""
        self._ready.clear()
        self._timers.clear()
        for task in self._tasks:
            task._log_destroy_pending = False  # type: ignore[attr-defined]
        self._tasks.clear()


@contextmanager
def simulated(chance: Random, *, in_order: bool) -> Generator[SimulationLoop]:
    """A loop that is the running one for asyncio. No garbage is collected meanwhile: that would close coroutines.

    What coroutines of dead processes say when they are thrown away at last is of no interest, and not printed.
    """
    loop = SimulationLoop(chance, in_order=in_order)
    events._set_running_loop(cast("Any", loop))
    collecting, unraisable = gc.isenabled(), sys.unraisablehook
    sys.unraisablehook = lambda _unraisable: None
    gc.disable()
    # What is there already is not looked through again at the end.
    gc.freeze()
    try:
        yield loop
    finally:
        loop.close()
        gc.collect()
        gc.unfreeze()
        events._set_running_loop(None)
        sys.unraisablehook = unraisable
        if collecting:
            gc.enable()

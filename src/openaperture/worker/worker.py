"""The worker as its author sees it: which queue, which milestones, which functions."""

import asyncio
import secrets
import socket
from collections.abc import Callable, Sequence

from openaperture.brokers.amqp import AmqpBroker
from openaperture.domain.errors import MilestoneFailed
from openaperture.observability.logs import open_log
from openaperture.ports import Broker, Observer
from openaperture.runtime.supervisor import Service as Supervised
from openaperture.runtime.supervisor import Supervisor
from openaperture.runtime.topology import prepare
from openaperture.worker.context import Context
from openaperture.worker.run import Handler
from openaperture.worker.service import Service

SETTLING_SECONDS = 15.0
"""What a stop may take beyond the grace of the runs: to kill what they started, and to report."""


class Worker:
    """Serves milestones. Handlers may be plain functions, which run in threads, or coroutines.

    A coroutine must not block: while it does, no heartbeat goes out, and after a minute the attempt counts
    as lost. Blocking work belongs in a plain function.

    A coroutine that has to stop is cancelled. A thread cannot be ended from outside: the function has to look at
    `context.cancelled`, or wait with `context.wait_cancelled`. One that goes on is reported as interrupted after
    ten seconds, and keeps its slot until it ends.
    """

    def __init__(
        self,
        *,
        queue: str = "",
        queues: Sequence[str] = (),
        slots: int = 1,
        grace_seconds: float = 10.0,
        observer: Observer | None = None,
    ) -> None:
        """`queue`, or several `queues`. `slots`: how many milestones run at once.

        `grace_seconds`: how long milestones may go on after SIGTERM before they are interrupted.
        """
        self.queues = [*([queue] if queue else []), *queues]
        if not self.queues or slots < 1:
            raise ValueError("a worker needs a queue and at least one slot")
        self._slots = slots
        self._grace_seconds = grace_seconds
        self._observer = observer or open_log(None)
        self._handlers: dict[str, Handler] = {}
        self._default: Handler | None = None
        self._service: Service | None = None
        self.is_draining = False

    def milestone(self, name: str) -> Callable[[Handler], Handler]:
        """Decorator: this function does the milestones of that name."""

        def register(handler: Handler) -> Handler:
            self._handlers[name] = handler
            return handler

        return register

    def every_milestone(self, handler: Handler) -> Handler:
        """Decorator: this function does the milestones that have none of their own."""
        self._default = handler
        return handler

    def run(self, broker_url: str, *, declare: bool = True) -> None:
        """Serve until SIGTERM or Ctrl-C; a second one forces. `declare`: create the queues if missing.

        Raises ConfigError for a url that cannot be used, QueueMismatch.
        """
        asyncio.run(self._run(broker_url, declare=declare))

    async def _run(self, broker_url: str, *, declare: bool) -> None:
        broker = AmqpBroker(broker_url, observer=self._observer, name="openaperture worker")

        async def work() -> None:
            await prepare(
                broker, self.queues, self._observer, declare=declare, is_stopping=lambda: self.is_draining
            )
            await self.serve(broker)

        services = [
            Supervised(name="worker", run=work, drain=self.drain),
            Supervised(name="broker", run=broker.run, drain=broker.close),
        ]
        grace_seconds = self._grace_seconds + SETTLING_SECONDS
        await Supervisor(services, self._observer, grace_seconds=grace_seconds).run(handle_signals=True)

    async def serve(self, broker: Broker) -> None:
        """Serve on a broker that somebody else runs, until drained."""
        if self.is_draining:
            return
        self._service = Service(
            broker,
            # Random, so that a process that was started again is never taken for the one before.
            name=f"{socket.gethostname()[:40]}.{secrets.token_hex(6)}",
            queues=self.queues,
            slots=self._slots,
            grace_seconds=self._grace_seconds,
            find_handler=self._find_handler,
            observer=self._observer,
        )
        await self._service.run()

    async def drain(self) -> None:
        """Take nothing more, end what runs, then let `serve` return."""
        self.is_draining = True
        if self._service is not None:
            await self._service.drain()

    def _find_handler(self, milestone: str) -> Handler:
        return self._handlers.get(milestone) or self._default or self._refuse

    async def _refuse(self, context: Context) -> None:
        known = ", ".join(sorted(self._handlers)) or "none"
        raise MilestoneFailed(
            f'the worker of queue {" and ".join(self.queues)} has no handler for milestone "{context.milestone}" '
            f"(it has {known}); give that milestone another queue, or the worker a handler"
        )

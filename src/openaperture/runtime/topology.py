"""Makes sure that the queues are there before anything is consumed or published."""

import asyncio
from collections.abc import Callable, Sequence

from openaperture.domain.errors import TryLater
from openaperture.ports import Broker, Observer
from openaperture.runtime.backoff import Backoff


async def prepare(
    broker: Broker,
    queues: Sequence[str],
    observer: Observer,
    *,
    declare: bool,
    is_stopping: Callable[[], bool] = lambda: False,
) -> None:
    """Declare the queues, or only check them where operators own them. Waits for the broker, unless stopping.

    Raises QueueMismatch with what to do about it.
    """
    backoff = Backoff()
    while not is_stopping():
        try:
            for queue in queues:
                await (broker.declare(queue) if declare else broker.check(queue))
        except TryLater as exc:
            observer.emit("broker.waiting", error=exc)
            await asyncio.sleep(backoff.next_seconds())
        else:
            return

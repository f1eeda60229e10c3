"""Where messages go that nobody should try again: `<queue>_error`, with the reason."""

from collections.abc import Awaitable, Callable

from pika.spec import BasicProperties

from openaperture.brokers.amqp.publisher import Publisher
from openaperture.domain.errors import Unroutable

LONGEST_REASON = 1000
"""Characters. Headers travel in one frame of limited size."""
PUBLISH_SECONDS = 10.0
_NOT_COPIED = {"CC", "BCC", "x-death"}
"""CC and BCC would send the copy to further queues."""


def error_queue(queue: str) -> str:
    """The dead-letter queue of a queue, named as the original OpenAperture names it."""
    return f"{queue}_error"


def is_error_queue(queue: str) -> bool:
    """Its own dead letters, if it had any, need no further queue."""
    return queue.endswith("_error")


class DeadLetters:
    """Stores copies of messages in error queues."""

    def __init__(self, publisher: Publisher, declare: Callable[[str], Awaitable[None]]) -> None:
        self._publisher = publisher
        self._declare = declare

    async def store(self, queue: str, properties: BasicProperties, body: bytes, reason: str) -> None:
        """Return when the error queue of `queue` has a copy; a missing error queue is created.

        Raises Unroutable, QueueMismatch, BrokerUnavailable: then the copy may be missing.
        """
        target = error_queue(queue)
        copied = _copy(properties, {"x-reason": reason[:LONGEST_REASON], "x-original-queue": queue})
        try:
            await self._publisher.publish("", target, copied, body, timeout_seconds=PUBLISH_SECONDS)
        except Unroutable:
            # The original names this queue in its queue arguments but nobody ever declared it: what was
            # rejected there vanished (failure model, F33).
            await self._declare(target)
            await self._publisher.publish("", target, copied, body, timeout_seconds=PUBLISH_SECONDS)


def _copy(properties: BasicProperties, more: dict[str, str]) -> BasicProperties:
    """The properties of the copy. Left out: `expiration`, which would end it, and `user_id`, which is not ours."""
    kept = {key: value for key, value in (properties.headers or {}).items() if key not in _NOT_COPIED}
    return BasicProperties(
        content_type=properties.content_type,
        content_encoding=properties.content_encoding,
        correlation_id=properties.correlation_id,
        reply_to=properties.reply_to,
        message_id=properties.message_id,
        timestamp=properties.timestamp,
        type=properties.type,
        app_id=properties.app_id,
        headers={**kept, **more},
        delivery_mode=2,
    )

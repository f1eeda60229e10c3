"""How the broker's refusals become our errors."""

from pika.exceptions import AMQPError, ChannelClosedByBroker

from openaperture.brokers.amqp.connection import describe
from openaperture.domain.errors import BrokerUnavailable, OpenApertureError, QueueMismatch

ACCESS_REFUSED = 403
NOT_FOUND = 404
RESOURCE_LOCKED = 405
PRECONDITION_FAILED = 406

_ADVICE = {
    ACCESS_REFUSED: "grant this user the permission",
    NOT_FOUND: 'create it, or let the product do it with "declare"',
    RESOURCE_LOCKED: "it is exclusive to another connection: choose another name, or wait until that one ends",
    PRECONDITION_FAILED: (
        "it was declared with other arguments than ours: use it as it is without declaring it, "
        "or delete it once it is empty and declare it again"
    ),
}


def queue_error(queue: str, exc: AMQPError | TimeoutError) -> OpenApertureError:
    """What a failed method on `queue` means: QueueMismatch if the broker refused, else BrokerUnavailable."""
    if isinstance(exc, ChannelClosedByBroker) and exc.reply_code in _ADVICE:
        return QueueMismatch(f'queue "{queue}": {_ADVICE[exc.reply_code]} (the broker said: {describe(exc)})')
    return BrokerUnavailable(
        f'queue "{queue}": the broker did not answer ({describe(exc)}); trying again may help'
    )

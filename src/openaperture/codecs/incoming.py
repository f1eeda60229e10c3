"""Which of the two forms a message has: told by its content type, or else by its first byte. Never both tried."""

from openaperture.codecs import json, terms
from openaperture.domain.errors import BadMessage
from openaperture.domain.messages import JSON_CONTENT_TYPE, AnyCallback, OriginalMessage, StartMessage
from openaperture.ports import Message

TERM_CONTENT_TYPES = frozenset({"application/x-erlang-binary", "application/octet-stream"})


def decode(message: Message) -> StartMessage | OriginalMessage | AnyCallback:
    """A message of the queue `workflow_orchestration`. Raises BadMessage, and nothing else."""
    kind = (message.content_type or "").partition(";")[0].strip().lower()
    if kind == JSON_CONTENT_TYPE:
        return json.decode_incoming(message.body)
    if kind in TERM_CONTENT_TYPES:
        return terms.decode(message.body)
    if kind:
        raise BadMessage(
            f"the message has the content type {kind[:64]!r}; send {JSON_CONTENT_TYPE}, or Erlang terms with none"
        )
    if message.body[:1] == bytes([terms.FIRST_BYTE]):
        return terms.decode(message.body)
    return json.decode_incoming(message.body)

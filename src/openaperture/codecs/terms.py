"""Messages of the original OpenAperture, as Erlang terms: what they hold, and of which type each thing is.

On top a map with atom keys; below, binaries as keys. Text is a binary, `current_step` an atom, an instant a
3-tuple of megaseconds, seconds and microseconds. What has no place in a message is dropped; what is wrong
raises BadMessage and nothing else.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import msgspec

from openaperture.codecs import etf
from openaperture.codecs.etf import Atom, Term, name_of, text_of
from openaperture.domain.errors import BadMessage
from openaperture.domain.messages import OriginalMessage

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TIMES = frozenset({"workflow_start_time", "step_time"})
_FIELDS = frozenset(OriginalMessage.__struct_fields__) - {"other_force_build"}
_MEGA = 1_000_000
FIRST_BYTE = 131
"""Of every term, and of no JSON."""


def decode(body: bytes) -> OriginalMessage:
    """A workflow as the Manager, another orchestrator or a worker of the original sends it."""
    term = etf.decode(body)
    if not isinstance(term, dict):
        raise BadMessage("the term is no map; send a map with the workflow's fields")
    fields: dict[str, Any] = {}
    for key, value in term.items():
        if not isinstance(key, Atom):
            raise BadMessage("the map has a key that is no atom; the fields of a workflow are atoms")
        if key.name in _FIELDS:
            fields[key.name] = _instant(value, key.name) if key.name in _TIMES else _plain(value, key.name)
    if not isinstance(fields.get("force_build"), bool):
        fields["other_force_build"] = fields.pop("force_build", None)
    try:
        message: OriginalMessage = msgspec.convert(fields, OriginalMessage)
    except msgspec.ValidationError as exc:
        raise BadMessage(f"the term does not fit its schema: {exc}") from exc
    return message


def encode_workflow(fields: Mapping[str, Any]) -> bytes:
    """A workflow for a worker or orchestrator of the original. `fields` has its 35 keys, as plain values."""
    term: dict[Any, Term] = {Atom(key): _term(value) for key, value in fields.items()}
    for key in _TIMES:
        term[Atom(key)] = None if (instant := fields[key]) is None else _timestamp(instant)
    step = fields["current_step"]
    term[Atom("current_step")] = None if step is None else Atom(step)
    return etf.encode(term)


def encode_notice(*, success: bool, prefix: str, text: str, rooms: Sequence[str] | None) -> bytes:
    """For `notifications_hipchat`."""
    return etf.encode(
        {
            Atom("is_success"): success,
            Atom("prefix"): _term(prefix),
            Atom("message"): _term(text),
            Atom("room_names"): None if rooms is None else [_term(room) for room in rooms],
        }
    )


def encode_email(*, subject: str, text: str, addresses: Sequence[str]) -> bytes:
    """For `notifications_email`."""
    recipients: Term = {Atom("email_addresses"): [_term(address) for address in addresses]}
    return etf.encode(
        {Atom("prefix"): _term(subject), Atom("message"): _term(text), Atom("notifications"): recipients}
    )


def encode_module_status(*, hostname: str, module_type: str) -> bytes:
    """For `system_modules`: the heartbeat of a registered module."""
    return etf.encode(
        {
            Atom("status"): Atom("active"),
            Atom("workload"): [],
            Atom("hostname"): _term(hostname),
            Atom("type"): Atom(module_type),
            Atom("event_type"): Atom("status"),
        }
    )


def _plain(value: Term, key: str) -> Any:
    """Binaries and atoms as text, maps with text as keys. A list of small integers stays one."""
    match value:
        case bytes():
            return text_of(value, key)
        case Atom():
            return name_of(value, key)
        case list():
            return [_plain(item, key) for item in value]
        case dict():
            return {_key_text(name, key): _plain(item, key) for name, item in value.items()}
        case tuple():
            raise BadMessage(f"{key} holds a tuple, which means nothing there")
        case _:
            return value


def _key_text(name: etf.Key, key: str) -> str:
    return name if isinstance(name, str) else name_of(name, key)


def _term(value: Any) -> Term:
    match value:
        case str():
            return value.encode()
        case Mapping():
            return {str(key).encode(): _term(item) for key, item in cast("Mapping[object, object]", value).items()}
        case list() | tuple():
            return [_term(item) for item in cast("Sequence[object]", value)]
        case _:
            plain: Term = value
            return plain


def _instant(value: Term, key: str) -> datetime | None:
    """`erlang:now()`, and nil."""
    if value is None:
        return None
    problem = f"{key} is no timestamp {{megaseconds, seconds, microseconds}}"
    if not isinstance(value, tuple) or len(value) != 3:
        raise BadMessage(problem)
    numbers = [part for part in value if isinstance(part, int) and not isinstance(part, bool) and part >= 0]
    if len(numbers) != 3 or numbers[0] >= _MEGA or numbers[1] >= _MEGA or numbers[2] >= _MEGA:
        raise BadMessage(problem)
    mega, seconds, microseconds = numbers
    try:
        return _EPOCH + timedelta(seconds=mega * _MEGA + seconds, microseconds=microseconds)
    except OverflowError as exc:
        raise BadMessage(f"{key} lies beyond the year 9999") from exc


def _timestamp(instant: datetime) -> Term:
    since = instant - _EPOCH
    seconds = since.days * 86_400 + since.seconds
    return (seconds // _MEGA, seconds % _MEGA, since.microseconds)

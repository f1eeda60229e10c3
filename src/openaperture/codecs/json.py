"""The JSON codec: bytes to typed messages and back, strictly and within bounds.

Whatever arrives is untrusted: size, depth, duplicate keys, numbers and text are checked before a type
is. Everything that is wrong raises BadMessage with a sentence; nothing else escapes.
"""

import json
import math
from collections import Counter
from typing import Any, TypeAlias

import msgspec

from openaperture.domain.errors import BadMessage
from openaperture.domain.messages import Answer, AnyCallback, Request, StartMessage

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"

MAX_BYTES = 1_048_576
MAX_DEPTH = 64
MAX_INTEGER = 2**63 - 1


def encode(message: msgspec.Struct) -> bytes:
    """The message as compact UTF-8 JSON. Every field is present; unset ones are null, as in the original."""
    return msgspec.json.encode(message)


def decode_incoming(body: bytes) -> StartMessage | AnyCallback:
    """A message of the queue `workflow_orchestration`: a callback has a `type`, a start or whole map has none."""
    fields = parse(body)
    if not isinstance(fields, dict):
        raise BadMessage(f"the message is a JSON {_name_of(fields)}; send an object with the workflow's fields")
    message: StartMessage | AnyCallback = _convert(fields, AnyCallback if "type" in fields else StartMessage)
    return message


def decode_request(body: bytes) -> Request:
    """A request, as a worker receives it."""
    request: Request = _convert(parse(body), Request)
    return request


def decode_answer(body: bytes) -> Answer:
    """Our answer to a worker's `accepted` or `heartbeat`."""
    answer: Answer = _convert(parse(body), Answer)
    return answer


def parse(body: bytes) -> Any:
    """Strict JSON: UTF-8, no NaN or infinity, no duplicate keys, no half or NUL characters, 64-bit integers.

    At most MAX_BYTES long and MAX_DEPTH deep. Raises BadMessage.
    """
    if len(body) > MAX_BYTES:
        raise BadMessage(f"the message has {len(body)} bytes; at most {MAX_BYTES} are accepted")
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as exc:
        raise BadMessage(f"the message is not UTF-8 text (byte {exc.start})") from exc
    if text.count("{") + text.count("[") > MAX_DEPTH and _depth(text) > MAX_DEPTH:
        raise BadMessage(f"the message is nested deeper than {MAX_DEPTH} levels")
    try:
        value = _strict.decode(text)
    except (json.JSONDecodeError, RecursionError) as exc:
        raise BadMessage(f"the message is not JSON: {exc}") from exc
    if "\\u" in text:
        _refuse_unstorable_text(value)
    return value


def _convert(fields: Any, wanted: Any) -> Any:
    try:
        return msgspec.convert(fields, wanted)
    except msgspec.ValidationError as exc:
        raise BadMessage(f"the message does not fit its schema: {exc}") from exc


def _depth(text: str) -> int:
    """Deepest nesting, brackets inside strings not counted."""
    deepest = depth = 0
    in_string = escaped = False
    for char in text:
        if in_string:
            in_string = escaped or char != '"'
            escaped = char == "\\" and not escaped
        elif char == '"':
            in_string = True
        elif char in "{[":
            depth += 1
            deepest = max(deepest, depth)
        elif char in "}]":
            depth -= 1
    return deepest


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        counts = Counter(key for key, _ in pairs)
        raise BadMessage(f"the message has the key {counts.most_common(1)[0][0][:64]!r} twice")
    return fields


def _refuse_constant(name: str) -> Any:
    raise BadMessage(f"the message contains {name}, which is not JSON")


def _bounded_integer(digits: str) -> int:
    if len(digits) > 20 or abs(value := int(digits)) > MAX_INTEGER:
        raise BadMessage("the message contains an integer beyond 64 bits")
    return value


def _finite_float(digits: str) -> float:
    if not math.isfinite(value := float(digits)):
        raise BadMessage("the message contains a number beyond the range of a double")
    return value


def _refuse_unstorable_text(value: Json) -> None:
    """An escaped half of a surrogate pair, or NUL, decodes to text that a database cannot store."""
    match value:
        case str():
            if "\x00" in value:
                raise BadMessage("the message contains a NUL character, which no database can store")
            if any("\ud800" <= char <= "\udfff" for char in value):
                raise BadMessage("the message contains half a surrogate pair, which is no character")
        case list():
            for item in value:
                _refuse_unstorable_text(item)
        case dict():
            for key, item in value.items():
                _refuse_unstorable_text(key)
                _refuse_unstorable_text(item)
        case _:
            pass


def _name_of(value: object) -> str:
    if value is None:
        return "null"
    return {"list": "array", "str": "string", "bool": "boolean"}.get(value.__class__.__name__, "number")


_strict = json.JSONDecoder(
    object_pairs_hook=_unique_keys,
    parse_constant=_refuse_constant,
    parse_int=_bounded_integer,
    parse_float=_finite_float,
)

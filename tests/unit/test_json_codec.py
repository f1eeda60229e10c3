"""What arrives is decoded strictly, within bounds, and fails with BadMessage alone."""

import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openaperture.codecs.json import MAX_BYTES, decode_answer, decode_incoming, decode_request, encode
from openaperture.domain import messages as m
from openaperture.domain.errors import BadMessage

COMPLETED = m.Completed(workflow_id="w", attempt_token="t", worker="ann", outputs={"wheel": "a.whl"})


def test_a_callback_survives_the_wire() -> None:
    assert decode_incoming(encode(COMPLETED)) == COMPLETED


def test_a_message_without_a_type_is_a_start() -> None:
    message = decode_incoming(b'{"id": "w", "milestones": ["build"], "unheard_of": 1}')
    assert isinstance(message, m.StartMessage)
    assert message.milestones == ["build"]


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "not JSON"),
        (b"\x83h\x02", "not UTF-8"),
        (b"[1]", "array"),
        (b"null", "null"),
        (b'{"id": 1}', "schema"),
        (b'{"id": ""}', "schema"),
        (b'{"id": "w", "id": "x"}', "twice"),
        (b'{"id": "w", "milestones": "build"}', "schema"),
        (b'{"id": "w", "force_build": NaN}', "NaN"),
        (b'{"id": "w", "x": 1e999}', "range of a double"),
        (b'{"id": "w", "x": 99999999999999999999}', "64 bits"),
        (b'{"id": "\\ud800"}', "surrogate"),
        (b'{"id": "a\\u0000"}', "NUL"),
        (b'{"type": "exploded", "workflow_id": "w"}', "schema"),
        (b'{"type": "completed", "workflow_id": "w"}', "schema"),
        (b"[" * 100_000, "nested"),
        (b'{"a":' * 65 + b"1" + b"}" * 65, "nested"),
        (b'"' + b"x" * MAX_BYTES + b'"', "bytes"),
    ],
)
def test_bad_input_is_refused_with_its_reason(body: bytes, why: str) -> None:
    with pytest.raises(BadMessage, match=why):
        decode_incoming(body)


def test_brackets_inside_text_are_no_depth() -> None:
    assert isinstance(decode_incoming(json.dumps({"id": "w", "source_repo": "[{" * 500}).encode()), m.StartMessage)


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_garbage_gives_bad_message_and_nothing_else(body: bytes) -> None:
    for decode in (decode_incoming, decode_request, decode_answer):
        with pytest.raises(BadMessage):
            decode(body)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(st.sampled_from(["id", "type", "workflow_id", "milestones", "worker"]), json_values))
def test_any_json_is_a_message_or_a_bad_message(fields: dict[str, object]) -> None:
    with suppress(BadMessage):
        assert isinstance(decode_incoming(json.dumps(fields).encode()), m.StartMessage | m.Callback)

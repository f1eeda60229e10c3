"""Messages of the original as terms: what we write is read back as it was, what is wrong is BadMessage alone."""

from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from openaperture.codecs import etf, incoming, terms
from openaperture.codecs.etf import Atom, Term
from openaperture.domain.errors import BadMessage
from openaperture.domain.messages import OriginalMessage
from openaperture.ports import Message
from tests.property.test_etf import damaged
from tests.property.test_etf import terms as any_term

FIELDS = tuple(name for name in OriginalMessage.__struct_fields__ if name != "other_force_build")
ID = "0b1c6b34-6fa3-4f0e-9f6b-0c6d1d1f2a3b"
bounded = settings(
    deadline=None, max_examples=200, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=20)
numbers = st.integers(-(2**63), 2**63 - 1)
plain: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | numbers | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=10,
)
tables = st.dictionaries(texts, plain, max_size=4)
instants = st.datetimes(datetime(1970, 1, 1), datetime(9999, 12, 31), timezones=st.just(UTC))  # noqa: DTZ001  (bounds)
# An atom of such a name is a value of its own.
step_names = texts.filter(lambda name: name not in {"", "nil", "true", "false"})
SPECIAL: Mapping[str, st.SearchStrategy[Any]] = {
    "current_step": step_names,
    "milestones": st.lists(texts, max_size=6),
    "event_log": st.lists(texts, max_size=6),
    "workflow_step_durations": st.dictionaries(texts, texts, max_size=4),
    "deployable_units": st.lists(st.none() | tables, max_size=3),
    **dict.fromkeys(("workflow_error", "workflow_completed", "force_build"), st.booleans()),
    **dict.fromkeys(("build_messaging_exchange_id", "deploy_messaging_exchange_id"), numbers),
    **dict.fromkeys(("workflow_start_time", "step_time"), instants),
    **dict.fromkeys(("execute_options", "notifications_config", "fleet_config", "aws_config"), tables),
    **dict.fromkeys(
        (
            "workflow_orchestration_exchange_id",
            "workflow_orchestration_broker_id",
            "notifications_exchange_id",
            "notifications_broker_id",
        ),
        texts | numbers,
    ),
}
messages: st.SearchStrategy[OriginalMessage] = st.fixed_dictionaries(
    {"id": st.uuids().map(str)},
    optional={name: st.none() | SPECIAL.get(name, texts) for name in FIELDS if name != "id"},
).map(lambda fields: msgspec.structs.replace(OriginalMessage(id=ID), **fields))


def fields_of(message: OriginalMessage) -> dict[str, Any]:
    fields = {name: getattr(message, name) for name in FIELDS}
    if message.other_force_build is not None:
        fields["force_build"] = message.other_force_build
    return fields


@pytest.mark.parametrize("sent", [1, "true", "yes", 0.5, [True]])
def test_force_build_travels_as_it_came_whatever_that_was(sent: Any) -> None:
    message = terms.decode(terms.encode_workflow({**fields_of(OriginalMessage(id=ID)), "force_build": sent}))
    assert (message.force_build, message.other_force_build) == (None, sent)


@bounded
@given(messages)
def test_a_message_survives_the_wire(message: OriginalMessage) -> None:
    assert terms.decode(terms.encode_workflow(fields_of(message))) == message


@bounded
@given(messages)
def test_a_message_has_its_35_keys_as_atoms_and_binaries_below(message: OriginalMessage) -> None:
    term = etf.decode(terms.encode_workflow(fields_of(message)))
    assert isinstance(term, dict)
    assert set(term) == {Atom(name) for name in FIELDS}
    assert len(term) == 35
    step = term[Atom("current_step")]
    assert step is None or isinstance(step, Atom)
    for name in ("workflow_start_time", "step_time"):
        value = term[Atom(name)]
        assert value is None or (isinstance(value, tuple) and len(value) == 3)
    rest = [value for key, value in term.items() if key != Atom("current_step")]
    assert all(_has_no_atoms(value) for value in rest)


def _has_no_atoms(term: Term) -> bool:
    match term:
        case Atom():
            return False
        case list() | tuple():
            return all(map(_has_no_atoms, term))
        case dict():
            return all(isinstance(key, bytes) and _has_no_atoms(value) for key, value in term.items())
        case _:
            return True


# ------------------------------------------------------------------------------------------------- garbage


def accept(body: bytes) -> None:
    """Read it, or have it refused. What is taken can be sent on, and says the same then."""
    with suppress(BadMessage):
        message = terms.decode(body)
        assert terms.decode(terms.encode_workflow(fields_of(message))) == message


@bounded
@given(st.binary(max_size=100))
def test_bytes_of_any_kind_are_refused_and_nothing_worse(body: bytes) -> None:
    accept(body)
    accept(b"\x83" + body)


@bounded
@given(any_term)
def test_a_term_of_any_kind_is_refused_and_nothing_worse(term: Term) -> None:
    accept(etf.encode(term))


@bounded
@given(st.dictionaries(st.sampled_from(FIELDS).map(Atom), any_term))
def test_fields_of_any_type_are_read_or_refused(fields: dict[Any, Term]) -> None:
    accept(etf.encode({Atom("id"): ID.encode(), **fields}))


@bounded
@given(messages, st.integers(0, 2**32), st.integers(1, 4))
def test_a_damaged_message_is_another_one_or_refused(message: OriginalMessage, seed: int, blows: int) -> None:
    chance = Random(seed)
    body = terms.encode_workflow(fields_of(message))
    for _ in range(blows):
        body = damaged(body, chance)
    accept(body)


# ---------------------------------------------------------------------------------------- what types mean


def test_unknown_keys_are_dropped_and_missing_ones_are_nil() -> None:
    body = etf.encode({Atom("id"): ID.encode(), Atom("colour"): b"red", Atom("odd"): (1, 2)})
    assert terms.decode(body) == OriginalMessage(id=ID)


@pytest.mark.parametrize("step", [Atom("build"), b"build"])
def test_a_step_may_be_an_atom_or_a_binary(step: Term) -> None:
    body = etf.encode({Atom("id"): ID.encode(), Atom("current_step"): step, Atom("milestones"): [step]})
    message = terms.decode(body)
    assert (message.current_step, message.milestones) == ("build", ["build"])


def test_a_list_of_small_integers_stays_a_list() -> None:
    body = etf.encode({Atom("id"): ID.encode(), Atom("fleet_config"): {b"ports": [80, 81]}})
    assert b"k\x00\x02PQ" in body
    assert terms.decode(body).fleet_config == {"ports": [80, 81]}


def test_timestamps_are_exact_to_the_microsecond() -> None:
    body = etf.encode({Atom("id"): ID.encode(), Atom("step_time"): (1439, 900_000, 123_456)})
    assert terms.decode(body).step_time == datetime(2015, 8, 18, 12, 13, 20, 123_456, tzinfo=UTC)
    assert b"h\x03b\x00\x00\x05\x9fb\x00\x0d\xbb\xa0b\x00\x01\xe2\x40" in terms.encode_workflow(
        msgspec.structs.asdict(terms.decode(body))
    )


@pytest.mark.parametrize(
    "value",
    [
        (1, 2),
        (1, 2, 3, 4),
        (1, 2, -3),
        (1, 2, True),
        (1.0, 2, 3),
        (1, 2_000_000, 3),
        [1, 2, 3],
        b"now",
        7,
        Atom("x"),
    ],
)
def test_what_is_no_timestamp_is_refused_by_name(value: Term) -> None:
    body = etf.encode({Atom("id"): ID.encode(), Atom("workflow_start_time"): value})
    with pytest.raises(BadMessage, match="workflow_start_time is no timestamp"):
        terms.decode(body)


def test_a_refusal_does_not_repeat_what_was_sent() -> None:
    spoilt: list[Term] = [b"hunter2", (b"hunter2",), {b"k": (b"hunter2",)}, {b"k": b"hunter2\xff"}, [b"hunter2"]]
    for value in spoilt:
        with pytest.raises(BadMessage) as refused:
            terms.decode(etf.encode({Atom("id"): ID.encode(), Atom("aws_config"): value}))
        assert "hunter2" not in str(refused.value)


# ---------------------------------------------------------------------------------------------- which form


def test_the_content_type_says_which_form_a_message_has_and_the_first_byte_where_it_says_nothing() -> None:
    body = etf.encode({Atom("id"): ID.encode()})
    for content_type in (None, "application/x-erlang-binary", "application/octet-stream; v=1"):
        assert incoming.decode(Message(body=body, content_type=content_type)) == OriginalMessage(id=ID)
    assert not isinstance(incoming.decode(Message(body=b'{"id": "a"}', content_type=None)), OriginalMessage)
    with pytest.raises(BadMessage):
        incoming.decode(Message(body=body, content_type="application/json"))
    with pytest.raises(BadMessage):
        incoming.decode(Message(body=b'{"id": "a"}', content_type="application/x-erlang-binary"))
    with pytest.raises(BadMessage, match="text/plain"):
        incoming.decode(Message(body=body, content_type="text/plain"))

"""The judges accept what a case expects, and refuse what is a little different."""

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from openaperture.codecs.etf import decode, encode
from tests.compat.cases import Case, read_cases
from tests.compat.elapsed import elapsed_text, texts_within
from tests.compat.journal import Call, Published
from tests.compat.notation import Window, atom_map, differences, notation_of
from tests.compat.notes import Note, missing_notes
from tests.compat.quirks import DEMANDS, judged
from tests.compat.records import blank_trial, fulfilled, message, records_of, request_fields, save
from tests.compat.saves import Save, steps_back, wrong_last
from tests.compat.trial import Trial
from tests.compat.verdict import fate_faults

NOW = 1_439_900_000.123456
AT_ONCE = Window(start=NOW, end=NOW)
COMPAT = [case for case in read_cases() if not case.is_quirk]
WORKING = [case for case in read_cases() if "raw_body_hex" not in case.given.get("delivery", {})]


def by_number(number: int) -> Case:
    return read_cases()[number]


def found_in(expected: Any, seen: Any, window: Window = AT_ONCE) -> list[str]:
    return list(differences(expected, seen, window))


@pytest.mark.parametrize("case", COMPAT, ids=lambda case: case.id)
def test_a_record_that_does_what_the_case_expects_is_accepted(case: Case) -> None:
    trial = fulfilled(case)
    assert [*judged(trial), *fate_faults(trial)] == []


@pytest.mark.parametrize("case", WORKING, ids=lambda case: case.id)
def test_an_orchestrator_that_does_nothing_passes_no_case(case: Case) -> None:
    assert judged(blank_trial(case))


def test_every_quirk_has_a_demand_of_its_own() -> None:
    assert {case.name for case in read_cases() if case.is_quirk} == set(DEMANDS)


@pytest.mark.parametrize("number", [0, 41])
def test_a_delivery_that_stays_in_the_queue_is_refused(number: int) -> None:
    trial = fulfilled(by_number(number))
    trial.is_left = True
    assert list(fate_faults(trial))


def test_a_dead_letter_where_an_ack_is_expected_is_refused_and_the_other_way_round() -> None:
    acked, rejected = fulfilled(by_number(0)), fulfilled(by_number(41))
    acked.is_dead, rejected.is_dead = True, False
    assert list(fate_faults(acked))
    assert list(fate_faults(rejected))


Change = Callable[[Trial, list[Call | Published]], list[Call | Published]]


def without_messages(trial: Trial, records: list[Call | Published]) -> list[Call | Published]:
    return [record for record in records if not isinstance(record, Published) or record.queue != "builder"]


def twice(trial: Trial, records: list[Call | Published]) -> list[Call | Published]:
    return [*records, records[-1]]


def replaced(**changes: Any) -> Change:
    """The request with other attributes: broker, exchange, routing key."""

    def change(trial: Trial, records: list[Call | Published]) -> list[Call | Published]:
        return [*records[:-1], dataclasses.replace(records[-1], **changes)]

    return change


def with_field(name: str, value: Any) -> Change:
    """The request with another value."""

    def change(trial: Trial, records: list[Call | Published]) -> list[Call | Published]:
        entry = trial.case.expect["published"][0]
        fields = request_fields(trial, entry["payload"]) | {name: value}
        return [*records[:-1], message(trial, entry, atom_map(fields, trial.start))]

    return change


def with_save(**changes: Any) -> Change:
    """Another last save before the request."""

    def change(trial: Trial, records: list[Call | Published]) -> list[Call | Published]:
        notes = [record for record in records[:-1] if isinstance(record, Published)]
        return [*(record for record in records if record.at), save(trial, notes, **changes)]

    return change


def save_after(trial: Trial, records: list[Call | Published]) -> list[Call | Published]:
    """The save came when the request was out."""
    late = [dataclasses.replace(record, at=record.at + 60) if _is_save(record) else record for record in records]
    return list(late)


def _is_save(record: Call | Published) -> bool:
    return isinstance(record, Call) and record.method == "PUT"


def without_notes(trial: Trial, records: list[Call | Published]) -> list[Call | Published]:
    apart = "notifications_hipchat"
    return [record for record in records if not isinstance(record, Published) or record.queue != apart]


def flag_turned(trial: Trial, records: list[Call | Published]) -> list[Call | Published]:
    """Every note tells of a failure."""
    turned: list[Call | Published] = []
    for record in records:
        if isinstance(record, Published) and record.queue == "notifications_hipchat":
            fields = dict(record.fields) | {"is_success": False}
            entry = {"exchange": record.exchange, "routing_key": record.routing_key}
            turned.append(message(trial, entry, atom_map(fields, trial.start)))
        else:
            turned.append(record)
    return turned


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(without_messages, id="no request"),
        pytest.param(twice, id="the request twice"),
        pytest.param(replaced(broker="2"), id="another broker"),
        pytest.param(replaced(exchange=""), id="another exchange"),
        pytest.param(replaced(routing_key="builder"), id="another routing key"),
        pytest.param(with_field("current_step", "build"), id="the step as a binary"),
        pytest.param(
            with_field("milestones", [{"$atom": "build"}, {"$atom": "deploy"}]), id="milestones as atoms"
        ),
        pytest.param(with_field("workflow_orchestration_exchange_id", 1), id="an id as an integer"),
        pytest.param(with_field("step_time", 1_439_900_000), id="a time as an integer"),
        pytest.param(with_field("step_time", {"$ago": 3600}), id="a time that is not now"),
        pytest.param(with_field("event_log", []), id="no event log"),
        pytest.param(with_field("source_repo", "other"), id="a field changed on the way"),
        pytest.param(with_field("some_future_field", "x"), id="a key that is not known"),
        pytest.param(with_save(current_step="deploy"), id="a save with another step"),
        pytest.param(with_save(event_log=["one"]), id="a save with a shorter log"),
        pytest.param(with_save(workflow_error=None), id="a save with nil for false"),
        pytest.param(with_save(surplus=1), id="a save with more fields"),
        pytest.param(save_after, id="the save after the request"),
        pytest.param(without_notes, id="no notes"),
        pytest.param(flag_turned, id="notes of a failure"),
    ],
)
def test_a_record_that_differs_in_one_thing_is_refused(change: Change) -> None:
    trial = blank_trial(by_number(0))
    for record in change(trial, records_of(trial)):
        trial.stage.journal.add(record)
    assert judged(trial)


def test_a_term_is_seen_with_the_types_that_it_has_on_the_wire() -> None:
    fields = {"step": {"$atom": "build"}, "text": "a", "map": {"k": [1, True, None]}, "time": {"$ago": 0}}
    seen = notation_of(decode(encode(atom_map(fields, NOW))))
    assert seen == {"$atomkeys": fields | {"time": {"$tuple": [1439, 900_000, 123_456]}}}
    assert notation_of(decode(encode({"a": b"\xff"}))) == {"a": {"$bytes": "ff"}}


@pytest.mark.parametrize(
    ("expected", "seen"),
    [
        (1, True),
        (1, "1"),
        (None, {"$atom": "undefined"}),
        ("build", {"$atom": "build"}),
        ({"$atom": "build"}, "build"),
        ({"a": 1}, {"b": 1}),
        ({"a": 1}, {"$atomkeys": {"a": 1}}),
        ({"$atomkeys": {"a": 1}}, {"a": 1}),
        ([1, 2], [1, 2, 3]),
        ({"$len": 2}, ["one"]),
        ({"$len": 2}, None),
        ({"$ago": 0}, {"$tuple": [1439, 900_000]}),
        ({"$ago": 500}, {"$tuple": [1439, 899_500, 123_457]}),
        ("5 second(s)", "4 second(s)"),
        ("8 minute(s)", "9 minute(s)"),
    ],
)
def test_what_is_not_as_expected_is_told(expected: Any, seen: Any) -> None:
    assert found_in(expected, seen)


@pytest.mark.parametrize(
    ("expected", "seen"),
    [
        ({"a": 1}, {"a": 1, "b": 2}),
        ({"$len": 2}, ["one", "two", "three"]),
        ({"$ago": 500}, {"$tuple": [1439, 899_500, 123_456]}),
        ({"$ago": 0}, {"$tuple": [1439, 900_000, 500_000]}),
        ({"$any": True}, None),
    ],
)
def test_what_is_as_expected_or_more_is_accepted(expected: Any, seen: Any) -> None:
    assert found_in(expected, seen) == []


def test_seconds_may_have_passed_while_the_test_ran_and_no_more() -> None:
    window = Window(start=NOW, end=NOW + 2)
    assert found_in("0 second(s)", "2 second(s)", window) == []
    assert found_in("0 second(s)", "3 second(s)", window)


def test_an_elapsed_text_has_the_unit_of_the_exact_span_and_a_number_rounded_half_up() -> None:
    spans = [0.4, 0.5, 59.6, 90, 3599, 3600, 604_799, 604_800]
    texts = ["0 second(s)", "1 second(s)", "60 second(s)", "2 minute(s)", "60 minute(s)", "1 hour(s)"]
    assert [elapsed_text(span) for span in spans] == [*texts, "7 day(s)", "1 week(s)"]
    assert texts_within(3599, 1.5) == ["60 minute(s)", "1 hour(s)"]


NOTES = [
    Note(is_success=True, prefix="p", message="The workflow starts", room_names=None),
    Note(is_success=True, prefix="p", message="Something else", room_names=None),
    Note(is_success=False, prefix="p", message="The milestone build failed: no builder in 1", room_names=None),
]


@pytest.mark.parametrize(
    ("expected", "is_there"),
    [
        ([("workflow_started", True, "")], True),
        ([("workflow_started", True, ""), ("milestone_failed", False, "build")], True),
        ([("milestone_failed", False, "build"), ("workflow_started", True, "")], False),
        ([("milestone_failed", True, "build")], False),
        ([("milestone_failed", False, "deploy")], False),
        ([("workflow_started", True, ""), ("workflow_started", True, "")], False),
        ([("workflow_failed", False, "")], False),
    ],
)
def test_notes_have_to_come_in_order_with_their_flag_and_step(
    expected: list[tuple[str, bool, str]], is_there: bool
) -> None:
    entries = [
        {"kind": kind, "is_success": flag, **({"step": step} if step else {})} for kind, flag, step in expected
    ]
    assert (not list(missing_notes(entries, NOTES, 0))) is is_there


def made_save(**fields: Any) -> Save:
    body = {"milestones": ["build", "deploy"], "event_log": [], "workflow_error": False}
    return Save(at=NOW, body=body | fields)


def test_saves_may_be_merged_and_the_last_one_says_it_all() -> None:
    expected: list[dict[str, Any]] = [
        {"current_step": ""},
        {"current_step": "build", "event_log": {"$len": 1}},
        {},
    ]
    assert list(wrong_last(expected, [made_save(current_step="build", event_log=["e"])], NOW, "the end")) == []
    assert list(wrong_last(expected, [made_save(current_step="build")], NOW, "the end"))
    assert list(wrong_last(expected, [], NOW, "the end"))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"current_step": "deploy"}, {"current_step": "build"}),
        ({"current_step": "build"}, {"current_step": ""}),
        ({"current_step": "workflow_completed"}, {"current_step": "deploy"}),
        ({"current_step": "build", "workflow_error": True}, {"current_step": "build"}),
        ({"current_step": "build", "event_log": ["a", "b"]}, {"current_step": "build", "event_log": ["a"]}),
        ({"current_step": "build", "event_log": ["a"]}, {"current_step": "build", "event_log": ["b", "a"]}),
    ],
)
def test_a_save_that_goes_back_is_told(before: dict[str, Any], after: dict[str, Any]) -> None:
    assert list(steps_back([made_save(**before), made_save(**after)]))
    assert list(steps_back([made_save(**before), made_save(**before)])) == []

"""What people are told: whatever a repository's configuration holds, and however long a log grows."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openaperture.domain.history import Entry
from openaperture.domain.notes import (
    MAX_LOG_BYTES,
    MAX_LOG_LINES,
    Note,
    email_of,
    notes_of,
    prefix_of,
    rooms_of,
    with_log,
)
from openaperture.domain.releases import Release
from openaperture.domain.workflow import State, Workflow

NOW = datetime(2026, 3, 5, 12, 0, tzinfo=UTC)
RELEASE = Release(milestones=("config", "build"), deployment_repo="team/shop", source_repo="https://git.test/shop")
RUNNING = Workflow(id="w1", release=RELEASE, state=State.RUNNING, started_at=NOW, step_started_at=NOW)
DONE = replace(RUNNING, state=State.COMPLETED, position=2, ended_at=NOW)
anything: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
configs = st.fixed_dictionaries(
    {},
    optional={
        "hipchat": anything | st.fixed_dictionaries({"room_names": anything}),
        "email": anything
        | st.fixed_dictionaries(
            {}, optional={"events": anything | st.fixed_dictionaries({"on_workflow_completed": anything})}
        ).flatmap(lambda email: anything.map(lambda groups: {**email, "groups": groups})),
    },
)


def of_kind(kind: str, text: str = "", *, success: bool = True, **details: Any) -> Entry:
    return Entry(kind=kind, text=text, at=NOW, success=success, details=details)


@settings(deadline=None)
@given(configs)
def test_a_configuration_of_any_shape_gives_rooms_and_addresses_that_are_texts_or_none(
    config: dict[str, Any],
) -> None:
    workflow = replace(DONE, notifications_config=config)
    rooms = rooms_of(workflow)
    assert rooms is None or all(isinstance(room, str) for room in rooms)
    email = email_of(workflow, None)
    assert email is None or all(isinstance(address, str) for address in email.addresses)
    assert email is None or email.addresses


@pytest.mark.parametrize("config", [None, {}, {"hipchat": []}, {"hipchat": {"room_names": "releases"}}])
def test_without_a_list_of_rooms_there_are_none(config: dict[str, Any] | None) -> None:
    assert rooms_of(replace(DONE, notifications_config=config)) is None


def config_of(*wanted: str, **groups: list[str]) -> dict[str, Any]:
    return {"email": {"groups": groups, "events": {"on_workflow_completed": list(wanted)}}}


def test_the_name_of_a_group_stands_for_its_members_in_their_order_and_repeats_are_kept() -> None:
    config = config_of("ops", "eve@x.test", "ops", ops=["bob@x.test", "ann@x.test"])
    email = email_of(replace(DONE, notifications_config=config), None)
    assert email is not None
    assert email.addresses == ["bob@x.test", "ann@x.test", "eve@x.test", "bob@x.test", "ann@x.test"]


@pytest.mark.parametrize(
    ("state", "subject"),
    [
        (State.COMPLETED, "SUCCEEDED [OA][w1][team/shop]"),
        (State.FAILED, "FAILED - [OA][w1][team/shop]"),
        (State.CANCELLED, "FAILED - [OA][w1][team/shop]"),
    ],
)
def test_the_subject_of_the_e_mail_says_how_it_ended(state: State, subject: str) -> None:
    workflow = replace(DONE, state=state, notifications_config=config_of("ann@x.test"))
    email = email_of(workflow, None)
    assert email is not None
    assert email.subject == subject


def test_there_is_no_e_mail_before_the_end() -> None:
    assert email_of(replace(RUNNING, notifications_config=config_of("ann@x.test")), None) is None


@pytest.mark.parametrize(
    ("release", "found", "line"),
    [
        (RELEASE, {"source_repo_git_ref": "4f2a"}, "https://git.test/shop/commit/4f2a"),
        (replace(RELEASE, source_repo_git_ref="main"), {}, "https://git.test/shop/commit/main"),
        (RELEASE, {}, "https://git.test/shop"),
        (replace(RELEASE, source_repo=""), {}, "https://github.com/team/shop"),
    ],
)
def test_the_e_mail_points_to_the_source_and_to_the_page_of_the_workflow(
    release: Release, found: dict[str, Any], line: str
) -> None:
    workflow = replace(DONE, release=release, carried=found, notifications_config=config_of("ann@x.test"))
    email = email_of(workflow, "https://ui.test")
    assert email is not None
    assert email.text.splitlines()[1] == line
    assert email.text.endswith("\nhttps://ui.test/index.html#/oa/workflows/workflows/w1")


def test_a_failure_is_told_with_its_reason_and_ends_with_the_time_that_its_milestone_took() -> None:
    failed = replace(RUNNING, state=State.FAILED, reason="no builder is there", ended_at=NOW)
    notes = notes_of(failed, [of_kind("workflow.failed", failed.reason, success=False)], NOW)
    assert [(note.text, note.success) for note in notes] == [
        ("milestone config failed: no builder is there", False),
        ("workflow failed after 0 second(s)", False),
        ("milestone config ended after 0 second(s)", True),
    ]


def test_a_reason_that_names_its_milestone_is_not_given_twice() -> None:
    failed = replace(RUNNING, state=State.FAILED, reason="milestone config failed: it broke", ended_at=NOW)
    notes = notes_of(failed, [of_kind("workflow.failed", failed.reason, success=False)], NOW)
    assert notes[0].text == "milestone config failed: it broke"


def test_what_is_for_the_history_alone_is_no_note() -> None:
    entries = [of_kind("callback.late", "x"), of_kind("start.repeated", "x"), of_kind("milestone.requested", "x")]
    assert notes_of(RUNNING, entries, NOW) == []


def test_a_line_of_the_log_is_the_prefix_and_the_text() -> None:
    workflow = with_log(RUNNING, [Note(text="workflow started")])
    assert workflow.event_log == (f"{prefix_of(RUNNING)} workflow started",)
    nameless = replace(RUNNING, release=Release(milestones=()))
    assert prefix_of(nameless) == "[OA][w1][Unknown]"
    assert with_log(RUNNING, []) is RUNNING


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(0, MAX_LOG_BYTES + 10), max_size=6), st.integers(0, MAX_LOG_LINES + 50))
def test_a_log_stays_within_its_bounds_and_keeps_its_newest_lines(sizes: list[int], short: int) -> None:
    before = tuple("x" * size for size in sizes) + ("y",) * short
    log = with_log(replace(RUNNING, event_log=before), [Note(text="the last word")]).event_log
    assert len(log) <= MAX_LOG_LINES
    assert sum(len(line.encode()) for line in log) <= MAX_LOG_BYTES
    assert log[-1].endswith("the last word")
    assert log[:-1] == (before[-len(log) + 1 :] if len(log) > 1 else ())

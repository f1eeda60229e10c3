"""The rows that a history folds into."""

import pytest

from openaperture.cli.picture import Mark, Picture, TakenOver
from openaperture.client.models import Event
from tests.unit.cli.told import at, chunk, event


def picture_of(*events: Event, milestones: tuple[str, ...] = ("build", "deploy")) -> Picture:
    picture = Picture(milestones)
    for told in events:
        picture.tell(told)
    return picture


def marks(picture: Picture) -> list[Mark]:
    return [row.mark for row in picture.rows]


def test_a_release_goes_from_milestone_to_milestone() -> None:
    picture = picture_of(
        event(1, "workflow.started"),
        event(2, "milestone.requested", attempt="0.0.1"),
        event(3, "milestone.claimed", attempt="0.0.1"),
    )
    assert marks(picture) == [Mark.RUNNING, Mark.PENDING]
    picture.tell(event(5, "milestone.completed", attempt="0.0.1", outputs={"wheel": "x.whl"}))
    picture.tell(event(6, "milestone.requested", attempt="0.1.1"))
    assert marks(picture) == [Mark.DONE, Mark.REQUESTED]
    assert picture.rows[0].outputs == {"wheel": "x.whl"}
    assert picture.rows[0].elapsed_seconds(at(100)) == 3
    assert picture.rows[1].elapsed_seconds(at(10)) == 4
    assert picture.current is picture.rows[1]


def test_the_same_milestone_twice_is_two_rows() -> None:
    picture = picture_of(
        event(1, "milestone.requested", attempt="0.0.1"),
        event(2, "milestone.completed", attempt="0.0.1"),
        event(3, "milestone.requested", attempt="0.1.1"),
        milestones=("build", "build"),
    )
    assert marks(picture) == [Mark.DONE, Mark.REQUESTED]


def test_a_failure_ends_its_milestone_and_leaves_the_later_ones_untouched() -> None:
    picture = picture_of(
        event(1, "workflow.started"),
        event(2, "milestone.requested", attempt="0.0.1"),
        event(3, "milestone.failed", attempt="0.0.1"),
        event(3, "workflow.failed"),
    )
    assert marks(picture) == [Mark.FAILED, Mark.PENDING]
    assert picture.ended_at == at(3)


@pytest.mark.parametrize(
    ("kind", "mark"),
    [
        ("milestone.lost", Mark.WAITING),
        ("workflow.waiting", Mark.WAITING),
        ("workflow.held", Mark.HELD),
        ("workflow.cancelled", Mark.CANCELLED),
        ("workflow.failed", Mark.FAILED),
    ],
)
def test_what_happens_to_the_workflow_shows_at_its_current_milestone(kind: str, mark: Mark) -> None:
    picture = picture_of(event(1, "milestone.requested", attempt="0.0.1"), event(2, kind, "because"))
    assert marks(picture) == [mark, Mark.PENDING]


def test_a_milestone_without_a_worker_is_done_when_the_next_one_begins() -> None:
    picture = picture_of(
        event(1, "workflow.waiting", "waits for its start time"),
        event(9, "milestone.requested", attempt="0.1.1"),
        milestones=("scheduled", "build"),
    )
    assert marks(picture) == [Mark.DONE, Mark.REQUESTED]
    assert picture.rows[0].said == ""
    assert picture.rows[0].elapsed_seconds(at(99)) == 8


def test_a_milestone_that_is_done_again_by_a_persons_word_runs_again() -> None:
    picture = picture_of(
        event(1, "milestone.requested", attempt="0.0.1"),
        event(2, "workflow.held", "nobody knows"),
        event(3, "workflow.resolved", "again"),
        event(4, "milestone.requested", attempt="1.0.1"),
        event(5, "milestone.claimed", attempt="1.0.1"),
    )
    assert marks(picture) == [Mark.RUNNING, Mark.PENDING]
    assert picture.rows[0].said == ""


def test_a_completed_workflow_has_only_done_rows() -> None:
    picture = picture_of(event(1, "milestone.requested", attempt="0.1.1"), event(2, "workflow.completed"))
    assert marks(picture) == [Mark.DONE, Mark.DONE]
    assert picture.current is None


def test_output_stays_with_its_milestone_and_only_its_end_is_kept() -> None:
    picture = picture_of(event(1, "milestone.requested", attempt="0.1.1"))
    picture.tell_output(chunk(1, "of build", attempt="0.0.1"))
    picture.tell_output(chunk(2, *(f"line {n}" for n in range(100)), attempt="0.1.1"))
    assert list(picture.rows[0].tail) == ["of build"]
    assert len(picture.rows[1].tail) == 20
    assert picture.rows[1].tail[-1] == "line 99"


def test_a_clock_behind_the_stores_never_shows_a_negative_time() -> None:
    picture = picture_of(event(50, "milestone.requested", attempt="0.0.1"))
    assert picture.rows[0].elapsed_seconds(at(1)) == 0


@pytest.mark.parametrize("attempt", ["", "0.x.1", "0.99.1", "nonsense"])
def test_an_attempt_that_cannot_be_placed_is_taken_for_the_current_one(attempt: str) -> None:
    picture = picture_of(event(1, "milestone.claimed", attempt=attempt))
    assert picture.rows[0].mark is Mark.RUNNING


def test_no_milestones_make_no_rows() -> None:
    assert picture_of(event(1, "workflow.started"), event(1, "workflow.completed"), milestones=()).rows == []


def test_milestones_of_a_group_go_side_by_side_and_what_follows_a_failure_has_rows_of_its_own() -> None:
    picture = Picture([["build", "scan"], "deploy"], on_failure=["tidy"])
    for told in (
        event(1, "workflow.started"),
        event(2, "milestone.claimed", attempt="0.0.1", milestone="build"),
        event(2, "milestone.claimed", attempt="0.0.2", milestone="scan"),
        event(3, "milestone.failed", attempt="0.0.2", milestone="scan"),
    ):
        picture.tell(told)
    assert marks(picture) == [Mark.RUNNING, Mark.FAILED, Mark.PENDING]
    assert picture.current is picture.rows[0]
    picture.tell(event(4, "milestone.completed", attempt="0.0.1", milestone="build"))
    picture.tell(event(4, "workflow.failing", milestone="scan"))
    picture.tell(event(5, "milestone.claimed", attempt="1.0.1", milestone="tidy"))
    assert [row.name for row in picture.rows] == ["build", "scan", "deploy", "tidy"]
    assert marks(picture) == [Mark.DONE, Mark.FAILED, Mark.PENDING, Mark.RUNNING]
    picture.tell(event(6, "milestone.completed", attempt="1.0.1", milestone="tidy"))
    picture.tell(event(6, "workflow.failed"))
    assert marks(picture) == [Mark.DONE, Mark.FAILED, Mark.PENDING, Mark.DONE]
    assert picture.failed is picture.rows[1]


def test_what_was_taken_over_is_done_without_a_time_and_has_its_outputs() -> None:
    outputs = {"build": {"version": "1.2"}, "scan": {"report": "clean"}}
    taken_over = TakenOver(workflow_id="an-older-one", first_position=1, outputs=outputs)
    picture = Picture([["build"], ["scan", "test"], ["deploy"]], taken_over=taken_over)
    for told in (
        event(1, "workflow.started"),
        event(2, "milestone.skipped", milestone="scan"),
        event(3, "milestone.claimed", attempt="0.1.1", milestone="test"),
    ):
        picture.tell(told)
    assert marks(picture) == [Mark.DONE, Mark.DONE, Mark.RUNNING, Mark.PENDING]
    assert [row.taken_over_from for row in picture.rows] == ["an-older-one", "an-older-one", "", ""]
    assert [row.outputs for row in picture.rows[:2]] == list(outputs.values())
    assert [row.elapsed_seconds(at(9)) for row in picture.rows[:3]] == [None, None, 6]

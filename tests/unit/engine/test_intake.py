"""From messages to events: what a sender may decide, and what not."""

import pytest

from openaperture.domain import events as e
from openaperture.domain import messages as m
from openaperture.domain.attempts import AttemptKey
from openaperture.domain.errors import BadMessage
from openaperture.engine.intake import item_of
from openaperture.engine.tokens import TokenMint

ID = "0b1c6b34-6fa3-4f0e-9f6b-0c6d1d1f2a3b"
KEY = AttemptKey(generation=0, position=0, number=1)
MINT = TokenMint("a key of the test")
TOKEN = MINT.mint(ID, KEY)


def test_a_start_carries_what_to_release() -> None:
    item = item_of(m.StartMessage(id=ID, milestones=["build"], source_repo="r"), "m1", MINT)
    assert item.event == e.StartRequested()
    assert item.seed is not None
    assert item.seed.release.milestones == ("build",)


def test_a_start_without_milestones_can_only_mean_a_stored_workflow() -> None:
    assert item_of(m.StartMessage(id=ID), "m1", MINT).seed is None


def test_flags_of_completion_on_a_start_mean_nothing() -> None:
    message = m.StartMessage(id=ID, milestones=["build"], workflow_completed=True, workflow_error=True)
    assert item_of(message, "m1", MINT).event == e.StartRequested()


@pytest.mark.parametrize("workflow_id", ["7", "../../etc", "w", "'; drop table workflows"])
def test_an_id_that_is_no_uuid_is_refused(workflow_id: str) -> None:
    with pytest.raises(BadMessage, match="UUID"):
        item_of(m.StartMessage(id=workflow_id, milestones=[]), "m1", MINT)


def test_going_on_needs_the_token_of_the_request() -> None:
    with pytest.raises(BadMessage, match="attempt_token"):
        item_of(m.StartMessage(id=ID, milestones=["build"], current_step="build"), "m1", MINT)


def test_the_whole_map_with_its_token_completes_the_milestone() -> None:
    message = m.StartMessage(id=ID, current_step="build", attempt_token=TOKEN, outputs={"a": "1"})
    assert item_of(message, "m1", MINT).event == e.MilestoneCompleted(key=KEY, worker=None, outputs={"a": "1"})


def test_the_whole_map_with_an_error_fails_it_with_the_last_line_of_its_log() -> None:
    message = m.StartMessage(id=ID, attempt_token=TOKEN, workflow_error=True, event_log=["a", "it broke"])
    assert item_of(message, "m1", MINT).event == e.MilestoneFailed(key=KEY, worker=None, message="it broke")


@pytest.mark.parametrize("token", ["", "0.0.1.forged", "x", MINT.mint("another", KEY)])
def test_a_foreign_token_is_an_event_of_its_own(token: str) -> None:
    callback = m.Completed(workflow_id=ID, attempt_token=token, worker="ann")
    assert item_of(callback, "m1", MINT).event == e.Forged(claimed_type="completed")
    whole = m.StartMessage(id=ID, attempt_token=token)
    assert item_of(whole, "m1", MINT).event == e.Forged(claimed_type="workflow")


def test_questions_are_not_kept_in_the_inbox_since_each_must_be_answered() -> None:
    claim = m.Accepted(workflow_id=ID, attempt_token=TOKEN, worker="ann", reply_to="q")
    assert item_of(claim, "m1", MINT).message_id is None
    done = m.Completed(workflow_id=ID, attempt_token=TOKEN, worker="ann")
    assert item_of(done, "m1", MINT).message_id == f"{ID}/m1"


def test_a_forgery_takes_no_place_in_the_inbox_that_a_genuine_message_would_need() -> None:
    forged = m.Completed(workflow_id=ID, attempt_token="0.0.1.forged", worker="ann")
    assert item_of(forged, "m1", MINT).message_id is None

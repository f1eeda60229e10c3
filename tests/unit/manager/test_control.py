"""What people decide about workflows, over the API."""

from typing import Any

import pytest

from openaperture.domain import events as e
from openaperture.domain.workflow import State
from tests.unit.manager.people import make_token, sending
from tests.unit.manager.place import WORKER, Place, key


async def post(place: Place, path: str, body: dict[str, Any] | None = None, status: int = 200) -> dict[str, Any]:
    response = await place.http.post(path, json=body)
    assert response.status_code == status, response.text
    shown: dict[str, Any] = response.json()
    return shown


# ------------------------------------------------------------------------------- what is asked for


async def test_groups_locks_and_limits_are_stored_and_shown_as_they_were_asked_for(place: Place) -> None:
    asked = {
        "milestones": ["config", ["build", "deploy_ecs"], "deploy"],
        "on_failure": ["deploy_oa"],
        "on_group_failure": "cancel",
        "milestone_options": {"build": {"max_attempts": 5, "run_seconds": 60, "retry_on": ["crashed", "lost"]}},
        "locks": ["environment:prod", "environment:prod", "db"],
        "locks_from": "deploy",
        "when_locked": "newest",
    }
    shown = await place.show(await place.create(**asked))
    assert shown["plan"] == [["config"], ["build", "deploy_ecs"], ["deploy"]]
    assert shown["milestones"] == ["config", "build", "deploy_ecs", "deploy"]
    assert shown["locks"] == ["environment:prod", "db"]
    names = ("on_failure", "on_group_failure", "milestone_options", "locks_from", "when_locked")
    assert {name: shown[name] for name in names} == {name: asked[name] for name in names}


@pytest.mark.parametrize(
    ("fields", "field", "words"),
    [
        ({"milestones": ["biuld"]}, "milestones.0", 'did you mean "build"?'),
        ({"milestones": ["build", ["deploy", "zzz"]]}, "milestones.1", '"zzz" is not known'),
        ({"on_failure": ["rollback"]}, "on_failure.0", "is not known"),
        ({"milestones": [["build", "build"]]}, "milestones.0", "twice"),
        ({"locks_from": "config"}, "locks_from", "none of its milestones"),
        ({"milestone_options": {"config": {"max_attempts": 1}}}, "milestone_options.config", "none of its"),
        ({"milestone_options": {"build": {"max_attempts": 0}}}, "milestone_options.build.max_attempts", "greater"),
        ({"milestones": [["build", 7]]}, "milestones.0.1", "has to be a text"),
        ({"milestones": [[]]}, "milestones.0", "at least 1"),
        ({"locks": ["a lock"]}, "locks.0", "write only letters, digits"),
        ({"locks": [""]}, "locks.0", "is empty"),
        ({"locks_from": "build"}, "locks_from", "none are named"),
        ({"milestones": ["b" * 65]}, "milestones.0", "more than 64 characters"),
        ({"when_locked": "never"}, "when_locked", "'wait'"),
    ],
)
async def test_what_cannot_be_worked_off_is_refused_when_it_is_stored(
    place: Place, fields: dict[str, Any], field: str, words: str
) -> None:
    response = await place.http.post("/workflows", json={"milestones": ["build", "deploy"], **fields})
    assert response.status_code == 400
    [problem] = response.json()["error"]["problems"]
    assert problem["field"] == field
    assert words in problem["message"]


async def test_all_milestones_that_are_not_known_are_told_in_one_sentence(place: Place) -> None:
    response = await place.http.post("/workflows", json={"milestones": ["biuld", ["polish", "build"], "paint"]})
    error = response.json()["error"]
    assert [problem["field"] for problem in error["problems"]] == ["milestones.0", "milestones.1", "milestones.2"]
    assert error["message"] == (
        'the request cannot be used: milestones.0: milestone "biuld" is not known (did you mean "build"?); '
        'milestones.1: milestone "polish" is not known; milestones.2: milestone "paint" is not known; '
        "known are approval, build, config, deploy, deploy_ecs, deploy_oa, scheduled, "
        "and the configuration can define others as [milestones.NAME]."
    )


async def test_sending_back_what_was_read_takes_no_group_apart(place: Place) -> None:
    workflow_id = await place.create(milestones=[["build", "config"], "deploy"])
    shown = await place.show(workflow_id)
    changed = await place.http.put(f"/workflows/{workflow_id}", json={**shown, "source_repo_git_ref": "v2"})
    assert changed.status_code == 204
    after = await place.show(workflow_id)
    assert (after["plan"], after["source_repo_git_ref"]) == ([["build", "config"], ["deploy"]], "v2")


# -------------------------------------------------------------------------------------- on the way


async def test_a_paused_workflow_begins_nothing_more_and_goes_on_when_resumed(place: Place) -> None:
    workflow_id = await place.start()
    await post(place, f"/workflows/{workflow_id}/pause", {"reason": "lunch"})
    await place.tell(
        workflow_id, e.Claimed(key=key(), worker=WORKER), e.MilestoneCompleted(key=key(), worker=WORKER)
    )
    paused = await place.show(workflow_id)
    assert paused["state"] == State.PAUSED
    assert (await place.http.get(f"/workflows/{workflow_id}/explain")).json()["code"] == "paused"
    resumed = await post(place, f"/workflows/{workflow_id}/resume")
    assert (resumed["state"], resumed["current_step"]) == (State.RUNNING, "deploy")
    assert "local pauses it: lunch; nothing more is begun" in resumed["event_log"]


async def test_a_verb_that_does_not_fit_is_409_and_says_what_does(place: Place) -> None:
    workflow_id = await place.start()
    for verb in ("resume", "retry", "again", "approve", "reject"):
        said = await post(place, f"/workflows/{workflow_id}/{verb}", status=409)
        assert said["error"]["code"] == "wrong_state", verb
    refused = await post(place, f"/workflows/{workflow_id}/resolve", {"resolution": "worked"}, status=409)
    assert refused["error"]["message"].endswith("it can be cancelled or paused")


async def test_a_forced_cancel_does_not_wait_for_the_worker(place: Place) -> None:
    workflow_id = await place.start()
    await place.tell(workflow_id, e.Claimed(key=key(), worker=WORKER))
    waited = await post(place, f"/workflows/{workflow_id}/cancel", {"reason": "wrong branch"})
    assert waited["state"] == State.CANCELLING
    forced = await post(place, f"/workflows/{workflow_id}/cancel", {"force": True})
    assert forced["state"] == State.CANCELLED


async def test_the_held_milestone_is_named_in_its_resolution(place: Place) -> None:
    workflow_id = await place.hold()
    path = f"/workflows/{workflow_id}/resolve"
    await post(place, path, {"resolution": "worked", "milestone": "build"}, status=409)
    done = await post(place, path, {"resolution": "worked", "milestone": "deploy"})
    assert done["state"] == State.COMPLETED


# --------------------------------------------------------------------------------------- approvals


async def test_an_approval_counts_for_what_was_seen_alone(place: Place) -> None:
    workflow_id = await place.start(milestones=["approval", "deploy"])
    asked = (await place.http.get(f"/workflows/{workflow_id}/explain")).json()
    assert asked["code"] == "approval"
    path = f"/workflows/{workflow_id}/approve"
    await post(place, path, {"inputs": "0123456789abcdef"}, status=403)
    seen = {"milestone": "approval", "inputs": asked["details"]["inputs"], "reason": "looks good"}
    approved = await post(place, path, seen)
    assert approved["current_step"] == "deploy"
    assert approved["outputs"]["approval"]["approved_by"] == "local"


@pytest.mark.parametrize(
    ("role", "groups", "status"),
    [("viewer", ["approver"], 200), ("operator", ["testers"], 403), ("admin", [], 200)],
)
async def test_the_groups_of_a_person_decide_who_has_a_say_and_an_admin_is_of_all(
    place: Place, role: str, groups: list[str], status: int
) -> None:
    workflow_id = await place.ask()
    _, text = await make_token(place, name="ada", role=role, groups=groups)
    async with sending(place, authorization=f"Bearer {text}") as http:
        response = await http.post(f"/workflows/{workflow_id}/approve")
    assert response.status_code == status, response.text
    if status == 200:
        assert response.json()["outputs"]["approval"]["approved_by"] == "ada"
    else:
        assert response.json()["error"]["code"] == "not_allowed"


async def test_a_rejection_fails_the_workflow_and_says_who_and_why(place: Place) -> None:
    workflow_id = await place.start(milestones=["approval"])
    rejected = await post(place, f"/workflows/{workflow_id}/reject", {"reason": "not on a Friday"})
    assert rejected["state"] == State.FAILED
    assert "rejected by local: not on a Friday" in rejected["reason"]


# ------------------------------------------------------------------------------------ done once more


async def test_a_retry_is_another_workflow_from_the_milestone_that_failed(place: Place) -> None:
    failed = await place.fail()
    response = await place.http.post(f"/workflows/{failed}/retry")
    assert response.status_code == 201
    made = response.json()
    assert response.headers["location"] == f"/workflows/{made['id']}"
    assert (made["parent_id"], made["current_step"], made["created_by"]) == (failed, "build", "local")
    assert (await place.show(failed))["children"] == [made["id"]]


async def test_a_rerun_begins_where_it_is_told_and_again_at_the_beginning(place: Place) -> None:
    failed = await place.fail()
    rerun = await post(place, f"/workflows/{failed}/rerun", {"milestone": "build"}, status=201)
    again = await post(place, f"/workflows/{failed}/again", {"newest": True}, status=201)
    assert rerun["current_step"] == again["current_step"] == "build"
    assert rerun["first_position"] == again["first_position"] == 0
    unknown = await post(place, f"/workflows/{failed}/rerun", {"milestone": "config"}, status=409)
    assert 'has no milestone "config"; it has build, deploy' in unknown["error"]["message"]
    assert (await place.show(failed))["children"] == [rerun["id"], again["id"]]


async def test_a_repeat_says_where_it_began_however_far_it_is(place: Place) -> None:
    first = await place.start(milestones=["build", "approval"])
    done = e.MilestoneCompleted(key=key(), worker=WORKER, outputs={"version": "1.2"})
    await place.tell(first, e.Claimed(key=key(), worker=WORKER), done)
    await post(place, f"/workflows/{first}/reject")
    retry = await post(place, f"/workflows/{first}/retry", status=201)
    ended = await post(place, f"/workflows/{retry['id']}/approve")
    assert (ended["state"], ended["first_position"]) == (State.COMPLETED, 1)


# ------------------------------------------------------------------------------------------- locks


async def test_a_lock_shows_who_has_it_and_can_be_taken_away(place: Place) -> None:
    name = "environment:prod/eu"
    first, second = await place.lock(name), await place.lock(name)
    [lock] = (await place.http.get("/locks")).json()
    assert (lock["name"], lock["holder"]["workflow_id"]) == (name, first)
    assert [place_of["workflow_id"] for place_of in lock["waiting"]] == [second]
    waits = (await place.http.get(f"/workflows/{second}/explain")).json()
    assert waits["code"] == "lock"
    refused = await post(place, f"/locks/{name}/release", status=409)
    assert "take the lock by force" in refused["error"]["message"]
    left = await post(place, f"/locks/{name}/release", {"reason": "its host burnt down", "force": True})
    assert left["holder"]["workflow_id"] == second
    assert (
        'local takes away the lock "environment:prod/eu": its host burnt down'
        in (await place.show(first))["event_log"]
    )
    nobody = await post(place, "/locks/nobodys/release", status=409)
    assert 'nobody has the lock "nobodys"' in nobody["error"]["message"]

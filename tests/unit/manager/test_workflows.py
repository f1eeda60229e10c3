"""What the routes of workflows do."""

import re
from typing import Any
from uuid import uuid4

import pytest

from openaperture.domain import events as e
from tests.unit.manager.place import RELEASE, WORKER, Place, key

RFC_1123 = re.compile(r"[A-Z][a-z]{2}, \d{2} [A-Z][a-z]{2} \d{4} \d{2}:\d{2}:\d{2} UTC")


async def listed(place: Place, query: str = "") -> list[str]:
    return [workflow["id"] for workflow in (await place.http.get(f"/workflows{query}")).json()]


# ------------------------------------------------------------------------------- create and execute


async def test_a_created_workflow_is_where_its_location_says(place: Place) -> None:
    response = await place.http.post("/workflows", json=RELEASE)
    assert (response.status_code, response.content) == (201, b"")
    shown = (await place.http.get(response.headers["location"])).json()
    assert shown["state"] == "created"
    assert shown | RELEASE == shown


async def test_the_fields_of_the_original_have_its_types(place: Place) -> None:
    workflow_id = await place.create()
    shown = await place.show(workflow_id)
    assert RFC_1123.fullmatch(shown["inserted_at"])
    assert RFC_1123.fullmatch(shown["updated_at"])
    expected: dict[str, Any] = {
        "current_step": None,
        "elapsed_step_time": None,
        "elapsed_workflow_time": None,
        "workflow_duration": None,
        "workflow_step_durations": {},
        "workflow_error": False,
        "workflow_completed": False,
        "scheduled_start_time": None,
        "execute_options": None,
        "source_commit_hash": None,
        "deployment_repo": None,
    }
    assert shown | expected == shown
    assert shown["event_log"] == ["created with the milestones build, deploy"]


async def test_everything_that_may_be_asked_for_is_kept(place: Place) -> None:
    asked = RELEASE | {
        "id": str(uuid4()),
        "deployment_repo": "acme/shop_docker",
        "deployment_repo_git_ref": "main",
        "scheduled_start_time": "Tue, 05 Mar 2013 23:25:19 UTC",
        "execute_options": {"force_build": True, "deep": [{"er": None}, 1.5]},
        "force_build": True,
        "build_messaging_exchange_id": 3,
        "deploy_messaging_exchange_id": 4,
    }
    shown = await place.show(await place.create(**asked))
    assert shown | asked == shown


async def test_repositories_are_trimmed_and_nothing_is_null(place: Place) -> None:
    workflow_id = await place.create(source_repo="acme/shop/\\ ", deployment_repo="", source_repo_git_ref="")
    shown = await place.show(workflow_id)
    assert (shown["source_repo"], shown["deployment_repo"]) == ("acme/shop", None)
    assert shown["source_repo_git_ref"] is None


async def test_creating_the_same_again_changes_nothing(place: Place) -> None:
    chosen = str(uuid4())
    assert await place.create(id=chosen) == await place.create(id=chosen.upper()) == chosen
    assert len((await place.show(chosen))["event_log"]) == 1


async def test_creating_something_else_under_an_id_that_is_taken_is_refused(place: Place) -> None:
    chosen = await place.create(id=str(uuid4()))
    response = await place.http.post("/workflows", json=RELEASE | {"id": chosen, "source_repo": "acme/other"})
    assert (response.status_code, response.json()["error"]["code"]) == (409, "wrong_state")
    assert (await place.show(chosen))["source_repo"] == "acme/shop"


async def test_execute_starts_once_and_says_what_fits_afterwards(place: Place) -> None:
    workflow_id = await place.create()
    first = await place.http.post(f"/workflows/{workflow_id}/execute", json={})
    assert (first.status_code, first.content) == (202, b"")
    assert first.headers["location"] == f"/workflows/{workflow_id}"
    assert (await place.show(workflow_id))["current_step"] == "build"
    second = await place.http.post(f"/workflows/{workflow_id}/execute")
    assert (second.status_code, second.json()["error"]["code"]) == (409, "wrong_state")
    assert second.json()["error"]["message"].endswith("it can be cancelled or paused")


OVERRIDES = ("force_build", "build_messaging_exchange_id", "deploy_messaging_exchange_id")


@pytest.mark.parametrize(
    ("created", "body", "expected", "options"),
    [
        ({}, {}, (None, None, None), None),
        ({"build_messaging_exchange_id": 7}, {}, (None, 7, None), None),
        ({}, {"force_build": False}, (False, None, None), (False, None, None)),
        (
            {"force_build": True, "build_messaging_exchange_id": 7},
            {"force_build": None, "build_messaging_exchange_id": "8", "deploy_messaging_exchange_id": ""},
            (True, 8, None),
            (None, 8, None),
        ),
        (
            {"execute_options": {"force_build": True, "build_messaging_exchange_id": "7", "mine": 1}},
            {"force_build": False, "deploy_messaging_exchange_id": 9},
            (True, 7, None),
            None,
        ),
        (
            {"execute_options": {"force_build": 1, "build_messaging_exchange_id": "x"}, "force_build": True},
            {},
            (True, None, None),
            None,
        ),
    ],
)
async def test_execute_takes_overrides_but_for_what_the_workflow_was_stored_with(
    place: Place, created: dict[str, Any], body: dict[str, Any], expected: Any, options: Any
) -> None:
    workflow_id = await place.create(**created)
    assert (await place.http.post(f"/workflows/{workflow_id}/execute", json=body)).status_code == 202
    shown = await place.show(workflow_id)
    assert tuple(shown[name] for name in OVERRIDES) == expected
    stored = dict(zip(OVERRIDES, options, strict=True)) if options else created.get("execute_options")
    assert shown["execute_options"] == stored


@pytest.mark.parametrize(
    "body",
    [{"build_messaging_exchange_id": "east"}, {"force_build": "yes"}, {"force": True}, {"force_build": [True]}],
)
async def test_an_override_that_makes_no_sense_is_refused_and_nothing_starts(place: Place, body: Any) -> None:
    workflow_id = await place.create()
    refused = await place.http.post(f"/workflows/{workflow_id}/execute", json=body)
    problems = [problem["field"] for problem in refused.json()["error"]["problems"]]
    assert (refused.status_code, problems) == (400, list(body))
    assert (await place.show(workflow_id))["state"] == "created"


async def test_a_workflow_without_milestones_completes_at_once(place: Place) -> None:
    shown = await place.show(await place.start(milestones=[]))
    assert (shown["state"], shown["current_step"]) == ("completed", "workflow_completed")
    assert (shown["workflow_completed"], shown["workflow_error"]) == (True, False)


# ------------------------------------------------------------------------------------------- show


async def test_a_workflow_shows_its_outputs_attempts_and_durations(place: Place) -> None:
    workflow_id = await place.start()
    done = e.MilestoneCompleted(
        key=key(), worker=WORKER, outputs={"wheel": "shop.whl"}, source_commit_hash="c0ffee"
    )
    await place.tell(workflow_id, e.Claimed(key=key(), worker=WORKER), done)
    shown = await place.show(workflow_id)
    assert (shown["position"], shown["current_step"], shown["state"]) == (1, "deploy", "running")
    assert shown["outputs"] == {"build": {"wheel": "shop.whl"}}
    assert shown["source_commit_hash"] == "c0ffee"
    assert set(shown["workflow_step_durations"]) == {"build"}
    first, second = shown["attempts"]
    assert (first["attempt"], first["outcome"], first["worker"]) == ("0.0.1", "completed", WORKER)
    assert (second["milestone"], second["outcome"]) == ("deploy", None)
    assert (await place.http.get(f"/workflows/{workflow_id}/attempts")).json() == shown["attempts"]


async def test_a_failed_workflow_keeps_its_step_and_says_why(place: Place) -> None:
    workflow_id = await place.start()
    failed = e.MilestoneFailed(key=key(), worker=WORKER, message="2 tests failed")
    await place.tell(workflow_id, e.Claimed(key=key(), worker=WORKER), failed)
    shown = await place.show(workflow_id)
    assert (shown["workflow_completed"], shown["workflow_error"], shown["current_step"]) == (True, True, "build")
    assert shown["workflow_duration"].endswith("second(s)")
    assert "2 tests failed" in shown["reason"]
    assert shown["explanation"] == {"code": "failed", "text": shown["reason"], "until": None, "details": {}}


async def test_every_state_is_explained(place: Place) -> None:
    async def explanation(workflow_id: str) -> dict[str, Any]:
        found: dict[str, Any] = (await place.show(workflow_id))["explanation"]
        assert found["text"]
        return found

    created = await place.create()
    assert (await explanation(created))["code"] == "not_started"
    running = await place.start()
    assert (await explanation(running))["code"] == "pickup"
    await place.tell(running, e.Claimed(key=key(), worker=WORKER))
    assert await explanation(running) | {"code": "running"} == await explanation(running)
    assert WORKER in (await explanation(running))["text"]
    await place.http.post(f"/workflows/{running}/cancel")
    assert (await explanation(running))["code"] == "cancelling"
    assert (await explanation(running))["until"] is not None
    scheduled = await place.start(milestones=["scheduled"], scheduled_start_time="Mon, 05 Mar 2040 23:25:19 UTC")
    assert (await explanation(scheduled))["code"] == "scheduled"
    assert (await explanation(scheduled))["until"] == "2040-03-05T23:25:19Z"
    assert (await explanation(await place.hold()))["code"] == "held"
    assert (await explanation(await place.start(milestones=[])))["code"] == "completed"
    await place.http.post(f"/workflows/{created}/cancel")
    assert (await explanation(created))["code"] == "cancelled"


# ------------------------------------------------------------------------------------------- list


async def test_the_list_is_filtered_by_state_and_repository(place: Place) -> None:
    created = await place.create()
    started = await place.start(source_repo="acme/other", deployment_repo="acme/other_docker")
    done = await place.start(milestones=[])
    assert await listed(place) == [done, started, created]
    assert await listed(place, "?state=created,completed") == [done, created]
    assert await listed(place, "?state=running") == [started]
    assert await listed(place, "?source_repo=acme/shop&lookback=0") == [done, created]
    assert await listed(place, "?deployment_repo=acme/other_docker&source_repo=") == [started]
    assert await listed(place, "?source_repo=acme/shop&state=running") == []
    assert await listed(place, "?source_repo=%00") == []
    assert await listed(place, "?lookback=24&workflow_completed=false") == [done, started, created]


async def test_the_lookback_leaves_out_what_is_older(place: Place) -> None:
    workflow_id = await place.create()
    assert await listed(place, "?lookback=0.0000001") == []
    assert await listed(place, "?lookback=1") == await listed(place, "?lookback=-1") == [workflow_id]


async def test_pages_neither_skip_nor_repeat_when_new_workflows_come(place: Place) -> None:
    ids = [await place.create() for _ in range(5)]
    seen: list[str] = []
    url = "/workflows?limit=2&source_repo=acme/shop"
    while url:
        response = await place.http.get(url)
        assert len(response.json()) <= 2
        seen += [workflow["id"] for workflow in response.json()]
        url = response.links.get("next", {}).get("url", "")
        await place.create()
    assert seen == ids[::-1]


# ------------------------------------------------------------------------------------------ verbs


async def test_a_cancel_ends_what_no_worker_is_at(place: Place) -> None:
    workflow_id = await place.start()
    response = await place.http.post(f"/workflows/{workflow_id}/cancel", json={"reason": "wrong branch"})
    assert response.status_code == 200
    assert response.json() == await place.show(workflow_id)
    assert response.json()["state"] == "cancelled"
    assert response.json()["reason"] == "cancelled by local: wrong branch"
    again = await place.http.post(f"/workflows/{workflow_id}/cancel")
    assert again.status_code == 409
    assert "it has ended" in again.json()["error"]["message"]


@pytest.mark.parametrize(
    ("resolution", "state"), [("worked", "completed"), ("failed", "failed"), ("again", "running")]
)
async def test_a_person_resolves_a_held_workflow(place: Place, resolution: str, state: str) -> None:
    workflow_id = await place.hold()
    body = {"resolution": resolution, "reason": "looked at it"}
    response = await place.http.post(f"/workflows/{workflow_id}/resolve", json=body)
    assert (response.status_code, response.json()["state"]) == (200, state)
    assert f"local says of deploy: {resolution} (looked at it)" in response.json()["event_log"]


async def test_what_is_not_held_cannot_be_resolved(place: Place) -> None:
    workflow_id = await place.create()
    response = await place.http.post(f"/workflows/{workflow_id}/resolve", json={"resolution": "worked"})
    assert response.status_code == 409
    assert response.json()["error"]["message"].endswith("it can be started or cancelled")

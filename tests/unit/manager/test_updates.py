"""PUT and DELETE of a workflow, as orchestrators, workers and people of the original send them."""

import asyncio
from typing import Any
from uuid import uuid4

import pytest

from openaperture.domain import events as e
from openaperture.ports import Fields
from openaperture.stores.foreign import SqlForeign
from tests.unit.manager.old_client import OldClient
from tests.unit.manager.people import access_token, make_client
from tests.unit.manager.place import WORKER, Place, key

RUN: dict[str, Any] = {
    "current_step": "build",
    "elapsed_step_time": "3 second(s)",
    "elapsed_workflow_time": "1 minute(s)",
    "workflow_duration": None,
    "workflow_step_durations": {"config": "57 second(s)"},
    "workflow_error": False,
    "workflow_completed": False,
    "event_log": ["[OA][1] starting", "[OA][1] building Zürich"],
}


@pytest.fixture
def old(place: Place) -> OldClient:
    return OldClient(place.app)


async def row_of(place: Place, workflow_id: str, **fields: Any) -> dict[str, Any]:
    """The 17 fields as an orchestrator of the original sends them."""
    shown = await place.show(workflow_id)
    described = (
        *(
            "deployment_repo",
            "deployment_repo_git_ref",
            "source_repo",
            "source_repo_git_ref",
            "source_commit_hash",
        ),
        *("milestones", "scheduled_start_time", "execute_options"),
    )
    row = {"id": workflow_id, **{name: shown[name] for name in described}, **RUN, **fields}
    assert len(row) == 17
    return row


async def put(old: OldClient, workflow_id: str, body: Any) -> int:
    response = await old.ask("PUT", f"/workflows/{workflow_id}", body)
    if response.status_code == 204:
        assert response.content == b""
        assert response.headers["location"] == f"/workflows/{workflow_id}"
    else:
        assert set(response.json()) == {"error"}
    return response.status_code


async def program(place: Place, role: str) -> OldClient:
    """A program of the original that logged in with that role."""
    return OldClient(place.app, await access_token(place, role, await make_client(place, role, role)))


# ---------------------------------------------------------------------------------- what programs may


@pytest.mark.parametrize("role", ["worker", "orchestrator"])
@pytest.mark.parametrize(
    "fields",
    [
        {"source_repo": "evil/repo", "milestones": ["deploy"]},
        {"execute_options": {"force_build": True}},
        {"workflow_error": True},
        {"workflow_error": True, "source_repo": "evil/repo"},
        {},
    ],
)
async def test_no_program_changes_or_cancels_one_that_has_not_started(
    place: Place, role: str, fields: dict[str, Any]
) -> None:
    workflow_id = await place.create()
    before = await place.show(workflow_id)
    assert await put(await program(place, role), workflow_id, fields) == 403
    assert await place.show(workflow_id) == before


@pytest.mark.parametrize("role", ["worker", "orchestrator"])
async def test_no_program_cancels_or_moves_one_that_runs_here(place: Place, role: str) -> None:
    workflow_id = await place.start()
    sender = await program(place, role)
    before = await place.store.find_workflow(workflow_id)
    assert await put(sender, workflow_id, {"workflow_error": True}) == 403
    assert await put(sender, workflow_id, await row_of(place, workflow_id, workflow_error=True)) == 403
    assert await put(sender, workflow_id, {"current_step": "deploy"}) == 409
    assert await put(sender, workflow_id, await row_of(place, workflow_id, source_repo="evil/repo")) == 204
    assert await place.store.find_workflow(workflow_id) == before


async def test_a_worker_begins_no_record(place: Place) -> None:
    workflow_id = await place.create()
    before = await place.show(workflow_id)
    sender = await program(place, "worker")
    refused = await sender.ask("PUT", f"/workflows/{workflow_id}", await row_of(place, workflow_id))
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "not_allowed")
    assert "the role orchestrator" in refused.json()["error"]["message"]
    assert await place.show(workflow_id) == before


async def test_an_orchestrator_records_from_beginning_to_end_what_it_runs(place: Place) -> None:
    workflow_id = await place.create()
    sender = await program(place, "orchestrator")
    assert await put(sender, workflow_id, await row_of(place, workflow_id, current_step="")) == 204
    assert await put(sender, workflow_id, await row_of(place, workflow_id)) == 204
    ended = {"current_step": "build", "workflow_completed": True, "workflow_error": True}
    assert await put(sender, workflow_id, ended) == 204
    assert (await place.show(workflow_id))["state"] == "failed"


async def test_of_a_workers_save_the_log_counts(place: Place) -> None:
    workflow_id = await place.create()
    assert await put(await program(place, "orchestrator"), workflow_id, await row_of(place, workflow_id)) == 204
    before = await place.show(workflow_id)
    worker = await program(place, "worker")
    log = [*RUN["event_log"], "cloned"]
    saved = await row_of(place, workflow_id, event_log=log, source_repo="evil/repo", current_step="deploy")
    assert await put(worker, workflow_id, saved) == 204
    after = await place.show(workflow_id)
    assert after == before | {"event_log": log, "updated_at": after["updated_at"]}
    assert await put(worker, workflow_id, RUN) == 409


@pytest.mark.parametrize("name", ["workflow_error", "workflow_completed"])
async def test_a_worker_ends_nothing_that_runs_elsewhere(place: Place, name: str) -> None:
    workflow_id = await place.create()
    orchestrator, worker = await program(place, "orchestrator"), await program(place, "worker")
    assert await put(orchestrator, workflow_id, await row_of(place, workflow_id)) == 204
    assert await put(worker, workflow_id, await row_of(place, workflow_id, **{name: True})) == 403
    assert (await place.show(workflow_id))["state"] == "running"
    # Told by the one who may, it is no news of the worker's.
    assert await put(orchestrator, workflow_id, await row_of(place, workflow_id, **{name: True})) == 204
    assert await put(worker, workflow_id, await row_of(place, workflow_id, **{name: True})) == 204


# ---------------------------------------------------------------------------------------- several at once


async def test_no_cancel_is_lost_to_a_save_at_the_same_time(place: Place, old: OldClient) -> None:
    for _ in range(20):
        workflow_id = await place.create()
        row = await row_of(place, workflow_id)
        assert await put(old, workflow_id, row) == 204
        longer = row | {"event_log": [*row["event_log"], "more"]}
        cancel, save = await asyncio.gather(
            put(old, workflow_id, {"workflow_error": True}), put(old, workflow_id, longer)
        )
        shown = await place.show(workflow_id)
        assert (cancel, shown["workflow_error"]) == (204, True)
        assert save == (204 if shown["event_log"][-1] == "more" else 409)


async def test_a_begin_and_a_cancel_at_the_same_time_are_both_kept(place: Place, old: OldClient) -> None:
    for _ in range(10):
        workflow_id = await place.create()
        row = await row_of(place, workflow_id, current_step="")
        begin, _ = await asyncio.gather(put(old, workflow_id, row), place.client.cancel(workflow_id))
        assert begin in {204, 409}
        assert (await place.show(workflow_id))["state"] == "cancelled"


async def test_a_put_that_never_gets_its_turn_is_told_to_come_again(
    place: Place, old: OldClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    workflow_id = await place.create()
    row = await row_of(place, workflow_id)
    assert await put(old, workflow_id, row) == 204
    with monkeypatch.context() as patch:
        # Somebody is faster each time, which cannot be had by chance.
        really_put = SqlForeign.put_foreign

        async def put_second(
            foreign: SqlForeign, workflow_id: str, fields: Fields, *, version: int, known: Fields | None
        ) -> bool:
            others = {**RUN, "elapsed_step_time": str(uuid4())}
            assert await really_put(foreign, workflow_id, others, version=version, known=known)
            return await really_put(foreign, workflow_id, fields, version=version, known=known)

        patch.setattr(SqlForeign, "put_foreign", put_second)
        refused = await old.ask("PUT", f"/workflows/{workflow_id}", {"workflow_error": True})
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "contested")
    assert int(refused.headers["retry-after"]) > 0
    assert (await place.show(workflow_id))["workflow_error"] is False


# ------------------------------------------------------------------------------- one that is run elsewhere


async def test_what_an_orchestrator_elsewhere_puts_is_what_is_got(place: Place, old: OldClient) -> None:
    workflow_id = await place.create()
    row = await row_of(place, workflow_id)
    assert await put(old, workflow_id, row) == 204
    shown = (await old.ask("GET", f"/workflows/{workflow_id}")).json()
    assert {name: shown[name] for name in row} == row
    assert (shown["state"], shown["explanation"]["code"]) == ("running", "elsewhere")
    [listed] = (await old.ask("GET", "/workflows?lookback=24")).json()
    assert (listed["current_step"], listed["state"], listed["event_log"]) == ("build", "running", None)


@pytest.mark.parametrize(
    ("fields", "state"),
    [
        ({"current_step": ""}, "running"),
        ({"current_step": "workflow_completed", "workflow_completed": True}, "completed"),
        ({"workflow_completed": True, "workflow_error": True}, "failed"),
        ({"workflow_error": True}, "cancelling"),
        ({"workflow_completed": None, "workflow_error": None, "workflow_step_durations": None}, "running"),
    ],
)
async def test_its_state_follows_from_what_is_put(
    place: Place, old: OldClient, fields: dict[str, Any], state: str
) -> None:
    workflow_id = await place.create()
    assert await put(old, workflow_id, await row_of(place, workflow_id, **fields)) == 204
    assert (await place.show(workflow_id))["state"] == state
    assert (await place.client.get_workflow(workflow_id)).state == state


async def test_one_that_ended_elsewhere_is_followed_to_its_end(place: Place, old: OldClient) -> None:
    workflow_id = await place.create()
    assert await put(old, workflow_id, await row_of(place, workflow_id)) == 204
    assert not (await place.client.list_events(workflow_id)).ended
    assert await put(old, workflow_id, {"workflow_completed": True, "current_step": "workflow_completed"}) == 204
    assert (await place.client.list_events(workflow_id)).ended
    assert (await place.client.list_logs(workflow_id)).ended


async def test_one_that_runs_elsewhere_is_not_started_here_too(place: Place, old: OldClient) -> None:
    workflow_id = await place.create()
    assert await put(old, workflow_id, await row_of(place, workflow_id, current_step="")) == 204
    assert (await old.ask("POST", f"/workflows/{workflow_id}/execute", {})).status_code == 409


@pytest.mark.parametrize(
    ("known", "told"),
    [
        ({"workflow_error": True}, {}),
        ({"workflow_completed": True}, {"current_step": "deploy"}),
        ({"event_log": ["a", "b", "c"]}, {"event_log": ["a", "b"]}),
        ({"event_log": ["a"]}, {"event_log": None}),
    ],
)
async def test_a_put_that_goes_back_behind_a_newer_state_is_refused(
    place: Place, old: OldClient, known: dict[str, Any], told: dict[str, Any]
) -> None:
    workflow_id = await place.create()
    assert await put(old, workflow_id, await row_of(place, workflow_id, **known)) == 204
    before = await place.show(workflow_id)
    assert await put(old, workflow_id, RUN | {"event_log": before["event_log"]} | told) == 409
    assert await place.show(workflow_id) == before


async def test_a_log_that_lost_its_oldest_lines_does_not_go_back(place: Place, old: OldClient) -> None:
    workflow_id = await place.create()
    assert await put(old, workflow_id, await row_of(place, workflow_id, event_log=["a", "b", "c"])) == 204
    assert await put(old, workflow_id, RUN | {"event_log": ["c", "d"]}) == 204


async def test_a_cancel_by_somebody_who_has_seen_an_older_state_takes_nothing_back(
    place: Place, old: OldClient
) -> None:
    workflow_id = await place.create()
    assert await put(old, workflow_id, await row_of(place, workflow_id, current_step="deploy")) == 204
    stale = await row_of(place, workflow_id, event_log=["[OA][1] starting"], workflow_error=True)
    assert await put(old, workflow_id, stale) == 204
    shown = await place.show(workflow_id)
    assert (shown["workflow_error"], shown["current_step"]) == (True, "deploy")
    assert shown["event_log"] == RUN["event_log"]


async def test_a_cancel_here_is_seen_there_and_not_undone_from_there(place: Place, old: OldClient) -> None:
    workflow_id = await place.create()
    row = await row_of(place, workflow_id)
    assert await put(old, workflow_id, row) == 204
    await place.client.cancel(workflow_id)
    shown = await place.show(workflow_id)
    assert (shown["workflow_error"], shown["state"], shown["current_step"]) == (True, "cancelled", "build")
    assert await put(old, workflow_id, row) == 409
    ended = row | {"workflow_error": True, "workflow_completed": True, "event_log": [*row["event_log"], "over"]}
    assert await put(old, workflow_id, ended) == 204
    assert (await place.show(workflow_id))["event_log"][-1] == "over"


# ------------------------------------------------------------------------------------ one of our own


async def test_a_save_by_a_worker_of_a_running_one_is_accepted(place: Place, old: OldClient) -> None:
    workflow_id = await place.start()
    assert await put(old, workflow_id, await row_of(place, workflow_id, source_repo_git_ref="c0ffee")) == 204
    shown = await place.show(workflow_id)
    assert (shown["state"], shown["source_repo_git_ref"]) == ("running", "v1")


@pytest.mark.parametrize(
    "fields",
    [
        {"current_step": ""},
        {"current_step": None},
        {"current_step": "deploy"},
        {"current_step": "workflow_completed", "workflow_completed": True},
        {"workflow_completed": True},
    ],
)
async def test_a_running_one_is_moved_by_nobody_else(place: Place, old: OldClient, fields: dict[str, Any]) -> None:
    workflow_id = await place.start()
    before = await place.show(workflow_id)
    assert await put(old, workflow_id, await row_of(place, workflow_id, **fields)) == 409
    assert (await place.show(workflow_id))["position"] == before["position"]


async def test_a_set_error_cancels_a_running_one(place: Place, old: OldClient) -> None:
    workflow_id = await place.start()
    await place.tell(workflow_id, e.Claimed(key=key(), worker=WORKER))
    assert await put(old, workflow_id, await row_of(place, workflow_id, workflow_error=True)) == 204
    assert (await place.show(workflow_id))["state"] == "cancelling"
    assert await put(old, workflow_id, await row_of(place, workflow_id, workflow_error=True)) == 204
    assert await put(old, workflow_id, await row_of(place, workflow_id)) == 409
    [told] = [entry for entry in (await place.client.list_events(workflow_id)).events if "cancel" in entry.kind]
    assert "local" in told.text


async def test_an_end_is_final(place: Place, old: OldClient) -> None:
    completed = await place.start(milestones=[])
    assert await put(old, completed, {"workflow_completed": True, "current_step": "workflow_completed"}) == 204
    assert await put(old, completed, {"workflow_completed": False}) == 409
    assert await put(old, completed, {"workflow_error": True}) == 409
    cancelled = await place.start()
    await place.client.cancel(cancelled)
    assert await put(old, cancelled, {"workflow_error": True}) == 204
    assert await put(old, cancelled, {"workflow_error": False}) == 409


# -------------------------------------------------------------------------- one that nobody has begun


async def test_what_is_asked_for_may_be_changed_until_it_starts(place: Place, old: OldClient) -> None:
    workflow_id = await place.create()
    shown = await place.show(workflow_id)
    changed = {
        "milestones": ["build"],
        "source_repo_git_ref": "v2",
        "deployment_repo": "acme/shop_docker/",
        "execute_options": {"force_build": True},
        "scheduled_start_time": "Tue, 05 Mar 2013 23:25:19 UTC",
    }
    assert await put(old, workflow_id, shown | changed) == 204
    again = await place.show(workflow_id)
    assert again | changed | {"deployment_repo": "acme/shop_docker"} == again
    assert again["source_repo"] == "acme/shop"
    assert await put(old, workflow_id, {"source_repo": None}) == 204
    assert (await place.show(workflow_id))["source_repo"] is None
    kinds = [event.kind for event in (await place.client.list_events(workflow_id)).events]
    assert kinds == ["workflow.created", "workflow.revised", "workflow.revised"]
    assert (await old.ask("POST", f"/workflows/{workflow_id}/execute", {})).status_code == 202
    assert (await place.show(workflow_id))["force_build"] is True


async def test_the_same_again_changes_nothing(place: Place, old: OldClient) -> None:
    workflow_id = await place.create()
    shown = await place.show(workflow_id)
    assert await put(old, workflow_id, shown) == 204
    assert await place.show(workflow_id) == shown


async def test_a_set_error_cancels_one_that_has_not_started(place: Place, old: OldClient) -> None:
    workflow_id = await place.create()
    assert await put(old, workflow_id, {"workflow_error": True}) == 204
    assert (await place.show(workflow_id))["state"] == "cancelled"


# ------------------------------------------------------------------------------------------ errors


@pytest.mark.parametrize("workflow_id", ["3ca2b67d-532c-4e8e-93f8-8ab2ce9a4810", "none", "%00", "%ff"])
async def test_what_is_not_there_cannot_be_put_or_deleted(old: OldClient, workflow_id: str) -> None:
    assert await put(old, workflow_id, RUN) == 404
    assert (await old.ask("DELETE", f"/workflows/{workflow_id}")).status_code == 404


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"curent_step": "build"}, "curent_step"),
        ({"current_step": "x" * 129}, "current_step"),
        ({"event_log": "text"}, "event_log"),
        ({"workflow_error": "true"}, "workflow_error"),
        ({"scheduled_start_time": "2013-03-05"}, "scheduled_start_time"),
        ({"milestones": ["build", 1]}, "milestones.1"),
        ({"workflow_step_durations": []}, "workflow_step_durations"),
    ],
)
async def test_a_put_that_cannot_be_used_is_refused_and_named(
    place: Place, old: OldClient, body: dict[str, Any], field: str
) -> None:
    workflow_id = await place.create()
    refused = await old.ask("PUT", f"/workflows/{workflow_id}", body)
    assert [problem["field"] for problem in refused.json()["error"]["problems"]] == [field]
    assert refused.status_code == 400


# ------------------------------------------------------------------------------------------ delete


async def test_what_has_not_started_or_has_ended_can_be_deleted(place: Place, old: OldClient) -> None:
    ended = await place.start(milestones=[])
    for workflow_id in (await place.create(), ended):
        response = await old.ask("DELETE", f"/workflows/{workflow_id}")
        assert (response.status_code, response.content) == (204, b"")
        assert (await old.ask("GET", f"/workflows/{workflow_id}")).status_code == 404
    assert await place.store.list_entries(ended) == []
    assert (await old.ask("GET", "/workflows")).json() == []


async def test_what_is_under_way_cannot_be_deleted(place: Place, old: OldClient) -> None:
    elsewhere = await place.create()
    assert await put(old, elsewhere, await row_of(place, elsewhere)) == 204
    for workflow_id in (await place.start(), elsewhere):
        refused = await old.ask("DELETE", f"/workflows/{workflow_id}")
        assert (refused.status_code, "cancel it first" in refused.text) == (409, True)
        await place.client.cancel(workflow_id)
        assert (await old.ask("DELETE", f"/workflows/{workflow_id}")).status_code == 204


# ---------------------------------------------------------------------------------------- old clients


async def test_the_command_line_deployer_of_the_original_releases_and_polls(place: Place, old: OldClient) -> None:
    """Create, execute with force_build false, and read four fields until it has ended."""
    body = {
        "deployment_repo": "acme/shop_docker",
        "deployment_repo_git_ref": "master",
        "source_repo_git_ref": None,
        "milestones": ["build"],
    }
    workflow_id = await old.make("/workflows", body)
    started = await old.ask("POST", f"/workflows/{workflow_id}/execute", {"force_build": False})
    assert (started.status_code, started.content) == (202, b"")
    assert started.headers["location"] == f"/workflows/{workflow_id}"
    polled = (await old.ask("GET", f"/workflows/{workflow_id}")).json()
    assert (polled["workflow_completed"], polled["workflow_error"], polled["current_step"]) == (
        False,
        False,
        "build",
    )
    await place.tell(workflow_id, e.MilestoneCompleted(key=key(), worker=WORKER))
    polled = (await old.ask("GET", f"/workflows/{workflow_id}")).json()
    assert (polled["workflow_completed"], polled["workflow_error"]) == (True, False)
    assert "build" in polled["workflow_step_durations"]


async def test_a_create_may_say_what_a_run_sets_as_long_as_nothing_has_run(old: OldClient) -> None:
    nothing: dict[str, Any] = {
        "current_step": None,
        "workflow_error": False,
        "workflow_completed": False,
        "event_log": [],
        "workflow_step_durations": {},
    }
    assert (await old.ask("POST", "/workflows", {"milestones": ["config"], **nothing})).status_code == 201
    refused = await old.ask("POST", "/workflows", {"milestones": ["config"], "current_step": "config"})
    assert refused.status_code == 400


async def test_filters_are_those_of_the_original(place: Place, old: OldClient) -> None:
    named = await place.create(source_repo=None, deployment_repo="acme/shop_docker")
    ours = await place.create(source_repo="acme/shop")
    await place.create(source_repo="acme/other", deployment_repo="acme/other_docker")

    async def found(query: str) -> set[str]:
        return {row["id"] for row in (await old.ask("GET", f"/workflows?{query}")).json()}

    assert await found("deployment_repo=acme/shop_docker&lookback=24") == {named}
    assert await found("source_repo=acme/shop&lookback=0") == {named, ours}
    assert (await old.ask("GET", "/workflows?lookback=soon")).status_code == 400

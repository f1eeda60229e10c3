"""Requests that cannot be used: one shape, a sentence, no 500."""

import json
from typing import Any

import pytest

from openaperture.codecs.json import MAX_BYTES, MAX_DEPTH
from tests.unit.manager.place import RELEASE, Place

JSON = {"content-type": "application/json"}


async def refused(place: Place, status: int, code: str, method: str, path: str, **request: Any) -> dict[str, Any]:
    response = await place.http.request(method, path, **request)
    assert response.status_code == status, response.text
    answer = response.json()
    assert set(answer) == {"error"}
    error: dict[str, Any] = answer["error"]
    assert error["code"] == code
    assert error["message"]
    return error


async def test_an_unknown_path_is_named(place: Place) -> None:
    error = await refused(place, 404, "not_found", "GET", "/workflow")
    assert "/workflow" in error["message"]


async def test_a_wrong_method_names_the_right_ones(place: Place) -> None:
    error = await refused(place, 405, "method_not_allowed", "DELETE", "/status")
    several = await place.http.patch("/workflows/w")
    assert several.headers["allow"] == "DELETE, GET, PUT"
    assert error["message"].endswith("possible: GET")


@pytest.mark.parametrize("path", ["", "/events", "/logs", "/attempts"])
@pytest.mark.parametrize(
    "workflow_id",
    ["3ca2b67d-532c-4e8e-93f8-8ab2ce9a4810", "none", "%00", "%ff", "' or 1=1 --", "x" * 5_000, "a%0d%0ab"],
)
async def test_an_unknown_workflow_is_not_found(place: Place, path: str, workflow_id: str) -> None:
    await refused(place, 404, "unknown_workflow", "GET", f"/workflows/{workflow_id}{path}")


@pytest.mark.parametrize("verb", ["execute", "cancel", "resolve"])
@pytest.mark.parametrize("workflow_id", ["3ca2b67d-532c-4e8e-93f8-8ab2ce9a4810", "none", "%00", "%ff"])
async def test_no_verb_works_on_an_unknown_workflow(place: Place, verb: str, workflow_id: str) -> None:
    body = {"resolution": "worked"} if verb == "resolve" else {}
    await refused(place, 404, "unknown_workflow", "POST", f"/workflows/{workflow_id}/{verb}", json=body)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"{", "not JSON"),
        (b"\xff\xfe", "not UTF-8"),
        (b'{"a": NaN}', "NaN"),
        (b'{"a": 1e999}', "beyond the range"),
        (b'{"a": 99999999999999999999}', "64 bits"),
        (b'{"source_repo": "a", "source_repo": "b"}', "twice"),
        (b'{"source_repo": "a\\u0000b"}', "NUL"),
        (b'{"source_repo": "\\ud800"}', "surrogate"),
        (b'{"source_repo": "a\x00b"}', "not JSON"),
        (b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1), "deeper"),
        (b"[" * 100_000, "deeper"),
    ],
)
async def test_a_body_that_is_no_good_json_is_refused(place: Place, body: bytes, said: str) -> None:
    error = await refused(place, 400, "bad_request", "POST", "/workflows", content=body, headers=JSON)
    assert said in error["message"]


@pytest.mark.parametrize("body", [b"null", b"[]", b"1", b'"text"', b""])
async def test_a_body_that_is_no_object_is_refused(place: Place, body: bytes) -> None:
    await refused(place, 400, "bad_request", "POST", "/workflows", content=body, headers=JSON)


async def test_a_body_that_is_too_large_is_refused(place: Place) -> None:
    body = json.dumps({"source_repo": "x" * MAX_BYTES}).encode()
    error = await refused(place, 413, "too_large", "POST", "/workflows", content=body, headers=JSON)
    assert str(MAX_BYTES) in error["message"]


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "", "application/jsonx"])
async def test_a_body_that_does_not_say_that_it_is_json_is_refused(place: Place, kind: str) -> None:
    body = json.dumps(RELEASE).encode()
    headers = {"content-type": kind}
    await refused(place, 415, "unsupported_media_type", "POST", "/workflows", content=body, headers=headers)


async def test_all_problems_are_reported_together_with_their_fields(place: Place) -> None:
    body = {
        "sorce_repo": "acme/shop",
        "milestones": ["build", 7, ""],
        "force_build": "yes",
        "id": "41f",
        "scheduled_start_time": "tomorrow",
        "workflow_completed": True,
    }
    error = await refused(place, 400, "bad_request", "POST", "/workflows", json=body)
    problems = {problem["field"]: problem["message"] for problem in error["problems"]}
    assert set(problems) == {
        "sorce_repo",
        "milestones.1",
        "milestones.2",
        "force_build",
        "id",
        "scheduled_start_time",
        "workflow_completed",
    }
    assert problems["sorce_repo"] == 'is not known; did you mean "source_repo"?'
    assert "UUID" in problems["id"]
    assert "Tue, 05 Mar 2013 23:25:19 UTC" in problems["scheduled_start_time"]
    assert problems["workflow_completed"] == "is set by the orchestrator; leave it out"
    assert all(field in error["message"] for field in problems)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("milestones", ["m"] * 101),
        ("milestones", "build"),
        ("milestones", ["m" * 65]),
        ("milestones", ["a\nb"]),
        ("milestones", {"build": 1}),
        ("source_repo", 7),
        ("source_repo", "x" * 1_025),
        ("source_repo", "a\x1b[2Jb"),
        ("deployment_repo", ["acme/shop"]),
        ("source_repo_git_ref", "--upload-pack=x"),
        ("deployment_repo_git_ref", "r" * 257),
        ("execute_options", []),
        ("build_messaging_exchange_id", 0),
        ("build_messaging_exchange_id", 1.5),
        ("build_messaging_exchange_id", True),
        ("deploy_messaging_exchange_id", "x"),
        ("id", "{d2b8bd1e-2a4c-4f3e-9a57-27a4b9d2b7a1}"),
        ("id", "' or 1=1 --"),
        ("scheduled_start_time", "Tue, 05 Mar 2013 23:25:19 PST"),
    ],
)
async def test_a_field_that_cannot_be_used_is_named(place: Place, field: str, value: Any) -> None:
    error = await refused(place, 400, "bad_request", "POST", "/workflows", json=RELEASE | {field: value})
    assert {problem["field"].partition(".")[0] for problem in error["problems"]} == {field}


async def test_an_error_does_not_repeat_the_values(place: Place) -> None:
    body = {"execute_options": "hunter2", "passwrd": "hunter3"}
    error = await refused(place, 400, "bad_request", "POST", "/workflows", json=body)
    assert "hunter" not in json.dumps(error)


@pytest.mark.parametrize(
    "query",
    [
        "lookback=x",
        "lookback=nan",
        "lookback=inf",
        "lookback=1e300",
        "lookback=",
        "limit=0",
        "limit=1001",
        "limit=x",
        "state=done",
        "state=created,done",
        "cursor=x",
        "cursor=%ff",
        "cursor=AAAA",
    ],
)
async def test_a_filter_that_cannot_be_used_is_refused(place: Place, query: str) -> None:
    error = await refused(place, 400, "bad_request", "GET", f"/workflows?{query}")
    assert query.partition("=")[0] in error["message"]


@pytest.mark.parametrize("query", ["after=x", "after=-1", "after=1e3", "limit=0", "wait=31", "wait=x", "wait=nan"])
@pytest.mark.parametrize("path", ["events", "logs"])
async def test_a_page_that_cannot_be_used_is_refused(place: Place, path: str, query: str) -> None:
    workflow_id = await place.create()
    error = await refused(place, 400, "bad_request", "GET", f"/workflows/{workflow_id}/{path}?{query}")
    assert [problem["field"] for problem in error["problems"]] == [query.partition("=")[0]]


@pytest.mark.parametrize("body", [{}, {"resolution": "maybe"}, {"resolution": "worked", "by": "root"}])
async def test_a_resolution_that_is_none_is_refused(place: Place, body: dict[str, Any]) -> None:
    workflow_id = await place.hold()
    await refused(place, 400, "bad_request", "POST", f"/workflows/{workflow_id}/resolve", json=body)
    assert (await place.show(workflow_id))["state"] == "held"


async def test_a_database_that_is_away_is_a_passing_fault(place: Place) -> None:
    workflow_id = await place.create()
    await place.store._database.close()
    asked = [("GET", "/ready"), ("GET", f"/workflows/{workflow_id}"), ("POST", f"/workflows/{workflow_id}/cancel")]
    for method, path in asked:
        response = await place.http.request(method, path)
        assert (response.status_code, response.json()["error"]["code"]) == (503, "unavailable")
        assert int(response.headers["retry-after"]) > 0
    assert "manager.waiting" in [name for name, _ in place.told.events]


async def test_our_own_failure_is_one_sentence_outside_and_everything_inside(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("secret detail")

    monkeypatch.setattr(place.store, "list_workflows", fail)
    error = await refused(place, 500, "failed", "GET", "/workflows")
    assert "secret detail" not in error["message"]
    [(name, details)] = place.told.events
    assert name == "manager.failed"
    assert str(details["error"]) == "secret detail"

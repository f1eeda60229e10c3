"""Whatever is sent, the API answers with sense: never 500, and errors in their one shape."""

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from openaperture.manager.requests import CreateBody, UpdateBody
from tests.unit.manager.place import Place

ANY_TEXT = st.text(max_size=40)
ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | ANY_TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(ANY_TEXT, inner, max_size=4),
    max_leaves=12,
)
FIELDS = st.sampled_from([*CreateBody.model_fields, *UpdateBody.model_fields, "reason", "resolution", "state"])
USUAL = st.sampled_from(["build", ["build"], [], "worked", "main", 1, True, {"a": 1}, "acme/shop"])
BODIES = st.dictionaries(FIELDS | ANY_TEXT, USUAL | ANY_JSON, max_size=6) | ANY_JSON
SOUND = {200, 201, 202, 204, 400, 404, 405, 409}

one_place_for_all = settings(
    deadline=None, max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def judge(status: int, content: bytes, answer: Any) -> None:
    assert status in SOUND, content
    if status >= 400:
        assert set(answer) == {"error"}
        assert answer["error"]["code"]
        assert answer["error"]["message"]


@one_place_for_all
@given(verb=st.sampled_from(["", "/{}/execute", "/{}/cancel", "/{}/resolve"]), body=BODIES)
async def test_any_body_has_a_sound_answer(place: Place, verb: str, body: Any) -> None:
    workflow_id = await place.create() if verb else ""
    response = await place.http.post("/workflows" + verb.format(workflow_id), json=body)
    judge(response.status_code, response.content, response.json() if response.content else None)
    if response.status_code == 201:
        assert (await place.http.get(response.headers["location"])).status_code == 200


@one_place_for_all
@given(body=BODIES, started=st.booleans())
async def test_any_put_has_a_sound_answer(place: Place, body: Any, started: bool) -> None:
    workflow_id = await (place.start() if started else place.create())
    response = await place.http.put(f"/workflows/{workflow_id}", json=body)
    judge(response.status_code, response.content, response.json() if response.content else None)
    assert (await place.http.get(f"/workflows/{workflow_id}")).status_code == 200
    assert (await place.client.get_workflow(workflow_id)).id == workflow_id


@one_place_for_all
@given(
    path=st.sampled_from(["/workflows", "/workflows/{}", "/workflows/{}/events", "/workflows/{}/logs"]),
    query=st.dictionaries(
        st.sampled_from(["lookback", "source_repo", "deployment_repo", "state", "limit", "cursor", "after"])
        | ANY_TEXT,
        ANY_TEXT | st.integers().map(str) | st.floats().map(str),
        max_size=4,
    ),
)
async def test_any_query_has_a_sound_answer(place: Place, path: str, query: dict[str, str]) -> None:
    query.pop("wait", None)
    response = await place.http.get(path.format(await place.create()), params=query)
    judge(response.status_code, response.content, response.json())

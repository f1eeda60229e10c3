"""Personal tokens, clients, and who one is."""

from typing import Any

import pytest

from tests.unit.manager.people import (
    access_token,
    bearer,
    log_in,
    make_client,
    make_token,
    sending,
    session_cookie,
)
from tests.unit.manager.place import Place


async def me(place: Place, text: str) -> dict[str, Any]:
    async with sending(place, **bearer(text)) as http:
        shown: dict[str, Any] = (await http.get("/me")).json()
    return shown


async def test_everybody_learns_who_they_are(place: Place) -> None:
    assert (await place.http.get("/me")).json() == {
        "name": "local",
        "role": "admin",
        "groups": [],
        "expires_at": None,
    }
    _, text = await make_token(place, name="ada", role="operator", groups=["release-managers", "a"])
    shown = await me(place, text)
    assert (shown["name"], shown["role"]) == ("ada", "operator")
    assert shown["groups"] == ["a", "release-managers"]
    assert shown["expires_at"] is not None
    secret = await make_client(place, "builder-1")
    shown = await me(place, await access_token(place, "builder-1", secret))
    assert (shown["name"], shown["role"]) == ("client:builder-1", "worker")


async def test_what_somebody_does_is_written_down_under_their_name(place: Place) -> None:
    _, text = await make_token(place, name="ada", role="operator")
    workflow_id = await place.create()
    async with sending(place, **bearer(text)) as http:
        assert (await http.post(f"/workflows/{workflow_id}/execute")).status_code == 202
    assert "workflow started by ada" in (await place.show(workflow_id))["event_log"]


async def test_the_text_of_a_token_is_shown_once_and_stored_nowhere(place: Place) -> None:
    token_id, text = await make_token(place, label="for the build")
    listed = await place.http.get("/tokens")
    assert [token["id"] for token in listed.json()] == [token_id]
    assert text not in listed.text
    stored = await place.access.find_token(token_id)
    assert text[-32:] not in repr(stored)


async def test_the_secret_of_a_client_is_shown_once_and_stored_nowhere(place: Place) -> None:
    secret = await make_client(place)
    listed = await place.http.get("/clients")
    assert [client["id"] for client in listed.json()] == ["ci"]
    assert secret not in listed.text
    stored = await place.access.find_client("ci")
    assert stored is not None
    assert secret not in repr(stored)
    assert stored.secret_hash.startswith("scrypt$16384$8$")


async def test_a_token_has_at_most_the_power_of_its_maker(place: Place) -> None:
    for role, possible in (("viewer", {"viewer"}), ("operator", {"viewer", "operator"})):
        _, text = await make_token(place, name="ada", role=role)
        async with sending(place, **bearer(text)) as http:
            for wanted in ("viewer", "operator", "admin", "worker"):
                status = (await http.post("/tokens", json={"role": wanted})).status_code
                assert status == (201 if wanted in possible else 403), (role, wanted)
            refused = (await http.post("/tokens", json={"role": "admin"})).json()["error"]["message"]
            assert refused.startswith({"viewer": "a viewer makes", "operator": "an operator makes"}[role])
            assert (await http.post("/tokens", json={})).json()["role"] == role


@pytest.mark.parametrize("fields", [{"name": "bob"}, {"groups": ["release-managers"]}, {"groups": []}])
async def test_only_an_admin_speaks_for_others(place: Place, fields: dict[str, Any]) -> None:
    _, text = await make_token(place, name="ada", role="operator")
    async with sending(place, **bearer(text)) as http:
        response = await http.post("/tokens", json=fields)
    assert (response.status_code, response.json()["error"]["code"]) == (403, "forbidden")


async def test_groups_are_ones_own_unless_an_admin_gives_others(place: Place) -> None:
    _, text = await make_token(place, name="ada", role="admin", groups=["release-managers"])
    async with sending(place, **bearer(text)) as http:
        own = (await http.post("/tokens", json={})).json()
        others = (await http.post("/tokens", json={"name": "bob"})).json()
        named = (await http.post("/tokens", json={"name": "bob", "groups": ["ops"]})).json()
    assert own["groups"] == ["release-managers"]
    assert (others["name"], others["groups"]) == ("bob", [])
    assert named["groups"] == ["ops"]


@pytest.mark.parametrize("name", ["local", "client:ci", "", "a b", "-a", "a\n", "x" * 65])
async def test_no_token_speaks_for_a_name_that_means_something_else(place: Place, name: str) -> None:
    assert (await place.http.post("/tokens", json={"name": name})).status_code == 400


@pytest.mark.parametrize(
    "body",
    [
        {"days": 0},
        {"days": 367},
        {"days": "7"},
        {"role": "root"},
        {"rol": "admin"},
        {"label": "x" * 201},
        {"label": "\n"},
    ],
)
async def test_a_token_that_cannot_be_made_is_refused_with_the_field(place: Place, body: dict[str, Any]) -> None:
    response = await place.http.post("/tokens", json=body)
    assert response.status_code == 400
    assert response.json()["error"]["problems"][0]["field"] == next(iter(body))


async def test_one_sees_and_revokes_ones_own_tokens_and_an_admin_all(place: Place) -> None:
    adas_id, adas = await make_token(place, name="ada", role="viewer")
    bobs_id, bobs = await make_token(place, name="bob", role="operator")
    async with sending(place, **bearer(adas)) as http:
        assert [token["id"] for token in (await http.get("/tokens")).json()] == [adas_id]
        assert (await http.get("/tokens?all=true")).status_code == 403
        assert (await http.delete(f"/tokens/{bobs_id}")).status_code == 404
        assert (await me(place, bobs))["name"] == "bob"
        assert (await http.delete(f"/tokens/{adas_id}")).status_code == 204
    assert {token["id"] for token in (await place.http.get("/tokens?all=true")).json()} == {adas_id, bobs_id}
    assert (await place.http.delete(f"/tokens/{bobs_id}")).status_code == 204
    assert (await place.http.delete("/tokens/none")).status_code == 404
    assert (await place.http.delete("/tokens/%00")).status_code == 404


async def test_what_a_token_made_lives_no_longer_than_it_and_is_revoked_with_it(place: Place) -> None:
    first_id, first = await make_token(place, name="ada", role="operator", days=2)
    async with sending(place, **bearer(first)) as http:
        second = (await http.post("/tokens", json={"days": 300})).json()
    async with sending(place, **bearer(second["token"])) as http:
        third = (await http.post("/tokens", json={"days": 300})).json()
    first_end = (await me(place, first))["expires_at"]
    assert [second["expires_at"], third["expires_at"]] == [first_end, first_end]
    await place.http.delete(f"/tokens/{first_id}")
    for text in (first, second["token"], third["token"]):
        async with sending(place, **bearer(text)) as http:
            assert (await http.get("/me")).status_code == 401


async def test_what_a_client_made_for_itself_ends_with_the_client(place: Place) -> None:
    text = await access_token(place, "ci", await make_client(place, role="operator"))
    async with sending(place, **bearer(text)) as http:
        made = (await http.post("/tokens", json={})).json()["token"]
        assert (await me(place, made))["name"] == "client:ci"
    await place.http.delete("/clients/ci")
    async with sending(place, **bearer(made)) as http:
        assert (await http.get("/me")).status_code == 401


async def test_a_token_made_in_a_browser_outlives_its_session(place: Place) -> None:
    async with sending(place, **await session_cookie(place), origin="http://manager") as http:
        made = (await http.post("/tokens", json={"days": 30})).json()["token"]
    place.clock.seconds += 10 * 86_400
    assert (await me(place, made))["name"] == "ada"


async def test_an_id_is_given_to_one_client_only(place: Place) -> None:
    secret = await make_client(place)
    await place.http.delete("/clients/ci")
    response = await place.http.post("/clients", json={"id": "ci", "role": "admin"})
    assert (response.status_code, response.json()["error"]["code"]) == (409, "taken")
    assert (await log_in(place, "ci", secret)).status_code == 401
    assert (await place.http.delete("/clients/other")).status_code == 404


@pytest.mark.parametrize(
    "body", [{"id": "a b"}, {"id": ""}, {"id": "x" * 65}, {"id": "ok", "groups": ["a b"]}, {}]
)
async def test_a_client_that_cannot_be_added_is_refused(place: Place, body: dict[str, Any]) -> None:
    assert (await place.http.post("/clients", json={"role": "worker", **body})).status_code == 400

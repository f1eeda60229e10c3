"""Who gets in: the whole route table, walked as everybody that there is."""

import re

import httpx
import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute

from openaperture.client import ManagerClient
from openaperture.domain.access import Identity, Role
from openaperture.domain.errors import AccessRefused
from openaperture.manager.access import FAILURES_PER_ADDRESS
from openaperture.manager.policy import POLICIES, Policies, Policy
from tests.unit.manager.people import (
    ORIGIN,
    access_token,
    bearer,
    make_client,
    make_token,
    sending,
    session_cookie,
    status_of,
)
from tests.unit.manager.place import TOKEN, Place

EVERYBODY = "none viewer operator admin worker orchestrator"
EVERYBODY_KNOWN = "viewer operator admin worker orchestrator"
VIEWERS = "viewer operator admin"
ALLOWED = {
    "GET /status": EVERYBODY,
    "GET /ready": EVERYBODY,
    "POST /oauth/token": EVERYBODY,
    "GET /login": EVERYBODY,
    "GET /login/callback": EVERYBODY,
    "POST /login/token": EVERYBODY,
    "POST /logout": VIEWERS,
    "GET /me": EVERYBODY_KNOWN,
    "GET /system_components": EVERYBODY_KNOWN,
    "GET /openapi.json": VIEWERS,
    "GET /workflows": VIEWERS,
    "POST /workflows": "operator admin",
    "GET /workflows/{workflow_id}": EVERYBODY_KNOWN,
    "PUT /workflows/{workflow_id}": "operator admin worker orchestrator",
    "DELETE /workflows/{workflow_id}": "admin",
    "POST /workflows/{workflow_id}/execute": "operator admin",
    "POST /workflows/{workflow_id}/cancel": "operator admin",
    "POST /workflows/{workflow_id}/resolve": "operator admin",
    "POST /workflows/{workflow_id}/pause": "operator admin",
    "POST /workflows/{workflow_id}/resume": "operator admin",
    "POST /workflows/{workflow_id}/approve": VIEWERS,
    "POST /workflows/{workflow_id}/reject": VIEWERS,
    "POST /workflows/{workflow_id}/retry": "operator admin",
    "POST /workflows/{workflow_id}/rerun": "operator admin",
    "POST /workflows/{workflow_id}/again": "operator admin",
    "GET /workflows/{workflow_id}/explain": VIEWERS,
    "GET /events": VIEWERS,
    "GET /locks": VIEWERS,
    "POST /locks/{lock_name:path}/release": "operator admin",
    "GET /workflows/{workflow_id}/events": VIEWERS,
    "GET /workflows/{workflow_id}/logs": VIEWERS,
    "GET /workflows/{workflow_id}/attempts": VIEWERS,
    "GET /tokens": VIEWERS,
    "POST /tokens": VIEWERS,
    "DELETE /tokens/{token_id}": VIEWERS,
    "GET /clients": "admin",
    "POST /clients": "admin",
    "DELETE /clients/{client_id}": "admin",
    "GET /audit": "admin",
    "GET /messaging/exchanges": EVERYBODY_KNOWN,
    "POST /messaging/exchanges": "admin",
    "GET /messaging/exchanges/{exchange_id}": EVERYBODY_KNOWN,
    "PUT /messaging/exchanges/{exchange_id}": "admin",
    "DELETE /messaging/exchanges/{exchange_id}": "admin",
    "GET /messaging/exchanges/{exchange_id}/brokers": EVERYBODY_KNOWN,
    "POST /messaging/exchanges/{exchange_id}/brokers": "admin",
    "DELETE /messaging/exchanges/{exchange_id}/brokers": "admin",
    "GET /messaging/exchanges/{exchange_id}/clusters": EVERYBODY_KNOWN,
    "GET /messaging/exchanges/{exchange_id}/modules": EVERYBODY_KNOWN,
    "POST /messaging/exchanges/{exchange_id}/modules": "operator admin worker orchestrator",
    "GET /messaging/exchanges/{exchange_id}/modules/{hostname}": EVERYBODY_KNOWN,
    "DELETE /messaging/exchanges/{exchange_id}/modules/{hostname}": "operator admin worker orchestrator",
    "GET /messaging/brokers": EVERYBODY_KNOWN,
    "POST /messaging/brokers": "admin",
    "GET /messaging/brokers/{broker_id}": EVERYBODY_KNOWN,
    "PUT /messaging/brokers/{broker_id}": "admin",
    "DELETE /messaging/brokers/{broker_id}": "admin",
    "GET /messaging/brokers/{broker_id}/connections": EVERYBODY_KNOWN,
    "POST /messaging/brokers/{broker_id}/connections": "admin",
    "DELETE /messaging/brokers/{broker_id}/connections": "admin",
    "GET /clusters": EVERYBODY_KNOWN,
    "POST /clusters": "admin",
    "GET /clusters/{etcd_token}": EVERYBODY_KNOWN,
    "PUT /clusters/{etcd_token}": "admin",
    "DELETE /clusters/{etcd_token}": "admin",
    "GET /system_events": EVERYBODY_KNOWN,
    "POST /system_events": "operator admin worker orchestrator",
    "GET /system_events/{event_id}": EVERYBODY_KNOWN,
}
"""Written down a second time on purpose: who loosens a route has to say so twice."""
ROLES = ("viewer", "operator", "admin", "worker", "orchestrator")

FOREIGN = [
    {},
    {"authorization": ""},
    {"authorization": "Bearer"},
    {"authorization": "Bearer "},
    {"authorization": "Bearer wrong"},
    {"authorization": f"Bearer {TOKEN}x"},
    {"authorization": f"Bearer {TOKEN[:-1]}"},
    {"authorization": f"Basic {TOKEN}"},
    {"authorization": TOKEN},
    {"authorization": f"Bearer {TOKEN} {TOKEN}"},
    {"x-authorization": f"Bearer {TOKEN}"},
    {"cookie": f"openaperture={TOKEN}"},
    {"authorization": f"Bearer oap_{'0' * 16}_{'A' * 43}"},
    {"authorization": "Bearer e30.e30.e30"},
]


def routes(place: Place) -> list[tuple[str, str]]:
    found = [route for route in place.app.routes if isinstance(route, APIRoute)]
    return [(method, route.path) for route in found for method in route.methods or ()]


def of_something(path: str) -> str:
    """The path with something for each of its placeholders."""
    return re.sub(r"\{[\w:]+\}", "w", path)


async def walked(place: Place, headers: dict[str, str]) -> dict[str, int]:
    """Route -> status of a request to it with these headers."""
    async with sending(place) as http:
        return {
            f"{method} {path}": (await http.request(method, of_something(path), headers=headers)).status_code
            for method, path in routes(place)
        }


ELSEWHERE = {("POST /oauth/token", 401), ("GET /events", 503)}
"""No client is shown, and no socket is there to stream to."""


def assert_walked(statuses: dict[str, int], who: str, refusal: int) -> None:
    assert set(statuses) == set(ALLOWED)
    for route, status in statuses.items():
        if who in ALLOWED[route].split():
            # Nobody's request is a good one here, so what comes after the check may well be 400 or 404.
            assert status not in {401, 403, 405, 500, 503} or (route, status) in ELSEWHERE, route
        else:
            assert status == refusal, route


async def test_the_table_has_a_row_for_every_route_and_for_nothing_else(place: Place) -> None:
    assert len(routes(place)) == len(place.app.routes)
    assert {(method, path) for method, path in routes(place)} == set(POLICIES)


@pytest.mark.parametrize("headers", FOREIGN, ids=range(len(FOREIGN)))
async def test_who_is_unknown_reaches_what_is_public_only(place: Place, headers: dict[str, str]) -> None:
    assert_walked(await walked(place, headers), "none", 401)


@pytest.mark.parametrize("role", ROLES)
async def test_a_personal_token_reaches_what_its_role_may(place: Place, role: str) -> None:
    _, text = await make_token(place, name="ada", role=role)
    assert_walked(await walked(place, bearer(text)), role, 403)


@pytest.mark.parametrize("role", ROLES)
async def test_a_client_reaches_what_its_role_may(place: Place, role: str) -> None:
    secret = await make_client(place, role=role)
    assert_walked(await walked(place, bearer(await access_token(place, "ci", secret))), role, 403)


@pytest.mark.parametrize("role", ["viewer", "operator", "admin"])
async def test_a_browser_reaches_what_its_role_may(place: Place, role: str) -> None:
    cookie = await session_cookie(place, Role(role))
    assert_walked(await walked(place, {**cookie, "origin": ORIGIN}), role, 403)


async def test_the_local_token_is_an_admin(place: Place) -> None:
    assert_walked(await walked(place, bearer(TOKEN)), "admin", 403)


async def test_a_token_that_expired_is_nobody(place: Place) -> None:
    _, text = await make_token(place, role="admin", days=1)
    assert (await walked(place, bearer(text)))["GET /audit"] == 200
    place.clock.seconds += 86_400
    assert_walked(await walked(place, bearer(text)), "none", 401)


async def test_whoever_has_a_token_that_ended_is_told_so_and_nobody_else(place: Place) -> None:
    async def message(text: str) -> str:
        async with sending(place, **bearer(text)) as http:
            response = await http.get("/workflows")
        assert response.status_code == 401
        with pytest.raises(AccessRefused) as refused:
            async with ManagerClient(
                "http://manager", text, transport=httpx.ASGITransport(app=place.app)
            ) as client:
                await client.list_workflows()
        found: str = response.json()["error"]["message"]
        assert (found in str(refused.value)) is (response.json()["error"]["code"] == "token_ended")
        return found

    _, expiring = await make_token(place, days=1)
    token_id, revoked = await make_token(place, days=9)
    assert (await place.http.delete(f"/tokens/{token_id}")).status_code == 204
    place.clock.seconds += 86_400
    assert (await message(expiring)).startswith("the access token has expired on ")
    assert (await message(revoked)).startswith("the access token was revoked on ")
    assert (await message(revoked[:-1] + ("a" if revoked[-1] != "a" else "b"))).startswith("a valid access token")
    assert (await message("nonsense")).startswith("a valid access token")


async def test_an_access_token_that_expired_is_nobody(place: Place) -> None:
    text = await access_token(place, "ci", await make_client(place, role="admin"))
    place.clock.seconds += 3_600
    assert_walked(await walked(place, bearer(text)), "none", 401)


async def test_a_token_that_was_revoked_is_nobody_at_once(place: Place) -> None:
    token_id, text = await make_token(place, role="admin")
    assert (await walked(place, bearer(text)))["GET /audit"] == 200
    assert (await place.http.delete(f"/tokens/{token_id}")).status_code == 204
    assert_walked(await walked(place, bearer(text)), "none", 401)


async def test_a_token_of_a_disabled_client_is_nobody_at_once(place: Place) -> None:
    text = await access_token(place, "ci", await make_client(place, role="admin"))
    assert (await walked(place, bearer(text)))["GET /audit"] == 200
    assert (await place.http.delete("/clients/ci")).status_code == 204
    assert_walked(await walked(place, bearer(text)), "none", 401)


async def test_a_token_revoked_by_another_process_is_nobody_within_five_seconds(place: Place) -> None:
    token_id, text = await make_token(place, role="admin")
    assert (await walked(place, bearer(text)))["GET /audit"] == 200
    await place.access.revoke_token(token_id, place.clock.now())
    place.clock.seconds += 5
    assert_walked(await walked(place, bearer(text)), "none", 401)


async def test_a_session_that_nobody_used_for_an_hour_is_nobody(place: Place) -> None:
    cookie = await session_cookie(place)
    for _ in range(3):
        place.clock.seconds += 3_000
        assert await status_of(place, "/audit", **cookie) == 200
    place.clock.seconds += 3_700
    assert_walked(await walked(place, {**cookie, "origin": ORIGIN}), "none", 401)


async def test_a_session_ends_though_it_is_used(place: Place) -> None:
    cookie = await session_cookie(place, hours=2)
    for _ in range(2):
        place.clock.seconds += 3_000
        assert await status_of(place, "/audit", **cookie) == 200
    place.clock.seconds += 1_200
    assert_walked(await walked(place, {**cookie, "origin": ORIGIN}), "none", 401)


async def test_a_session_is_no_bearer_and_a_bearer_no_session(place: Place) -> None:
    text = (await session_cookie(place))["cookie"].partition("=")[2]
    assert_walked(await walked(place, bearer(text)), "none", 401)
    _, personal = await make_token(place, role="admin")
    assert_walked(await walked(place, {"cookie": f"openaperture={personal}", "origin": ORIGIN}), "none", 401)


async def test_who_shows_a_bad_bearer_is_not_taken_for_the_owner_of_the_cookie(place: Place) -> None:
    headers = {**await session_cookie(place), **bearer("wrong"), "origin": ORIGIN}
    assert_walked(await walked(place, headers), "none", 401)


# ------------------------------------------------------------------------------------------ guessing


async def test_who_shows_too_many_bad_bearers_has_to_wait_and_others_need_not(place: Place) -> None:
    _, known = await make_token(place, name="ada", role="viewer")
    _, fresh = await make_token(place, name="bob", role="viewer")
    # From the same address as the guesses, such as behind a proxy that nobody named.
    assert await status_of(place, "/workflows", **bearer(known)) == 200
    guesses = [f"oap_{number:016x}_{'A' * 43}" for number in range(FAILURES_PER_ADDRESS)]
    assert {await status_of(place, "/workflows", **bearer(guess)) for guess in guesses} == {401}
    async with sending(place, **bearer("another")) as http:
        refused = await http.get("/workflows")
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "slow_down")
    assert 0 < int(refused.headers["retry-after"]) <= 60
    # Not even a right guess is told from a wrong one.
    assert await status_of(place, "/workflows", **bearer(fresh)) == 429
    for good in (known, TOKEN):
        assert await status_of(place, "/workflows", **bearer(good)) == 200
    assert await status_of(place, "/workflows", **await session_cookie(place)) == 200
    assert await status_of(place, "/workflows") == 401
    assert await status_of(place, "/status", **bearer("another")) == 200
    transport = httpx.ASGITransport(app=place.app, client=("192.0.2.8", 4711))
    async with httpx.AsyncClient(transport=transport, base_url=ORIGIN, headers=bearer(fresh)) as elsewhere:
        assert (await elsewhere.get("/workflows")).status_code == 200
    place.clock.seconds += 60
    assert await status_of(place, "/workflows", **bearer("another")) == 401


async def test_a_token_that_was_good_and_is_revoked_does_not_pass_a_bound(place: Place) -> None:
    token_id, text = await make_token(place, name="ada", role="viewer")
    assert await status_of(place, "/workflows", **bearer(text)) == 200
    assert (await place.http.delete(f"/tokens/{token_id}")).status_code == 204
    for _ in range(FAILURES_PER_ADDRESS + 1):
        assert await status_of(place, "/workflows", **bearer(text)) == 401
    assert await status_of(place, "/workflows", **bearer("another")) == 429


# ------------------------------------------------------------------------------------------- tricks


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/nothing",
        "/status/",
        "//status",
        "/status;x",
        "/status/../workflows",
        "/workflows/../status/x",
        "/STATUS",
        "/status.",
        "/status%2f..%2fworkflows",
        "/workflows?/status",
        "/workflows#/status",
        "/oauth/token/../../workflows",
        "/oauth/token%00",
        "/oauth%2ftoken%2f..%2f..%2faudit",
        "/openapi.json",
        "/docs",
    ],
)
async def test_no_spelling_of_a_path_leads_past_the_check(place: Place, path: str) -> None:
    assert await status_of(place, path) == 401


@pytest.mark.parametrize(
    "path", ["/audit/", "//audit", "/audit;x", "/status/../audit", "/audit.", "/AUDIT", "/x/../audit", "/audit%00"]
)
async def test_no_spelling_of_a_path_gives_a_viewer_more(place: Place, path: str) -> None:
    _, text = await make_token(place, name="ada", role="viewer")
    assert await status_of(place, "/audit", **bearer(text)) == 403
    assert await status_of(place, path, **bearer(text)) == 404


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "TRACE", "PATCH", "get", "PROPFIND", ""])
async def test_another_method_is_no_way_in(place: Place, method: str) -> None:
    assert await status_of(place, "/workflows", method=method) == 401
    assert await status_of(place, "/status", method=method) == 401


async def test_an_overridden_method_is_ignored(place: Place) -> None:
    _, text = await make_token(place, name="ada", role="viewer")
    async with sending(place, **bearer(text), x_http_method_override="POST", x_original_url="/audit") as http:
        assert (await http.get("/workflows")).status_code == 200


async def test_a_route_that_came_without_a_policy_is_open_to_nobody(place: Place) -> None:
    async def show() -> str:
        return "shown"

    place.app.add_api_route("/new", show)
    assert (await place.http.get("/new")).status_code == 403
    async with sending(place) as http:
        assert (await http.get("/new")).status_code == 401


def test_no_application_starts_with_a_route_that_has_no_policy() -> None:
    async def show() -> str:
        return "shown"

    app = FastAPI(openapi_url=None)
    app.add_api_route("/new", show)
    with pytest.raises(LookupError, match="GET /new has no policy"):
        Policies(POLICIES).check(app.routes)
    app.routes.clear()
    app.mount("/files", FastAPI())
    with pytest.raises(TypeError, match="no plain route"):
        Policies(POLICIES).check(app.routes)


def test_roles_are_ordered_and_those_of_programs_stand_beside_them() -> None:
    covered = {(one, other) for one in Role for other in Role if one.covers(other)}
    same = {(role, role) for role in Role}
    admins = {(Role.ADMIN, role) for role in Role}
    assert covered == same | admins | {(Role.OPERATOR, Role.VIEWER), (Role.ORCHESTRATOR, Role.WORKER)}
    for role in (Role.WORKER, Role.ORCHESTRATOR):
        assert not Policy(minimum=Role.VIEWER).allows(Identity(name="w", role=role))


# ------------------------------------------------------------------------------- headers and origin


@pytest.mark.parametrize(
    "header",
    [
        f"Bearer {TOKEN}",
        f"bearer {TOKEN}",
        f"Bearer access_token={TOKEN}",
        f"OAuth Bearer {TOKEN}",
        f"Bearer  {TOKEN}",
    ],
)
async def test_the_spellings_of_the_original_clients_are_understood(place: Place, header: str) -> None:
    response = await place.http.get("/workflows", headers={"authorization": header})
    assert response.status_code == 200


async def test_two_authorization_headers_are_refused(place: Place) -> None:
    headers = [("authorization", f"Bearer {TOKEN}"), ("authorization", "Bearer other")]
    async with sending(place) as http:
        assert (await http.get("/workflows", headers=headers)).status_code == 401


@pytest.mark.parametrize(
    "origin", ["https://evil.example.org", "null", "http://manager.evil.org", "https://manager", ""]
)
async def test_what_a_foreign_page_asks_for_is_refused(place: Place, origin: str) -> None:
    """S4: every route that is no GET, with a session and with a token."""
    cookie = await session_cookie(place)
    for method, path in routes(place):
        if method == "GET":
            continue
        url = of_something(path)
        for headers in (cookie, bearer(TOKEN)):
            async with sending(place, **headers, origin=origin) as http:
                response = await http.request(method, url, json={})
            assert (response.status_code, response.json()["error"]["code"]) == (403, "foreign_origin"), path


async def test_a_cookie_needs_proof_that_our_own_page_asks(place: Place) -> None:
    cookie = await session_cookie(place)
    for headers, status in (
        ({}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site"}, 403),
        ({"sec-fetch-site": "same-origin"}, 404),
        ({"origin": ORIGIN}, 404),
        ({"origin": ORIGIN, "sec-fetch-site": "cross-site"}, 404),
    ):
        async with sending(place, **cookie) as http:
            response = await http.post("/workflows/w/cancel", headers=headers)
        assert response.status_code == status, headers


async def test_the_version_is_for_those_with_a_token(place: Place) -> None:
    assert (await place.http.get("/status")).json() == {"status": "ok", "version": "1.2.3"}
    async with sending(place) as http:
        assert (await http.get("/status")).json() == {"status": "ok"}


async def test_every_answer_tells_browsers_to_load_nothing_and_keep_nothing(place: Place) -> None:
    async def headers_of(path: str, **sent: str) -> httpx.Headers:
        async with sending(place, **sent) as http:
            return (await http.get(path)).headers

    for path in ("/status", "/workflows", "/workflows/none", "/nothing"):
        for sent in ({}, bearer(TOKEN)):
            headers = await headers_of(path, **sent)
            assert headers["cache-control"] == "no-store"
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["x-frame-options"] == "DENY"
            assert headers["referrer-policy"] == "no-referrer"
            assert "default-src 'none'" in headers["content-security-policy"]
            assert "frame-ancestors 'none'" in headers["content-security-policy"]
            assert "server" not in headers
            assert "access-control-allow-origin" not in headers

"""Who gets in: walked over the whole route table."""

import re

import httpx
import pytest
from fastapi.routing import APIRoute

from tests.unit.manager.place import TOKEN, Place

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
]


def routes(place: Place) -> list[tuple[str, str]]:
    found = [route for route in place.app.routes if isinstance(route, APIRoute)]
    return [(method, route.path) for route in found for method in route.methods or ()]


def of_something(path: str) -> str:
    """The path with something for each of its placeholders."""
    return re.sub(r"\{\w+\}", "w", path)


def anonymous(place: Place) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=place.app), base_url="http://manager")


async def test_every_route_but_the_status_is_refused_without_the_token(place: Place) -> None:
    async with anonymous(place) as http:
        for method, path in routes(place):
            for headers in FOREIGN:
                response = await http.request(method, of_something(path), headers=headers)
                if path == "/status":
                    assert response.json() == {"status": "ok"}
                else:
                    assert response.status_code == 401, (method, path, headers)
                    assert response.json()["error"]["code"] == "unauthorized"
                    assert response.headers["www-authenticate"] == "Bearer"


async def test_the_route_table_holds_nothing_but_routes_that_are_checked(place: Place) -> None:
    assert len(routes(place)) == len(place.app.routes)


async def test_every_route_answers_with_the_token(place: Place) -> None:
    for method, path in routes(place):
        response = await place.http.request(method, of_something(path))
        assert response.status_code not in {401, 403, 405, 500}, (method, path)


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
        "/openapi.json",
        "/docs",
    ],
)
async def test_what_is_no_route_is_refused_without_the_token_too(place: Place, path: str) -> None:
    async with anonymous(place) as http:
        # The path goes out as it is written here: httpx would tidy it up.
        request = http.build_request("GET", "/")
        request.url = request.url.copy_with(raw_path=path.encode())
        response = await http.send(request)
    assert response.status_code == 401


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
    async with anonymous(place) as http:
        assert (await http.get("/workflows", headers=headers)).status_code == 401


async def test_the_version_is_for_those_with_a_token(place: Place) -> None:
    assert (await place.http.get("/status")).json() == {"status": "ok", "version": "1.2.3"}


async def test_no_answer_may_be_kept_or_guessed_at(place: Place) -> None:
    for path in ("/status", "/workflows", "/workflows/none", "/nothing"):
        headers = (await place.http.get(path)).headers
        assert headers["cache-control"] == "no-store"
        assert headers["x-content-type-options"] == "nosniff"

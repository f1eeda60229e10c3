"""The reference of the API tells of what is there, and of nothing else. Its examples are run."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from fastapi.routing import APIRoute
from msgspec import Struct

from openaperture.client.access_models import AuditShown, ClientMade, ClientShown, Me, TokenMade, TokenShown
from openaperture.client.models import (
    Attempt,
    Event,
    EventPage,
    Explanation,
    Lock,
    LockPlace,
    LogChunk,
    LogPage,
    Workflow,
)
from openaperture.domain.access import Identity, Role
from openaperture.manager.policy import POLICIES
from openaperture.manager.requests import CreateBody
from tests.unit.manager.old_client import OldClient
from tests.unit.manager.people import make_client, make_token
from tests.unit.manager.place import Place

ROOT = Path(__file__).parents[3]
PAGES = [ROOT / "docs" / "reference" / name for name in ("api.md", "directory.md")]
REFERENCE = "".join(page.read_text(encoding="utf-8") for page in PAGES)
SECTIONS: dict[str, str] = dict(
    re.findall(
        r"^### ((?:GET|POST|PUT|DELETE) \S+)\n(.*?)(?=^#{2,3} |^# |\Z)", REFERENCE, re.MULTILINE | re.DOTALL
    )
)
EVENT_DATA = ("component", "exchange_id", "hostname")
OF_LOGINS = {"GET /login", "GET /login/callback", "POST /login/token", "POST /logout"}
"""They need a login service and a browser: test_login.py has both."""
SHAPES: dict[str, list[type[Struct]]] = {
    "GET /me": [Me],
    "GET /tokens": [TokenShown],
    "POST /tokens": [TokenMade],
    "GET /clients": [ClientShown],
    "POST /clients": [ClientMade],
    "GET /audit": [AuditShown],
    "GET /workflows/{workflow_id}": [Workflow],
    "GET /workflows/{workflow_id}/events": [EventPage, Event],
    "GET /workflows/{workflow_id}/logs": [LogPage, LogChunk],
    "GET /workflows/{workflow_id}/attempts": [Attempt],
    "GET /workflows/{workflow_id}/explain": [Explanation],
    "GET /locks": [Lock, LockPlace],
}


def routes(place: Place) -> dict[str, APIRoute]:
    found = [route for route in place.app.routes if isinstance(route, APIRoute)]
    return {f"{method} {route.path_format}": route for route in found for method in route.methods or ()}


async def test_every_route_is_documented_and_nothing_else(place: Place) -> None:
    assert set(SECTIONS) == set(routes(place))


async def test_every_parameter_and_field_is_documented_with_its_route(place: Place) -> None:
    for name, route in routes(place).items():
        named = [parameter.alias for parameter in route.dependant.query_params]
        if route.body_field is not None:
            named += list(route.body_field.field_info.annotation.model_fields)  # type: ignore[union-attr]
        assert not [parameter for parameter in named if f"`{parameter}`" not in SECTIONS[name]], name


def test_every_field_of_a_workflow_is_documented() -> None:
    section = REFERENCE.partition("## What a workflow looks like")[2].partition("## Routes")[0]
    assert not [name for name in Workflow.__struct_fields__ if f"`{name}`" not in section]
    assert set(CreateBody.model_fields) <= set(Workflow.__struct_fields__)


def test_every_error_code_is_documented_and_nothing_else() -> None:
    sources = "".join(path.read_text() for path in (ROOT / "src" / "openaperture" / "manager").glob("*.py"))
    used = set(re.findall(r'(?:refuse|Refused)\(\s*(\d{3}), "(\w+)"', sources))
    documented = set(re.findall(r"^\| (\d{3}) \| `(\w+)` \|", REFERENCE, re.MULTILINE))
    assert used == documented


STREAMED = {"GET /events"}
"""Needs a socket, and never ends: see tests/functional/test_streams.py."""


@pytest.mark.parametrize("name", sorted(set(SECTIONS) - OF_LOGINS - STREAMED))
async def test_the_example_of_a_route_does_what_it_says(place: Place, name: str) -> None:
    request, status = _example(SECTIONS[name])
    head, _, body = request.partition("\n")
    method, path = head.split(" ", 1)
    url = path
    for parameter, made in (await _made_for(place, name)).items():
        url = url.replace(f"{{{parameter}}}", made)
    body = body.replace("SECRET", await make_client(place, "builder-1")) if "/oauth/" in url else body
    response = await place.http.request(method, url, json=json.loads(body) if body else None)
    assert response.status_code == status, response.text
    for shown in re.findall(r"```json\n(.*?)```", SECTIONS[name], re.DOTALL):
        assert _keys(json.loads(shown)) <= _keys(response.json()) | _fields(name)


async def _made_for(place: Place, name: str) -> dict[str, str]:
    """What the example of a route is about, by the placeholders of its path."""
    first = name.split("/")[1]
    if first == "workflows":
        verb = name.rpartition("/")[2]
        made = {"execute": place.create, "resolve": place.hold, "resume": place.pause}.get(verb, place.start)
        made = {"approve": place.ask, "reject": place.ask}.get(verb, made)
        made = place.fail if verb in {"retry", "rerun", "again"} else made
        made = place.create if name.startswith("DELETE") else made
        return {"workflow_id": await made()}
    if first == "locks":
        await place.lock("environment:prod")
        return {}
    if first in {"clusters", "messaging", "system_events"}:
        return await _made_in_directory(place, name)
    if name.startswith(("GET /clients", "DELETE /clients")):
        await make_client(place, "builder-1")
    if name == "GET /audit":
        await place.create()
    token_id, _ = await make_token(place)
    return {"token_id": token_id, "client_id": "builder-1"}


async def _made_in_directory(place: Place, name: str) -> dict[str, str]:
    old = OldClient(place.app)
    broker = await old.make("/messaging/brokers", {"name": "main"})
    exchange = await old.make("/messaging/exchanges", {"name": "AWS"})
    cluster = {"etcd_token": "tok", "messaging_exchange_id": int(exchange), "allow_docker_builds": True}
    module = {"hostname": "build-1", "type": "builder", "status": "active", "workload": []}
    event = {"type": "unhandled_exception", "severity": "error", "data": dict.fromkeys(EVENT_DATA)}
    await old.make("/clusters", cluster)
    await old.make(f"/messaging/exchanges/{exchange}/modules", module)
    await old.make("/system_events", event)
    await old.make(f"/messaging/brokers/{broker}/connections", {"host": "rabbit.example.org"})
    if not name.startswith("POST"):
        await old.make(f"/messaging/exchanges/{exchange}/brokers", {"messaging_broker_id": int(broker)})
    events = (await old.ask("GET", "/system_events")).json()
    return {
        "broker_id": broker,
        "exchange_id": exchange,
        "etcd_token": "tok",
        "hostname": "build-1",
        "event_id": str(events[0]["id"]),
    }


def _example(section: str) -> tuple[str, int]:
    """The one request of a section, and the status that is promised for it."""
    [request] = re.findall(r"```http\n(.*?)\n```", section, re.DOTALL)
    [status] = re.findall(r"^Answers (\d{3})", section, re.MULTILINE)
    return request, int(status)


def _fields(name: str) -> set[str]:
    return {field for kind in SHAPES.get(name, []) for field in kind.__struct_fields__}


def _keys(value: Any) -> set[str]:
    """The names of all fields, however deep."""
    match value:
        case dict():
            return set(value) | {key for item in value.values() for key in _keys(item)}
        case list():
            items: list[Any] = value
            return {key for item in items for key in _keys(item)}
        case _:
            return set()


def test_the_table_of_who_may_do_what_is_that_of_the_code() -> None:
    rows = re.findall(r"^\| `((?:GET|POST|PUT|DELETE) [^`]+)` \|(.*)\|$", REFERENCE, re.MULTILINE)
    documented = {name: [cell.strip() == "yes" for cell in cells.split("|")] for name, cells in rows}
    people = [*(Identity(name="somebody", role=role) for role in Role), None]
    assert documented == {
        f"{method} {path}": [policy.allows(somebody) for somebody in people]
        for (method, path), policy in POLICIES.items()
    }

"""The messaging directory over HTTP, asked as the original's library asks."""

import re
from typing import Any

import pytest

from tests.unit.manager.old_client import OldClient
from tests.unit.manager.people import access_token, bearer, make_client, sending
from tests.unit.manager.place import Place

RFC_1123 = re.compile(r"[A-Z][a-z]{2}, \d{2} [A-Z][a-z]{2} \d{4} \d{2}:\d{2}:\d{2} UTC")
MODULE = {"hostname": "build-1", "type": "builder", "status": "active", "workload": []}
EVENT = {
    "unique": True,
    "type": "unhandled_exception",
    "severity": "error",
    "data": {"component": "workflow_orchestration", "exchange_id": "1", "hostname": None},
    "message": "it broke",
}


@pytest.fixture
def old(place: Place) -> OldClient:
    return OldClient(place.app)


def without_times(row: dict[str, Any]) -> dict[str, Any]:
    assert RFC_1123.fullmatch(row["inserted_at"])
    assert RFC_1123.fullmatch(row["updated_at"])
    return {name: value for name, value in row.items() if name not in {"inserted_at", "updated_at"}}


# --------------------------------------------------------------------------------------- exchanges


async def test_an_exchange_tells_its_root_and_its_whole_routing_key(old: OldClient) -> None:
    root = int(await old.make("/messaging/exchanges", {"name": "AWS", "routing_key_fragment": "aws"}))
    child = await old.make(
        "/messaging/exchanges",
        {"name": "us-east-1", "parent_exchange_id": str(root), "routing_key_fragment": "us-east-1"},
    )
    response = await old.ask("GET", f"/messaging/exchanges/{child}")
    expected = {
        "id": int(child),
        "name": "us-east-1",
        "failover_exchange_id": None,
        "parent_exchange_id": root,
        "routing_key_fragment": "us-east-1",
        "routing_key": "aws.us-east-1",
        "root_exchange_name": "AWS",
    }
    assert without_times(response.json()) == expected
    listed = (await old.ask("GET", "/messaging/exchanges")).json()
    assert [(row["name"], row["routing_key"]) for row in listed] == [
        ("AWS", "aws"),
        ("us-east-1", "aws.us-east-1"),
    ]


async def test_creating_answers_without_a_body_and_says_where_it_is(old: OldClient) -> None:
    response = await old.ask("POST", "/messaging/exchanges", {"name": "AWS"})
    assert (response.status_code, response.content) == (201, b"")
    assert re.fullmatch(r"/messaging/exchanges/\d+", response.headers["location"])


async def test_a_change_leaves_what_it_does_not_name(old: OldClient) -> None:
    number = await old.make("/messaging/exchanges", {"name": "AWS", "routing_key_fragment": "aws"})
    response = await old.ask("PUT", f"/messaging/exchanges/{number}", {"name": "AWS-2"})
    assert (response.status_code, response.content) == (204, b"")
    assert response.headers["location"] == f"/messaging/exchanges/{number}"
    shown = (await old.ask("GET", f"/messaging/exchanges/{number}")).json()
    assert (shown["name"], shown["routing_key_fragment"]) == ("AWS-2", "aws")
    assert (await old.ask("PUT", f"/messaging/exchanges/{number}", {"name": "AWS-2"})).status_code == 204


async def test_a_name_that_is_taken_is_a_conflict(old: OldClient) -> None:
    await old.make("/messaging/exchanges", {"name": "AWS"})
    other = await old.make("/messaging/exchanges", {"name": "lab"})
    assert (await old.ask("POST", "/messaging/exchanges", {"name": "AWS"})).status_code == 409
    refused = await old.ask("PUT", f"/messaging/exchanges/{other}", {"name": "AWS"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "taken")


async def test_an_exchange_cannot_lie_within_itself(old: OldClient) -> None:
    root = await old.make("/messaging/exchanges", {"name": "AWS"})
    child = await old.make("/messaging/exchanges", {"name": "east", "parent_exchange_id": int(root)})
    body = {"name": "AWS", "parent_exchange_id": int(child)}
    refused = await old.ask("PUT", f"/messaging/exchanges/{root}", body)
    assert (refused.status_code, "itself" in refused.text) == (400, True)


async def test_restrictions_name_brokers_and_have_ids_of_their_own(old: OldClient) -> None:
    await old.make("/messaging/brokers", {"name": "first"})
    broker = int(await old.make("/messaging/brokers", {"name": "second"}))
    exchange = int(await old.make("/messaging/exchanges", {"name": "AWS"}))
    path = f"/messaging/exchanges/{exchange}/brokers"
    created = await old.ask("POST", path, {"messaging_broker_id": broker})
    assert (created.status_code, created.headers["location"]) == (201, path)
    assert (await old.ask("POST", path, {"messaging_broker_id": str(broker)})).status_code == 409
    assert (await old.ask("POST", path, {"messaging_broker_id": 99})).status_code == 400
    [row] = (await old.ask("GET", path)).json()
    expected = {"id": row["id"], "messaging_exchange_id": exchange, "messaging_broker_id": broker}
    assert without_times(row) == expected
    assert (await old.ask("DELETE", path)).status_code == 204
    assert (await old.ask("GET", path)).json() == []


# ----------------------------------------------------------------------------------------- brokers


async def test_a_broker_and_its_connections(old: OldClient) -> None:
    main = int(await old.make("/messaging/brokers", {"name": "main"}))
    number = int(await old.make("/messaging/brokers", {"name": "east", "failover_broker_id": main}))
    shown = (await old.ask("GET", f"/messaging/brokers/{number}")).json()
    assert without_times(shown) == {"id": number, "name": "east", "failover_broker_id": main}
    path = f"/messaging/brokers/{number}/connections"
    login = {"username": "oa", "password": "geheim", "host": "rabbit.example.test", "virtual_host": "env"}
    created = await old.ask("POST", path, login)
    assert (created.status_code, created.content, created.headers["location"]) == (201, b"", path)
    [row] = (await old.ask("GET", path)).json()
    assert without_times(row) == {"id": row["id"], "messaging_broker_id": number, "port": None, **login}
    assert (await old.ask("DELETE", path)).status_code == 204
    assert (await old.ask("GET", path)).json() == []


async def test_a_broker_that_goes_takes_its_connections_and_restrictions_along(old: OldClient) -> None:
    doomed = int(await old.make("/messaging/brokers", {"name": "doomed"}))
    other = await old.make("/messaging/brokers", {"name": "other", "failover_broker_id": doomed})
    exchange = await old.make("/messaging/exchanges", {"name": "AWS"})
    await old.make(f"/messaging/exchanges/{exchange}/brokers", {"messaging_broker_id": doomed})
    assert (await old.ask("DELETE", f"/messaging/brokers/{doomed}")).status_code == 204
    assert (await old.ask("GET", f"/messaging/brokers/{doomed}/connections")).status_code == 404
    assert (await old.ask("GET", f"/messaging/brokers/{other}")).json()["failover_broker_id"] is None
    assert (await old.ask("GET", f"/messaging/exchanges/{exchange}/brokers")).json() == []


async def test_a_broker_is_no_failover_of_itself(old: OldClient) -> None:
    number = int(await old.make("/messaging/brokers", {"name": "main"}))
    body = {"name": "main", "failover_broker_id": number}
    assert (await old.ask("PUT", f"/messaging/brokers/{number}", body)).status_code == 400


@pytest.mark.parametrize(
    ("role", "shown"),
    [("worker", "geheim"), ("orchestrator", "geheim"), ("admin", "geheim"), ("operator", None), ("viewer", None)],
)
async def test_the_password_of_a_connection_is_for_who_connects_and_its_reading_is_recorded(
    place: Place, old: OldClient, role: str, shown: str | None
) -> None:
    broker = await old.make("/messaging/brokers", {"name": "main"})
    path = f"/messaging/brokers/{broker}/connections"
    await old.make(path, {"host": "rabbit.example.test", "password": "geheim"})
    text = await access_token(place, "ci", await make_client(place, role=role))
    async with sending(place, **bearer(text)) as http:
        [connection] = (await http.get(path)).json()
    assert (connection["host"], connection["password"]) == ("rabbit.example.test", shown)
    [record] = await place.access.list_audit(limit=1)
    assert (record.deed.who, record.deed.method, record.deed.path) == ("client:ci", "GET", path)
    assert "geheim" not in repr(await place.access.list_audit(limit=100))


async def test_a_refused_password_is_not_repeated(old: OldClient) -> None:
    number = await old.make("/messaging/brokers", {"name": "main"})
    body = {"host": "h", "password": ["geheim"], "passwort": "geheim", "port": 70_000}
    refused = await old.ask("POST", f"/messaging/brokers/{number}/connections", body)
    problems = {problem["field"] for problem in refused.json()["error"]["problems"]}
    assert (refused.status_code, problems) == (400, {"password", "passwort", "port"})
    assert "geheim" not in refused.text


# ---------------------------------------------------------------------------------------- clusters


async def test_a_cluster_is_found_by_its_token_in_any_case(old: OldClient) -> None:
    exchange = int(await old.make("/messaging/exchanges", {"name": "AWS"}))
    body = {"etcd_token": "App-Tok-2", "name": "app", "messaging_exchange_id": exchange}
    created = await old.ask("POST", "/clusters", body)
    assert (created.status_code, created.headers["location"]) == (201, "/clusters/App-Tok-2")
    assert created.json().startswith("Registered id ")
    shown = (await old.ask("GET", "/clusters/app-tok-2")).json()
    expected = {"id": shown["id"], "hosting_provider_id": None, "allow_docker_builds": False, **body}
    assert without_times(shown) == expected
    assert (await old.ask("POST", "/clusters", body | {"etcd_token": "APP-TOK-2"})).status_code == 409
    assert (await old.ask("DELETE", "/clusters/APP-TOK-2")).status_code == 204
    assert (await old.ask("GET", "/clusters/App-Tok-2")).status_code == 404


async def test_clusters_are_listed_all_or_those_that_build(old: OldClient) -> None:
    exchange = int(await old.make("/messaging/exchanges", {"name": "AWS"}))
    builder = {"etcd_token": "b", "allow_docker_builds": True, "messaging_exchange_id": exchange}
    await old.make("/clusters", builder)
    await old.make("/clusters", {"etcd_token": "a", "messaging_exchange_id": exchange})
    await old.make("/clusters", {"etcd_token": "elsewhere", "allow_docker_builds": True})

    async def tokens(path: str) -> list[str]:
        return [row["etcd_token"] for row in (await old.ask("GET", path)).json()]

    assert await tokens("/clusters") == ["b", "a", "elsewhere"]
    assert await tokens("/clusters?allow_docker_builds=true") == ["b", "elsewhere"]
    assert await tokens("/clusters?allow_docker_builds=false") == ["b", "a", "elsewhere"]
    assert await tokens(f"/messaging/exchanges/{exchange}/clusters?allow_docker_builds=true") == ["b"]
    assert await tokens(f"/messaging/exchanges/{exchange}/clusters") == ["b", "a"]


async def test_a_cluster_can_be_moved_to_another_exchange(old: OldClient) -> None:
    exchange = int(await old.make("/messaging/exchanges", {"name": "AWS"}))
    await old.make("/clusters", {"etcd_token": "t", "name": "app"})
    moved = await old.ask("PUT", "/clusters/t", {"messaging_exchange_id": exchange})
    assert (moved.status_code, moved.headers["location"]) == (204, "/clusters/t")
    shown = (await old.ask("GET", "/clusters/t")).json()
    assert (shown["name"], shown["messaging_exchange_id"]) == ("app", exchange)
    assert (await old.ask("PUT", "/clusters/t", {"allow_docker_builds": None})).status_code == 400


# ----------------------------------------------------------------------------------------- modules


async def test_a_module_registers_again_and_again_and_leaves(old: OldClient) -> None:
    exchange = await old.make("/messaging/exchanges", {"name": "AWS"})
    path = f"/messaging/exchanges/{exchange}/modules"
    for status in ("active", "inactive"):
        created = await old.ask("POST", path, MODULE | {"status": status})
        assert (created.status_code, created.content) == (201, b"")
        assert created.headers["location"] == f"{path}/build-1"
    [row] = (await old.ask("GET", path)).json()
    more = dict.fromkeys(("source_repo", "source_repo_git_ref", "deployment_repo", "deployment_repo_git_ref"))
    expected = {"id": row["id"], "messaging_exchange_id": int(exchange), **MODULE, "status": "inactive", **more}
    assert without_times(row) == expected
    assert (await old.ask("GET", f"{path}/build-1")).json() == row
    assert (await old.ask("DELETE", f"{path}/build-1")).status_code == 204
    assert (await old.ask("DELETE", f"{path}/build-1")).status_code == 404


@pytest.mark.parametrize("missing", MODULE)
async def test_a_module_has_to_say_all_four(old: OldClient, missing: str) -> None:
    exchange = await old.make("/messaging/exchanges", {"name": "AWS"})
    body = {name: value for name, value in MODULE.items() if name != missing}
    refused = await old.ask("POST", f"/messaging/exchanges/{exchange}/modules", body)
    assert refused.json()["error"]["problems"] == [{"field": missing, "message": "is missing"}]


# ----------------------------------------------------------------------------------- system events


async def test_a_unique_event_is_told_once_within_the_hour(old: OldClient) -> None:
    first = await old.ask("POST", "/system_events", EVENT)
    assert (first.status_code, first.content, first.headers["location"]) == (201, b"", "/system_events")
    assert (await old.ask("POST", "/system_events", EVENT | {"message": "again"})).status_code == 409
    assert (await old.ask("POST", "/system_events", EVENT | {"data": None})).status_code == 409
    assert (await old.ask("POST", "/system_events", EVENT | {"data": {"n": 1}})).status_code == 201
    assert (await old.ask("POST", "/system_events", EVENT | {"unique": False})).status_code == 201
    listed = (await old.ask("GET", "/system_events?lookback=24")).json()
    assert [row["data"] for row in listed] == [EVENT["data"], {"n": 1}, EVENT["data"]]
    assert listed[0]["message"] == "it broke"
    assert (await old.ask("GET", f"/system_events/{listed[0]['id']}")).json() == listed[0]
    assert (await old.ask("GET", "/system_events?assignee_id=1")).json() == []


# ------------------------------------------------------------------------------------------ errors

UNKNOWN = ["999", "0", "x", "-1", "1.0", "9" * 30, "%00", "%ff", "x" * 3_000]


@pytest.mark.parametrize("number", UNKNOWN)
async def test_what_is_not_there_is_not_found(old: OldClient, number: str) -> None:
    exchange, broker = f"/messaging/exchanges/{number}", f"/messaging/brokers/{number}"
    for method, path, body in (
        *[("GET", exchange + rest, None) for rest in ("", "/brokers", "/clusters", "/modules", "/modules/h")],
        *[("DELETE", exchange + rest, None) for rest in ("", "/brokers", "/modules/h")],
        ("PUT", exchange, {"name": "x"}),
        ("POST", f"{exchange}/brokers", {"messaging_broker_id": 1}),
        ("POST", f"{exchange}/modules", MODULE),
        *[(method, broker + rest, None) for rest in ("", "/connections") for method in ("GET", "DELETE")],
        ("PUT", broker, {"name": "x"}),
        ("POST", f"{broker}/connections", {"host": "h"}),
        ("GET", f"/clusters/{number}", None),
        ("PUT", f"/clusters/{number}", {}),
        ("DELETE", f"/clusters/{number}", None),
        ("GET", f"/system_events/{number}", None),
    ):
        response = await old.ask(method, path, body)
        assert (response.status_code, response.json()["error"]["code"]) == (404, "unknown_entry"), (method, path)


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/messaging/exchanges", {}, "name"),
        ("/messaging/exchanges", {"name": ""}, "name"),
        ("/messaging/exchanges", {"name": "a", "parent": 1}, "parent"),
        ("/messaging/exchanges", {"name": "a", "parent_exchange_id": 7}, "parent_exchange_id"),
        ("/messaging/exchanges", {"name": "a", "failover_exchange_id": "east"}, "failover_exchange_id"),
        ("/messaging/brokers", {"name": "a\u0007"}, "name"),
        ("/messaging/brokers", {"name": "a", "failover_broker_id": 7}, "failover_broker_id"),
        ("/clusters", {"name": "a"}, "etcd_token"),
        ("/clusters", {"etcd_token": "a/b"}, "etcd_token"),
        ("/clusters", {"etcd_token": "a", "messaging_exchange_id": 7}, "messaging_exchange_id"),
        ("/clusters", {"etcd_token": "a", "allow_docker_builds": "yes"}, "allow_docker_builds"),
        ("/system_events", {"type": "a"}, "severity"),
        ("/system_events", {"severity": "a"}, "type"),
    ],
)
async def test_what_cannot_be_used_is_refused_and_named(old: OldClient, path: str, body: Any, field: str) -> None:
    refused = await old.ask("POST", path, body)
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "bad_request")
    assert field in refused.json()["error"]["message"]


async def test_a_lookback_that_is_no_number_is_refused(old: OldClient) -> None:
    assert (await old.ask("GET", "/system_events?lookback=x")).status_code == 400

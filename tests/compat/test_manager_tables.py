"""The Manager that the cases are played with answers over HTTP as theirs did, and writes down what it is asked."""

import copy
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.compat.cases import read_cases, read_meta
from tests.compat.journal import Journal
from tests.compat.manager import Tables, serving

SECRETS = {"grant_type": "client_credentials", "client_id": "id", "client_secret": "secret"}
WORKFLOW = read_cases()[0].workflow_id


@pytest.fixture
def tables() -> Tables:
    return Tables(copy.deepcopy(read_meta()["std"]), workflows={WORKFLOW: {"id": WORKFLOW, "current_step": None}})


@pytest.fixture
def journal() -> Journal:
    return Journal()


@pytest.fixture
def anyone(tables: Tables, journal: Journal) -> Iterator[httpx.Client]:
    with serving(tables, journal, "group") as url, httpx.Client(base_url=url, trust_env=False) as client:
        yield client


@pytest.fixture
def client(anyone: httpx.Client) -> httpx.Client:
    token = anyone.post("/oauth/token", json=SECRETS).json()["access_token"]
    anyone.headers["Authorization"] = f"Bearer access_token={token}"
    return anyone


def test_only_who_has_the_secret_gets_a_token_and_only_a_token_opens_the_door(anyone: httpx.Client) -> None:
    assert anyone.post("/oauth/token", json=SECRETS | {"client_secret": "guess"}).status_code == 401
    assert anyone.post("/oauth/token", data=SECRETS).status_code == 400
    for header in ("", "Bearer access_token=TOKEN9", "Bearer TOKEN1", "access_token=TOKEN1"):
        assert anyone.get("/clusters", headers={"Authorization": header}).status_code == 401


def test_a_token_ends(tables: Tables, client: httpx.Client) -> None:
    assert client.get("/clusters").status_code == 200
    tables.tokens = dict.fromkeys(tables.tokens, 0.0)
    assert client.get("/clusters").status_code == 401


@pytest.mark.parametrize(
    ("path", "ids"),
    [
        ("/clusters", [1, 2, 3]),
        ("/clusters?allow_docker_builds=true", [1]),
        ("/messaging/exchanges/2/clusters", [2]),
        ("/messaging/exchanges/2/clusters?allow_docker_builds=true", []),
        ("/messaging/exchanges/3/brokers", [77]),
        ("/messaging/brokers/2/connections", [21]),
    ],
)
def test_lists_are_those_of_the_tables(client: httpx.Client, path: str, ids: list[int]) -> None:
    assert [row["id"] for row in client.get(path).json()] == ids


def test_single_rows_are_found_by_id_and_clusters_by_token(client: httpx.Client) -> None:
    assert client.get("/messaging/exchanges/1").json()["routing_key"] == "aws.us-east-1"
    assert client.get("/messaging/brokers/1").json()["name"] == "main"
    assert client.get("/clusters/APP-tok-2").json()["id"] == 2


@pytest.mark.parametrize(
    "path",
    ["/messaging/exchanges/999", "/messaging/exchanges/999/modules", "/clusters/none", "/workflows/none", "/"],
)
def test_what_does_not_exist_is_not_found(client: httpx.Client, path: str) -> None:
    assert client.get(path).status_code == 404


def test_a_save_changes_the_row_and_is_written_down(client: httpx.Client, journal: Journal) -> None:
    body = {"current_step": "build", "event_log": ["Zürich"]}
    answer = client.put(f"/workflows/{WORKFLOW}", json=body)
    assert (answer.status_code, answer.content) == (204, b"")
    assert client.get(f"/workflows/{WORKFLOW}").json() == {"id": WORKFLOW, **body}
    assert [save.body for save in journal.of(WORKFLOW).saves] == [body]


def test_a_forced_answer_takes_precedence_until_it_is_lifted(tables: Tables, client: httpx.Client) -> None:
    tables.forced["GET /clusters"] = 500
    assert client.get("/clusters?allow_docker_builds=true").status_code == 500
    assert client.get("/clusters/app-tok-2").status_code == 200
    del tables.forced["GET /clusters"]
    assert client.get("/clusters").status_code == 200


def test_a_sequence_gives_each_look_at_the_modules_its_own_answer(tables: Tables, client: httpx.Client) -> None:
    tables.content = dict(tables.content) | {"module_sequence": {"1": [["builder"], []]}}
    looks: list[list[Any]] = [client.get("/messaging/exchanges/1/modules").json() for _ in range(3)]
    assert [[module["type"] for module in look] for look in looks] == [["builder"], [], []]

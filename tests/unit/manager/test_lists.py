"""What of all workflows is listed."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.unit.manager.place import Place


@pytest.fixture
async def shelf(place: Place) -> dict[str, str]:
    """Three workflows by name, newest last."""
    return {
        "shop": await place.create(),
        "blog": await place.create(source_repo="acme/Blog_1", source_repo_git_ref="v2", milestones=["config"]),
        "pair": await place.create(
            source_repo=None,
            source_repo_git_ref=None,
            deployment_repo="acme/fleet",
            deployment_repo_git_ref="v2",
            milestones=[["build", "config"]],
        ),
    }


async def listed(place: Place, shelf: dict[str, str], **wanted: Any) -> list[str]:
    response = await place.http.get("/workflows", params=wanted)
    assert response.status_code == 200, response.text
    names = {workflow_id: name for name, workflow_id in shelf.items()}
    return [names[workflow["id"]] for workflow in response.json()]


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({}, ["pair", "blog", "shop"]),
        ({"ref": "v2"}, ["pair", "blog"]),
        ({"ref": "v"}, []),
        ({"milestone": "config"}, ["pair", "blog"]),
        ({"milestone": "build"}, ["pair", "shop"]),
        ({"milestone": "buil"}, []),
        ({"milestone": "build", "ref": "v1"}, ["shop"]),
        ({"milestone": '","'}, []),
        ({"text": "ACME/"}, ["pair", "blog", "shop"]),
        ({"text": "blog_"}, ["blog"]),
        ({"text": "%"}, []),
        ({"text": "_og"}, []),
        ({"text": "v2", "limit": 1}, ["pair"]),
    ],
)
async def test_filters_narrow_the_list(
    place: Place, shelf: dict[str, str], wanted: dict[str, Any], found: list[str]
) -> None:
    assert await listed(place, shelf, **wanted) == found


async def test_a_reason_and_an_id_are_found_by_a_part_of_them(place: Place, shelf: dict[str, str]) -> None:
    await place.client.cancel(shelf["blog"], "the WRONG branch")
    assert await listed(place, shelf, text="wrong") == ["blog"]
    assert await listed(place, shelf, text=shelf["pair"][3:20]) == ["pair"]


async def test_times_bound_the_list(place: Place, shelf: dict[str, str]) -> None:
    middle = (await place.show(shelf["blog"]))["created_at"]
    assert await listed(place, shelf, created_after=middle) == ["pair"]
    assert await listed(place, shelf, created_before=middle) == ["shop"]
    later = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    assert await listed(place, shelf, created_before=later, lookback=1) == ["pair", "blog", "shop"]


@pytest.mark.parametrize("when", ["yesterday", "2026-03-05T23:25:19", "0001-01-01T00:00:00+14:00"])
async def test_a_time_that_says_nothing_is_refused(place: Place, when: str) -> None:
    refused = await place.http.get("/workflows", params={"created_after": when})
    assert refused.status_code == 400
    assert refused.json()["error"]["problems"][0]["field"] == "created_after"


async def test_pages_keep_their_filters(place: Place, shelf: dict[str, str]) -> None:
    page = await place.client.list_workflows(milestone="config", limit=1)
    rest = await place.client.list_workflows(milestone="config", limit=1, cursor=page.next_cursor)
    assert [shown.id for shown in (*page.workflows, *rest.workflows)] == [shelf["pair"], shelf["blog"]]
    assert rest.next_cursor is None

"""What is told of a workflow that does not go on, beyond the state that it is in."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from openaperture.domain import events as e
from openaperture.domain.milestones import table_of
from openaperture.domain.workflow import Workflow
from openaperture.manager.explain import Situation, explain
from openaperture.ports import Errand, LockClaim, RowKind, Trouble
from tests.unit.manager.place import WORKER, Place, key

NOON = datetime(2030, 3, 5, 12, 0, tzinfo=UTC)


async def told(place: Place, workflow_id: str) -> dict[str, Any]:
    answer: dict[str, Any] = (await place.http.get(f"/workflows/{workflow_id}/explain")).json()
    return answer


async def stored(place: Place, workflow_id: str) -> Workflow:
    workflow = await place.store.find_workflow(workflow_id)
    assert workflow is not None
    return workflow


@pytest.mark.parametrize("milestones", [["build", "deploy"], ["approval", "deploy"]])
async def test_a_pause_that_is_to_come_is_told_with_who_asked_for_it(place: Place, milestones: list[str]) -> None:
    workflow_id = await place.start(milestones=milestones)
    before = await told(place, workflow_id)
    paused = (await place.http.post(f"/workflows/{workflow_id}/pause", json={"reason": "lunch"})).json()
    after = await told(place, workflow_id)
    assert after["text"] == f"{before['text']}; pauses before the next milestone (asked by local: lunch)"
    assert paused["explanation"]["text"].endswith("(asked by local: lunch)")
    assert (after["details"]["pause"]["by"], after["details"]["pause"]["reason"]) == ("local", "lunch")
    await place.http.post(f"/workflows/{workflow_id}/resume")
    assert await told(place, workflow_id) == before


async def test_busy_workers_are_told_from_none(place: Place) -> None:
    waiting = await place.start(milestones=["config"])
    alone = await told(place, waiting)
    assert alone["text"] == (
        "config was requested from queue builder and no worker has taken it yet; "
        "none of the same queue runs now, so no worker may be there to take it"
    )
    busy = await place.start()
    await place.tell(busy, e.Claimed(key=key(), worker=WORKER))
    beside = await told(place, waiting)
    assert beside["text"].endswith(f"; 1 of the same queue runs now, at worker {WORKER}")
    assert [each["worker"] for each in beside["details"]["at_work"]] == [WORKER]
    await place.tell(busy, e.MilestoneCompleted(key=key(), worker=WORKER))
    assert (await told(place, waiting))["text"] == alone["text"]


async def test_where_a_milestone_was_requested_is_told(place: Place) -> None:
    workflow_id = await place.start(build_messaging_exchange_id=7)
    found = await told(place, workflow_id)
    assert found["text"].startswith("build was requested from queue builder of exchange 7 and no worker")
    assert (found["details"]["queue"], found["details"]["exchange"]) == ("builder", 7)


async def test_what_keeps_one_of_a_group_is_told_while_another_one_runs(place: Place) -> None:
    workflow_id = await place.start(milestones=[["build", "config", "approval"], "deploy"])
    await place.tell(workflow_id, e.Claimed(key=key(), worker=WORKER))
    found = await told(place, workflow_id)
    assert found["code"] == "running"
    assert found["text"].startswith(f"build runs at worker {WORKER}; approval waits for one person")
    assert "config was requested from queue builder and no worker has taken it yet" in found["text"]
    assert found["details"]["inputs"]
    trouble = Trouble(kind=RowKind.REQUEST, error="the broker is away", again_at=NOON)
    about = Situation(kinds=table_of(), trouble=trouble)
    assert (
        "config cannot be requested: the broker is away" in explain(await stored(place, workflow_id), about).text
    )


async def test_an_errand_that_waits_for_long_is_told_though_nothing_refused_it(place: Place) -> None:
    workflow = await stored(place, await place.start())
    about = Situation(kinds=table_of(), errand=Errand(kind=RowKind.REQUEST, since=NOON), backlog=34)
    found = explain(workflow, about)
    assert found.code == "outbox"
    assert found.text == (
        "build waits since 2030-03-05 12:00:00 UTC: its request is to be handed to the broker "
        "(34 errands wait in all)"
    )
    assert found.details == {"since": NOON, "backlog": 34}


async def test_a_lock_that_is_kept_comes_with_the_command_that_frees_it(place: Place) -> None:
    await place.lock("prod")
    waiting = await stored(place, await place.start(locks=["prod"]))
    kept = LockClaim(
        name="prod",
        workflow_id="gone",
        state="held",
        token=1,
        asked_at=NOON,
        granted_at=NOON,
        kept="nobody knows whether deploy has stopped",
    )
    found = explain(waiting, Situation(kinds=table_of(), claims=[kept]))
    assert "nobody knows whether deploy has stopped; look at the target" in found.text
    assert '"openaperture locks release prod" frees it' in found.text
    assert found.until is not None
    assert found.until > datetime.now(UTC) + timedelta(days=6)


async def test_a_cancelled_release_that_keeps_its_locks_says_how_they_are_freed(place: Place) -> None:
    workflow_id = await place.start(milestones=["deploy"], locks=["prod"])
    for news in await place.store.list_lock_news(10):
        await place.tell(news.workflow_id, news.event)
    await place.tell(workflow_id, e.Claimed(key=key(), worker=WORKER))
    await place.http.post(f"/workflows/{workflow_id}/cancel", json={"force": True})
    found = await told(place, workflow_id)
    assert found["code"] == "cancelled"
    assert found["text"].endswith('look at the target, then "openaperture locks release prod" frees them')

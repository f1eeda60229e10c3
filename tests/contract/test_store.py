"""What every store promises: the contracts of `ports.Store` and `ports.Records`."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from openaperture.domain.attempts import Ended
from openaperture.domain.history import LogChunk
from openaperture.domain.milestones import FailureKind, OnLoss
from openaperture.domain.releases import Release
from openaperture.domain.routes import Route
from openaperture.domain.workflow import Failure, Result, State, Step, Vote, Wait, Workflow
from openaperture.ports import CommitOutcome, Deferred, OutboxRow, RowKind, WorkflowFilter, record_id
from tests.contract.stores import (
    LONG_AGO,
    AnyStore,
    Place,
    attempt,
    creation,
    entry,
    opened_store,
    row,
    successor,
    workflow,
)

SAVED, CONFLICT, REFUSED = CommitOutcome.SAVED, CommitOutcome.CONFLICT, CommitOutcome.REFUSED
HALF_A_PAIR = "\ud800"
"""A text that no encoding of Unicode can carry."""


@pytest.fixture(params=["sqlite", "postgresql", "memory"])
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[Place]:
    async with opened_store(request.param, request, tmp_path) as here:
        yield here


@pytest.fixture
def store(place: Place) -> AnyStore:
    return place.store()


async def _loaded(store: AnyStore, workflow_id: str) -> Workflow:
    return (await store.load([workflow_id])).workflows[workflow_id]


async def _texts(store: AnyStore, workflow_id: str) -> list[str]:
    return [stored.entry.text for stored in await store.list_entries(workflow_id)]


# ----------------------------------------------------------------------------------- load and commit


async def test_a_committed_workflow_is_loaded_as_it_was(store: AnyStore) -> None:
    rich = Workflow(
        id="41f",
        version=1,
        release=Release(
            milestones=("config", "scheduled", "deploy"),
            deployment_repo="acme/infra",
            scheduled_start_time="Tue, 05 Mar 2013 23:25:19 UTC",
            execute_options={"plan": ["a", 1, None, {"deep": True}]},
            force_build=True,
            build_messaging_exchange_id=7,
        ),
        state=State.WAITING,
        position=1,
        generation=2,
        steps=(
            Step(
                milestone="scheduled",
                live=attempt(3, worker="w-1", claimed_at=LONG_AGO, alive_until=LONG_AGO, on_loss=OnLoss.HOLD),
                failures=1,
                asked_since=LONG_AGO,
            ),
            Step(
                milestone="deploy",
                wait=Wait(code="approval", text="waits — ⏳", until=LONG_AGO + timedelta(days=1, microseconds=1)),
                votes=(Vote(by="ann", reason="ok", at=LONG_AGO, inputs="41f"),),
                result=Result.FAILED,
                kind=FailureKind.REFUSED,
            ),
        ),
        last_number=3,
        failure=Failure(milestone="build", kind=FailureKind.LOST, reason="gone", position=0),
        lock_tokens={"environment:prod": 3},
        outputs={"config": {"image": "x\ny"}},
        source_commit_hash="0" * 40,
        notifications_config={"slack": {"room": "ops"}},
        step_durations={"config": "2 minute(s)"},
        created_at=LONG_AGO,
        started_at=LONG_AGO,
        reason="",
    )
    change = replace(creation("41f"), workflow=rich)
    assert await store.commit([change]) == [SAVED]
    assert await _loaded(store, "41f") == rich


async def test_load_leaves_out_what_is_unknown_and_tells_what_was_handled(store: AnyStore) -> None:
    await store.commit([creation("w", message_ids=["m-1", "m-2"])])
    loaded = await store.load(["w", "unknown"], ["m-2", "m-3"])
    assert set(loaded.workflows) == {"w"}
    assert loaded.handled == {"m-2"}


@pytest.mark.fault("F63")
async def test_the_clock_of_the_store_is_aware_and_goes_on(store: AnyStore) -> None:
    """Failure model F63: deadlines are set and judged by this clock alone."""
    first, second = (await store.load([])).now, (await store.load([])).now
    assert first.tzinfo is UTC
    assert first < second < first + timedelta(minutes=1)


async def test_an_empty_batch_is_saved_as_nothing(store: AnyStore) -> None:
    assert await store.commit([]) == []
    await store.settle_outbox(sent=[])


async def test_versions_follow_each_other_and_a_stale_one_changes_nothing(store: AnyStore) -> None:
    """Invariant I3."""
    first = creation("w")
    second = successor(first, of={"state": State.HELD}, entries=[entry("second")])
    stale = successor(first, entries=[entry("stale")], outbox=[row("stale")], message_ids=["m-stale"])
    assert await store.commit([first]) == [SAVED]
    assert await store.commit([second]) == [SAVED]
    assert await store.commit([stale]) == [CONFLICT]
    assert await store.commit([creation("w")]) == [CONFLICT]
    assert await store.commit([successor(creation("never stored"))]) == [CONFLICT]
    assert (await _loaded(store, "w")).state is State.HELD
    assert await _texts(store, "w") == ["second"]
    assert await store.count_outbox() == 0
    assert not (await store.load([], ["m-stale"])).handled


async def test_a_conflict_does_not_spoil_the_rest_of_its_batch(store: AnyStore) -> None:
    known = creation("known")
    await store.commit([known])
    batch = [creation("b"), successor(successor(known)), creation("a"), successor(known)]
    batch[3] = replace(batch[3], workflow=replace(batch[3].workflow, id="other"))
    assert await store.commit(batch) == [SAVED, CONFLICT, SAVED, CONFLICT]
    assert set((await store.load(["a", "b", "known", "other"])).workflows) == {"a", "b", "known"}


async def test_what_the_database_cannot_store_is_refused_alone(store: AnyStore) -> None:
    outcomes = await store.commit(
        [
            creation("before", entries=[entry("kept")]),
            creation("json", of={"reason": HALF_A_PAIR}),
            creation("text", entries=[entry("lost"), entry(HALF_A_PAIR)], outbox=[row("r")], message_ids=["m"]),
            creation("after", entries=[entry("kept")]),
        ]
    )
    assert outcomes == [SAVED, REFUSED, REFUSED, SAVED]
    assert set((await store.load(["before", "json", "text", "after"])).workflows) == {"before", "after"}
    assert await _texts(store, "text") == []
    assert await store.count_outbox() == 0
    assert not (await store.load([], ["m"])).handled
    assert await _texts(store, "after") == ["kept"]


async def test_a_text_that_only_one_database_takes_spoils_no_other(place: Place, store: AnyStore) -> None:
    """PostgreSQL has no texts with a NUL character, wherever they stand."""
    nul = "before\x00after"
    outcomes = await store.commit(
        [
            creation("a"),
            creation("entry", entries=[entry(nul)]),
            creation("key", message_ids=[nul]),
            creation("output", of={"outputs": {"build": {"log": nul}}}),
            creation("b"),
        ]
    )
    assert outcomes[0] is outcomes[4] is SAVED
    if place.dialect == "sqlite":
        assert outcomes[1] is SAVED
        assert await _texts(store, "entry") == [nul]
    for workflow_id, outcome in zip(("entry", "key", "output"), outcomes[1:4], strict=True):
        stored = (await store.load([workflow_id])).workflows
        assert (outcome is SAVED) == (workflow_id in stored)


async def test_keys_that_no_database_can_hold_are_unknown_and_refused(store: AnyStore) -> None:
    """Message ids are properties that any client of the broker sets."""
    impossible = [HALF_A_PAIR, "w\x00", "x" * 3_000]
    assert await store.commit([creation("w"), *(creation(key) for key in impossible)]) == [SAVED, *[REFUSED] * 3]
    assert (
        await store.commit([creation(f"of-{n}", message_ids=[key]) for n, key in enumerate(impossible)])
        == [REFUSED] * 3
    )
    loaded = await store.load(["w", *impossible], impossible)
    assert set(loaded.workflows) == {"w"}
    assert not loaded.handled
    for key in impossible:
        assert await store.find_workflow(key) is None
        assert not await store.list_entries(key)
        assert not await store.list_logs(key)
        assert not await store.list_attempts(key)
        assert await store.list_workflows(WorkflowFilter(source_repo=key), limit=10) == []


@pytest.mark.fault("F44")
async def test_a_message_that_was_handled_before_changes_nothing_again(store: AnyStore) -> None:
    """Failure model F44: two orchestrators had the same message at once."""
    first = creation("w", message_ids=["m"])
    await store.commit([first, creation("other")])
    again = successor(first, message_ids=["m"], entries=[entry("twice")], outbox=[row("r")])
    new = creation("new", message_ids=["n"])
    assert await store.commit([again, new]) == [CONFLICT, SAVED]
    assert (await _loaded(store, "w")).version == 1
    assert await _texts(store, "w") == []
    assert await store.count_outbox() == 0


@pytest.mark.fault("F64")
async def test_of_many_that_change_one_version_one_wins(place: Place) -> None:
    """Failure model F64."""
    first = creation("w")
    await place.store().commit([first])

    async def contend(number: int) -> CommitOutcome:
        change = successor(first, entries=[entry(str(number))])
        return (await place.store().commit([change]))[0]

    outcomes = await asyncio.gather(*(contend(number) for number in range(12)))
    assert sorted(outcomes) == [CONFLICT] * 11 + [SAVED]
    assert len(await _texts(place.store(), "w")) == 1


async def test_of_many_that_create_one_workflow_one_wins(place: Place) -> None:
    async def contend(number: int) -> CommitOutcome:
        return (await place.store().commit([creation("w", entries=[entry(str(number))])]))[0]

    outcomes = await asyncio.gather(*(contend(number) for number in range(12)))
    assert sorted(outcomes) == [CONFLICT] * 11 + [SAVED]
    assert len(await _texts(place.store(), "w")) == 1


@pytest.mark.fault("F43")
async def test_batches_over_the_same_workflows_in_other_orders_do_not_lock_each_other_out(place: Place) -> None:
    """Failure model F43."""
    ids = [f"w{number}" for number in range(30)]
    changes = [creation(workflow_id) for workflow_id in ids]

    async def commit(order: int) -> list[CommitOutcome]:
        return await place.store().commit(changes[order:] + changes[:order])

    for _ in range(5):
        outcomes = await asyncio.gather(*(commit(order) for order in (0, 7, 15, 23)))
        assert sum(outcome is SAVED for batch in outcomes for outcome in batch) == len(ids)
        changes = [successor(change) for change in changes]


@pytest.mark.fault("F62", "F65")
async def test_a_workflow_of_a_newer_version_with_unknown_fields_is_read(place: Place, store: AnyStore) -> None:
    """Invariant I12."""
    await store.commit([creation("w")])
    await place.edit_document("w", '"id":', '"colour":"red","id":')
    assert (await _loaded(store, "w")).id == "w"


# --------------------------------------------------------------------------------- unreadable documents


@pytest.mark.fault("F49")
async def test_an_unreadable_workflow_is_left_out_and_told_of_once(place: Place, store: AnyStore) -> None:
    """Failure model F49: the others go on."""
    broken = creation("broken")
    await store.commit([broken, creation("well")])
    await place.edit_document("broken", '"running"', '"no such state"')
    for _ in range(3):
        assert set((await store.load(["broken", "well"])).workflows) == {"well"}
    [(name, details)] = place.told.events
    assert name == "store.corrupt_workflow"
    assert details["workflow_id"] == "broken"
    # A start of it would otherwise be decided, conflict and be decided again without end.
    assert await store.commit([creation("broken"), successor(creation("well"))]) == [REFUSED, SAVED]


async def test_an_unreadable_workflow_is_not_woken_but_called_stranded(place: Place, store: AnyStore) -> None:
    await store.commit([creation("broken"), creation("well")])
    await place.edit_document("broken", '{"id"', '"id"')
    assert sorted(await _due(store)) == ["broken", "well"]
    await store.load(["broken", "well"])
    assert await _due(store, 1) == ["well"]
    assert await store.list_stranded(10) == ["broken"]


async def test_people_see_an_unreadable_workflow_and_what_to_do(place: Place, store: AnyStore) -> None:
    await store.commit([creation("broken"), creation("well", of={"created_at": LONG_AGO - timedelta(days=1)})])
    await place.edit_document("broken", '"running"', "17")
    shown = await store.find_workflow("broken")
    assert shown is not None
    assert shown.state is State.HELD
    assert "restore" in shown.reason
    assert shown.release.source_repo == "acme/shop"
    listed = await store.list_workflows(WorkflowFilter(), limit=10)
    assert [each.id for each in listed] == ["broken", "well"]


async def test_a_mended_workflow_is_back(place: Place, store: AnyStore) -> None:
    await store.commit([creation("w")])
    await place.edit_document("w", '"running"', '"rUnning"')
    assert not (await store.load(["w"])).workflows
    await place.edit_document("w", '"rUnning"', '"running"')
    assert (await _loaded(store, "w")).state is State.RUNNING
    assert await store.list_stranded(10) == []
    assert await _due(store) == ["w"]


# --------------------------------------------------------------------------------------------- outbox


async def test_outbox_rows_come_back_byte_for_byte_oldest_first_up_to_the_limit(store: AnyStore) -> None:
    rows = [row(f"r{n}", f"w{n}", body=bytes([n, 0, 255, 131]), content_type="x/y") for n in range(5)]
    for n, each in enumerate(rows):
        await store.commit([creation(f"w{n}", outbox=[each])])
    assert await store.count_outbox() == 5
    assert await store.claim_outbox("relay", limit=2, lease_seconds=60) == rows[:2]
    assert await store.claim_outbox("relay", limit=9, lease_seconds=60) == rows[2:]


async def test_a_leased_row_is_nobody_elses_until_its_lease_is_over(place: Place) -> None:
    await place.store().commit([creation("w", outbox=[row("r")])])
    assert len(await place.store().claim_outbox("a", limit=9, lease_seconds=20)) == 1
    assert await place.store().claim_outbox("b", limit=9, lease_seconds=20) == []
    assert await place.store_in(19).claim_outbox("b", limit=9, lease_seconds=20) == []
    assert len(await place.store_in(21).claim_outbox("b", limit=9, lease_seconds=20)) == 1


@pytest.mark.fault("F07")
async def test_a_new_row_is_left_to_its_owner_for_a_few_seconds(place: Place) -> None:
    """Failure model F07: after that anybody takes it, so a crash before the publish costs only that."""
    store = place.store()
    await store.commit([creation("w", outbox=[row("owned")])], owner="me")
    await store.commit([creation("v", outbox=[row("free", "v")])])
    assert [each.id for each in await store.claim_outbox("other", limit=9, lease_seconds=60)] == ["free"]
    assert await place.store_in(4).claim_outbox("other", limit=9, lease_seconds=60) == []
    later = await place.store_in(6).claim_outbox("other", limit=9, lease_seconds=60)
    assert [each.id for each in later] == ["owned"]


async def test_two_relays_never_get_the_same_row(place: Place) -> None:
    total = 120
    changes = [creation(f"w{n}", outbox=[row(f"r{n}", f"w{n}")]) for n in range(total)]
    await place.store().commit(changes)

    async def drain(owner: str) -> list[str]:
        got: list[str] = []
        while rows := await place.store().claim_outbox(owner, limit=7, lease_seconds=60):
            got += [each.id for each in rows]
        return got

    shares = await asyncio.gather(*(drain(f"relay-{n}") for n in range(4)))
    claimed = [row_id for share in shares for row_id in share]
    assert len(claimed) == len(set(claimed)) == total


async def test_what_was_sent_is_gone_and_what_was_deferred_comes_back_later(place: Place) -> None:
    store = place.store()
    await store.commit([creation("w", outbox=[row("sent"), row("soon"), row("late")])])
    await store.claim_outbox("relay", limit=9, lease_seconds=3600)
    await store.settle_outbox(
        sent=["sent", "unknown"],
        deferred=[
            Deferred(id="soon", seconds=0, error="no session"),
            Deferred(id="late", seconds=30, error="\x00\ud800"),
        ],
    )
    assert await store.count_outbox() == 2
    [soon] = await store.claim_outbox("relay", limit=9, lease_seconds=3600)
    assert soon == replace(row("soon"), tries=1)
    assert await place.store_in(29).claim_outbox("relay", limit=9, lease_seconds=3600) == []
    [late] = await place.store_in(31).claim_outbox("relay", limit=9, lease_seconds=3600)
    assert late == replace(row("late"), tries=1)


# ----------------------------------------------------------------- rows that wait for the Manager's record

ROUTE = Route(
    broker_id="1", exchange_id="2", exchange="root", routing_key="a.builder", docker_build_etcd_token="t"
)


def _record(workflow_id: str, version: int) -> OutboxRow:
    return row(record_id(workflow_id), workflow_id, kind=RowKind.RECORD, attempt="", queue="", version=version)


async def test_a_row_keeps_its_kind_route_and_version(store: AnyStore) -> None:
    sent = row("r", content_type=None, route=ROUTE, kind=RowKind.NOTICE, version=7)
    await store.commit([creation("w", outbox=[sent])])
    assert await store.claim_outbox("relay", limit=9, lease_seconds=60) == [sent]


async def test_a_held_row_is_for_nobody_until_its_version_is_recorded(place: Place) -> None:
    store = place.store()
    held = row("r", held=True, version=1)
    await store.commit([creation("w", outbox=[held, _record("w", 1)])])
    found = await place.store_in(3_600).claim_outbox("relay", limit=9, lease_seconds=60)
    assert [each.kind for each in found] == [RowKind.RECORD]

    recorded = await store.settle_record("w", 1, live=["0.0.1"], owner="me", lease_seconds=60)

    assert recorded == [replace(held, held=False)]
    assert await store.claim_outbox("other", limit=9, lease_seconds=60) == []
    assert [each.id for each in await place.store_in(61).claim_outbox("other", limit=9, lease_seconds=9)] == ["r"]


async def test_a_record_of_an_older_version_frees_only_what_waited_for_it(store: AnyStore) -> None:
    first = creation("w", outbox=[row("r1", held=True, version=1), _record("w", 1)])
    await store.commit([first])
    second = successor(first, outbox=[row("r2", held=True, version=2), _record("w", 2)])
    await store.commit([second])
    recorded = await store.settle_record("w", 1, live=["0.0.1"], owner="me", lease_seconds=60)
    assert [each.id for each in recorded] == ["r1"]
    recorded = await store.settle_record("w", 2, live=["0.0.1"], owner="me", lease_seconds=60)
    assert [each.id for each in recorded] == ["r2"]


async def test_a_request_of_an_attempt_that_is_over_is_dropped_when_the_record_is_made(store: AnyStore) -> None:
    rows = [
        row("request", held=True, version=1, attempt="0.0.1"),
        row("e-mail", held=True, version=1, attempt="", kind=RowKind.NOTICE),
        _record("w", 1),
        row("of another", "v", held=True, version=1),
    ]
    await store.commit([creation("w", outbox=rows)])
    recorded = await store.settle_record("w", 1, live=[], owner="me", lease_seconds=60)
    assert [each.id for each in recorded] == ["e-mail"]
    assert await store.count_outbox() == 2


async def test_one_record_row_per_workflow_and_a_lease_on_it_stands(place: Place) -> None:
    """Two that record one workflow at once could put the older state over the newer one."""
    store = place.store()
    first = creation("w", outbox=[_record("w", 1)])
    await store.commit([first])
    assert await store.claim_row(record_id("w"), "a", lease_seconds=20)
    await store.commit([successor(first, outbox=[_record("w", 2)])], owner="b")
    assert await store.count_outbox() == 1
    assert not await store.claim_row(record_id("w"), "b", lease_seconds=20)
    assert await store.claim_row(record_id("w"), "a", lease_seconds=20)
    assert await place.store_in(21).claim_row(record_id("w"), "b", lease_seconds=20)
    assert not await store.claim_row("nothing", "b", lease_seconds=20)


async def test_what_could_not_be_done_yet_is_told_with_the_reason_and_the_next_try(place: Place) -> None:
    store = place.store()
    await store.commit([creation("w", outbox=[row("r1")]), creation("v", outbox=[row("r2", "v")])])
    assert await store.list_troubles(["w", "v", "unknown"]) == {}
    await store.settle_outbox(sent=[], deferred=[Deferred(id="r1", seconds=60, error="no queue")])
    troubles = await store.list_troubles(["w", "v", "unknown"])
    assert set(troubles) == {"w"}
    assert (troubles["w"].kind, troubles["w"].error) == (RowKind.REQUEST, "no queue")
    assert troubles["w"].again_at > (await store.load([])).now


async def test_the_same_row_twice_is_kept_once(store: AnyStore) -> None:
    first = creation("w", outbox=[row("r")])
    await store.commit([first])
    assert await store.commit([successor(first, outbox=[row("r")])]) == [SAVED]
    assert await store.count_outbox() == 1


# ------------------------------------------------------------------------------------- timers and care


def _waiting(workflow_id: str, until: datetime) -> dict[str, object]:
    step = Step(milestone="build", wait=Wait(code="backoff", text="waits", until=until))
    return {"state": State.WAITING, "steps": (step,)}


async def _due(store: AnyStore, limit: int = 10) -> list[str]:
    return [each.workflow_id for each in await store.list_due(limit)]


async def test_due_workflows_are_listed_longest_overdue_first(store: AnyStore) -> None:
    now = (await store.load([])).now
    changes = [
        creation("second", of=_waiting("second", now - timedelta(seconds=5))),
        creation("future", of=_waiting("future", now + timedelta(hours=1))),
        creation("first", of=_waiting("first", now - timedelta(days=400))),
        creation("third", of=_waiting("third", now)),
        creation("held", of={"state": State.HELD, "steps": ()}),
    ]
    await store.commit(changes)
    assert await _due(store) == ["first", "second", "third"]
    assert await _due(store, 1) == ["first"]
    await store.commit([successor(changes[2], of={"state": State.CANCELLED})])
    assert await _due(store) == ["second", "third"]


async def test_due_workflows_are_listed_page_by_page_also_those_of_one_instant(store: AnyStore) -> None:
    now = (await store.load([])).now
    early, late = now - timedelta(hours=2), now - timedelta(hours=1, microseconds=1)
    expected = [("b", early), ("d", early), ("e", early), ("a", late), ("c", late)]
    await store.commit([creation(key, of=_waiting(key, at)) for key, at in sorted(expected)])
    pages = [await store.list_due(2)]
    # Added behind what was looked at: it is found from the start again, and by nobody who goes on.
    await store.commit([creation("f", of=_waiting("f", early - timedelta(hours=1)))])
    while len(pages[-1]) == 2:
        pages.append(await store.list_due(2, after=pages[-1][-1]))
    assert [len(page) for page in pages] == [2, 2, 1]
    assert [(each.workflow_id, each.wake_at) for page in pages for each in page] == expected
    assert [each.workflow_id for each in await store.list_due(2)] == ["f", "b"]


async def test_the_last_page_is_short_though_an_unreadable_workflow_is_passed_over(
    place: Place, store: AnyStore
) -> None:
    now = (await store.load([])).now
    for number in range(5):
        key = f"w{number}"
        await store.commit([creation(key, of=_waiting(key, now - timedelta(hours=9 - number)))])
    await place.edit_document("w1", '{"id"', '"id"')
    await store.load(["w1"])
    first = await store.list_due(3)
    assert [each.workflow_id for each in first] == ["w0", "w2", "w3"]
    assert [each.workflow_id for each in await store.list_due(3, after=first[-1])] == ["w4"]


@pytest.mark.fault("F63")
async def test_a_deadline_comes_when_the_clock_of_the_store_says_so(place: Place) -> None:
    store = place.store()
    now = (await store.load([])).now
    await store.commit([creation("w", of=_waiting("w", now + timedelta(seconds=60)))])
    assert await _due(store) == []
    assert await _due(place.store_in(61)) == ["w"]


async def test_only_workflows_that_nothing_would_move_are_stranded(store: AnyStore) -> None:
    """Invariant I8."""
    idle: dict[str, object] = {"steps": ()}
    await store.commit(
        [
            creation("stranded", of=idle),
            creation("posted", of=idle, outbox=[row("r", "posted")]),
            creation("deadline"),
            *(creation(f"is-{state}", of={"state": state, "steps": ()}) for state in State if state != "running"),
        ]
    )
    assert sorted(await store.list_stranded(10)) == ["is-cancelling", "is-waiting", "stranded"]
    assert len(await store.list_stranded(1)) == 1
    await store.settle_outbox(sent=["r"])
    assert "posted" in await store.list_stranded(10)


async def test_prune_forgets_old_message_ids_only(place: Place) -> None:
    store = place.store()
    await store.commit([creation("w", message_ids=[f"m{n}" for n in range(5)])])
    assert await place.store_in(59).prune(inbox_seconds=60, limit=100) == 0
    assert await place.store_in(61).prune(inbox_seconds=60, limit=3) == 3
    assert await place.store_in(61).prune(inbox_seconds=60, limit=3) == 2
    assert not (await store.load([], ["m0", "m4"])).handled


async def test_of_many_who_create_a_setting_all_get_the_same(place: Place) -> None:
    values = await asyncio.gather(
        *(place.store().get_or_create_setting("token_key", f"key-{n}") for n in range(12))
    )
    assert len(set(values)) == 1
    assert await place.store().get_or_create_setting("token_key", "late") == values[0]
    assert await place.store().get_or_create_setting("other", "own") == "own"


# --------------------------------------------------------------------------------------------- records


async def test_entries_are_an_append_only_history_that_is_read_in_pages(store: AnyStore) -> None:
    first = creation("w", entries=[entry("a", success=False, details={"n": [1, {"x": None}]}), entry("b")])
    await store.commit([first, creation("other", entries=[entry("not mine")])])
    await store.commit([successor(first, entries=[entry("c")])])
    stored = await store.list_entries("w")
    assert [each.entry for each in stored] == [*first.entries, entry("c")]
    assert [each.entry.text for each in await store.list_entries("w", limit=2)] == ["a", "b"]
    assert [each.entry.text for each in await store.list_entries("w", after=stored[1].id)] == ["c"]
    assert await store.list_entries("unknown") == []


async def test_a_log_chunk_that_comes_twice_is_kept_once(store: AnyStore) -> None:
    def chunk(sequence: int, line: str) -> LogChunk:
        return LogChunk(attempt="0.0.1", milestone="build", sequence=sequence, lines=(line, "é"), at=LONG_AGO)

    first = creation("w", logs=[chunk(1, "one"), chunk(2, "two"), chunk(2, "again")])
    second = successor(first, logs=[chunk(1, "again"), chunk(3, "three\x1b[0m")])
    assert await store.commit([first]) == await store.commit([second]) == [SAVED]
    stored = await store.list_logs("w")
    assert [each.chunk for each in stored] == [chunk(1, "one"), chunk(2, "two"), chunk(3, "three\x1b[0m")]
    assert [each.chunk.sequence for each in await store.list_logs("w", after=stored[0].id, limit=1)] == [2]


async def test_attempts_are_kept_as_they_went(store: AnyStore) -> None:
    asked = attempt(1)
    first = creation("w", requested=[asked])
    claimed = replace(asked, worker="w-1", claimed_at=LONG_AGO + timedelta(seconds=1), pickup_by=None)
    over = Ended(attempt=claimed, outcome="lost", message="silent", ended_at=LONG_AGO + timedelta(seconds=9))
    second = successor(first, requested=[claimed])
    third = successor(second, requested=[claimed, attempt(10)], ended=[over])
    for change in (first, second, third):
        assert await store.commit([change]) == [SAVED]
    lost, last = await store.list_attempts("w")
    assert lost == {
        "workflow_id": "w",
        "attempt": "0.0.1",
        "generation": 0,
        "position": 0,
        "number": 1,
        "milestone": "build",
        "requested_at": LONG_AGO.isoformat(),
        "worker": "w-1",
        "claimed_at": (LONG_AGO + timedelta(seconds=1)).isoformat(),
        "ended_at": (LONG_AGO + timedelta(seconds=9)).isoformat(),
        "outcome": "lost",
        "message": "silent",
    }
    assert (last["attempt"], last["worker"], last["outcome"]) == ("0.0.10", None, None)


async def test_workflows_are_listed_newest_first_filtered_and_in_pages(store: AnyStore) -> None:
    def made(workflow_id: str, day: int, state: State, repo: str) -> Workflow:
        release = Release(milestones=(), source_repo=repo, deployment_repo=f"{repo}-deploy")
        return workflow(
            workflow_id, version=1, state=state, release=release, created_at=LONG_AGO + timedelta(days=day)
        )

    stored = [
        made("a", 1, State.COMPLETED, "x"),
        made("b", 2, State.FAILED, "y"),
        made("c", 2, State.RUNNING, "x"),
        made("d", 3, State.FAILED, "x"),
    ]
    await store.commit([replace(creation(each.id), workflow=each) for each in stored])

    async def ids(limit: int = 10, **wanted: object) -> str:
        return "".join(each.id for each in await store.list_workflows(WorkflowFilter(**wanted), limit=limit))  # type: ignore[arg-type]

    assert await ids() == "dcba"
    assert await ids(limit=2) == "dc"
    assert await ids(before=(stored[2].created_at, "c")) == "ba"
    assert await ids(states={State.FAILED, "completed"}) == "dba"
    assert await ids(states=[]) == ""
    assert await ids(source_repo="x", states=["failed"]) == "d"
    assert await ids(deployment_repo="y-deploy") == "b"
    assert await ids(created_after=stored[1].created_at) == "d"
    assert await store.find_workflow("b") == stored[1]
    assert await store.find_workflow("unknown") is None


async def test_long_histories_and_big_batches_are_taken_whole(store: AnyStore) -> None:
    changes = [
        creation(f"w{n:04}", entries=[entry(str(i)) for i in range(3)], message_ids=[f"m{n}"]) for n in range(400)
    ]
    assert set(await store.commit(changes)) == {SAVED}
    loaded = await store.load([c.workflow.id for c in changes], [f"m{n}" for n in range(400)])
    assert len(loaded.workflows) == len(loaded.handled) == 400

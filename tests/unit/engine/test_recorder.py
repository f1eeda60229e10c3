"""The Manager's record of a workflow: told of the newest state, one at a time, and looked at before."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from openaperture.codecs import json as json_codec
from openaperture.codecs import terms
from openaperture.domain import events as e
from openaperture.domain.errors import (
    AccessRefused,
    BadInput,
    ManagerUnavailable,
    OpenApertureError,
    UnknownWorkflow,
    UnusableAnswer,
)
from openaperture.domain.milestones import table_of
from openaperture.domain.releases import Release
from openaperture.domain.routes import Route
from openaperture.domain.workflow import State, Workflow
from openaperture.engine.decider import Decider
from openaperture.engine.intake import Item
from openaperture.engine.outbox import OutboxWriter
from openaperture.engine.recorder import MAX_TURNS, Recorder, is_cancelled
from openaperture.engine.requests import Identity, RequestBuilder
from openaperture.engine.tokens import TokenMint
from openaperture.ports import Address, Change, Deferred, OutboxRow, RowKind, record_id
from openaperture.stores.sql import SqlStore
from tests.contract.stores import Opened, Told, opened

ROUTE = Route(broker_id="1", exchange_id="1", exchange="AWS", routing_key="aws.builder")
RECORD = OutboxRow(id=record_id("w"), workflow_id="w", kind=RowKind.RECORD)


@dataclass
class Shelf:
    """A Manager's rows, in memory."""

    row: dict[str, Any] | None = field(default_factory=dict[str, Any])
    puts: list[Mapping[str, Any]] = field(default_factory=list[Mapping[str, Any]])
    error: OpenApertureError | None = None
    """Of every PUT."""
    is_blind: bool = False
    """Rows cannot be looked at."""
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    may_go_on: asyncio.Event | None = None

    async def find_workflow(self, workflow_id: str) -> Mapping[str, Any] | None:
        if self.is_blind:
            raise ManagerUnavailable("it cannot be read now")
        return self.row

    async def put_workflow(self, workflow_id: str, fields: Mapping[str, Any]) -> None:
        self.arrived.set()
        if self.may_go_on is not None:
            await self.may_go_on.wait()
        if self.error is not None:
            raise self.error
        self.puts.append(fields)
        self.row = dict(fields)


@dataclass
class Office:
    """A recorder on a real store."""

    store: SqlStore
    shelf: Shelf
    told: Told
    decider: Decider

    def recorder(self, owner: str = "one") -> Recorder:
        return Recorder(self.store, self.shelf, self.decider, self.told, owner=owner)

    async def tell(self, *events: e.Event) -> None:
        release = Release(milestones=("build", "config"))
        seed = Workflow(id="w", release=release)
        await self.decider.apply([Item(workflow_id="w", event=event, seed=seed) for event in events])

    async def ask_for_build(self) -> Workflow:
        """A workflow whose request is held until it is recorded."""
        await self.tell(e.StartRequested())
        [attempt] = (await self.get()).live
        await self.tell(e.Routed(key=attempt.key, route=ROUTE))
        return await self.get()

    async def get(self) -> Workflow:
        found = await self.store.find_workflow("w")
        assert found is not None
        return found


@pytest.fixture
async def place(tmp_path: Path) -> AsyncGenerator[Opened]:
    async with opened(f"sqlite:///{tmp_path / 'recorder.db'}") as opened_place:
        yield opened_place


@pytest.fixture
def office(place: Opened) -> Office:
    store, kinds, told = place.store(), table_of(), Told()
    identity = Identity(callback=Address(routing_key="ours"))
    requests = RequestBuilder(
        identity, TokenMint("a key of it"), kinds, json_codec.encode, terms.encode_workflow, looks_up_routes=True
    )
    decider = Decider(store, OutboxWriter(requests, records=True), kinds, told)
    return Office(store, Shelf(), told, decider)


async def test_the_request_is_freed_when_the_manager_has_its_version(office: Office) -> None:
    await office.ask_for_build()
    handled = await office.recorder()(RECORD)
    assert handled.is_settled
    assert [(row.kind, row.attempt) for row in handled.freed] == [(RowKind.REQUEST, "0.0.1")]
    [put] = office.shelf.puts
    assert (put["current_step"], put["workflow_completed"], len(put)) == ("build", False, 17)


async def test_a_row_that_somebody_else_is_at_is_left_to_them(office: Office) -> None:
    await office.ask_for_build()
    assert await office.store.claim_row(RECORD.id, "another", lease_seconds=60.0)
    handled = await office.recorder()(RECORD)
    assert (handled.is_settled, [*handled.freed], office.shelf.puts) == (True, [], [])


async def test_what_changed_while_it_was_recorded_is_recorded_after_it_and_nothing_old_goes_out(
    office: Office,
) -> None:
    workflow = await office.ask_for_build()
    office.shelf.may_go_on = asyncio.Event()
    recording = asyncio.ensure_future(office.recorder()(RECORD))
    await office.shelf.arrived.wait()
    await office.tell(e.MilestoneCompleted(key=workflow.live[0].key, worker=None))
    await office.tell(e.CancelRequested(by="ann"))
    office.shelf.may_go_on.set()
    handled = await recording
    freed = [*handled.freed]
    if len(office.shelf.puts) == 1:
        freed += (await office.recorder()(RECORD)).freed
    assert [put["workflow_completed"] for put in office.shelf.puts] == [False, True]
    assert not [row for row in freed if row.attempt.startswith("0.1.")]


async def test_who_stood_still_past_its_lease_does_not_undo_the_end_that_a_peer_has_recorded(
    office: Office,
) -> None:
    await office.ask_for_build()
    office.shelf.may_go_on = asyncio.Event()
    recording = asyncio.ensure_future(office.recorder()(RECORD))
    await office.shelf.arrived.wait()
    await office.tell(e.CancelRequested(by="ann"))
    ended = await office.get()
    # The lease was over: a peer has put the end meanwhile, and settled the row.
    await office.store.settle_record("w", ended.version, live=[], owner="peer", lease_seconds=1.0)
    office.shelf.may_go_on.set()
    await recording
    assert [put["workflow_completed"] for put in office.shelf.puts] == [False, True]


@pytest.mark.parametrize(
    "error", [ManagerUnavailable("it is away"), AccessRefused("the token"), UnusableAnswer("not a Manager")]
)
async def test_a_manager_that_cannot_be_told_now_is_told_later(office: Office, error: OpenApertureError) -> None:
    await office.ask_for_build()
    office.shelf.error = error
    handled = await office.recorder()(RECORD)
    assert handled.deferred is not None
    assert [*handled.freed] == []
    assert (await office.get()).state is State.RUNNING
    office.shelf.error = None
    # As the relay does with what is deferred: the lease is given back.
    await office.store.settle_outbox(sent=[], deferred=[Deferred(id=RECORD.id, seconds=-1.0, error="it is away")])
    assert len((await office.recorder()(RECORD)).freed) == 1


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (UnknownWorkflow("no such row"), "does not know this workflow any more (no such row)"),
        (BadInput("milestones: is invalid"), "refuses to record this workflow: milestones: is invalid"),
    ],
)
async def test_what_can_never_be_recorded_fails_and_is_not_asked_for(
    office: Office, error: OpenApertureError, reason: str
) -> None:
    await office.ask_for_build()
    office.shelf.error = error
    handled = await office.recorder()(RECORD)
    workflow = await office.get()
    assert workflow.state is State.FAILED
    assert reason in workflow.reason
    assert [*handled.freed] == []
    left = await office.store.claim_outbox("another", limit=10, lease_seconds=1.0)
    assert [row.kind for row in left] == [RowKind.ROUTE]
    assert "record.refused" in [name for name, _ in office.told.events]


async def test_a_cancel_between_the_look_and_the_put_that_the_manager_stands_by_is_a_cancel(
    office: Office,
) -> None:
    await office.ask_for_build()
    office.shelf.may_go_on = asyncio.Event()
    recording = asyncio.ensure_future(office.recorder()(RECORD))
    await office.shelf.arrived.wait()
    office.shelf.row, office.shelf.error = {"workflow_error": True}, BadInput("its workflow_error is true")
    office.shelf.may_go_on.set()
    assert [*(await recording).freed] == []
    assert (await office.get()).state is State.CANCELLED


async def test_a_cancel_in_the_manager_counts_before_anything_is_written_over_it(office: Office) -> None:
    await office.ask_for_build()
    office.shelf.row = {"workflow_error": True}
    handled = await office.recorder()(RECORD)
    assert (await office.get()).state is State.CANCELLED
    assert [put["workflow_error"] for put in office.shelf.puts] == [True]
    assert [*handled.freed] == []


async def test_a_workflow_that_is_being_cancelled_is_recorded_as_that_without_asking_again_and_again(
    office: Office,
) -> None:
    workflow = await office.ask_for_build()
    await office.tell(e.Claimed(key=workflow.live[0].key, worker="ann"), e.CancelRequested(by="the Manager"))
    office.shelf.row = {"workflow_error": True}
    await office.recorder()(RECORD)
    assert (await office.get()).state is State.CANCELLING
    assert [(put["workflow_error"], put["workflow_completed"]) for put in office.shelf.puts] == [(True, False)]
    assert await office.store.claim_row(RECORD.id, "another", lease_seconds=1.0) is False


async def test_a_manager_that_can_be_told_but_not_read_is_told(office: Office) -> None:
    await office.ask_for_build()
    office.shelf.is_blind = True
    assert len((await office.recorder()(RECORD)).freed) == 1


async def test_the_watch_cancels_what_was_cancelled_there_and_survives_a_manager_that_is_away(
    office: Office,
) -> None:
    await office.ask_for_build()
    recorder = office.recorder()
    await recorder.watch_once()
    assert (await office.get()).state is State.RUNNING
    office.shelf.is_blind = True
    await recorder.watch_once()
    assert "record.unwatched" in [name for name, _ in office.told.events]
    office.shelf.is_blind, office.shelf.row = False, {"workflow_error": True}
    await recorder.watch_once()
    assert (await office.get()).reason == "cancelled by the Manager"


async def test_one_workflow_is_not_recorded_for_ever_at_the_cost_of_the_others(office: Office) -> None:
    """Somebody changes it after every PUT."""
    await office.ask_for_build()

    class Restless(Shelf):
        async def put_workflow(self, workflow_id: str, fields: Mapping[str, Any]) -> None:
            await Shelf.put_workflow(self, workflow_id, fields)
            workflow = await office.get()
            await office.store.commit([_touched(workflow)])

    office.shelf = Restless()
    await office.recorder()(RECORD)
    assert 1 <= len(office.shelf.puts) <= MAX_TURNS


def _touched(workflow: Workflow) -> Change:
    again = replace(RECORD, version=workflow.version + 1)
    newer = replace(workflow, version=workflow.version + 1)
    return Change(workflow=newer, expected_version=workflow.version, outbox=[again])


@pytest.mark.parametrize(
    ("row", "cancelled"),
    [(None, False), ({}, False), ({"workflow_error": None}, False), ({"workflow_error": True}, True)],
)
def test_a_row_says_that_it_was_cancelled_by_its_flag_alone(row: dict[str, Any] | None, cancelled: bool) -> None:
    assert is_cancelled(row) is cancelled


async def test_the_trouble_that_is_told_is_never_that_of_a_note(office: Office) -> None:
    """A note that nobody takes holds nothing up, so it must not hide what does."""
    await office.tell(e.StartRequested())
    workflow = await office.get()
    note = OutboxRow(id="note", workflow_id="w", kind=RowKind.NOTICE, queue="notifications_hipchat")
    newer = replace(workflow, version=workflow.version + 1)
    await office.store.commit([Change(workflow=newer, expected_version=workflow.version, outbox=[note])])
    await office.tell(e.Routed(key=workflow.live[0].key, route=ROUTE))
    deferred = [Deferred(id=name, seconds=1.0, error=f"of {name}") for name in (RECORD.id, "note")]
    await office.store.settle_outbox(sent=[], deferred=deferred)
    troubles = await office.store.list_troubles(["w"])
    assert troubles["w"].kind is RowKind.RECORD

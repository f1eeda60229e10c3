"""What becomes of a row of the outbox, for each way in which its errand can end."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from openaperture.domain import events as e
from openaperture.domain.attempts import AttemptKey
from openaperture.domain.errors import (
    AccessRefused,
    BrokerUnavailable,
    ManagerUnavailable,
    OpenApertureError,
    RouteRefused,
    Unconfirmed,
    Unroutable,
    UnusableAnswer,
)
from openaperture.domain.milestones import table_of
from openaperture.domain.releases import Release
from openaperture.domain.routes import Need, Route
from openaperture.domain.workflow import Origin, Step, Wire
from openaperture.engine.senders import (
    MAX_NOTICE_TRIES,
    Handled,
    NoticeSender,
    RequestSender,
    RouteFinder,
    deferral,
    key_of,
    message_of,
)
from openaperture.ports import Message, OutboxRow, RowKind
from tests.contract.stores import Opened, Told, attempt, creation, opened, row

KEY = AttemptKey(generation=0, position=0, number=1)
ROUTE = Route(broker_id="1", exchange_id="1", exchange="AWS", routing_key="aws.builder")


class Road:
    """Delivers, or fails as it is told to."""

    def __init__(self, error: OpenApertureError | None = None) -> None:
        self.error = error
        self.sent: list[Message] = []

    async def __call__(self, _: OutboxRow, message: Message) -> None:
        if self.error is not None:
            raise self.error
        self.sent.append(message)


# ------------------------------------------------------------------------------------------------ messages


def test_terms_travel_without_anything_said_about_them() -> None:
    assert message_of(row("w.0.0.1", content_type=None)) == Message(body=b'{"id": "w"}', content_type=None)


def test_our_messages_carry_the_id_of_their_row() -> None:
    message = message_of(row("w.0.0.1"))
    assert (message.message_id, message.content_type) == ("w.0.0.1", "application/json")


def test_the_attempt_of_a_row_is_read_from_its_text() -> None:
    assert key_of(row("r", attempt="2.1.30")) == AttemptKey(generation=2, position=1, number=30)


@pytest.mark.parametrize(("tries", "seconds"), [(0, 0.5), (1, 1.0), (5, 16.0), (6, 30.0), (10_000, 30.0)])
def test_a_deferred_row_waits_longer_each_time_up_to_half_a_minute(tries: int, seconds: float) -> None:
    handled = deferral(row("r", tries=tries), BrokerUnavailable("it is away"))
    assert handled.deferred is not None
    assert (handled.deferred.seconds, handled.deferred.error) == (seconds, "it is away")


# ------------------------------------------------------------------------------------------------ requests


async def test_a_request_that_a_queue_took_is_done() -> None:
    road = Road()
    assert await RequestSender(road)(row("r")) == Handled()
    assert len(road.sent) == 1


async def test_a_request_that_no_queue_takes_is_told_to_its_workflow() -> None:
    handled = await RequestSender(Road(Unroutable("no queue takes it")))(row("r"))
    assert handled.deferred is None
    assert [(item.workflow_id, item.event) for item in handled.items] == [
        ("w", e.Undeliverable(key=KEY, reason="no queue takes it"))
    ]


@pytest.mark.parametrize(
    "error", [BrokerUnavailable("away"), Unconfirmed("perhaps"), ManagerUnavailable("nobody says how to connect")]
)
async def test_a_request_that_could_not_be_sent_now_is_sent_later(error: OpenApertureError) -> None:
    handled = await RequestSender(Road(error))(row("r"))
    assert handled.deferred is not None
    assert handled.items == ()


# ------------------------------------------------------------------------------------------------- notices


@pytest.mark.parametrize("error", [Unroutable("no queue"), RouteRefused("unknown_address", "no exchange 9")])
async def test_a_note_that_nobody_takes_is_given_up_after_a_while_and_that_is_told(
    error: OpenApertureError,
) -> None:
    told = Told()
    send = NoticeSender(Road(error), told)
    for tries in range(MAX_NOTICE_TRIES - 1):
        assert (await send(row("n", tries=tries))).deferred is not None
    assert await send(row("n", tries=MAX_NOTICE_TRIES - 1, queue="notifications_hipchat")) == Handled()
    assert [(name, details["queue"]) for name, details in told.events] == [
        ("notice.dropped", "notifications_hipchat")
    ]


async def test_a_note_is_kept_while_the_broker_or_the_manager_is_away() -> None:
    for error in (BrokerUnavailable("away"), ManagerUnavailable("away")):
        handled = await NoticeSender(Road(error), Told())(row("n", tries=MAX_NOTICE_TRIES * 10))
        assert handled.deferred is not None


async def test_notes_of_one_workflow_go_out_in_their_order_and_hold_up_no_other() -> None:
    """The first one waits, as for a connection that is being opened; the second finds it open."""
    opened, sent = asyncio.Event(), list[str]()

    async def deliver(note: OutboxRow, _: Message) -> None:
        if note.id == "first":
            await opened.wait()
        sent.append(note.id)

    send = NoticeSender(deliver, Told())
    async with asyncio.TaskGroup() as tasks:
        for note in (row("first"), row("second"), replace(row("another"), workflow_id="w2")):
            tasks.create_task(send(note))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert sent == ["another"]
        opened.set()
    assert sent == ["another", "first", "second"]


# -------------------------------------------------------------------------------------------------- routes


class Signposts:
    """Answers every question with the same route, or fails; and remembers what it was asked."""

    def __init__(self, error: OpenApertureError | None = None) -> None:
        self.error = error
        self.asked: list[Any] = []

    async def route(self, need: Need) -> Route:
        return self._answer(need)

    async def route_directly(self, exchange_id: str | int, broker_id: str | int, queue: str) -> Route:
        return self._answer((exchange_id, broker_id, queue))

    def _answer(self, question: Any) -> Route:
        self.asked.append(question)
        if self.error is not None:
            raise self.error
        return ROUTE


@pytest.fixture
async def place(tmp_path: Path) -> AsyncGenerator[Opened]:
    async with opened(f"sqlite:///{tmp_path / 'senders.db'}") as opened_place:
        yield opened_place


def finder(place: Opened, signposts: Signposts) -> RouteFinder:
    return RouteFinder(
        place.store(), signposts, table_of(), exchange_id="1", broker_id="1", queue_name="workflow_orchestration"
    )


def errand(number: int = 1) -> OutboxRow:
    return row("w.route", kind=RowKind.ROUTE, attempt=f"0.0.{number}")


async def test_the_way_that_was_found_is_told_to_the_workflow(place: Opened) -> None:
    release = Release(milestones=("build",), build_messaging_exchange_id=7)
    of = {"release": release, "etcd_token": "t", "wire": Wire.TERMS}
    await place.store().commit([creation("w", of=of)])
    signposts = Signposts()
    handled = await finder(place, signposts)(errand())
    assert [item.event for item in handled.items] == [e.Routed(key=KEY, route=ROUTE)]
    [need] = signposts.asked
    assert (need.queue, need.module_type, need.override_exchange_id, need.etcd_token) == (
        "builder",
        "builder",
        7,
        "t",
    )
    assert not need.own_by_default


async def test_workers_of_ours_register_nowhere_and_go_where_a_milestone_before_them_said(place: Opened) -> None:
    outputs = {"config": {"etcd_token": "old"}, "build": {"etcd_token": "t", "wheel": "shop.whl"}}
    await place.store().commit([creation("w", of={"outputs": outputs})])
    signposts = Signposts()
    await finder(place, signposts)(errand())
    [need] = signposts.asked
    assert (need.module_type, need.etcd_token, need.own_by_default) == (None, "t", True)


async def test_where_there_is_no_way_the_workflow_is_told_why(place: Opened) -> None:
    await place.store().commit([creation("w")])
    handled = await finder(place, Signposts(RouteRefused("no_builders", "add a builder")))(errand())
    assert [item.event for item in handled.items] == [
        e.RouteRefused(key=KEY, condition="no_builders", reason="add a builder")
    ]


@pytest.mark.parametrize(
    "error", [ManagerUnavailable("it is away"), AccessRefused("the token"), UnusableAnswer("not a Manager")]
)
async def test_what_nobody_can_tell_now_is_asked_later_and_fails_nothing(
    place: Opened, error: OpenApertureError
) -> None:
    await place.store().commit([creation("w")])
    handled = await finder(place, Signposts(error))(errand())
    assert handled.deferred is not None
    assert handled.items == ()


async def test_nobody_asks_the_way_for_an_attempt_that_is_over_or_a_workflow_that_is_gone(place: Opened) -> None:
    signposts = Signposts()
    assert await finder(place, signposts)(errand()) == Handled()
    await place.store().commit([creation("w")])
    assert await finder(place, signposts)(errand(number=2)) == Handled()
    assert signposts.asked == []


@pytest.mark.parametrize(
    ("origin", "asked"),
    [
        (None, ("1", "1", "workflow_orchestration")),
        (Origin(queue_name="theirs", exchange_id=3, broker_id="2"), (3, "2", "theirs")),
    ],
)
async def test_a_schedule_is_told_to_the_orchestrators_that_the_start_names(
    place: Opened, origin: Origin | None, asked: tuple[Any, ...]
) -> None:
    of = {
        "steps": (Step(milestone="scheduled", live=attempt(milestone="scheduled")),),
        "release": Release(milestones=("scheduled",)),
        "origin": origin,
    }
    await place.store().commit([creation("w", of=of)])
    signposts = Signposts()
    await finder(place, signposts)(errand())
    assert signposts.asked == [asked]

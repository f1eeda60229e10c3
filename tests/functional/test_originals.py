"""Workflows in the world of the original: its Manager is asked and told, and fails in all its ways.

Real loops, a real RabbitMQ with two virtual hosts, the Manager over HTTP. Workers are played by the tests, but
where the wire is ours: then it is the SDK's.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec
import pytest

from openaperture.app.manager import Api
from openaperture.brokers.amqp import AmqpBroker
from openaperture.client import original_transport
from openaperture.codecs import etf
from openaperture.codecs import json as json_codec
from openaperture.codecs.etf import Atom, Term
from openaperture.domain import messages as m
from openaperture.domain.workflow import State
from openaperture.engine import recorder
from openaperture.worker import Context, Worker
from tests.compat.rabbit import VirtualHost, virtual_hosts
from tests.compat.saves import steps_back, wrong_shapes
from tests.contract.brokers import Events, receive, running, until
from tests.functional.original_site import OriginalSite, opened_original_site, queue_name
from tests.servers import shared_servers

RELEASE = ("config", "build", "deploy")
FOUND = {"etcd_token": "app-tok-2", "source_repo_git_ref": "4f2a"}
"""What a builder of the original finds out and a deployer needs."""


@pytest.fixture(scope="module")
def hosts(amqp_url: str) -> Iterator[Mapping[str, VirtualHost]]:
    with virtual_hosts(shared_servers()[0]) as made:
        yield made


@pytest.fixture
async def site(hosts: Mapping[str, VirtualHost], tmp_path: Path) -> AsyncGenerator[OriginalSite]:
    async with opened_original_site(tmp_path, hosts) as opened:
        yield opened


async def explanation(site: OriginalSite, workflow_id: str) -> dict[str, Any]:
    """Why it stands where it stands, as `GET /workflows/<id>` says."""
    async with Api(site.core, site.core.decider()).client() as client:
        found = msgspec.to_builtins((await client.get_workflow(workflow_id)).explanation)
    explained: dict[str, Any] = found
    return explained


async def until_explained(site: OriginalSite, workflow_id: str, text: str) -> None:
    async def is_explained() -> bool:
        if await site.core.store.find_workflow(workflow_id) is None:
            return False
        found = await explanation(site, workflow_id)
        return found["code"] == "outbox" and text in found["text"]

    await until(is_explained)


async def assert_idle(site: OriginalSite, queue: str) -> None:
    assert await site.broker.depth(queue) == 0


def assert_well_recorded(site: OriginalSite, workflow_id: str) -> None:
    """No save went back behind an earlier one, or left a field out; each dispatch was recorded before."""
    seen = site.seen(workflow_id)
    assert [*steps_back(seen.saves), *wrong_shapes(seen.saves)] == []
    for request in site.dispatched(workflow_id):
        known = [save.body["current_step"] for save in seen.saves if save.at <= request.at]
        assert known, "asked for before it was recorded"
        assert known[-1] == request.fields["current_step"]["$atom"]


# ------------------------------------------------------------------------------------ a Manager that is away


async def test_while_the_manager_is_down_nothing_is_dispatched_and_it_goes_on_when_it_is_back(
    site: OriginalSite,
) -> None:
    async with site.engine(), site.old_hand() as builder, site.old_hand("2", "deployer") as deployer:
        site.gate.shut()
        workflow_id = await site.start_old(*RELEASE)
        await until_explained(site, workflow_id, "cannot be reached")
        assert site.dispatched(workflow_id) == []

        await site.gate.open()
        request = await builder.take()
        assert request.current_step == "config"

        site.gate.shut()
        await builder.complete(request, **FOUND)
        await until_explained(site, workflow_id, "cannot be reached")
        assert len(site.dispatched(workflow_id)) == 1

        await site.gate.open()
        await builder.complete(await builder.take())
        request = await deployer.take()

        site.gate.shut()
        await deployer.complete(request)
        await site.until_state(workflow_id, State.COMPLETED)
        assert site.recorded(workflow_id)["workflow_completed"] is False

        await site.gate.open()
        row = await site.until_recorded(workflow_id, workflow_completed=True)
        assert (row["workflow_error"], row["current_step"]) == (False, "workflow_completed")
        assert row["event_log"] == [*(await site.get(workflow_id)).event_log]
        assert_well_recorded(site, workflow_id)
        assert len(site.dispatched(workflow_id)) == len(RELEASE)


async def test_what_the_manager_refuses_to_save_for_a_while_is_not_asked_for_until_it_is_saved(
    site: OriginalSite,
) -> None:
    async with site.engine(), site.old_hand() as builder:
        workflow_id = str(uuid4())
        put = f"PUT /workflows/{workflow_id}"
        with site.tables.lock:
            site.tables.forced[put] = 500
        await site.start_old("config", again=workflow_id)
        await site.until_calls(workflow_id, lambda seen: len(seen.refused_saves) >= 2)
        await until_explained(site, workflow_id, "recorded with the Manager")
        assert site.dispatched(workflow_id) == []
        await assert_idle(site, site.workers)
        with site.tables.lock:
            del site.tables.forced[put]
        await builder.complete(await builder.take())
        await site.until_recorded(workflow_id, workflow_completed=True, workflow_error=False)
        assert_well_recorded(site, workflow_id)


async def test_a_slow_save_is_waited_for(site: OriginalSite) -> None:
    async with site.engine(), site.old_hand() as builder:
        site.gate.hold("PUT")
        workflow_id = await site.start_old("config")
        await site.until_calls(workflow_id, lambda seen: bool(seen.saves))
        assert site.dispatched(workflow_id) == []
        await assert_idle(site, site.workers)
        site.gate.flow()
        await builder.complete(await builder.take())
        await site.until_recorded(workflow_id, workflow_completed=True)
        assert site.events.count("record.deferred") == 0
        assert len(site.dispatched(workflow_id)) == 1


@pytest.mark.fault("F55")
async def test_a_save_that_takes_too_long_is_made_again(
    site: OriginalSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with site.engine(), site.old_hand() as builder:
        monkeypatch.setattr(original_transport, "TRY_SECONDS", 0.5)
        site.gate.hold("PUT")
        workflow_id = await site.start_old("config")
        await until_explained(site, workflow_id, "was not answered within")
        assert site.dispatched(workflow_id) == []
        site.gate.flow()
        await builder.complete(await builder.take())
        await site.until_recorded(workflow_id, workflow_completed=True)
        assert len(site.dispatched(workflow_id)) == 1
        assert_well_recorded(site, workflow_id)


@pytest.mark.fault("F55")
async def test_a_save_whose_answer_is_lost_leads_to_one_dispatch(site: OriginalSite) -> None:
    async with site.engine(), site.old_hand() as builder:
        site.gate.lose_next("PUT")
        workflow_id = await site.start_old("config", "build")
        request = await builder.take()
        assert site.gate.lost == 1
        site.gate.lose_next("PUT")
        await builder.complete(request)
        request = await builder.take()
        assert site.gate.lost == 2
        await builder.complete(request)
        await site.until_recorded(workflow_id, workflow_completed=True)
        assert [sent.fields["current_step"]["$atom"] for sent in site.dispatched(workflow_id)] == [
            "config",
            "build",
        ]
        assert_well_recorded(site, workflow_id)


async def test_while_the_manager_refuses_every_token_nothing_is_dispatched_and_nothing_fails(
    site: OriginalSite,
) -> None:
    async with site.engine(), site.old_hand() as builder:
        workflow_id = await site.start_old("config", "build")
        request = await builder.take()
        site.tables.refuses_tokens = True
        await builder.complete(request)
        await until_explained(site, workflow_id, "token")
        refused = site.tables.refused
        assert refused > 0
        assert len(site.dispatched(workflow_id)) == 1
        site.tables.refuses_tokens = False
        await builder.complete(await builder.take())
        await site.until_recorded(workflow_id, workflow_completed=True, workflow_error=False)
        assert_well_recorded(site, workflow_id)


# -------------------------------------------------------------------------- what others do in the Manager


async def test_a_cancel_in_the_manager_ends_a_workflow_while_its_milestone_runs(
    site: OriginalSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder, "WATCH_SECONDS", 1.0)
    async with site.engine(), site.old_hand() as builder:
        workflow_id = await site.start_old("build", "deploy", etcd_token="app-tok-2")
        request = await builder.take()
        await _cancel_there(site, workflow_id)
        workflow = await site.until_state(workflow_id, State.CANCELLED)
        assert workflow.reason == "cancelled by the Manager"
        # The Builder asks the Manager every few seconds, and stops of its own accord.
        await builder.fail(request, "stopped by somebody")
        await site.until_entry(workflow_id, "callback.late")
        row = await site.until_recorded(workflow_id, workflow_completed=True, workflow_error=True)
        assert row["current_step"] == "build"
        assert len(site.dispatched(workflow_id)) == 1


async def test_a_cancel_in_the_manager_between_two_milestones_is_not_overwritten(site: OriginalSite) -> None:
    async with site.engine(), site.old_hand() as builder:
        workflow_id = await site.start_old("config", "build")
        request = await builder.take()
        await _cancel_there(site, workflow_id)
        await builder.complete(request)
        workflow = await site.until_state(workflow_id, State.CANCELLED)
        assert workflow.reason == "cancelled by the Manager"
        await site.until_recorded(workflow_id, workflow_completed=True)
        assert site.recorded(workflow_id)["workflow_error"] is True
        assert [save.body["workflow_error"] for save in site.seen(workflow_id).saves][-1] is True
        assert len(site.dispatched(workflow_id)) == 1


async def test_a_cancel_in_the_manager_stays_there_while_a_worker_of_ours_stops(
    site: OriginalSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder, "WATCH_SECONDS", 1.0)
    async with site.engine(), site.hand() as hand:
        workflow_id = await site.start_json("build")
        request = await hand.take()
        await hand.claim(request)
        await _cancel_there(site, workflow_id)
        await site.until_entry(workflow_id, "workflow.cancelling")
        await site.until_calls(workflow_id, lambda seen: len(seen.saves) == 2)
        row = site.recorded(workflow_id)
        assert (row["workflow_completed"], row["workflow_error"]) == (False, True)
        await site.say(m.Failed, request, message="stopped")
        workflow = await site.until_state(workflow_id, State.CANCELLED)
        assert workflow.reason == "cancelled by the Manager"
        await site.until_recorded(workflow_id, workflow_completed=True, workflow_error=True)
        assert [save.body["workflow_error"] for save in site.seen(workflow_id).saves] == [False, True, True]
        looks = [call for call in site.seen(workflow_id).calls if call.method == "GET"]
        assert len(looks) < recorder.MAX_TURNS


async def _cancel_there(site: OriginalSite, workflow_id: str) -> None:
    with site.tables.lock:
        site.tables.workflows[workflow_id]["workflow_error"] = True


async def test_a_workflow_that_the_manager_does_not_know_any_more_fails_and_says_so(site: OriginalSite) -> None:
    async with site.engine(), site.old_hand() as builder:
        workflow_id = await site.start_old("config", "build")
        request = await builder.take()
        with site.tables.lock:
            del site.tables.workflows[workflow_id]
        await builder.complete(request)
        workflow = await site.until_state(workflow_id, State.FAILED)
        assert "the Manager does not know this workflow any more" in workflow.reason
        assert len(site.dispatched(workflow_id)) == 1
        other = await site.start_old("config")
        await builder.complete(await builder.take())
        await site.until_recorded(other, workflow_completed=True, workflow_error=False)


# --------------------------------------------------------------------------------------------- our own wire


async def test_a_workflow_of_ours_is_recorded_and_routed_like_one_of_the_original(site: OriginalSite) -> None:
    """`sign` is a milestone that only the configuration knows, with its queue and its exchange."""

    def work(context: Context) -> dict[str, str]:
        context.notify(f"{context.milestone} is at it")
        return {"of": context.milestone}

    milestones = ("config", "build", "sign")
    queues = [site.queue_at("1", "builder"), site.queue_at("2", "signers")]
    async with site.engine(), sdk_worker(site.hosts["1"], queues, work):
        workflow_id = await site.start_json(*milestones, deployment_repo="team/shop")
        row = await site.until_recorded(workflow_id, workflow_completed=True)
        assert (row["workflow_error"], row["current_step"]) == (False, "workflow_completed")
        assert row["event_log"] == [*(await site.get(workflow_id)).event_log]
        assert set(row["workflow_step_durations"]) == set(milestones)
        for milestone in milestones:
            assert any(line.endswith(f"{milestone} is at it") for line in row["event_log"]), milestone
        builds = ("AWS", queue_name(site.run, "1", "builder"))
        sent = site.dispatched(workflow_id)
        assert [(message.exchange, message.routing_key) for message in sent] == [
            builds,
            builds,
            ("AWS", queue_name(site.run, "2", "signers")),
        ]
        assert {message.properties["content_type"] for message in sent} == {"application/json"}
        saves = site.seen(workflow_id).saves
        assert [*steps_back(saves), *wrong_shapes(saves)] == []
        for message, milestone in zip(sent, milestones, strict=True):
            assert [save for save in saves if save.at <= message.at][-1].body["current_step"] == milestone
        await site.assert_counted_once(workflow_id)


async def test_a_milestone_of_the_configuration_is_asked_for_at_the_broker_of_its_exchange(
    site: OriginalSite,
) -> None:
    async with site.engine(), running(AmqpBroker(site.hosts["2"].url, observer=Events())) as broker:
        consumer = await broker.consume(site.queue_at("3", "painters"), prefetch=1)
        workflow_id = await site.start_json("paint")
        [delivery] = await receive(consumer, 1)
        await consumer.ack([delivery])
        request = json_codec.decode_request(delivery.message.body)
        assert (request.current_step, request.orchestration_broker_id) == ("paint", "1")
        await site.say(m.Completed, request)
        await site.until_recorded(workflow_id, workflow_completed=True, workflow_error=False)
        assert [sent.broker for sent in site.dispatched(workflow_id)] == ["2"]


# ------------------------------------------------------------------------------------------------ bad input


def term(**fields: Term) -> bytes:
    """A workflow of `build` with these fields, some of which it should not have."""
    known: dict[str, Term] = {"id": str(uuid4()).encode(), "milestones": [b"build"]}
    return etf.encode({Atom(key): value for key, value in (known | fields).items()})


PARKED: Mapping[str, tuple[bytes, str]] = {
    "nothing": (b"\x83", "fewer bytes"),
    "half-a-term": (term()[:-3], "fewer bytes"),
    "a-list": (etf.encode([b"build"]), "no map"),
    "an-atom": (etf.encode(Atom("build")), "no map"),
    "keys-that-are-binaries": (etf.encode({b"id": str(uuid4()).encode(), b"milestones": [b"build"]}), "atoms"),
    "keys-of-both-kinds": (etf.encode({Atom("id"): str(uuid4()).encode(), b"milestones": []}), "atoms"),
    "no-id": (etf.encode({Atom("milestones"): [b"build"]}), "id"),
    "an-id-that-is-no-uuid": (term(id=b"7"), "not a UUID"),
    "an-id-that-leads-elsewhere": (term(id=b"../../../etc"), "not a UUID"),
    "an-id-that-is-a-number": (term(id=7), "id"),
    "a-tuple": (term(aws_config=(1, 2)), "tuple"),
    "a-tuple-deep-inside": (term(fleet_config={b"a": [{b"b": (1,)}]}), "tuple"),
    "charlists-as-milestones": (term(milestones=[list(b"build")]), "milestones"),
    "a-charlist-for-the-milestones": (term(milestones=list(b"build")), "milestones"),
    "a-charlist-for-a-text": (term(source_repo=list(b"team/shop")), "source_repo"),
    "a-binary-for-the-milestones": (term(milestones=b"build"), "milestones"),
    "a-text-that-is-no-text": (term(source_repo=b"\xff\xfe"), "UTF-8"),
    "a-text-with-a-nul": (term(source_repo=b"a\x00b"), "NUL"),
    "a-list-for-a-timestamp": (term(step_time=[1, 2, 3], current_step=Atom("build")), "timestamp"),
    "a-pair-for-a-timestamp": (term(workflow_start_time=(1, 2)), "timestamp"),
    "atoms-in-a-timestamp": (term(workflow_start_time=(1, 2, Atom("a"))), "timestamp"),
    "a-timestamp-without-end": (term(workflow_start_time=(999_999, 0, 0)), "9999"),
    "a-number-for-a-flag": (term(workflow_completed=1), "workflow_completed"),
    "a-map-for-the-log": (term(event_log={}), "event_log"),
    "a-number-for-units": (term(deployable_units=[7]), "deployable_units"),
    "a-list-for-a-map": (term(notifications_config=[]), "notifications_config"),
    "a-text-for-an-exchange": (term(build_messaging_exchange_id=b"one"), "build_messaging_exchange_id"),
    "completed-with-nothing-to-do": (term(workflow_completed=True), "completed"),
}

FAILED: Mapping[str, tuple[dict[str, Term], str]] = {
    "an-unknown-milestone": ({"milestones": [b"build", b"explode"]}, '"explode" is not known'),
    "a-step-that-is-empty": ({"current_step": b""}, '"" was done, which is none of the milestones'),
    "a-step-that-is-not-in-the-list": ({"current_step": Atom("deploy")}, '"deploy" was done'),
    "a-failure-of-nobody": ({"workflow_error": True, "workflow_completed": True}, "none of the milestones"),
    "a-schedule-that-is-no-time": (
        {"milestones": [b"scheduled"], "scheduled_start_time": b"tomorrow"},
        'scheduled_start_time "tomorrow" is not of the form',
    ),
}


async def test_messages_that_make_no_sense_are_parked_or_fail_their_workflow_and_the_others_go_on(
    site: OriginalSite,
) -> None:
    async with site.engine(), site.old_hand() as builder:
        for body, _ in PARKED.values():
            await site.send_term(body)
        failing: dict[str, str] = {}
        for name, (fields, _) in FAILED.items():
            failing[name] = str(uuid4())
            site.row(failing[name])
            await site.send_term(term(id=failing[name].encode(), **fields))
        good = await site.start_old("build")
        await builder.complete(await builder.take())
        await site.until_recorded(good, workflow_completed=True, workflow_error=False)

        letters = {body: reason for reason, body in await site.parked(len(PARKED))}
        for name, (body, reason) in PARKED.items():
            assert reason in letters[body], name
        for name, (_, reason) in FAILED.items():
            workflow = await site.until_state(failing[name], State.FAILED)
            assert reason in workflow.reason, name
            await site.until_recorded(failing[name], workflow_completed=True, workflow_error=True)
        assert site.events.count("message.parked") == len(PARKED)
        assert site.events.count("decision.failed") == 0
        told = [call for call in site.journal.calls_of_group(site.run) if call.path == "/system_events"]
        assert told
        assert await site.broker.depth(site.workers) == 0


async def test_of_milestones_with_the_same_name_each_position_is_asked_for_once(site: OriginalSite) -> None:
    async with site.engine(), site.old_hand() as builder:
        workflow_id = await site.start_old("build", "config", "build")
        asked: list[str | None] = []
        for _ in range(3):
            request = await builder.take()
            asked.append(request.current_step)
            await builder.complete(request)
            await builder.complete(request)
        assert asked == ["build", "config", "build"]
        await site.until_recorded(workflow_id, workflow_completed=True, workflow_error=False)
        await site.until_entry(workflow_id, "callback.late", 3)
        assert len(site.dispatched(workflow_id)) == 3


async def test_a_started_workflow_is_not_moved_by_a_step_that_is_empty_or_another(site: OriginalSite) -> None:
    async with site.engine(), site.old_hand() as builder:
        workflow_id = await site.start_old("config", "build")
        request = await builder.take()
        for step in ("", "build", "explode"):
            await builder.complete(msgspec.structs.replace(request, current_step=step))
        assert request.step_time is not None
        earlier = request.step_time - timedelta(microseconds=1)
        await builder.complete(msgspec.structs.replace(request, step_time=earlier))
        await site.until_entry(workflow_id, "callback.late", 4)
        assert (await site.get(workflow_id)).current_milestone == "config"
        assert len(site.dispatched(workflow_id)) == 1


@asynccontextmanager
async def sdk_worker(
    host: VirtualHost, queues: Sequence[str], work: Callable[[Context], Any]
) -> AsyncGenerator[None]:
    """A worker of the SDK for every milestone that comes by these queues."""
    events = Events()
    worker = Worker(queues=queues, slots=20, observer=events)
    worker.every_milestone(work)
    async with running(AmqpBroker(host.url, observer=events)) as broker:
        serving = asyncio.ensure_future(worker.serve(broker))
        await events.wait_for("worker.ready")
        yield
        await worker.drain()
        await serving

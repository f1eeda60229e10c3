"""The loops of an orchestrator on real servers of either kind: messages in, messages out, and what is stored.

F and I numbers are those of the failure model's fault catalogue and invariants.
"""

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from sqlalchemy import update

from openaperture.codecs import json as json_codec
from openaperture.database.tables import workflows
from openaperture.domain import messages as m
from openaperture.domain.errors import WrongState
from openaperture.domain.events import Resolution, Resolved
from openaperture.domain.times import start_time_of
from openaperture.domain.workflow import State
from openaperture.worker import Context
from tests.contract.brokers import receive, until, until_depth
from tests.functional.engine_site import (
    LONG_PAST,
    FaultyBroker,
    FaultyStore,
    Site,
)

# ---------------------------------------------------------------------------------------- bad input


def _unusable() -> dict[str, tuple[bytes, str]]:
    """Messages that mean nothing, by a message id, each with a part of the reason that is due."""
    somebody = str(uuid4())
    start = f'{{"id": "{somebody}", "milestones": '.encode()
    return {
        "no-json": (b"start the build please", "is not JSON"),
        "half": (start, "is not JSON"),
        "no-text": (b'{"id": "\xff\xfe"}', "not UTF-8"),
        "empty": (b"", "is not JSON"),
        "array": (b'["build"]', "JSON array"),
        "deep": (start + b"[" * 100 + b"]" * 100 + b"}", "nested deeper than 64"),
        "very-deep": (b"[" * 200_000, "nested deeper than 64"),
        "large": (start + b'["build"], "x": "' + b"x" * 1_048_576 + b'"}', "1048576 are accepted"),
        "twice": (start + b'["build"], "id": "7"}', "'id' twice"),
        "number": (start + b"NaN}", "NaN"),
        "id-type": (b'{"id": 7, "milestones": []}', "does not fit its schema"),
        "list-type": (start + b'"build"}', "does not fit its schema"),
        "flag-type": (start + b'[], "force_build": "perhaps"}', "does not fit its schema"),
        "long-list": (start + b"[" + b'"build",' * 100 + b'"build"]}', "does not fit its schema"),
        "callback-type": (b'{"type": "exploded", "workflow_id": "7"}', "does not fit its schema"),
        "callback-bare": (b'{"type": "completed"}', "does not fit its schema"),
        "id-form": (b'{"id": "../../etc/passwd", "milestones": []}', "is not a UUID"),
        "no-token": (start + b'["build"], "current_step": "build"}', "carries no attempt_token"),
        "unknown-id": (f'{{"id": "{somebody}"}}'.encode(), f"workflow {somebody} is not stored"),
        "unknown-callback": (
            f'{{"type": "completed", "workflow_id": "{somebody}", "attempt_token": "t", "worker": "w"}}'.encode(),
            f"workflow {somebody} is not stored",
        ),
    }


@pytest.mark.fault("F30", "F34")
async def test_what_means_nothing_is_dead_lettered_with_its_reason_and_the_loop_goes_on(site: Site) -> None:
    """F30, F34, I9: each delivery is settled one way or the other."""
    unusable = _unusable()
    for message_id, (body, _) in unusable.items():
        await site.send(body, message_id)
    good = await site.start()
    async with site.engine():
        await site.until_state(good, State.COMPLETED)
        reasons = await site.dead_letters(len(unusable))
    assert {key: part for key, (_, part) in unusable.items() if part not in reasons[key]} == {}
    assert site.events.count("message.parked") == len(unusable)
    await site.assert_nothing_left()
    assert not await site.core.store.list_stranded(10)


async def test_a_reason_never_repeats_what_the_message_held(site: Site) -> None:
    """I11: a message may hold a password."""
    await site.send(b'{"id": 7, "milestones": ["s3cret-canary"]}', "bad")
    async with site.engine():
        reasons = await site.dead_letters(1)
    assert "s3cret-canary" not in str(reasons) + str(site.events.told)


async def test_an_unknown_milestone_fails_its_workflow_and_says_how_to_define_it(site: Site) -> None:
    async with site.engine():
        workflow_id = await site.start("build", "polish")
        workflow = await site.until_state(workflow_id, State.FAILED)
    assert 'milestone "polish" is not known' in workflow.reason
    assert "[milestones.polish]" in workflow.reason
    # Before anything ran: half a release is worse than none.
    assert await site.broker.depth(site.workers) == 0
    await site.assert_nothing_left()


async def test_an_empty_list_of_milestones_completes_at_once(site: Site) -> None:
    async with site.engine():
        workflow_id = await site.start()
        await site.until_state(workflow_id, State.COMPLETED)
    assert list(await site.kinds(workflow_id)) == ["workflow.started", "workflow.completed"]
    await site.assert_nothing_left()


@pytest.mark.fault("F21", "F22")
async def test_a_repeated_start_asks_the_worker_once(site: Site) -> None:
    """F21, F22: a copy of the message leaves no trace; another message about the same leaves an entry."""
    async with site.engine(), site.hand() as hand:
        workflow_id = await site.start("build", message_id="s1")
        request = await hand.take()
        await site.start("build", again=workflow_id, message_id="s1")
        await site.start("build", again=workflow_id, message_id="s2")
        repeated = await site.until_entry(workflow_id, "start.repeated")
        assert "the workflow is running at build: nothing changes" in repeated.text
        await hand.complete(request)
        await site.until_state(workflow_id, State.COMPLETED)
        await site.start("build", again=workflow_id, message_id="s3")
        await site.until_entry(workflow_id, "start.repeated", 2)
    await site.assert_counted_once(workflow_id)
    assert await site.broker.depth(site.workers) == 0
    await site.assert_nothing_left()


async def test_a_start_never_changes_what_a_stored_workflow_releases(site: Site) -> None:
    """I5: what a message says about a workflow that we know means nothing."""
    async with site.engine(), site.hand() as hand:
        workflow_id = await site.start("build", source_repo="acme/shop")
        request = await hand.take()
        await site.start("deploy", again=workflow_id, source_repo="evil/shop", workflow_completed=True)
        await site.until_entry(workflow_id, "start.repeated")
        await hand.complete(request)
        workflow = await site.until_state(workflow_id, State.COMPLETED)
    assert workflow.release.milestones == ("build",)
    assert workflow.release.source_repo == "acme/shop"


@pytest.mark.fault("F22", "F58")
async def test_a_repeated_callback_counts_once(site: Site) -> None:
    """I6: by its message id without a trace, by its token with one."""
    async with site.engine(), site.hand() as hand:
        workflow_id = await site.start("build", "deploy")
        build = await hand.take()
        await hand.complete(build, message_id="c1", outputs={"wheel": "first"})
        await hand.complete(build, message_id="c1", outputs={"wheel": "copy"})
        await hand.complete(build, message_id="c2", outputs={"wheel": "second"})
        late = await site.until_entry(workflow_id, "callback.late")
        assert "attempt 0.0.1, which is over" in late.text
        deploy = await hand.take()
        assert deploy.current_step == "deploy"
        assert deploy.inputs == {"build": {"wheel": "first"}}
        await hand.complete(deploy)
        await site.until_state(workflow_id, State.COMPLETED)
    await site.assert_counted_once(workflow_id)
    assert (await site.kinds(workflow_id))["callback.late"] == 1
    await site.assert_nothing_left()


@pytest.mark.parametrize("kind", [m.Accepted, m.Heartbeat, m.Completed, m.Released])
async def test_a_callback_with_a_foreign_token_is_refused_and_written_down(
    site: Site, kind: type[m.AnyCallback]
) -> None:
    """I5: a token of another workflow, one that is made up, one with a changed attempt."""
    async with site.engine(), site.hand() as hand:
        mine = await site.start("build")
        request = await hand.take()
        other = await site.start("build")
        foreign = (await hand.take()).attempt_token
        attempt, _, proof = request.attempt_token.rpartition(".")
        forgeries = [foreign, "garbage", "0.0.1.", f"{attempt[:-1]}2.{proof}", "é" * 40]
        for token in forgeries:
            await site.say(kind, request, attempt_token=token)
        entry = await site.until_entry(mine, "callback.forged", len(forgeries))
        assert kind.__name__.lower() in entry.text
        assert not entry.success
        workflow = await site.get(mine)
        assert workflow.state is State.RUNNING
        assert workflow.live[0].worker is None
        await hand.complete(request)
        await site.until_state(mine, State.COMPLETED)
        assert (await site.get(other)).state is State.RUNNING
    await site.assert_counted_once(mine)
    # The token itself is a secret: whoever reads a history must not be able to speak for a worker.
    written = str(await site.history(mine))
    assert not [token for token in (foreign, request.attempt_token) if token in written]
    await site.assert_nothing_left()


@pytest.mark.fault("F59")
async def test_a_callback_after_the_end_changes_nothing(site: Site) -> None:
    """I7."""
    async with site.engine(), site.hand() as hand:
        workflow_id = await site.start("build")
        request = await hand.take()
        await site.say(m.Failed, request, message="the tests do not pass")
        failed = await site.until_state(workflow_id, State.FAILED)
        assert "the tests do not pass" in failed.reason
        await hand.complete(request)
        await site.until_entry(workflow_id, "callback.late")
        assert (await hand.claim(request)).verdict == "void"
    after = await site.get(workflow_id)
    assert (after.state, after.reason, after.outputs) == (State.FAILED, failed.reason, {})


async def test_an_attempt_belongs_to_the_first_worker_that_claims_it(site: Site) -> None:
    async with site.engine(), site.hand() as hand:
        workflow_id = await site.start("build")
        request = await hand.take()
        assert (await hand.claim(request)).verdict == "run"
        await site.say(m.Accepted, request, worker="ben", reply_to=hand.reply_to)
        [refusal] = await receive(hand.answers, 1)
        assert json_codec.decode_answer(refusal.message.body).verdict == "void"
        assert (await hand.claim(request)).verdict == "run"
        await site.say(m.Completed, request, worker="ben")
        await site.until_entry(workflow_id, "callback.late")
        await hand.complete(request)
        await site.until_state(workflow_id, State.COMPLETED)
    await site.assert_counted_once(workflow_id)


async def test_the_whole_request_sent_back_completes_its_milestone_and_nothing_else_of_it_counts(
    site: Site,
) -> None:
    async with site.engine(), site.hand() as hand:
        workflow_id = await site.start("build", "deploy")
        request = await hand.take()
        answer = m.StartMessage(
            id=workflow_id,
            milestones=["build"],
            attempt_token=request.attempt_token,
            workflow_completed=True,
            outputs={"wheel": "w"},
        )
        await site.send(json_codec.encode(answer))
        deploy = await hand.take()
        assert (deploy.current_step, deploy.inputs) == ("deploy", {"build": {"wheel": "w"}})
        await hand.complete(deploy)
        await site.until_state(workflow_id, State.COMPLETED)
    await site.assert_counted_once(workflow_id)


@pytest.mark.fault("F49")
async def test_a_workflow_that_cannot_be_read_does_not_spoil_its_batch(site: Site) -> None:
    """F49: its message is kept with a reason, its row as it is, and the good ones go on."""
    async with site.engine():
        bad = await site.start("build")
        await site.until_entry(bad, "milestone.requested")
    await until_depth(site.broker, site.workers, 1)
    damage = update(workflows).where(workflows.c.id == bad).values(document='{"state": "molten"}')
    await site.core.database.write(lambda connection: connection.execute(damage).rowcount)
    await site.start("build", again=bad, message_id="of-the-bad")
    good = [await site.start() for _ in range(5)]
    async with site.engine():
        for workflow_id in good:
            await site.until_state(workflow_id, State.COMPLETED)
        reasons = await site.dead_letters(1)
    assert bad in reasons["of-the-bad"]
    assert await site.core.store.list_stranded(10) == [bad]
    assert site.events.count("store.corrupt_workflow") >= 1
    await site.assert_nothing_left()


# ------------------------------------------------------------------------- save, then publish and ack


@pytest.mark.fault("F03", "F48")
async def test_nothing_is_published_or_acked_before_it_is_saved(site: Site) -> None:
    """F03, F48, I2: a store that saves nothing, then one that does."""
    store = FaultyStore(site.core)
    store.down = True
    async with site.engine(store=store) as engine:
        workflow_id = await site.start("build")
        await site.events.wait_for("orchestrator.waiting", 2)
        assert await site.core.store.find_workflow(workflow_id) is None
        assert await site.broker.depth(site.workers) == 0
        engine.stop()
        await engine.ended()
    # It was not acked: told to stop, the orchestrator gave it back.
    assert await site.broker.depth(site.intake) == 1
    store.down = False
    async with site.engine(store=store), site.worker():
        await site.until_all_completed([workflow_id])
    await site.assert_nothing_left()


@pytest.mark.fault("F45")
async def test_a_store_that_comes_back_is_used_without_a_redelivery(site: Site) -> None:
    """F45: a redelivery would count against the delivery limit of a quorum queue."""
    store = FaultyStore(site.core)
    store.down = True
    async with site.engine(store=store), site.worker():
        workflow_id = await site.start("build")
        await site.events.wait_for("orchestrator.waiting")
        store.down = False
        await site.until_all_completed([workflow_id])
    await site.assert_nothing_left()


@pytest.mark.fault("F05")
async def test_a_commit_whose_outcome_is_unknown_is_not_applied_twice(site: Site) -> None:
    """F05: it was saved, and the answer was lost, for the start and for the result."""
    store = FaultyStore(site.core)
    store.mute = True
    async with site.engine(store=store):
        workflow_id = await site.start("build", message_id="s1")
        await site.events.wait_for("orchestrator.waiting")
        store.mute = False
        await site.events.wait_for("batch.settled")
    # The lease on the row of the commit in doubt is over in the time of the other.
    async with site.engine("another", store=site.store_in(10)), site.hand() as hand:
        request = await hand.take()
    store.mute = True
    async with site.engine(store=store):
        waits = site.events.count("orchestrator.waiting")
        await site.say(m.Completed, request, message_id="c1")
        await site.events.wait_for("orchestrator.waiting", waits + 1)
        store.mute = False
    await site.assert_counted_once(workflow_id)
    assert {"start.repeated", "callback.late"}.isdisjoint(await site.kinds(workflow_id))
    assert await site.broker.depth(site.workers) == 0
    await site.assert_nothing_left()


@pytest.mark.fault("F04")
async def test_a_crash_before_the_commit_redelivers(site: Site) -> None:
    """F04."""
    store = FaultyStore(site.core)
    store.hold_before = True
    async with site.engine(store=store) as engine:
        workflow_id = await site.start("build")
        await store.held.wait()
        await engine.kill()
    assert await site.core.store.find_workflow(workflow_id) is None
    await until_depth(site.broker, site.intake, 1)
    async with site.engine("another"), site.worker():
        await site.until_all_completed([workflow_id])
    await site.assert_nothing_left()


@pytest.mark.fault("F06", "F07")
async def test_a_crash_between_commit_and_ack_redelivers_what_then_changes_nothing(site: Site) -> None:
    """F06, F07: the message is not acked before the commit has returned; its request is not lost."""
    store = FaultyStore(site.core)
    store.hold_after = True
    async with site.engine(store=store) as engine:
        workflow_id = await site.start("build", message_id="s1")
        await store.held.wait()
        saved = await site.get(workflow_id)
        await engine.kill()
    await until_depth(site.broker, site.intake, 1)
    assert await site.broker.depth(site.workers) == 0
    # The lease of the dead one on its row is over in the time of the other.
    async with site.engine("another", store=site.store_in(10)), site.hand() as hand:
        request = await hand.take()
        await until_depth(site.broker, site.intake, 0)
        assert (await site.get(workflow_id)).version == saved.version
        await hand.complete(request)
        await site.until_state(workflow_id, State.COMPLETED)
    await site.assert_counted_once(workflow_id)
    assert (await site.kinds(workflow_id))["start.repeated"] == 0
    await site.assert_nothing_left()


# ------------------------------------------------------------------------------------------- relay


@pytest.mark.fault("F07", "F12")
async def test_what_a_dead_instance_left_behind_is_published_by_another(site: Site) -> None:
    """F07, F12: its rows are free when its lease is over, and not before."""
    broker = FaultyBroker(site.broker, site.workers)
    broker.stuck = True
    async with site.engine("dead", broker=broker) as engine:
        started = [await site.start("build") for _ in range(3)]
        for workflow_id in started:
            await site.until_entry(workflow_id, "milestone.requested")
        await broker.tried.wait()
        await engine.kill()
    assert await site.core.store.count_outbox() == len(started)
    assert await site.core.store.claim_outbox("early", limit=10, lease_seconds=60) == []
    async with site.engine("heir", store=site.store_in(10)), site.worker():
        await site.until_all_completed(started)
    await site.assert_nothing_left()


@pytest.mark.fault("F24")
async def test_a_request_that_no_queue_takes_waits_with_a_reason_and_goes_on_when_there_is_one(
    site: Site,
) -> None:
    """F24: unroutable is an event, not a log line."""
    missing = site.queue_of("paint")
    async with site.engine():
        workflow_id = await site.start("paint")
        waiting = await site.until_state(workflow_id, State.WAITING)
        assert waiting.steps[0].wait is not None
        assert waiting.steps[0].wait.code == "undeliverable"
        assert missing in waiting.steps[0].wait.text
        await site.broker.declare(missing)
        await until_depth(site.broker, missing, 1)
        consumer = await site.broker.consume(missing, prefetch=1)
        [delivery] = await receive(consumer, 1)
        await consumer.ack([delivery])
        request = json_codec.decode_request(delivery.message.body)
        assert request.attempt.number > 1
        await site.say(m.Completed, request)
        await site.until_state(workflow_id, State.COMPLETED)
        await consumer.close()
    await site.assert_counted_once(workflow_id)
    await site.assert_nothing_left()


@pytest.mark.fault("F08", "F18")
async def test_a_lost_confirm_sends_the_same_message_again_and_the_worker_runs_once(site: Site) -> None:
    """F08, F18, I4: every copy has the same id and the same bytes."""
    broker = FaultyBroker(site.broker, site.workers)
    broker.unconfirmed = 1
    both_sent = asyncio.Event()
    runs: list[str] = []

    async def build(context: Context) -> None:
        runs.append(context.workflow_id)
        await both_sent.wait()

    async with site.engine(broker=broker), site.worker(build):
        workflow_id = await site.start("build")

        async def sent_twice() -> bool:
            return len(broker.sent) == 2 and await site.broker.depth(site.workers) == 0

        await until(sent_twice)
        both_sent.set()
        await site.until_all_completed([workflow_id])
    first, second = broker.sent
    assert first.message_id
    assert first == second
    assert runs == [workflow_id]
    await site.assert_nothing_left()


@pytest.mark.fault("F08", "F59")
async def test_a_copy_that_comes_after_the_result_is_void(site: Site) -> None:
    broker = FaultyBroker(site.broker, site.workers)
    broker.unconfirmed = 1
    async with site.engine(broker=broker), site.hand() as hand:
        workflow_id = await site.start("build")
        await hand.complete(await hand.take())
        await site.until_state(workflow_id, State.COMPLETED)
        assert (await hand.claim(await hand.take())).verdict == "void"
    await site.assert_counted_once(workflow_id)
    await site.assert_nothing_left()


@pytest.mark.fault("F17", "F40")
async def test_what_is_saved_while_the_broker_is_away_is_published_when_it_is_back(site: Site) -> None:
    """F17, F40."""
    broker = FaultyBroker(site.broker, site.workers)
    broker.away = True
    async with site.engine(broker=broker), site.worker():
        started = [await site.start("build") for _ in range(5)]
        for workflow_id in started:
            await site.until_entry(workflow_id, "milestone.requested")
        await site.events.wait_for("request.deferred", len(started))
        assert await site.core.store.count_outbox() == len(started)
        assert {(await site.get(workflow_id)).state for workflow_id in started} == {State.RUNNING}
        broker.away = False
        await site.until_all_completed(started)
    await site.assert_nothing_left()


# ------------------------------------------------------------------------------------------- timers


async def test_a_start_time_that_is_past_waits_for_nothing(site: Site) -> None:
    async with site.engine():
        workflow_id = await site.start("scheduled", scheduled_start_time=LONG_PAST)
        await site.until_state(workflow_id, State.COMPLETED)
    kinds = await site.kinds(workflow_id)
    assert (kinds["workflow.waiting"], kinds["milestone.due"]) == (0, 1)


async def test_a_start_time_to_come_is_kept_by_another_orchestrator_than_the_one_that_stored_it(
    site: Site,
) -> None:
    """A wait is a row and nothing else."""
    text = (datetime.now(UTC) + timedelta(seconds=2)).strftime("%a, %d %b %Y %H:%M:%S UTC")
    async with site.engine("one"):
        workflow_id = await site.start("scheduled", "build", scheduled_start_time=text)
        waiting = await site.until_entry(workflow_id, "workflow.waiting")
        assert text in waiting.text
    async with site.engine("two"), site.worker():
        await site.until_state(workflow_id, State.COMPLETED)
    due = await site.until_entry(workflow_id, "milestone.due")
    assert due.at >= start_time_of(text)
    await site.assert_nothing_left()


async def test_a_start_time_that_cannot_be_read_fails_and_says_how_to_write_it(site: Site) -> None:
    async with site.engine():
        workflow_id = await site.start("scheduled", scheduled_start_time="tomorrow, about noon")
        failed = await site.until_state(workflow_id, State.FAILED)
    assert "tomorrow, about noon" in failed.reason
    assert "Tue, 05 Mar 2013" in failed.reason


@pytest.mark.fault("F57", "F59")
async def test_a_lost_build_is_given_to_another_worker_and_the_lost_one_is_void(site: Site) -> None:
    """The second orchestrator lives a minute and more later, when the heartbeats have been missed."""
    async with site.engine("now"), site.hand() as hand:
        workflow_id = await site.start("build")
        lost = await hand.take()
        assert (await hand.claim(lost)).verdict == "run"
    async with site.engine("later", store=site.store_in(61)), site.hand() as hand:
        entry = await site.until_entry(workflow_id, "milestone.lost")
        assert "stopped answering" in entry.text
        again = await hand.take()
        assert (lost.attempt.number, again.attempt.number) == (1, 2)
        assert again.idempotency_key == lost.idempotency_key
        assert again.attempt_token != lost.attempt_token
        assert (await hand.claim(lost)).verdict == "void"
        await hand.complete(lost, outputs={"wheel": "of the lost"})
        await site.until_entry(workflow_id, "callback.late")
        assert (await hand.claim(again)).verdict == "run"
        await hand.complete(again, outputs={"wheel": "of the other"})
        done = await site.until_state(workflow_id, State.COMPLETED)
    assert done.outputs == {"build": {"wheel": "of the other"}}
    await site.assert_counted_once(workflow_id)


async def _held(site: Site) -> tuple[str, m.Request]:
    """A deploy whose worker fell silent: a person has to say what became of it."""
    async with site.engine("now"), site.hand() as hand:
        workflow_id = await site.start("deploy", "build")
        lost = await hand.take()
        await hand.claim(lost)
    async with site.engine("later", store=site.store_in(61)):
        held = await site.until_state(workflow_id, State.HELD)
    assert f"openaperture resolve {workflow_id} worked" in held.reason
    assert await site.broker.depth(site.workers) == 0
    return workflow_id, lost


@pytest.mark.fault("F57")
async def test_a_lost_deploy_that_worked_is_not_repeated(site: Site) -> None:
    workflow_id, _ = await _held(site)
    await site.verbs.resolve(workflow_id, Resolved(resolution=Resolution.WORKED, by="eve", reason="I looked"))
    async with site.engine("resolving", store=site.store_in(10)), site.hand() as hand:
        build = await hand.take()
        assert build.current_step == "build"
        await hand.complete(build)
        await site.until_state(workflow_id, State.COMPLETED)
    assert (
        "eve says of deploy: worked (I looked)" in (await site.until_entry(workflow_id, "workflow.resolved")).text
    )
    with pytest.raises(WrongState, match="it has ended, and can only be run again"):
        await site.verbs.resolve(workflow_id, Resolved(resolution=Resolution.AGAIN, by="eve"))


async def test_a_lost_deploy_that_failed_ends_its_workflow(site: Site) -> None:
    workflow_id, lost = await _held(site)
    ended = await site.verbs.resolve(workflow_id, Resolved(resolution=Resolution.FAILED, by="eve"))
    assert ended.state is State.FAILED
    assert "eve says of deploy: failed" in ended.reason
    async with site.engine():
        await site.say(m.Completed, lost)
        await site.until_entry(workflow_id, "callback.late")
    assert (await site.get(workflow_id)).state is State.FAILED
    assert await site.broker.depth(site.workers) == 0


async def test_a_lost_deploy_is_done_again_as_a_new_effect(site: Site) -> None:
    """A new idempotency key: the worker must not answer from what it remembers of the first."""
    workflow_id, lost = await _held(site)
    await site.verbs.resolve(workflow_id, Resolved(resolution=Resolution.AGAIN, by="eve"))
    async with site.engine(), site.hand() as hand:
        again = await hand.take()
        assert again.current_step == "deploy"
        assert again.idempotency_key != lost.idempotency_key
        await hand.complete(lost)
        await site.until_entry(workflow_id, "callback.late")
        await hand.complete(again)
        await hand.complete(await hand.take())
        await site.until_state(workflow_id, State.COMPLETED)
    await site.assert_counted_once(workflow_id)


async def test_a_held_deploy_whose_worker_answers_after_all_needs_nobody(site: Site) -> None:
    workflow_id, lost = await _held(site)
    async with site.engine(), site.hand() as hand:
        await hand.complete(lost)
        await hand.complete(await hand.take())
        await site.until_state(workflow_id, State.COMPLETED)
    await site.assert_counted_once(workflow_id)


@pytest.mark.fault("F25", "F27")
async def test_a_request_that_nobody_picks_up_is_asked_again_and_the_old_copy_is_void(site: Site) -> None:
    """F25, F27."""
    async with site.engine("now"):
        workflow_id = await site.start("build")
        await until_depth(site.broker, site.workers, 1)
    async with site.engine("later", store=site.store_in(601)), site.hand() as hand:
        await site.until_entry(workflow_id, "milestone.unclaimed")
        old, new = await hand.take(), await hand.take()
        assert (old.attempt.number, new.attempt.number) == (1, 2)
        assert (await hand.claim(old)).verdict == "void"
        assert (await hand.claim(new)).verdict == "run"
        await hand.complete(new)
        await site.until_state(workflow_id, State.COMPLETED)
    await site.assert_counted_once(workflow_id)
    await site.assert_nothing_left()


# ----------------------------------------------------------------------------- several orchestrators

CROWD = 250


@pytest.mark.fault("F64")
async def test_two_orchestrators_on_one_queue_and_one_database_count_every_result_once(site: Site) -> None:
    """F64, I3."""
    async with (
        site.another_broker() as broker,
        site.worker(),
        site.engine("one"),
        site.engine("two", broker=broker),
    ):
        started = await asyncio.gather(*(site.start("build", "deploy") for _ in range(CROWD)))
        await site.until_all_completed(started)
    assert await site.broker.depth(site.error_queue) == 0
    assert site.events.count("message.parked") == 0
    assert await site.broker.depth(site.workers) == 0
    assert not await site.core.store.list_stranded(10)
    await site.assert_nothing_left()


# -------------------------------------------------------------------------------------------- drain


@pytest.mark.fault("F13")
async def test_a_drain_finishes_the_batch_at_hand_and_publishes_what_came_of_it(site: Site) -> None:
    """F13."""
    store = FaultyStore(site.core)
    store.hold_before = True
    async with site.engine(store=store) as engine:
        taken = await site.start("build")
        await store.held.wait()
        engine.stop()
        await site.events.wait_for("process.draining")
        store.release()
        await engine.ended()
    assert site.events.count("process.forced") == 0
    assert (await site.get(taken)).state is State.RUNNING
    assert await site.broker.depth(site.workers) == 1
    await site.assert_nothing_left()


async def test_a_drained_orchestrator_takes_nothing_more(site: Site) -> None:
    async with site.engine() as engine:
        first = await site.start()
        await site.until_state(first, State.COMPLETED)
        engine.stop()
        await engine.ended()
    second = await site.start()
    assert await site.broker.depth(site.intake) == 1
    assert await site.core.store.find_workflow(second) is None


async def test_a_drain_while_the_broker_is_away_leaves_the_requests_in_the_database(site: Site) -> None:
    broker = FaultyBroker(site.broker, site.workers)
    broker.away = True
    async with site.engine(broker=broker) as engine:
        workflow_id = await site.start("build")
        await site.events.wait_for("request.deferred")
        engine.stop()
        await engine.ended()
    assert site.events.count("process.forced") == 0
    assert await site.core.store.count_outbox() == 1
    async with site.engine("next"), site.worker():
        await site.until_all_completed([workflow_id])
    await site.assert_nothing_left()

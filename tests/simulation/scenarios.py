"""The golden scenarios, as data: what is asked for, what everybody does, and how it ends.

Add one here, and the enumeration plays it with a crash at every await.
"""

import asyncio
from dataclasses import replace
from typing import Any

from openaperture.domain.attempts import AttemptKey
from openaperture.domain.events import Resolution
from openaperture.domain.lineage import Repeat
from openaperture.domain.releases import OnGroupFailure, WhenLocked
from openaperture.domain.workflow import State
from tests.simulation.stage import OTHER, THIRD, WORKFLOW, Act, Milestones, Scenario, Stage
from tests.simulation.world import Shape, paint

DONE, FAILED, GONE = State.COMPLETED, State.FAILED, State.CANCELLED
_SOON = "Tue, 01 Jan 2030 00:00:08 UTC"
_PAST = "Tue, 05 Mar 2013 23:25:19 UTC"
NOBODY = Shape(poll_seconds=4.0, workers=0)
TWO_HANDS = Shape(poll_seconds=4.0, workers=2)
TWO_ENGINES = Shape(poll_seconds=4.0, orchestrators=2)


def _starting(*milestones: Milestones, **fields: Any) -> Act:
    async def act(stage: Stage) -> None:
        await stage.start(*milestones, **fields)

    return act


async def _start_twice(stage: Stage) -> None:
    await stage.start("build", "deploy")
    await stage.start("build", "deploy", copy=1)
    await stage.until(*State)
    await stage.start_created()


async def _create_then_start(stage: Stage) -> None:
    await stage.create("build")
    await stage.start_created()


async def _cancel_created(stage: Stage) -> None:
    await stage.create("build")
    await stage.cancel()


async def _cancel_queued(stage: Stage) -> None:
    await stage.start("build")
    await stage.until(State.RUNNING)
    await stage.cancel()


async def _cancel_running(stage: Stage) -> None:
    await stage.start("build", "deploy")
    await stage.until(State.RUNNING, claimed=True)
    await stage.cancel()


async def _cancel_waiting(stage: Stage) -> None:
    await stage.start("scheduled", "build", scheduled_start_time="Tue, 01 Jan 2030 01:00:00 UTC")
    await stage.until(State.WAITING)
    await stage.cancel()


async def _cancel_held(stage: Stage) -> None:
    await stage.start("deploy")
    await stage.until(State.HELD)
    await stage.cancel()


async def _mend_the_queue(stage: Stage) -> None:
    await stage.start("paint")
    await stage.until(State.WAITING)
    stage.world.declare("painters")
    if "painter" not in stage.world.lives:
        stage.world.start("painter", paint)


async def _stop_the_engine_for_a_while(stage: Stage) -> None:
    # The wait has it look at the clock once before.
    await stage.start("scheduled", "deploy", scheduled_start_time=_SOON)
    await stage.until(State.RUNNING, claimed=True)
    await asyncio.sleep(3.0)
    engine = stage.world.living.get("orc0")
    if engine is not None:
        stage.world.loop.freeze(engine, 30.0)


async def _forge(stage: Stage) -> None:
    await stage.start("build", "deploy")
    await stage.until(State.RUNNING)
    token = stage.world.wire.mint.mint("another workflow", _current_key(stage))
    body = f'{{"type":"completed","workflow_id":"{WORKFLOW}","attempt_token":"{token}","worker":"mallory"}}'
    await stage.say(body.encode(), "forged")


async def _forge_the_next_ids(stage: Stage) -> None:
    """Forgeries under the ids that the worker's own messages are going to have."""
    await stage.start("deploy")
    await stage.until(State.RUNNING, claimed=True)
    worker = stage.world.living.get("hand0")
    key = _current_key(stage)
    token = stage.world.wire.mint.mint("another workflow", key)
    body = f'{{"type":"completed","workflow_id":"{WORKFLOW}","attempt_token":"{token}","worker":"mallory"}}'
    name = worker.name if worker is not None else "nobody"
    for number in range(30):
        await stage.say(body.encode(), f"{WORKFLOW}.{key}.{name}.{number}")


def _current_key(stage: Stage) -> AttemptKey:
    workflow = stage.workflow()
    if workflow is not None and workflow.live:
        return workflow.live[0].key
    return AttemptKey(generation=0, position=0, number=1)


async def _tell_of_nobody(stage: Stage) -> None:
    await stage.start("build")
    token = stage.world.wire.mint.mint(OTHER, _current_key(stage))
    body = f'{{"type":"completed","workflow_id":"{OTHER}","attempt_token":"{token}","worker":"ann"}}'
    await stage.say(body.encode(), "of nobody")
    await stage.say(b"{no message", "garbage")


async def _stop_without_a_store(stage: Stage) -> None:
    """The engine is told to stop while it has a message in its hands that it cannot save."""
    world = stage.world
    await stage.start("build")
    world.weather.faults = replace(world.weather.faults, store_refuse=1.0)
    await stage.start("build", who=OTHER)
    await asyncio.sleep(2.0)
    engine = world.living.get("orc0")
    if engine is not None and engine.stop is not None:
        engine.context.copy().run(engine.stop)
    await asyncio.sleep(10.0)
    world.weather.faults = replace(world.weather.faults, store_refuse=0.0)


async def _approve(stage: Stage) -> None:
    await stage.start("build", "sign_off", "deploy")
    await stage.until(State.WAITING)
    await stage.vote("bob", approves=True)
    await stage.vote("bob", approves=True)
    await stage.vote("eve", approves=True)


async def _reject(stage: Stage) -> None:
    await stage.start("sign_off", "deploy")
    await stage.until(State.WAITING)
    await stage.vote("bob", approves=False)


async def _pause_running(stage: Stage) -> None:
    await stage.start("build", "deploy")
    await stage.until(State.RUNNING, State.WAITING, State.PAUSED)
    await stage.pause()
    await stage.until(State.PAUSED)
    await stage.resume()


async def _cancel_paused(stage: Stage) -> None:
    await stage.start("build", "deploy")
    await stage.until(State.RUNNING, State.WAITING, State.PAUSED)
    await stage.pause()
    await stage.until(State.PAUSED)
    await stage.cancel()


async def _pause_a_retry(stage: Stage) -> None:
    await stage.start("build")
    await stage.until(State.WAITING, State.PAUSED)
    await stage.pause()
    await asyncio.sleep(8.0)
    await stage.resume()


async def _retry(stage: Stage) -> None:
    await stage.start("config", ("build", "deploy"))
    await stage.until()
    await stage.repeat(Repeat.RETRY)


async def _rerun(stage: Stage) -> None:
    await stage.start("build", "deploy")
    await stage.until()
    await stage.repeat(Repeat.RERUN, "deploy")


def _locked(when_locked: WhenLocked = WhenLocked.WAIT, *, several: bool = False) -> Act:
    """Several workflows for one lock, one after the other."""

    async def act(stage: Stage) -> None:
        names = ["environment:prod", "database"] if several else ["environment:prod"]
        await stage.start("build", "deploy", locks=names, locks_from="deploy")
        await stage.until(State.RUNNING, State.WAITING)
        await stage.start("deploy", who=OTHER, locks=names[::-1], when_locked=when_locked)
        if when_locked is WhenLocked.NEWEST:
            await stage.until(State.WAITING, who=OTHER)
            await stage.start("deploy", who=THIRD, locks=names, when_locked=when_locked)

    return act


async def _refused_for_a_lock(stage: Stage) -> None:
    await stage.start("deploy", locks=["environment:prod"])
    await stage.until(State.RUNNING, claimed=True)
    await stage.start("deploy", who=OTHER, locks=["environment:prod"], when_locked=WhenLocked.REFUSE)


async def _lock_of_a_silent_worker(stage: Stage) -> None:
    """Nobody knows whether the deploy has stopped: its lock is kept until a person takes it away."""
    await stage.start("deploy", locks=["environment:prod"])
    await stage.until(State.RUNNING, claimed=True)
    await stage.start("deploy", who=OTHER, locks=["environment:prod"])
    await stage.cancel()
    await stage.until()
    await asyncio.sleep(5.0)
    await stage.release_kept_lock("environment:prod")


async def _cancel_in_the_queue(stage: Stage) -> None:
    await stage.start("deploy", locks=["environment:prod"])
    await stage.until(State.RUNNING, claimed=True)
    await stage.start("deploy", who=OTHER, locks=["environment:prod"])
    await stage.until(State.WAITING, who=OTHER)
    await stage.cancel(OTHER)
    await stage.start("deploy", who=THIRD, locks=["environment:prod"])


def _cancel_a_deploy_that_does_not_stop(*, once_held: bool) -> Act:
    """Its lock is kept until its worker has come to an end, or a person looks long after."""

    async def act(stage: Stage) -> None:
        await stage.start("deploy", locks=["environment:prod"])
        await stage.until(State.RUNNING, claimed=True)
        await stage.start("deploy", who=OTHER, locks=["environment:prod"])
        if once_held:
            await stage.until(State.HELD)
        else:
            await asyncio.sleep(110.0)
        await stage.cancel()
        await stage.until()
        await asyncio.sleep(200.0)
        await stage.release_kept_lock("environment:prod")

    return act


async def _fail_beside_a_held_deploy(stage: Stage) -> None:
    """The other member of its group fails before a person has looked at what was deployed."""
    group, cancel = ("deploy", "build"), OnGroupFailure.CANCEL
    await stage.start(group, on_group_failure=cancel, on_failure=["deploy_too"])
    await stage.until(State.HELD)
    await asyncio.sleep(35.0)


async def _take_the_lock_of_a_held_deploy(stage: Stage) -> None:
    """It may be done again only once it has the lock again: by then the next one deploys."""
    await stage.start("deploy", locks=["environment:prod"])
    await stage.until(State.HELD)
    await stage.start("deploy", who=OTHER, locks=["environment:prod"])
    await stage.until(State.WAITING, who=OTHER)
    workflow = stage.workflow()
    if workflow is not None and workflow.lock_tokens and not workflow.ended:
        await stage.take_lock_away("environment:prod")
        await stage.until(State.RUNNING, claimed=True, who=OTHER)
    await stage.resolve(Resolution.AGAIN)


async def _retry_the_second_deploy(stage: Stage) -> None:
    await stage.start("deploy", "scan", "deploy")
    await stage.until()
    await stage.repeat(Repeat.RETRY)


FLAT = (
    Scenario(name="flat", act=_starting("build", "deploy"), ends=[DONE]),
    Scenario(name="three milestones", act=_starting("config", "build", "deploy"), ends=[DONE]),
    Scenario(name="no milestones", act=_starting(), ends=[DONE]),
    Scenario(name="an unknown milestone", act=_starting("build", "nonsense"), ends=[FAILED]),
    Scenario(name="two orchestrators", act=_starting("build", "deploy"), ends=[DONE], shape=TWO_ENGINES),
    Scenario(name="a repeated start", act=_start_twice, ends=[DONE]),
    Scenario(name="created, then started", act=_create_then_start, ends=[DONE]),
    Scenario(name="forged answers", act=_forge, ends=[DONE]),
)
FAILING = (
    # A build that failed is not asked for again; with a crash in between its second run may go well.
    Scenario(
        name="a failing build", act=_starting("build", "deploy"), ends=[FAILED, DONE], moods={"build": ["fail"]}
    ),
    Scenario(name="a failing deploy", act=_starting("deploy"), ends=[FAILED, DONE], moods={"deploy": ["fail"]}),
    Scenario(name="a hanging build", act=_starting("build"), ends=[FAILED, DONE], moods={"build": ["hang"]}),
)
LOST = (
    Scenario(name="a lost build", act=_starting("build", "deploy"), ends=[DONE], moods={"build": ["die"]}),
    Scenario(name="a build lost twice", act=_starting("build"), ends=[DONE], moods={"build": ["die", "die"]}),
    Scenario(
        name="a late answer", act=_starting("build"), ends=[DONE], moods={"build": ["deaf"]}, shape=TWO_HANDS
    ),
    Scenario(
        name="a build that is asked for again of the worker that is still at it",
        act=_starting("build"),
        ends=[DONE],
        moods={"build": ["deaf_long"]},
    ),
    Scenario(name="a build lost too often", act=_starting("build"), ends=[FAILED], moods={"build": ["die"] * 5}),
    Scenario(
        name="a long deploy",
        act=_starting("deploy"),
        # Whoever gives it up meanwhile has it called failed. With a crash in it, it may really be lost.
        ends=[DONE, FAILED],
        moods={"deploy": ["long"]},
        resolution=Resolution.FAILED,
    ),
    Scenario(
        name="an engine that stands still",
        act=_stop_the_engine_for_a_while,
        ends=[DONE, FAILED],
        moods={"deploy": ["long"]},
        resolution=Resolution.FAILED,
    ),
    Scenario(name="a deploy that comes back", act=_starting("deploy"), ends=[DONE], moods={"deploy": ["deaf"]}),
    *(
        Scenario(
            name=f"a lost deploy, resolved as {resolution}",
            act=_starting("deploy"),
            # When the crash comes first, the deploy that was lost may be another, or none.
            ends=[FAILED, DONE] if resolution is Resolution.FAILED else [DONE],
            moods={"deploy": ["die"]},
            resolution=resolution,
        )
        for resolution in Resolution
    ),
)
HELD = (
    Scenario(
        name="cancel a held deploy that did not stop",
        act=_cancel_a_deploy_that_does_not_stop(once_held=True),
        ends=[GONE, DONE],
        others={OTHER: [DONE]},
        moods={"deploy": ["overrun"]},
        shape=TWO_HANDS,
    ),
    Scenario(
        name="cancel a deploy that speaks and does not stop",
        act=_cancel_a_deploy_that_does_not_stop(once_held=False),
        ends=[GONE, DONE],
        others={OTHER: [DONE]},
        moods={"deploy": ["stubborn"]},
        shape=TWO_HANDS,
    ),
    Scenario(
        name="a build that is done though it was told to stop",
        act=_starting(
            "build", milestone_options={"build": {"retry_on": ["timed_out", "lost"], "max_attempts": 6}}
        ),
        # The worker that is still at it is asked again, and has done it meanwhile.
        ends=[DONE, FAILED],
        moods={"build": ["stubborn"]},
    ),
    Scenario(
        name="a held deploy in a group that is stopped by a failure",
        act=_fail_beside_a_held_deploy,
        ends=[FAILED, DONE],
        moods={"deploy": ["die"], "build": ["late_fail"] * 3},
        shape=TWO_HANDS,
    ),
    Scenario(
        name="the lock of a held deploy is taken away, and it is done again",
        act=_take_the_lock_of_a_held_deploy,
        ends=[DONE],
        others={OTHER: [DONE]},
        moods={"deploy": ["die", "long", "long"]},
        resolution=Resolution.AGAIN,
        shape=TWO_HANDS,
    ),
    Scenario(
        name="the second of two deploys is retried",
        act=_retry_the_second_deploy,
        ends=[FAILED, DONE],
        moods={"deploy": ["ok", "fail"]},
        others={OTHER: [DONE, "never stored"]},
    ),
)
CANCELLED = (
    Scenario(name="cancel created", act=_cancel_created, ends=[GONE]),
    Scenario(name="cancel queued", act=_cancel_queued, ends=[GONE], shape=NOBODY),
    Scenario(name="cancel running", act=_cancel_running, ends=[GONE, DONE], moods={"build": ["long"]}),
    Scenario(name="cancel silent", act=_cancel_running, ends=[GONE, DONE], moods={"build": ["deaf"]}),
    Scenario(name="cancel waiting", act=_cancel_waiting, ends=[GONE]),
    Scenario(name="cancel held", act=_cancel_held, ends=[GONE, DONE], moods={"deploy": ["die"]}),
)
WAITING = (
    Scenario(
        name="scheduled",
        act=_starting("scheduled", "build", scheduled_start_time=_SOON),
        ends=[DONE],
    ),
    Scenario(
        name="scheduled in the past",
        act=_starting("scheduled", "build", scheduled_start_time=_PAST),
        ends=[DONE],
    ),
    Scenario(
        name="a schedule that is none", act=_starting("scheduled", scheduled_start_time="soon"), ends=[FAILED]
    ),
    Scenario(name="undeliverable", act=_starting("paint"), ends=[FAILED]),
    Scenario(name="undeliverable, then mended", act=_mend_the_queue, ends=[DONE]),
)
GROUPS = (
    Scenario(name="a group", act=_starting("build", ("test", "config"), "deploy"), ends=[DONE]),
    Scenario(
        name="a group whose one member fails",
        act=_starting(("build", "config"), "deploy"),
        ends=[FAILED, DONE],
        moods={"build": ["fail"]},
    ),
    Scenario(
        name="a group that is stopped by a failure",
        act=_starting(("build", "config"), "deploy", on_group_failure=OnGroupFailure.CANCEL),
        ends=[FAILED, DONE],
        moods={"build": ["fail"], "config": ["long"]},
    ),
    Scenario(
        name="two deploys at once, both lost",
        act=_starting(("deploy", "deploy_too"), "build"),
        ends=[DONE],
        moods={"deploy": ["die"], "deploy_too": ["die"]},
    ),
    Scenario(name="a test that is tried again", act=_starting("test"), ends=[DONE], moods={"test": ["fail"]}),
    Scenario(
        name="a failure and what follows it",
        act=_starting("build", "deploy", on_failure=["config", "test"]),
        ends=[FAILED, DONE],
        moods={"build": ["fail"], "config": ["fail"]},
    ),
)
PEOPLE = (
    Scenario(name="approved by two", act=_approve, ends=[DONE, FAILED]),
    Scenario(name="rejected", act=_reject, ends=[FAILED]),
    Scenario(name="an approval that nobody gives", act=_starting("sign_off", "deploy"), ends=[FAILED]),
    Scenario(name="paused and resumed", act=_pause_running, ends=[DONE]),
    Scenario(name="paused while it waits to try again", act=_pause_a_retry, ends=[DONE], moods={"build": ["die"]}),
    Scenario(name="cancel paused", act=_cancel_paused, ends=[GONE, DONE]),
    Scenario(
        name="retried",
        act=_retry,
        ends=[FAILED, DONE],
        moods={"build": ["fail"]},
        others={OTHER: [DONE, "never stored"]},
    ),
    Scenario(name="run again from a milestone", act=_rerun, ends=[DONE], others={OTHER: [DONE]}),
)
LOCKED = (
    Scenario(name="two for one lock", act=_locked(), ends=[DONE], others={OTHER: [DONE]}),
    Scenario(name="two for two locks", act=_locked(several=True), ends=[DONE], others={OTHER: [DONE]}),
    Scenario(
        name="a lock whose holder is lost",
        act=_locked(),
        ends=[DONE],
        others={OTHER: [DONE]},
        moods={"deploy": ["die"]},
    ),
    Scenario(
        name="refused for a lock",
        act=_refused_for_a_lock,
        ends=[DONE],
        others={OTHER: [FAILED, DONE]},
        moods={"deploy": ["long"]},
    ),
    Scenario(
        name="the newest for a lock",
        act=_locked(WhenLocked.NEWEST),
        ends=[DONE, GONE],
        others={OTHER: [DONE, GONE], THIRD: [DONE]},
    ),
    Scenario(
        name="the lock of a silent worker",
        act=_lock_of_a_silent_worker,
        ends=[GONE, DONE],
        others={OTHER: [DONE]},
        moods={"deploy": ["deaf"]},
        shape=TWO_HANDS,
    ),
    Scenario(
        name="cancel in the queue for a lock",
        act=_cancel_in_the_queue,
        ends=[DONE],
        others={OTHER: [GONE, DONE], THIRD: [DONE]},
        moods={"deploy": ["long"]},
    ),
)
BROKEN = (
    Scenario(
        name="forgeries under the worker's own ids",
        act=_forge_the_next_ids,
        ends=[DONE, FAILED],
        moods={"deploy": ["long"]},
        resolution=Resolution.FAILED,
    ),
    Scenario(name="messages for nobody", act=_tell_of_nobody, ends=[DONE]),
    Scenario(name="stopped without a store", act=_stop_without_a_store, ends=[DONE], others={OTHER: [DONE]}),
)
SCENARIOS = (*FLAT, *FAILING, *LOST, *CANCELLED, *WAITING, *GROUPS, *PEOPLE, *LOCKED, *HELD, *BROKEN)

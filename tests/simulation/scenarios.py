"""The golden scenarios, as data: what is asked for, what everybody does, and how it ends.

Add one here, and the enumeration plays it with a crash at every await.
"""

import asyncio

from openaperture.domain.events import Resolution
from openaperture.domain.attempts import AttemptKey
from openaperture.domain.workflow import State
from tests.simulation.stage import WORKFLOW, Act, Scenario, Stage
from tests.simulation.world import Shape, paint

DONE, FAILED, GONE = State.COMPLETED, State.FAILED, State.CANCELLED
_SOON = "Tue, 01 Jan 2030 00:00:08 UTC"
_PAST = "Tue, 05 Mar 2013 23:25:19 UTC"
NOBODY = Shape(poll_seconds=4.0, workers=0)
TWO_HANDS = Shape(poll_seconds=4.0, workers=2)
TWO_ENGINES = Shape(poll_seconds=4.0, orchestrators=2)


def _starting(*milestones: str, **fields: str) -> Act:
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


def _current_key(stage: Stage) -> AttemptKey:
    workflow = stage.workflow
    if workflow is not None and workflow.live:
        return workflow.live[0].key
    return AttemptKey(generation=0, position=0, number=1)

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
    Scenario(name="a failing build", act=_starting("build", "deploy"), ends=[FAILED, DONE], moods={"build": ["fail"]}),
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
        name="a build lost too often", act=_starting("build"), ends=[FAILED], moods={"build": ["die"] * 5}
    ),
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
    Scenario(name="a schedule that is none", act=_starting("scheduled", scheduled_start_time="soon"), ends=[FAILED]),
    Scenario(name="undeliverable", act=_starting("paint"), ends=[FAILED]),
    Scenario(name="undeliverable, then mended", act=_mend_the_queue, ends=[DONE]),
)
SCENARIOS = (*FLAT, *FAILING, *LOST, *CANCELLED, *WAITING)

"""Start a release, follow it to its end, come back to one that runs."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass

from openaperture.cli.exits import RESULTS, ExitCode
from openaperture.cli.follower import Follower
from openaperture.cli.interrupts import Interrupted, until_interrupted
from openaperture.cli.picture import Picture, TakenOver
from openaperture.cli.plain import OutputView
from openaperture.cli.repository import Repository, find_repository
from openaperture.cli.session import Session, open_driving_session, open_session
from openaperture.cli.speech import answer, say
from openaperture.cli.terminal import Style, show_end, show_json, showing
from openaperture.cli.untrusted import one_line
from openaperture.client.models import NewWorkflow, Workflow
from openaperture.config import Settings
from openaperture.domain.errors import BadInput, NothingRuns
from openaperture.domain.releases import WhenLocked
from openaperture.domain.workflow import State


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What the user asked to release, in the user's words."""

    repository: str
    ref: str | None
    milestones: str
    """Names with commas between them, those of a group with `+`; empty for none."""
    deployment_repository: str | None = None
    deployment_ref: str | None = None
    start_time: str | None = None
    force_build: bool = False
    on_failure: str = ""
    """Names with commas between them."""
    locks: Sequence[str] = ()
    lock_from: str | None = None
    when_locked: str = WhenLocked.WAIT


def picture_of(workflow: Workflow) -> Picture:
    taken_over = None
    if workflow.parent_id is not None:
        taken_over = TakenOver(
            workflow_id=workflow.parent_id, first_position=workflow.first_position, outputs=workflow.outputs
        )
    return Picture(workflow.plan or workflow.milestones, workflow.on_failure, taken_over)


def workflow_of(order: Order) -> NewWorkflow:
    """The workflow to create; says what the user should know about it. Raises BadInput."""
    milestones, on_failure = entries_of("--milestones", order.milestones), _names_of(order.on_failure)
    if order.lock_from is not None and not order.locks:
        raise BadInput(
            "--lock-from says when locks are taken, and none are named; add --lock NAME, or leave it out"
        )
    source = find_repository(order.repository, order.ref)
    deployment = _deployment_of(order)
    for note in (*source.notes, *(deployment.notes if deployment else ())):
        say(f"note: {one_line(note)}")
    return NewWorkflow(
        milestones=milestones,
        on_failure=on_failure,
        locks=list(order.locks),
        locks_from=order.lock_from,
        when_locked=order.when_locked,
        source_repo=source.url,
        source_repo_git_ref=source.ref,
        deployment_repo=deployment.url if deployment else None,
        deployment_repo_git_ref=deployment.ref if deployment else None,
        scheduled_start_time=order.start_time,
        force_build=order.force_build or None,
    )


def entries_of(option: str, text: str) -> list[str | list[str]]:
    """`build,test+scan` is a milestone and then a group of two. Raises BadInput."""
    if not text.strip():
        return []
    groups = [[name.strip() for name in entry.split("+")] for entry in text.split(",")]
    if not all(name for group in groups for name in group):
        raise BadInput(
            f'{option} "{one_line(text)}" has an empty name; write names with one "," or "+" between them'
        )
    return [group[0] if len(group) == 1 else group for group in groups]


def _names_of(on_failure: str) -> list[str]:
    entries = entries_of("--on-failure", on_failure)
    names = [entry for entry in entries if isinstance(entry, str)]
    if len(names) < len(entries):
        raise BadInput('--on-failure runs milestones one after the other; write "," between them, not "+"')
    return names


def _deployment_of(order: Order) -> Repository | None:
    if order.deployment_repository is None:
        return None
    return find_repository(order.deployment_repository, order.deployment_ref)


async def run(settings: Settings, order: Order, style: Style) -> ExitCode:
    """Submit and follow. Where nothing runs that would drive the release, or no longer, this process does."""
    new = workflow_of(order)
    workflow_id: str | None = None
    while True:
        result: ExitCode | None = None
        async with open_driving_session(settings) as session:
            workflow_id = workflow_id or await session.client.submit(new)
            is_ours = not session.is_driven
            try:
                result = await _follow(session, workflow_id, style, is_ours=is_ours)
            except* NothingRuns:
                say(f"the process that drove release {workflow_id} has ended; this command takes over")
        if result is not None:
            if is_ours and result in {ExitCode.INTERRUPTED, ExitCode.TERMINATED}:
                # Only now: what its worker was at has ended with the session, one way or another.
                await _say_what_is_left(settings, workflow_id)
            return result


async def submit(settings: Settings, order: Order, style: Style) -> ExitCode:
    """Store and start a release, and print its id."""
    new = workflow_of(order)
    async with open_session(settings) as session:
        workflow_id = await session.client.submit(new)
        if style is Style.JSON:
            show_json(await session.client.get_workflow(workflow_id))
        else:
            answer(workflow_id)
        if not session.is_driven:
            say('it is stored and begins when an orchestrator runs: start one with "openaperture up"')
    return ExitCode.COMPLETED


async def watch(settings: Settings, given_id: str, style: Style) -> ExitCode:
    """Follow a release that was started elsewhere."""
    async with open_session(settings) as session:
        workflow_id = await session.find_id(given_id)
        if session.is_driven:
            return await _follow(session, workflow_id, style, is_ours=False)
        return await _show_so_far(session, workflow_id, style)


async def print_output(settings: Settings, given_id: str, *, follow: bool) -> ExitCode:
    """All output of a release's workers; with `follow` on to its end."""
    async with open_session(settings) as session:
        workflow_id = await session.find_id(given_id)
        follower = Follower(session, workflow_id, OutputView(sys.stdout))
        if not (follow and session.is_driven):
            workflow = await follower.tell_so_far()
            stands = follow and State(workflow.state) not in RESULTS
            return _say_it_stands(workflow) if stands else ExitCode.COMPLETED
        try:
            await until_interrupted(follower.follow())
        except Interrupted as stop:
            return stop.exit_code
    return ExitCode.COMPLETED


async def _follow(session: Session, workflow_id: str, style: Style, *, is_ours: bool) -> ExitCode:
    """`is_ours`: the release is driven by this very process, and stands still when it ends."""
    try:
        workflow, picture = await until_interrupted(_watched(session, workflow_id, style))
    except Interrupted as stop:
        _say_how_it_goes_on(workflow_id, is_ours=is_ours)
        return stop.exit_code
    show_end(style, workflow, picture)
    return RESULTS[State(workflow.state)]


async def _watched(session: Session, workflow_id: str, style: Style) -> tuple[Workflow, Picture]:
    workflow = await session.get_workflow(workflow_id)
    picture = picture_of(workflow)
    with showing(style, workflow, picture) as view:
        return await Follower(session, workflow_id, view).follow(), picture


async def _show_so_far(session: Session, workflow_id: str, style: Style) -> ExitCode:
    """Nothing would move it, and to hold the database open would keep those out that could."""
    workflow = await session.get_workflow(workflow_id)
    picture = picture_of(workflow)
    with showing(Style.JSON if style is Style.JSON else Style.PLAIN, workflow, picture) as view:
        workflow = await Follower(session, workflow_id, view).tell_so_far()
    if (result := RESULTS.get(State(workflow.state))) is not None:
        show_end(style, workflow, picture)
        return result
    return _say_it_stands(workflow)


def _say_it_stands(workflow: Workflow) -> ExitCode:
    say(
        f"release {workflow.id} is {workflow.state}, and no orchestrator runs on this data folder; "
        'start one with "openaperture up" and the release goes on'
    )
    return ExitCode.UNAVAILABLE


def _say_how_it_goes_on(workflow_id: str, *, is_ours: bool) -> None:
    if is_ours:
        say(
            f"stopping: release {workflow_id} is saved, and what runs gets a moment to end; "
            "Ctrl-C again leaves at once"
        )
    else:
        watch, cancel = f'"openaperture watch {workflow_id}"', f'"openaperture cancel {workflow_id}"'
        say(f"release {workflow_id} goes on without this command; {watch} follows it, {cancel} ends it")


async def _say_what_is_left(settings: Settings, workflow_id: str) -> None:
    """How a release stands whose orchestrator and worker were this process, and have ended."""
    async with open_session(settings) as session:
        workflow = await session.get_workflow(workflow_id)
        is_driven = session.is_driven
    if workflow.ended:
        say(f"release {workflow_id} is {workflow.state}: {one_line(workflow.explanation.text)}")
    elif is_driven:
        _say_how_it_goes_on(workflow_id, is_ours=False)
    elif workflow.state == State.HELD:
        say(f"release {workflow_id} is held: {one_line(workflow.reason)}")
        say('that is stored at once; what it starts begins when "openaperture up" is started')
    else:
        say(f'release {workflow_id} is saved and goes on when "openaperture up" is started')
        watch, cancel = f'"openaperture watch {workflow_id}"', f'"openaperture cancel {workflow_id}"'
        say(f"then {watch} follows it; {cancel} ends it, now or later")

"""Commands by which people steer releases: pause, retry, approve and so on, and what they look at before."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime

from rich.table import Table
from rich.text import Text

from openaperture.cli.durations import duration_text
from openaperture.cli.exits import ExitCode
from openaperture.cli.reasons import told
from openaperture.cli.session import Session, open_session
from openaperture.cli.speech import answer, say
from openaperture.cli.summary import origins_of
from openaperture.cli.terminal import Style, open_console, show_json
from openaperture.cli.untrusted import one_line
from openaperture.client import ManagerClient
from openaperture.client.models import Explanation, Lock, Workflow
from openaperture.config import Settings

Verb = Callable[[ManagerClient, str], Awaitable[Workflow]]


async def steer(settings: Settings, given_id: str, verb: Verb, style: Style) -> ExitCode:
    """Do something to a workflow, and say how it stands then."""
    async with open_session(settings) as session:
        workflow = await verb(session.client, await session.find_id(given_id))
        show_standing(workflow, style)
        session.note_if_alone(workflow)
    return ExitCode.COMPLETED


async def cancel(settings: Settings, given_id: str, reason: str, style: Style, *, force: bool) -> ExitCode:
    """End a workflow; with `force` without waiting for its worker, which then has to be told of."""
    async with open_session(settings) as session:
        workflow_id = await session.find_id(given_id)
        at_work = (
            [step for step in (await session.get_workflow(workflow_id)).steps if step.worker] if force else []
        )
        workflow = await session.client.cancel(workflow_id, reason, force=force)
        show_standing(workflow, style)
        session.note_if_alone(workflow)
    if at_work:
        names = " and ".join(
            f"{one_line(step.milestone)} at worker {one_line(step.worker or '')}" for step in at_work
        )
        say(f"note: nobody waited for {names}: the command may go on for a while")
    return ExitCode.COMPLETED


async def repeat(settings: Settings, given_id: str, verb: Verb, style: Style) -> ExitCode:
    """Do a workflow again, or a part of it, as another one; its id is the result."""
    async with open_session(settings) as session:
        workflow = await verb(session.client, await session.find_id(given_id))
        if style is Style.JSON:
            show_json(workflow)
        else:
            answer(workflow.id)
        if not session.is_driven:
            say('it is stored and begins when an orchestrator runs: start one with "openaperture up"')
    return ExitCode.COMPLETED


async def decide(
    settings: Settings, given_id: str, *, approves: bool, milestone: str | None, reason: str, style: Style
) -> ExitCode:
    """Approve or reject what is shown, and nothing else: the digest of it goes along."""
    async with open_session(settings) as session:
        workflow_id = await session.find_id(given_id)
        seen = await session.client.control.explain(workflow_id)
        # What waits for nobody is refused, and then nothing may look as if it had been decided about.
        if style is not Style.JSON and "inputs" in seen.details:
            await _show_matter(session, workflow_id, seen)
        verb = session.client.control.approve if approves else session.client.control.reject
        inputs = seen.details.get("inputs")
        workflow = await verb(workflow_id, milestone=milestone, inputs=inputs, reason=reason)
        show_standing(workflow, style)
        session.note_if_alone(workflow)
    return ExitCode.COMPLETED


async def _show_matter(session: Session, workflow_id: str, seen: Explanation) -> None:
    """What a vote is about: the explanation, the commit, and what the milestones have left."""
    workflow = await session.get_workflow(workflow_id)
    say(one_line(seen.text))
    if workflow.source_commit_hash:
        say(f"  commit {one_line(workflow.source_commit_hash)}")
    origins = origins_of(workflow)
    for milestone, outputs in workflow.outputs.items():
        origin = f" ({origins[milestone]})" if milestone in origins else ""
        for name, text in outputs.items():
            say(f"  {one_line(milestone)}{origin}: {one_line(name)} = {one_line(text)}")


async def explain(settings: Settings, given_id: str, style: Style) -> ExitCode:
    """Why a workflow stands where it stands."""
    async with open_session(settings) as session:
        workflow_id = await session.find_id(given_id)
        explanation = await session.client.control.explain(workflow_id)
        if not session.is_driven:
            session.note_if_alone(await session.get_workflow(workflow_id))
    if style is Style.JSON:
        show_json(explanation)
    else:
        for line in told(explanation):
            answer(line)
    return ExitCode.COMPLETED


def show_standing(workflow: Workflow, style: Style) -> None:
    if style is Style.JSON:
        show_json(workflow)
    else:
        answer(f"workflow {workflow.id} is {workflow.state}: {one_line(workflow.explanation.text)}")


# ------------------------------------------------------------------------------------------- locks


async def list_locks(settings: Settings, style: Style) -> ExitCode:
    """Who has which lock, and who waits for it."""
    async with open_session(settings) as session:
        locks = await session.client.control.list_locks()
    if style is Style.JSON:
        show_json(locks)
    elif locks:
        open_console(style).print(_table_of(locks))
    else:
        answer("nobody has a lock or waits for one")
    return ExitCode.COMPLETED


async def release_lock(settings: Settings, name: str, reason: str, style: Style, *, force: bool) -> ExitCode:
    """Take a lock away from whoever has it."""
    async with open_session(settings) as session:
        lock = await session.client.control.release_lock(name, reason, force=force)
    if style is Style.JSON:
        show_json(lock)
    elif lock.holder is None:
        answer(f'the lock "{one_line(lock.name)}" is free')
    else:
        answer(f'the lock "{one_line(lock.name)}" went to workflow {lock.holder.workflow_id}')
    return ExitCode.COMPLETED


def _table_of(locks: Sequence[Lock]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("LOCK", "HOLDER", "SINCE", "WAITING", "NOTE"):
        table.add_column(heading, no_wrap=True, overflow="ellipsis")
    for lock in locks:
        holder = lock.holder
        since = holder.granted_at if holder else None
        age = duration_text(max(0.0, (datetime.now(UTC) - since).total_seconds())) if since else ""
        cells = (
            lock.name,
            holder.workflow_id if holder else "",
            age,
            ", ".join(place.workflow_id for place in lock.waiting),
            (holder.kept or "") if holder else "",
        )
        table.add_row(*(Text(one_line(cell)) for cell in cells))
    return table

"""Commands that show or change what is stored: list, show, cancel, resolve."""

from collections.abc import Sequence
from datetime import UTC, datetime

from rich.table import Table
from rich.text import Text

from openaperture.cli.durations import duration_text
from openaperture.cli.exits import ExitCode
from openaperture.cli.session import open_session
from openaperture.cli.speech import answer
from openaperture.cli.summary import STATE_STYLES, plan_text, release_text
from openaperture.cli.terminal import Style, open_console, show_json
from openaperture.cli.untrusted import one_line
from openaperture.client.models import Attempt, Workflow, WorkflowSummary
from openaperture.config import Settings

_TABLE_ID_CHARACTERS = 8
"""Of an id on a terminal; any unique beginning is taken as an id."""


async def list_releases(settings: Settings, states: Sequence[str], limit: int, style: Style) -> ExitCode:
    """The newest workflows as a table or a JSON array."""
    async with open_session(settings) as session:
        found: list[WorkflowSummary] = []
        cursor: str | None = None
        while len(found) < limit:
            asked = min(100, limit - len(found))
            page = await session.client.list_workflows(states=states, limit=asked, cursor=cursor)
            found += page.workflows
            if (cursor := page.next_cursor) is None:
                break
    if style is Style.JSON:
        show_json(found)
    elif found:
        open_console(style).print(_table_of(found, style))
    else:
        answer('no workflows; "openaperture run ." releases the repository you are in')
    return ExitCode.COMPLETED


async def show(settings: Settings, given_id: str, style: Style) -> ExitCode:
    """One workflow with its attempts and its history."""
    async with open_session(settings) as session:
        workflow = await session.client.get_workflow(await session.find_id(given_id))
        history = await session.client.list_events(workflow.id)
    if style is Style.JSON:
        show_json(workflow)
        return ExitCode.COMPLETED
    console = open_console(style)
    for text in _described(workflow):
        console.print(text, soft_wrap=True)
    if workflow.attempts:
        console.print(_attempts_of(workflow.attempts, is_held=workflow.state == "held"))
    for event in history.events:
        line = f"  {event.at.astimezone():%Y-%m-%d %H:%M:%S}  {one_line(event.text)}"
        console.print(Text(line, style="dim"), soft_wrap=True)
    return ExitCode.COMPLETED


async def cancel(settings: Settings, given_id: str, reason: str) -> ExitCode:
    """End a workflow."""
    async with open_session(settings) as session:
        workflow = await session.client.cancel(await session.find_id(given_id), reason)
    answer(f"workflow {workflow.id} is {workflow.state}: {one_line(workflow.reason)}")
    return ExitCode.COMPLETED


async def resolve(settings: Settings, given_id: str, resolution: str, reason: str) -> ExitCode:
    """Say what became of a held milestone."""
    async with open_session(settings) as session:
        workflow = await session.client.resolve(await session.find_id(given_id), resolution, reason)
    answer(f"workflow {workflow.id} is {workflow.state}: {one_line(workflow.explanation.text)}")
    return ExitCode.COMPLETED


def _table_of(workflows: Sequence[WorkflowSummary], style: Style) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("ID", "STATE", "AT", "AGE", "RELEASE"):
        table.add_column(heading, no_wrap=True, overflow="ellipsis")
    for workflow in workflows:
        shown_id = workflow.id[:_TABLE_ID_CHARACTERS] if style is Style.LIVE else workflow.id
        state = Text(workflow.state, style=STATE_STYLES.get(workflow.state, ""))
        step = "" if workflow.ended else one_line(workflow.current_step or "")
        table.add_row(Text(shown_id), state, Text(step), Text(_age(workflow)), Text(release_text(workflow)))
    return table


def _age(workflow: WorkflowSummary) -> str:
    if workflow.created_at is None:
        return ""
    return duration_text(max(0.0, (datetime.now(UTC) - workflow.created_at).total_seconds()))


def _described(workflow: Workflow) -> list[Text]:
    facts = [
        ("release", release_text(workflow)),
        ("milestones", plan_text(workflow) or "none"),
        ("after a failure", ", ".join(map(one_line, workflow.on_failure))),
        ("locks", ", ".join(map(one_line, workflow.locks))),
        ("repeats", workflow.parent_id or ""),
        ("repeated by", ", ".join(workflow.children)),
        ("created", _instant(workflow.created_at)),
        ("started", _instant(workflow.started_at)),
        ("ended", _instant(workflow.ended_at)),
        ("now" if not workflow.ended else "result", one_line(workflow.explanation.text)),
    ]
    for milestone, outputs in workflow.outputs.items():
        facts += [
            (f"output of {one_line(milestone)}", f"{one_line(n)} = {one_line(t)}") for n, t in outputs.items()
        ]
    state = Text.assemble(f"workflow {workflow.id}: ", (workflow.state, STATE_STYLES.get(workflow.state, "")))
    return [state, *(Text(f"{name}: {value}") for name, value in facts if value)]


def _attempts_of(attempts: Sequence[Attempt], *, is_held: bool) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("ATTEMPT", "MILESTONE", "WORKER", "OUTCOME", "TOOK", "MESSAGE"):
        table.add_column(heading, no_wrap=True, overflow="ellipsis")
    under_way = "unknown" if is_held else "running"
    for attempt in attempts:
        took = (attempt.ended_at or datetime.now(UTC)) - (attempt.claimed_at or attempt.requested_at)
        cells = (
            attempt.attempt,
            attempt.milestone,
            attempt.worker or "",
            attempt.outcome or (under_way if attempt.claimed_at else "requested"),
            duration_text(max(0.0, took.total_seconds())),
            attempt.message or "",
        )
        table.add_row(*(Text(one_line(cell)) for cell in cells))
    return table


def _instant(at: datetime | None) -> str:
    return f"{at.astimezone():%Y-%m-%d %H:%M:%S %z}" if at else ""

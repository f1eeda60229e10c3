"""Commands that show what is stored: list, show."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from rich.table import Table
from rich.text import Text

from openaperture.cli.durations import duration_text
from openaperture.cli.echoes import without_echoes
from openaperture.cli.exits import ExitCode
from openaperture.cli.session import open_session
from openaperture.cli.speech import answer, say
from openaperture.cli.summary import SHORT_ID_CHARACTERS, STATE_STYLES, origins_of, plan_text, release_text
from openaperture.cli.terminal import Style, open_console, show_json
from openaperture.cli.untrusted import one_line
from openaperture.client.models import Attempt, Event, Workflow, WorkflowSummary
from openaperture.config import Settings
from openaperture.domain.errors import BadInput

_AGO = re.compile(r"([0-9]{1,6})([mhd])")
_MINUTES = {"m": 1, "h": 60, "d": 1_440}


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which releases to list, in the user's words."""

    states: Sequence[str] = ()
    repository: str | None = None
    ref: str | None = None
    milestone: str | None = None
    text: str | None = None
    since: str | None = None
    until: str | None = None
    limit: int


async def list_releases(settings: Settings, wanted: Wanted, style: Style) -> ExitCode:
    """The newest workflows as a table or a JSON array."""
    now = datetime.now(UTC)
    since, until = _instant_of(wanted.since, now), _instant_of(wanted.until, now)
    async with open_session(settings) as session:
        found: list[WorkflowSummary] = []
        cursor: str | None = None
        while len(found) < wanted.limit:
            page = await session.client.list_workflows(
                states=wanted.states,
                source_repo=wanted.repository,
                ref=wanted.ref,
                milestone=wanted.milestone,
                text=wanted.text,
                created_after=since,
                created_before=until,
                limit=min(100, wanted.limit - len(found)),
                cursor=cursor,
            )
            found += page.workflows
            if (cursor := page.next_cursor) is None:
                break
        session.note_if_alone(*found)
    if cursor is not None:
        say(f"these are the newest {len(found)}, and there are more: --limit shows more of them")
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
        session.note_if_alone(workflow)
    if style is Style.JSON:
        show_json(workflow)
        return ExitCode.COMPLETED
    console = open_console(style)
    for text in _described(workflow, history.events):
        console.print(text, soft_wrap=True)
    if workflow.attempts:
        console.print(_attempts_of(workflow.attempts, is_held=workflow.state == "held"))
    for event in without_echoes(history.events):
        line = f"  {event.at.astimezone():%Y-%m-%d %H:%M:%S}  {one_line(event.text)}"
        console.print(Text(line, style="dim"), soft_wrap=True)
    return ExitCode.COMPLETED


def _instant_of(text: str | None, now: datetime) -> datetime | None:
    """`90m`, `24h` and `7d` are so long ago. Raises BadInput."""
    if text is None:
        return None
    if ago := _AGO.fullmatch(text):
        return now - timedelta(minutes=int(ago[1]) * _MINUTES[ago[2]])
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError) as exc:
        raise BadInput(
            f"{text[:64]!r} is no time; write 2026-03-05T23:25:19Z, or 90m, 24h, 7d for so long ago"
        ) from exc


def _table_of(workflows: Sequence[WorkflowSummary], style: Style) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("ID", "STATE", "AT", "AGE", "RELEASE"):
        table.add_column(heading, no_wrap=True, overflow="ellipsis")
    for workflow in workflows:
        shown_id = workflow.id[:SHORT_ID_CHARACTERS] if style is Style.LIVE else workflow.id
        state = Text(workflow.state, style=STATE_STYLES.get(workflow.state, ""))
        step = "" if workflow.ended else one_line(workflow.current_step or "")
        table.add_row(Text(shown_id), state, Text(step), Text(_age(workflow)), Text(release_text(workflow)))
    return table


def _age(workflow: WorkflowSummary) -> str:
    if workflow.created_at is None:
        return ""
    return duration_text(max(0.0, (datetime.now(UTC) - workflow.created_at).total_seconds()))


def _described(workflow: Workflow, events: Sequence[Event]) -> list[Text]:
    facts = [
        ("release", release_text(workflow)),
        ("milestones", plan_text(workflow) or "none"),
        ("after a failure", ", ".join(map(one_line, workflow.on_failure))),
        ("locks", ", ".join(map(one_line, workflow.locks))),
        ("repeats", _repeated(workflow)),
        ("repeated by", ", ".join(workflow.children)),
        ("created", _instant(workflow.created_at)),
        ("started", _instant(workflow.started_at)),
        ("ended", _instant(workflow.ended_at)),
        ("now" if not workflow.ended else "result", one_line(workflow.explanation.text)),
    ]
    origins = origins_of(workflow, events)
    for milestone, outputs in workflow.outputs.items():
        origin = f" ({origins[milestone]})" if milestone in origins else ""
        facts += [
            (f"output of {one_line(milestone)}{origin}", f"{one_line(n)} = {one_line(t)}")
            for n, t in outputs.items()
        ]
    state = Text.assemble(f"workflow {workflow.id}: ", (workflow.state, STATE_STYLES.get(workflow.state, "")))
    return [state, *(Text(f"{name}: {value}") for name, value in facts if value)]


def _repeated(workflow: Workflow) -> str:
    if workflow.parent_id is None:
        return ""
    begin = workflow.plan[workflow.first_position] if workflow.first_position else []
    return workflow.parent_id + (f", from {' + '.join(map(one_line, begin))} on" if begin else "")


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

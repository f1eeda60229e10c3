"""What a person reads at the end of a release: how it went, how long it took, what it left, what to do next."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from openaperture.cli.durations import duration_text
from openaperture.cli.picture import Mark, Picture, Row
from openaperture.cli.untrusted import one_line
from openaperture.client.models import Event, WorkflowSummary

SHORT_ID_CHARACTERS = 8
"""Of an id that people read; any unique beginning is taken as an id."""
LAST_LINES = 15
"""Lines of output shown of a milestone that failed."""
_SHOWN_HASH_CHARACTERS = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line, and the style it has where styles are shown."""

    text: str
    style: str = ""


STATE_STYLES = {
    "completed": "bold green",
    "failed": "bold red",
    "cancelled": "bold yellow",
    "cancelling": "yellow",
    "held": "bold magenta",
    "waiting": "yellow",
    "running": "cyan",
    "paused": "yellow",
    "created": "",
}


def plan_text(workflow: WorkflowSummary) -> str:
    """Its milestones as they are written for `--milestones`: `build, test + scan, deploy`."""
    groups = workflow.plan or [[name] for name in workflow.milestones]
    return ", ".join(" + ".join(map(one_line, group)) for group in groups)


def release_text(workflow: WorkflowSummary) -> str:
    """The repository and what of it is released, such as `acme/shop at main (commit 1f2e3d4c5b6a)`."""
    repository = workflow.source_repo or workflow.deployment_repo
    ref = workflow.source_repo_git_ref if workflow.source_repo else workflow.deployment_repo_git_ref
    commit = workflow.source_commit_hash
    text = one_line(repository) if repository else "no repository"
    if ref:
        text += f" at {_short(one_line(ref))}"
    if commit and commit != ref:
        text += f" (commit {_short(one_line(commit))})"
    return text


def taken_over_text(workflow_id: str) -> str:
    return f"taken over from {workflow_id[:SHORT_ID_CHARACTERS]}"


def origins_of(workflow: WorkflowSummary, events: Sequence[Event] = ()) -> dict[str, str]:
    """Milestone -> where its outputs come from, of those that this release has from another one."""
    if workflow.parent_id is None:
        return {}
    before = {name for group in workflow.plan[: workflow.first_position] for name in group}
    skipped = {str(event.details.get("milestone")) for event in events if event.kind == "milestone.skipped"}
    return dict.fromkeys(before | skipped, taken_over_text(workflow.parent_id))


def summarise(workflow: WorkflowSummary, picture: Picture) -> list[Line]:
    """The end of a release that ended or is held."""
    return [_result(workflow, picture), *_milestones(picture), *_failure(picture), *_next_step(workflow, picture)]


def _result(workflow: WorkflowSummary, picture: Picture) -> Line:
    text = workflow.state
    if picture.started_at and picture.ended_at:
        text += f" after {duration_text((picture.ended_at - picture.started_at).total_seconds())}"
    if workflow.reason:
        text += f": {one_line(workflow.reason)}"
    else:
        text += f": {release_text(workflow)}"
    return Line(text=text, style=STATE_STYLES.get(workflow.state, ""))


def _milestones(picture: Picture) -> Iterator[Line]:
    width = max((len(one_line(row.name)) for row in picture.rows), default=0)
    for row in picture.rows:
        yield Line(text=f"  {one_line(row.name):<{width}}  {_how_it_went(row)}")
        for name, text in row.outputs.items():
            yield Line(text=f"    {name} = {text}", style="dim")


def _how_it_went(row: Row) -> str:
    if row.taken_over_from:
        return taken_over_text(row.taken_over_from)
    seconds = row.elapsed_seconds(datetime.now(UTC))
    if row.mark is Mark.PENDING or seconds is None:
        return "not reached"
    return duration_text(seconds) if row.mark is Mark.DONE else f"{duration_text(seconds)}, {row.mark}"


def _failure(picture: Picture) -> Iterator[Line]:
    row = picture.failed
    if row is None or not row.tail:
        return
    yield Line(text=f"last lines of {one_line(row.name)}:")
    for line in list(row.tail)[-LAST_LINES:]:
        yield Line(text=f"  | {line}", style="dim")


def _next_step(workflow: WorkflowSummary, picture: Picture) -> Iterator[Line]:
    if workflow.state == "failed" and any(row.tail for row in picture.rows):
        logs = f'"openaperture logs {workflow.id}"'
        retry = f'"openaperture retry {workflow.id}" goes on from there'
        yield Line(text=f"next: {logs} shows its whole output; repair the cause, and {retry}")
    elif workflow.state == "held":
        resolve = f"openaperture resolve {workflow.id}"
        yield Line(text=f'next: look at the target, then "{resolve} worked", "failed" or "again"')


def _short(ref: str) -> str:
    is_hash = len(ref) in {40, 64} and all(c in "0123456789abcdef" for c in ref)
    return ref[:_SHOWN_HASH_CHARACTERS] if is_hash else ref

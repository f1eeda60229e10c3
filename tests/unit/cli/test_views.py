"""How a release looks: plain lines, the live picture, the summary."""

import io
from collections.abc import Sequence

import pytest
from rich.console import Console, Group

from openaperture.cli.durations import duration_text
from openaperture.cli.live import LiveView
from openaperture.cli.picture import Picture, TakenOver
from openaperture.cli.plain import PlainView
from openaperture.cli.summary import release_text, summarise
from openaperture.client.models import Event
from tests.unit.cli.told import ID, at, chunk, event, workflow

HOSTILE = "\x1b[2J[bold red]evil[/]\x07"


def drawn(picture: Picture, *, height: int = 40, width: int = 60, seconds: float = 100) -> list[str]:
    """The lines of one drawing."""
    console = Console(file=io.StringIO(), width=width, height=height, force_terminal=True, color_system=None)
    view = LiveView(console, picture, "release 41f: acme/shop at main")
    console.print(Group(*view.render(console.options, height, at(seconds))))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def told(events: Sequence[Event], milestones: Sequence[str] = ("build", "deploy")) -> Picture:
    picture = Picture(milestones)
    for one in events:
        picture.tell(one)
    return picture


def test_plain_lines_come_as_things_happen() -> None:
    stream = io.StringIO()
    view = PlainView(stream, Picture(["build"]))

    view.tell(event(1, "milestone.requested", "build requested from queue builder", attempt="0.0.1"))
    view.tell_output(chunk(1, "compiling", "linking", seconds=2))
    view.tell(event(3, "workflow.completed", "of which the summary speaks"))

    lines = stream.getvalue().splitlines()
    assert lines == [
        f"{at(1).astimezone():%H:%M:%S} build requested from queue builder",
        f"{at(2).astimezone():%H:%M:%S} build | compiling",
        f"{at(2).astimezone():%H:%M:%S} build | linking",
    ]


def test_a_wait_that_the_line_before_has_told_of_is_not_told_again() -> None:
    stream = io.StringIO()
    view = PlainView(stream, Picture(["approval"]))
    view.tell(event(1, "approval.asked", "waits for one person"))
    view.tell(event(1, "workflow.waiting", "waits for one person"))
    view.tell(event(2, "workflow.waiting", "waits for its start time"))
    assert [line[9:] for line in stream.getvalue().splitlines()] == [
        "waits for one person",
        "waits for its start time",
    ]


def test_plain_lines_carry_no_controls_whoever_wrote_them() -> None:
    stream = io.StringIO()
    view = PlainView(stream, Picture(["build"]))
    view.tell(event(1, "milestone.note", HOSTILE, attempt="0.0.1"))
    view.tell_output(chunk(1, HOSTILE, milestone=HOSTILE))
    view.tell_away(HOSTILE)
    assert not set(stream.getvalue()) & {"\x1b", "\x07"}
    assert stream.getvalue().count("[bold red]evil[/]") == 4


def test_the_live_view_has_a_line_per_milestone_and_the_end_of_the_running_ones_output() -> None:
    picture = told(
        [
            event(1, "milestone.requested", attempt="0.0.1"),
            event(4, "milestone.completed", attempt="0.0.1"),
            event(5, "milestone.requested", attempt="0.1.1"),
            event(6, "milestone.claimed", attempt="0.1.1"),
        ]
    )
    picture.tell_output(chunk(1, *(f"line {n}" for n in range(1, 10)), attempt="0.1.1"))

    lines = drawn(picture, seconds=15)

    assert lines[0].strip() == "release 41f: acme/shop at main"
    assert lines[1].split() == ["✓", "build", "3.0", "s"]
    assert lines[2].split()[1:] == ["deploy", "10.0", "s"]
    assert [line.strip() for line in lines[3:]] == [f"line {n}" for n in range(5, 10)]


def test_the_live_view_reads_no_markup_and_passes_no_controls_on() -> None:
    picture = told([event(1, "milestone.requested", attempt="0.0.1")], [HOSTILE])
    picture.tell_output(chunk(1, HOSTILE))
    picture.tell(event(2, "milestone.note", HOSTILE, attempt="0.0.1"))
    text = "\n".join(drawn(picture, width=200))
    assert text.count("[bold red]evil[/]") == 3
    assert not set(text) & {"\x1b", "\x07"}


def test_long_lines_are_cut_to_the_width_of_the_terminal() -> None:
    picture = told([event(1, "milestone.claimed", attempt="0.0.1")])
    picture.tell_output(chunk(1, "wide " * 100, "世界" * 100))
    assert all(len(line) <= 60 for line in drawn(picture, width=60))
    assert len(drawn(picture, width=60)) == 5


@pytest.mark.parametrize("height", [12, 24, 50])
def test_many_milestones_never_outgrow_the_terminal(height: int) -> None:
    milestones = [f"step{n}" for n in range(100)]
    events = [event(1, "milestone.requested", attempt="0.60.1"), event(2, "milestone.claimed", attempt="0.60.1")]
    picture = told(events, milestones)
    picture.tell_output(chunk(1, *(f"line {n}" for n in range(30)), attempt="0.60.1"))

    lines = drawn(picture, height=height)

    assert len(lines) <= height
    assert any("step60" in line for line in lines)
    assert any("earlier milestones" in line for line in lines)
    assert any("later milestones" in line for line in lines)


def test_the_live_view_says_when_the_manager_is_away_and_stops_when_it_is_back() -> None:
    console = Console(file=io.StringIO(), width=80)
    view = LiveView(console, Picture(["build"]), "header")
    view.tell_away("the Manager cannot be reached")
    away = [line.plain for line in view.render(console.options, 40, at(1))]
    view.tell_back()
    back = [line.plain for line in view.render(console.options, 40, at(2))]
    assert "cannot be reached; still trying" in away[-1]
    assert away[:-1] == back


def test_the_live_view_draws_on_a_terminal_and_leaves_its_last_picture() -> None:
    stream = io.StringIO()
    console = Console(file=stream, width=80, force_terminal=True)
    with LiveView(console, Picture(["build"]), "header") as view:
        view.tell(event(1, "milestone.requested", attempt="0.0.1"))
        view.tell(event(2, "milestone.completed", attempt="0.0.1"))
    assert "✓" in stream.getvalue().rsplit("header", 1)[1]


def test_the_summary_of_a_success_has_durations_and_outputs() -> None:
    picture = told(
        [
            event(0, "workflow.started"),
            event(1, "milestone.requested", attempt="0.0.1"),
            event(5, "milestone.completed", attempt="0.0.1", outputs={"wheel": "artifact:x.whl"}),
            event(5, "milestone.requested", attempt="0.1.1"),
            event(9, "milestone.completed", attempt="0.1.1"),
            event(9, "workflow.completed"),
        ]
    )
    lines = [line.text for line in summarise(workflow("completed", source_commit_hash="f" * 40), picture)]
    assert lines == [
        "completed after 9.0 s: acme/shop at main (commit ffffffffffff)",
        "  build   4.0 s",
        "    wheel = artifact:x.whl",
        "  deploy  4.0 s",
    ]


def test_the_summary_of_a_failure_has_the_reason_the_last_lines_and_the_next_step() -> None:
    picture = told(
        [
            event(0, "workflow.started"),
            event(1, "milestone.requested", attempt="0.0.1"),
            event(4, "milestone.failed", attempt="0.0.1"),
            event(4, "workflow.failed"),
        ]
    )
    picture.tell_output(chunk(1, "make: *** no rule"))
    reason = f"milestone build failed: {HOSTILE}"
    lines = [line.text for line in summarise(workflow("failed", reason=reason), picture)]
    assert lines == [
        "failed after 4.0 s: milestone build failed: [bold red]evil[/]",
        "  build   3.0 s, failed",
        "  deploy  not reached",
        "last lines of build:",
        "  | make: *** no rule",
        (
            f'next: "openaperture logs {ID}" shows its whole output; repair the cause, '
            f'and "openaperture retry {ID}" goes on from there'
        ),
    ]


def test_what_was_taken_over_from_another_release_is_told_as_that() -> None:
    outputs = {"build": {"wheel": "artifact:x.whl"}}
    taken_over = TakenOver(workflow_id=ID, first_position=1, outputs=outputs)
    picture = Picture(["build", "deploy"], taken_over=taken_over)
    for one in (
        event(0, "workflow.started"),
        event(1, "milestone.requested", attempt="0.1.1"),
        event(4, "milestone.completed", attempt="0.1.1"),
        event(4, "workflow.completed"),
    ):
        picture.tell(one)
    lines = [line.text for line in summarise(workflow("completed"), picture)][1:]
    assert lines == ["  build   taken over from 41f0c2d1", "    wheel = artifact:x.whl", "  deploy  3.0 s"]
    assert drawn(picture)[1].split() == ["✓", "build", "taken", "over", "from", "41f0c2d1"]


def test_the_summary_of_a_held_release_says_what_a_person_has_to_do() -> None:
    picture = told([event(1, "milestone.requested", attempt="0.0.1"), event(2, "workflow.held")])
    lines = [line.text for line in summarise(workflow("held", reason="the outcome is unknown"), picture)]
    assert lines[0] == "held: the outcome is unknown"
    assert lines[-1].startswith(f'next: look at the target, then "openaperture resolve {ID} worked"')


def test_a_release_is_named_by_its_deployment_repository_when_it_has_no_other() -> None:
    assert release_text(workflow("created", source_repo=None, deployment_repo="acme/shop_docker")) == (
        "acme/shop_docker"
    )


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0 s"),
        (3.24, "3.2 s"),
        (59.94, "59.9 s"),
        (59.96, "1 min 00 s"),
        (247, "4 min 07 s"),
        (3599.9, "1 h 00 min"),
        (7500, "2 h 05 min"),
    ],
)
def test_durations_are_read_at_a_glance(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text

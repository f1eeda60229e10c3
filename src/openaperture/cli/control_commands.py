"""The commands of control with their arguments and options: verbs, votes, locks, history."""

# ruff: noqa: PLC0415  imports inside functions keep `--help` quick, as in commands.py

from typing import TYPE_CHECKING, Annotated

import typer

from openaperture.cli.invocation import invocation_of
from openaperture.cli.options import IdArgument, JsonOption, PlainOption, ReasonOption, Resolution

if TYPE_CHECKING:
    from openaperture.cli.control import Verb
    from openaperture.cli.terminal import Style

_PANEL = "Control"

locks_app = typer.Typer(help="Locks: who has which, and to take one away.", no_args_is_help=False)

FromOption = Annotated[
    str, typer.Option("--from", metavar="MILESTONE", help="Where it begins.", show_default=False)
]
NewestOption = Annotated[
    bool, typer.Option("--newest", help="Release what the refs point to by now, not the commit of before.")
]
MilestoneOption = Annotated[
    str | None,
    typer.Option("--milestone", metavar="NAME", help="Which one is meant, where several are.", show_default=False),
]
FollowOption = Annotated[bool, typer.Option("--follow", "-f", help="Go on until the release ends.")]


def add_to(app: typer.Typer) -> None:
    for command in (explain, cancel, pause, resume, retry, rerun, again, approve, reject, resolve, events, logs):
        app.command(command.__name__, rich_help_panel=_PANEL)(command)
    app.add_typer(locks_app, name="locks", rich_help_panel=_PANEL)


# ------------------------------------------------------------------------------------------ looking


def explain(
    context: typer.Context, workflow_id: IdArgument, as_json: JsonOption = False, plain: PlainOption = False
) -> None:
    """Say why a release stands where it stands, and what would move it."""
    from openaperture.cli import control

    style = _style(as_json, plain)
    invocation_of(context).complete(lambda settings: control.explain(settings, workflow_id, style))


def events(
    context: typer.Context, workflow_id: IdArgument, follow: FollowOption = False, as_json: JsonOption = False
) -> None:
    """Print the history of a release; with --follow and --json a line of JSON for each event."""
    from openaperture.cli import history

    style = _style(as_json, plain=True)
    invocation_of(context).complete(
        lambda settings: history.print_events(settings, workflow_id, style, follow=follow)
    )


def logs(
    context: typer.Context,
    *,
    workflow_id: IdArgument,
    follow: FollowOption = False,
    attempt: Annotated[
        str | None,
        typer.Option("--attempt", metavar="ATTEMPT", help="Only of this one, such as 0.0.1.", show_default=False),
    ] = None,
    tail: Annotated[
        int | None,
        typer.Option("--tail", min=1, max=10_000, help="Only the last so many lines.", show_default=False),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Print the output of a release's milestones; with --follow and --json a line of JSON for each chunk."""
    from openaperture.cli import history, release

    if attempt is None and tail is None and not as_json:
        # Merged by the order in which its workers wrote it.
        invocation_of(context).complete(
            lambda settings: release.print_output(settings, workflow_id, follow=follow)
        )
    style = _style(as_json, plain=True)
    invocation_of(context).complete(
        lambda settings: history.print_output(
            settings, workflow_id, style, follow=follow, attempt=attempt, tail=tail
        )
    )


# ------------------------------------------------------------------------------------- on the way


def cancel(
    context: typer.Context,
    *,
    workflow_id: IdArgument,
    reason: ReasonOption = "",
    force: Annotated[
        bool, typer.Option("--force", help="At once; the command of its worker may go on for a while.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """End a release; a worker that is at it gets a moment to stop."""
    from openaperture.cli import control

    style = _style(as_json, plain=True)
    invocation_of(context).complete(
        lambda settings: control.cancel(settings, workflow_id, reason, style, force=force)
    )


def pause(
    context: typer.Context, workflow_id: IdArgument, reason: ReasonOption = "", as_json: JsonOption = False
) -> None:
    """Begin nothing more of a release; what runs may end."""
    _steer(context, workflow_id, lambda client, key: client.control.pause(key, reason), as_json=as_json)


def resume(
    context: typer.Context, workflow_id: IdArgument, reason: ReasonOption = "", as_json: JsonOption = False
) -> None:
    """Let a paused release go on."""
    _steer(context, workflow_id, lambda client, key: client.control.resume(key, reason), as_json=as_json)


def resolve(
    context: typer.Context,
    *,
    workflow_id: IdArgument,
    resolution: Annotated[
        Resolution,
        typer.Argument(help="It worked, it failed, or it is to be done again.", show_default=False),
    ],
    milestone: MilestoneOption = None,
    reason: ReasonOption = "",
    as_json: JsonOption = False,
) -> None:
    """Say what became of a milestone whose outcome is unknown, so that its release goes on."""
    _steer(
        context,
        workflow_id,
        lambda client, key: client.resolve(key, resolution, reason, milestone=milestone),
        as_json=as_json,
    )


def approve(
    context: typer.Context,
    *,
    workflow_id: IdArgument,
    milestone: MilestoneOption = None,
    reason: ReasonOption = "",
    as_json: JsonOption = False,
) -> None:
    """Approve what a release waits for; what is approved is shown, and nothing else counts."""
    _decide(context, workflow_id, approves=True, milestone=milestone, reason=reason, as_json=as_json)


def reject(
    context: typer.Context,
    *,
    workflow_id: IdArgument,
    milestone: MilestoneOption = None,
    reason: ReasonOption = "",
    as_json: JsonOption = False,
) -> None:
    """Reject it: the milestone fails."""
    _decide(context, workflow_id, approves=False, milestone=milestone, reason=reason, as_json=as_json)


# ------------------------------------------------------------------------------------ as another one


def retry(
    context: typer.Context, workflow_id: IdArgument, newest: NewestOption = False, as_json: JsonOption = False
) -> None:
    """Start a release that goes on where this one failed, and print its id."""
    _repeat(context, workflow_id, lambda client, key: client.control.retry(key, newest=newest), as_json=as_json)


def rerun(
    context: typer.Context,
    *,
    workflow_id: IdArgument,
    milestone: FromOption,
    newest: NewestOption = False,
    as_json: JsonOption = False,
) -> None:
    """Start a release that does this one again from a milestone on, and print its id."""
    _repeat(
        context,
        workflow_id,
        lambda client, key: client.control.rerun(key, milestone, newest=newest),
        as_json=as_json,
    )


def again(
    context: typer.Context, workflow_id: IdArgument, newest: NewestOption = False, as_json: JsonOption = False
) -> None:
    """Start a release that does all of this one again, and print its id."""
    _repeat(context, workflow_id, lambda client, key: client.control.again(key, newest=newest), as_json=as_json)


# ------------------------------------------------------------------------------------------- locks


@locks_app.command("list")
def locks_list(context: typer.Context, as_json: JsonOption = False, plain: PlainOption = False) -> None:
    """List the locks that somebody has or waits for."""
    from openaperture.cli import control

    style = _style(as_json, plain)
    invocation_of(context).complete(lambda settings: control.list_locks(settings, style))


@locks_app.command("release")
def locks_release(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The lock.", show_default=False)],
    reason: ReasonOption = "",
    force: Annotated[bool, typer.Option("--force", help="Also while a milestone of it runs.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Take a lock away from the release that has it; the next in the queue gets it."""
    from openaperture.cli import control

    style = _style(as_json, plain=True)
    invocation_of(context).complete(
        lambda settings: control.release_lock(settings, name, reason, style, force=force)
    )


@locks_app.callback(invoke_without_command=True)
def _locks(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        locks_list(context)


# ------------------------------------------------------------------------------------------- pieces


def _steer(context: typer.Context, workflow_id: str, verb: "Verb", *, as_json: bool) -> None:
    from openaperture.cli import control

    style = _style(as_json, plain=True)
    invocation_of(context).complete(lambda settings: control.steer(settings, workflow_id, verb, style))


def _repeat(context: typer.Context, workflow_id: str, verb: "Verb", *, as_json: bool) -> None:
    from openaperture.cli import control

    style = _style(as_json, plain=True)
    invocation_of(context).complete(lambda settings: control.repeat(settings, workflow_id, verb, style))


def _decide(
    context: typer.Context, workflow_id: str, *, approves: bool, milestone: str | None, reason: str, as_json: bool
) -> None:
    from openaperture.cli import control

    style = _style(as_json, plain=True)
    invocation_of(context).complete(
        lambda settings: control.decide(
            settings, workflow_id, approves=approves, milestone=milestone, reason=reason, style=style
        )
    )


def _style(as_json: bool, plain: bool) -> "Style":
    from openaperture.cli.terminal import style_for

    return style_for(as_json=as_json, plain=plain)

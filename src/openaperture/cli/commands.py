"""Every command with its arguments and options, as `--help` and docs/reference/cli.md show them.

Only the parser is imported here; a command imports what it runs when it runs, so that `--help` is quick.
"""

# ruff: noqa: PLC0415  imports inside functions are what this file is about

import asyncio
import gc
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from openaperture.cli import access_commands, control_commands, directory_commands
from openaperture.cli.boundary import guard
from openaperture.cli.exits import ExitCode
from openaperture.cli.invocation import Invocation, invocation_of
from openaperture.cli.options import (
    DeploymentRefOption,
    DeploymentRepositoryOption,
    ForceBuildOption,
    IdArgument,
    JsonOption,
    LockFromOption,
    LockOption,
    MilestonesOption,
    OnFailureOption,
    PlainOption,
    RefOption,
    RepositoryArgument,
    SinceOption,
    StartTimeOption,
    StateName,
    UntilOption,
    WhenLockedName,
    WhenLockedOption,
)
from openaperture.cli.plain_spoken import PlainSpoken
from openaperture.cli.speech import answer

if TYPE_CHECKING:
    from openaperture.cli.terminal import Style
    from openaperture.config import Settings

app = typer.Typer(
    name="openaperture",
    cls=PlainSpoken,
    help="Runs releases (build, deploy and what lies between) over a message broker, and loses none.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
config_app = typer.Typer(help="Shows and checks the configuration.", no_args_is_help=True)
app.add_typer(config_app, name="config", rich_help_panel="Operation")
control_commands.add_to(app)
directory_commands.add_to(app)
access_commands.add_to(app)

GARBAGE_THRESHOLD = 20_000
"""So many new objects that stay, and Python looks for cycles among them."""

_RELEASES = "Releases"
_SERVICES = "Services"
_OPERATION = "Operation"


def main() -> None:
    """Entry point of `openaperture` and `oa`."""
    # At the default of 700, looking for cycles is a sixth of an orchestrator's work, and finds next to nothing.
    gc.set_threshold(GARBAGE_THRESHOLD)
    for stream in (sys.stdout, sys.stderr):
        # Output of a build may hold what the terminal's encoding cannot show.
        if (reconfigure := getattr(stream, "reconfigure", None)) is not None:
            reconfigure(errors="backslashreplace")
    sys.exit(guard(_run_program, lambda _: None))


def _run_program() -> int:
    """Always leaves by SystemExit, with the code of the command or of the parser."""
    app(prog_name="openaperture")
    return ExitCode.COMPLETED


def _print_version(wanted: bool) -> None:
    if wanted:
        version()


@app.callback()
def _globals(
    context: typer.Context,
    config: Annotated[
        Path | None,
        typer.Option(
            "--config",
            metavar="FILE",
            help="Configuration file; else OPENAPERTURE_CONFIG, else openaperture.toml in this folder.",
            show_default=False,
        ),
    ] = None,
    version: Annotated[  # noqa: ARG001  its callback acts
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    context.obj = Invocation(config)


# ----------------------------------------------------------------------------------------- releases


@app.command(rich_help_panel=_RELEASES)
def run(
    context: typer.Context,
    *,
    repository: RepositoryArgument,
    ref: RefOption = None,
    milestones: MilestonesOption = "build,deploy",
    on_failure: OnFailureOption = "",
    lock: LockOption = None,
    lock_from: LockFromOption = None,
    when_locked: WhenLockedOption = WhenLockedName.WAIT,
    deployment_repository: DeploymentRepositoryOption = None,
    deployment_ref: DeploymentRefOption = None,
    start_time: StartTimeOption = None,
    force_build: ForceBuildOption = False,
    as_json: JsonOption = False,
    plain: PlainOption = False,
) -> None:
    """Release a repository and follow it to its end; the exit code is the result.

    Uses the orchestrator that runs; with the embedded broker and none running, this command is one itself.
    """
    from openaperture.cli import release

    order = release.Order(
        repository=repository,
        ref=ref,
        milestones=milestones,
        deployment_repository=deployment_repository,
        deployment_ref=deployment_ref,
        start_time=start_time,
        force_build=force_build,
        on_failure=on_failure,
        locks=lock or (),
        lock_from=lock_from,
        when_locked=when_locked,
    )
    invocation_of(context).complete(lambda settings: release.run(settings, order, _style(as_json, plain)))


@app.command(rich_help_panel=_RELEASES)
def submit(
    context: typer.Context,
    *,
    repository: RepositoryArgument,
    ref: RefOption = None,
    milestones: MilestonesOption = "build,deploy",
    on_failure: OnFailureOption = "",
    lock: LockOption = None,
    lock_from: LockFromOption = None,
    when_locked: WhenLockedOption = WhenLockedName.WAIT,
    deployment_repository: DeploymentRepositoryOption = None,
    deployment_ref: DeploymentRefOption = None,
    start_time: StartTimeOption = None,
    force_build: ForceBuildOption = False,
    as_json: JsonOption = False,
) -> None:
    """Start a release, print its id and return at once."""
    from openaperture.cli import release

    order = release.Order(
        repository=repository,
        ref=ref,
        milestones=milestones,
        deployment_repository=deployment_repository,
        deployment_ref=deployment_ref,
        start_time=start_time,
        force_build=force_build,
        on_failure=on_failure,
        locks=lock or (),
        lock_from=lock_from,
        when_locked=when_locked,
    )
    invocation_of(context).complete(lambda settings: release.submit(settings, order, _style(as_json, plain=True)))


@app.command("list", rich_help_panel=_RELEASES)
def list_(
    context: typer.Context,
    *,
    state: Annotated[
        list[StateName] | None,
        typer.Option("--state", help="Only those in this state; may be given several times.", show_default=False),
    ] = None,
    repository: Annotated[
        str | None, typer.Option("--repo", help="Only those of this source repository.", show_default=False)
    ] = None,
    ref: Annotated[str | None, typer.Option("--ref", help="Only those of this ref.", show_default=False)] = None,
    milestone: Annotated[
        str | None, typer.Option("--milestone", help="Only those with this milestone.", show_default=False)
    ] = None,
    text: Annotated[
        str | None,
        typer.Option(
            "--text", help="Only those with this in a repository, ref, reason or id.", show_default=False
        ),
    ] = None,
    since: SinceOption = None,
    until: UntilOption = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=10_000, help="How many at most.")] = 20,
    as_json: JsonOption = False,
    plain: PlainOption = False,
) -> None:
    """List releases, the newest first."""
    from openaperture.cli import records

    wanted = records.Wanted(
        states=state or (),
        repository=repository,
        ref=ref,
        milestone=milestone,
        text=text,
        since=since,
        until=until,
        limit=limit,
    )
    style = _style(as_json, plain)
    invocation_of(context).complete(lambda settings: records.list_releases(settings, wanted, style))


@app.command(rich_help_panel=_RELEASES)
def show(
    context: typer.Context, workflow_id: IdArgument, as_json: JsonOption = False, plain: PlainOption = False
) -> None:
    """Show one release: where it is and why, its attempts, outputs and history."""
    from openaperture.cli import records

    invocation_of(context).complete(lambda settings: records.show(settings, workflow_id, _style(as_json, plain)))


@app.command(rich_help_panel=_RELEASES)
def watch(
    context: typer.Context, workflow_id: IdArgument, as_json: JsonOption = False, plain: PlainOption = False
) -> None:
    """Follow a release to its end; the exit code is the result."""
    from openaperture.cli import release

    invocation_of(context).complete(lambda settings: release.watch(settings, workflow_id, _style(as_json, plain)))


# ----------------------------------------------------------------------------------------- services


@app.command(rich_help_panel=_SERVICES)
def up(context: typer.Context) -> None:
    """Run everything in one process until it is stopped: orchestrator, worker and Manager."""

    async def serve(settings: "Settings") -> int:
        from openaperture.app.processes import serve_up
        from openaperture.cli.greeting import greet

        return await serve_up(settings, greet)

    invocation_of(context).complete(serve)


@app.command(rich_help_panel=_SERVICES)
def orchestrator(context: typer.Context) -> None:
    """Run an orchestrator until it is stopped; any number may run on one database and broker."""

    async def serve(settings: "Settings") -> int:
        _refuse_embedded(settings, "orchestrator")
        from openaperture.app.processes import serve_orchestrator

        return await serve_orchestrator(settings)

    invocation_of(context).complete(serve)


@app.command(rich_help_panel=_SERVICES)
def manager(context: typer.Context) -> None:
    """Serve the Manager's API alone until it is stopped; any number may run on one database."""

    async def serve(settings: "Settings") -> int:
        _refuse_embedded(settings, "manager")
        from openaperture.app.processes import serve_manager
        from openaperture.cli.greeting import greet

        return await serve_manager(settings, greet)

    invocation_of(context).complete(serve)


@app.command(rich_help_panel=_SERVICES)
def worker(
    context: typer.Context,
    queue: Annotated[
        list[str] | None,
        typer.Option("--queue", help="A queue to serve instead of the configured ones; may be repeated."),
    ] = None,
    slots: Annotated[
        int | None,
        typer.Option("--slots", min=1, help="How many milestones at once.", show_default=False),
    ] = None,
) -> None:
    """Run a worker for the commands that repositories declare, until it is stopped."""

    async def serve(settings: "Settings") -> int:
        _refuse_embedded(settings, "worker")
        from openaperture.app.processes import serve_worker

        return await serve_worker(settings, queue or ())

    invocation = invocation_of(context)
    overriding = {} if slots is None else {"OPENAPERTURE_WORKER__SLOTS": str(slots)}
    invocation.finish(lambda: asyncio.run(serve(invocation.settings_and_folder(**overriding))))


# ---------------------------------------------------------------------------------------- operation


@config_app.command("show")
def config_show(context: typer.Context, as_json: JsonOption = False) -> None:
    """Print the settings as they apply, secrets masked."""
    from openaperture.cli import configuration

    invocation = invocation_of(context)
    invocation.finish(lambda: configuration.show(invocation.settings(), as_json=as_json))


@config_app.command("check")
def config_check(context: typer.Context, as_json: JsonOption = False) -> None:
    """Say whether the settings can be used, with every problem at once."""
    from openaperture.cli import configuration

    invocation = invocation_of(context)
    invocation.finish(lambda: configuration.check(invocation.settings(), as_json=as_json))


@app.command(rich_help_panel=_OPERATION)
def bench(
    context: typer.Context,
    workflows: Annotated[int, typer.Option("--workflows", min=1, help="How many releases to measure.")] = 2000,
    hops: Annotated[int, typer.Option("--hops", min=1, help="How many single hops to measure.")] = 200,
    as_json: JsonOption = False,
) -> None:
    """Measure this machine, beside a floor that does only the needed broker and database work."""
    from openaperture.cli import figures

    invocation = invocation_of(context)
    style = _style(as_json, plain=True)
    invocation.finish(lambda: figures.bench(invocation.settings(), style, workflows=workflows, hops=hops))


@app.command("version", rich_help_panel=_OPERATION)
def version(as_json: JsonOption = False) -> None:
    """Print the version."""
    import json
    from importlib.metadata import version as version_of

    number = version_of("openaperture")
    answer(json.dumps({"version": number}) if as_json else f"openaperture {number}")
    raise typer.Exit(ExitCode.COMPLETED)


# ------------------------------------------------------------------------------------------- pieces


def _style(as_json: bool, plain: bool) -> "Style":
    from openaperture.cli.terminal import style_for

    return style_for(as_json=as_json, plain=plain)


def _refuse_embedded(settings: "Settings", name: str) -> None:
    from openaperture.domain.errors import ConfigError

    if settings.broker == "embedded":
        problem = (
            f'"openaperture {name}" needs a broker that several processes share, and broker is "embedded"; '
            'set it to a URL such as "amqp://user@host/", or run everything in one process with "openaperture up"'
        )
        raise ConfigError([problem])

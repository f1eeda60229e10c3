"""Arguments and options that several commands share."""

from enum import StrEnum
from typing import Annotated

import typer


class Resolution(StrEnum):
    """What a person found out about a held milestone."""

    WORKED = "worked"
    FAILED = "failed"
    AGAIN = "again"


class StateName(StrEnum):
    """The states of a workflow, as they are named in filters."""

    CREATED = "created"
    RUNNING = "running"
    WAITING = "waiting"
    HELD = "held"
    PAUSED = "paused"
    CANCELLING = "cancelling"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class WhenLockedName(StrEnum):
    """What to do when somebody else has a lock."""

    WAIT = "wait"
    NEWEST = "newest"
    REFUSE = "refuse"


RepositoryArgument = Annotated[
    str,
    typer.Argument(
        metavar="REPO",
        help="A folder in a git repository, a URL, or owner/name on GitHub.",
        show_default=False,
    ),
]
RefOption = Annotated[
    str | None,
    typer.Option(
        "--ref",
        help="Branch, tag or commit. Without it: the current commit of a folder, the default branch of a URL.",
        show_default=False,
    ),
]
MilestonesOption = Annotated[
    str,
    typer.Option(
        "--milestones",
        metavar="NAMES",
        help="What to do, in this order, with commas between; a+b run side by side.",
    ),
]
OnFailureOption = Annotated[
    str,
    typer.Option(
        "--on-failure", metavar="NAMES", help="Milestones to run once it has failed.", show_default=False
    ),
]
LockOption = Annotated[
    list[str] | None,
    typer.Option(
        "--lock",
        metavar="NAME",
        help="What only one release may have at a time, such as environment:prod; may be repeated.",
        show_default=False,
    ),
]
LockFromOption = Annotated[
    str | None,
    typer.Option(
        "--lock-from",
        metavar="MILESTONE",
        help="Before which milestone the locks are taken; else before the first.",
        show_default=False,
    ),
]
WhenLockedOption = Annotated[
    WhenLockedName,
    typer.Option("--when-locked", help="Wait, wait in place of older ones, or fail, if one is taken."),
]
SinceOption = Annotated[
    str | None,
    typer.Option(
        "--since", metavar="TIME", help="Created after it: a time, or 90m, 24h, 7d ago.", show_default=False
    ),
]
UntilOption = Annotated[
    str | None,
    typer.Option("--until", metavar="TIME", help="Created before it, written likewise.", show_default=False),
]
DeploymentRepositoryOption = Annotated[
    str | None,
    typer.Option(
        "--deployment-repo",
        metavar="REPO",
        help="A second repository, which describes the deployment.",
        show_default=False,
    ),
]
DeploymentRefOption = Annotated[
    str | None,
    typer.Option("--deployment-ref", help="Its branch, tag or commit.", show_default=False),
]
StartTimeOption = Annotated[
    str | None,
    typer.Option(
        "--start-time",
        metavar="TIME",
        help='For the milestone "scheduled": when to go on, such as "Tue, 05 Mar 2030 23:25:19 UTC".',
        show_default=False,
    ),
]
ForceBuildOption = Annotated[bool, typer.Option("--force-build", help="Build what exists already too.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]
PlainOption = Annotated[bool, typer.Option("--plain", help="Plain lines, as when NO_COLOR is set.")]
IdArgument = Annotated[
    str,
    typer.Argument(metavar="ID", help="The release's id, or a beginning that only it has.", show_default=False),
]
ReasonOption = Annotated[str, typer.Option("--reason", help="Why, for the history.", show_default=False)]

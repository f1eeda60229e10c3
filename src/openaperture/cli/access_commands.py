"""The commands of access with their arguments and options: login, tokens, clients, audit."""

# ruff: noqa: PLC0415  imports inside functions keep `--help` quick, as in commands.py

import asyncio
from enum import StrEnum
from typing import Annotated

import typer

from openaperture.cli.invocation import invocation_of
from openaperture.cli.options import JsonOption

_PANEL = "Access"


class RoleName(StrEnum):
    """The roles, as they are named in options."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    ADMIN = "admin"
    WORKER = "worker"
    ORCHESTRATOR = "orchestrator"


tokens_app = typer.Typer(help="Personal tokens: list, create, revoke.", no_args_is_help=True)
clients_app = typer.Typer(help="Programs that log in: list, add, disable.", no_args_is_help=True)
audit_app = typer.Typer(help="Who changed what: list, verify.", no_args_is_help=True)

UrlArgument = Annotated[str, typer.Argument(metavar="URL", help="Address of a Manager.", show_default=False)]
GroupOption = Annotated[
    list[str] | None,
    typer.Option("--group", help="A named group, for approvals; may be repeated.", show_default=False),
]


def add_to(app: typer.Typer) -> None:
    app.command("login", rich_help_panel=_PANEL)(login)
    app.command("logout", rich_help_panel=_PANEL)(logout)
    for group, name in ((tokens_app, "tokens"), (clients_app, "clients"), (audit_app, "audit")):
        app.add_typer(group, name=name, rich_help_panel=_PANEL)


def login(
    context: typer.Context,
    url: UrlArgument,
    browser: Annotated[bool, typer.Option("--browser", help="Log in with your browser instead.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Keep a token for a Manager elsewhere; it is asked for, or read from standard input."""
    from openaperture.cli import keeping

    invocation_of(context).finish(lambda: asyncio.run(keeping.login(url, browser=browser, as_json=as_json)))


def logout(context: typer.Context, url: UrlArgument, as_json: JsonOption = False) -> None:
    """Forget the token that is kept for a Manager. It goes on to be accepted there until it is revoked."""
    from openaperture.cli import keeping

    invocation_of(context).finish(lambda: keeping.logout(url, as_json=as_json))


@tokens_app.command("list")
def tokens_list(
    context: typer.Context,
    everybody: Annotated[bool, typer.Option("--all", help="Those of everybody, for an admin.")] = False,
    as_json: JsonOption = False,
) -> None:
    """List your personal tokens, the newest first."""
    from openaperture.cli import access

    invocation_of(context).complete(
        lambda settings: access.list_tokens(settings, everybody=everybody, as_json=as_json)
    )


@tokens_app.command("create")
def tokens_create(
    context: typer.Context,
    *,
    name: Annotated[
        str | None, typer.Option("--name", help="Whom it speaks for, if not for you.", show_default=False)
    ] = None,
    role: Annotated[
        RoleName | None, typer.Option("--role", help="What it may do; else what you may.", show_default=False)
    ] = None,
    label: Annotated[str, typer.Option("--label", help="What it is for.", show_default=False)] = "",
    days: Annotated[int, typer.Option("--days", min=1, max=366, help="How long it lives.")] = 90,
    group: GroupOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a personal token and print it. It is never shown again."""
    from openaperture.cli import access
    from openaperture.client.access import NewToken

    new = NewToken(name=name, role=role, label=label, days=days, groups=list(group) if group else None)
    invocation_of(context).complete(lambda settings: access.create_token(settings, new, as_json=as_json))


@tokens_app.command("revoke")
def tokens_revoke(
    context: typer.Context,
    token_id: Annotated[
        str, typer.Argument(metavar="ID", help="The id that `tokens list` shows.", show_default=False)
    ],
    as_json: JsonOption = False,
) -> None:
    """Revoke a personal token, and those that were made with it."""
    from openaperture.cli import access

    invocation_of(context).complete(lambda settings: access.revoke_token(settings, token_id, as_json=as_json))


@clients_app.command("list")
def clients_list(context: typer.Context, as_json: JsonOption = False) -> None:
    """List the programs that may log in, the disabled ones too."""
    from openaperture.cli import access

    invocation_of(context).complete(lambda settings: access.list_clients(settings, as_json=as_json))


@clients_app.command("add")
def clients_add(
    context: typer.Context,
    client_id: Annotated[str, typer.Argument(metavar="ID", help="Its name.", show_default=False)],
    role: Annotated[RoleName, typer.Option("--role", help="What it may do.")] = RoleName.WORKER,
    group: GroupOption = None,
    as_json: JsonOption = False,
) -> None:
    """Add a program and print its secret. It is never shown again."""
    from openaperture.cli import access

    invocation_of(context).complete(
        lambda settings: access.add_client(settings, client_id, role.value, group or (), as_json=as_json)
    )


@clients_app.command("disable")
def clients_disable(
    context: typer.Context,
    client_id: Annotated[str, typer.Argument(metavar="ID", help="Its name.", show_default=False)],
    as_json: JsonOption = False,
) -> None:
    """Let a program in no more; its tokens are refused from now on."""
    from openaperture.cli import access

    invocation_of(context).complete(lambda settings: access.disable_client(settings, client_id, as_json=as_json))


@audit_app.command("list")
def audit_list(
    context: typer.Context,
    limit: Annotated[int, typer.Option("--limit", min=1, max=100_000, help="How many at most.")] = 50,
    as_json: JsonOption = False,
) -> None:
    """List what was changed and by whom, the newest first."""
    from openaperture.cli import access

    invocation_of(context).complete(lambda settings: access.list_audit(settings, limit, as_json=as_json))


@audit_app.command("verify")
def audit_verify(
    context: typer.Context,
    known: Annotated[
        str | None,
        typer.Option(
            "--known",
            metavar="SEQ:DIGEST",
            help="A record that was noted elsewhere: it has to be there still.",
            show_default=False,
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Check that no record was changed or removed, and print the last one to note down."""
    from openaperture.cli import access

    invocation_of(context).complete(lambda settings: access.verify_audit(settings, known, as_json=as_json))

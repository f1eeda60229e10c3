"""The commands of the messaging directory and of the database with their arguments and options."""

# ruff: noqa: PLC0415  imports inside functions keep `--help` quick, as in commands.py

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from openaperture.cli.invocation import invocation_of
from openaperture.cli.options import JsonOption

if TYPE_CHECKING:
    from openaperture.cli.directory import Kind
    from openaperture.config import Settings

_PANEL = "Directory"

brokers_app = typer.Typer(help="Message brokers: list, add, remove.", no_args_is_help=True)
exchanges_app = typer.Typer(help="Routing domains: list, add, remove.", no_args_is_help=True)
clusters_app = typer.Typer(help="Targets to build in or deploy to: list, add, remove.", no_args_is_help=True)
modules_app = typer.Typer(help="Worker processes that are known: list, add, remove.", no_args_is_help=True)
db_app = typer.Typer(help="The database.", no_args_is_help=True)

KeyArgument = Annotated[str, typer.Argument(metavar="KEY", help="Its id.", show_default=False)]
NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="Its name.", show_default=False)]
FailoverOption = Annotated[
    int | None,
    typer.Option("--failover", metavar="ID", help="What takes its place when it fails.", show_default=False),
]
ExchangeOption = Annotated[
    int | None, typer.Option("--exchange", metavar="ID", help="Its exchange.", show_default=False)
]
OneExchangeOption = Annotated[
    int, typer.Option("--exchange", metavar="ID", help="Its exchange.", show_default=False)
]


def add_to(app: typer.Typer) -> None:
    for group, name in (
        (brokers_app, "brokers"),
        (exchanges_app, "exchanges"),
        (clusters_app, "clusters"),
        (modules_app, "modules"),
    ):
        app.add_typer(group, name=name, rich_help_panel=_PANEL)
    app.add_typer(db_app, name="db", rich_help_panel="Operation")


# ------------------------------------------------------------------------------------------- brokers


@brokers_app.command("list")
def brokers_list(context: typer.Context, as_json: JsonOption = False) -> None:
    """List the brokers."""
    from openaperture.cli import directory

    _list(context, directory.BROKER, as_json=as_json)


@brokers_app.command("add")
def brokers_add(
    context: typer.Context,
    *,
    name: NameArgument,
    host: Annotated[
        str | None, typer.Option("--host", help="Where it listens; makes a connection too.", show_default=False)
    ] = None,
    port: Annotated[int | None, typer.Option("--port", min=1, max=65_535, show_default=False)] = None,
    virtual_host: Annotated[str | None, typer.Option("--virtual-host", show_default=False)] = None,
    username: Annotated[str | None, typer.Option("--username", show_default=False)] = None,
    password_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="Read the password from standard input.")
    ] = False,
    failover: FailoverOption = None,
    as_json: JsonOption = False,
) -> None:
    """Add a broker, and how to connect to it."""
    connection: dict[str, Any] | None = None
    if host is not None:
        password = sys.stdin.readline().rstrip("\n") if password_stdin else None
        connection = {
            "host": host,
            "port": port,
            "virtual_host": virtual_host,
            "username": username,
            "password": password,
        }
    fields = {"name": name, "failover_broker_id": failover}

    async def add(settings: "Settings") -> int:
        from openaperture.cli import directory

        return await directory.add_broker(settings, fields, connection, _style(as_json))

    invocation_of(context).complete(add)


@brokers_app.command("remove")
def brokers_remove(context: typer.Context, key: KeyArgument, as_json: JsonOption = False) -> None:
    """Remove a broker with its connections."""
    from openaperture.cli import directory

    _remove(context, directory.BROKER, key, as_json=as_json)


# ----------------------------------------------------------------------------------------- exchanges


@exchanges_app.command("list")
def exchanges_list(context: typer.Context, as_json: JsonOption = False) -> None:
    """List the exchanges."""
    from openaperture.cli import directory

    _list(context, directory.EXCHANGE, as_json=as_json)


@exchanges_app.command("add")
def exchanges_add(
    context: typer.Context,
    *,
    name: NameArgument,
    parent: Annotated[
        int | None, typer.Option("--parent", metavar="ID", help="The exchange around it.", show_default=False)
    ] = None,
    fragment: Annotated[
        str | None, typer.Option("--fragment", help="Its part of the routing keys.", show_default=False)
    ] = None,
    failover: FailoverOption = None,
    as_json: JsonOption = False,
) -> None:
    """Add an exchange."""
    from openaperture.cli import directory

    fields = {
        "name": name,
        "parent_exchange_id": parent,
        "routing_key_fragment": fragment,
        "failover_exchange_id": failover,
    }
    _add(context, directory.EXCHANGE, fields, as_json=as_json)


@exchanges_app.command("remove")
def exchanges_remove(context: typer.Context, key: KeyArgument, as_json: JsonOption = False) -> None:
    """Remove an exchange."""
    from openaperture.cli import directory

    _remove(context, directory.EXCHANGE, key, as_json=as_json)


# ------------------------------------------------------------------------------------------ clusters


@clusters_app.command("list")
def clusters_list(context: typer.Context, as_json: JsonOption = False) -> None:
    """List the clusters."""
    from openaperture.cli import directory

    _list(context, directory.CLUSTER, as_json=as_json)


@clusters_app.command("add")
def clusters_add(
    context: typer.Context,
    *,
    token: Annotated[str, typer.Argument(metavar="TOKEN", help="Its token of etcd.", show_default=False)],
    name: Annotated[str | None, typer.Option("--name", help="For people.", show_default=False)] = None,
    exchange: ExchangeOption = None,
    builds: Annotated[bool, typer.Option("--builds", help="Images may be built there.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Add a cluster."""
    from openaperture.cli import directory

    fields = {
        "etcd_token": token,
        "name": name,
        "messaging_exchange_id": exchange,
        "allow_docker_builds": builds,
    }
    _add(context, directory.CLUSTER, fields, as_json=as_json)


@clusters_app.command("remove")
def clusters_remove(
    context: typer.Context,
    token: Annotated[str, typer.Argument(metavar="TOKEN", help="Its token.", show_default=False)],
    as_json: JsonOption = False,
) -> None:
    """Remove a cluster."""
    from openaperture.cli import directory

    _remove(context, directory.CLUSTER, token, as_json=as_json)


# ------------------------------------------------------------------------------------------- modules


@modules_app.command("list")
def modules_list(context: typer.Context, exchange: ExchangeOption = None, as_json: JsonOption = False) -> None:
    """List the modules of an exchange, or of all."""

    async def show(settings: "Settings") -> int:
        from openaperture.cli import directory

        return await directory.list_modules(settings, exchange, _style(as_json))

    invocation_of(context).complete(show)


@modules_app.command("add")
def modules_add(
    context: typer.Context,
    *,
    hostname: Annotated[str, typer.Argument(metavar="HOSTNAME", show_default=False)],
    exchange: OneExchangeOption,
    kind: Annotated[str, typer.Option("--type", help="Such as builder or deployer.", show_default=False)],
    status: Annotated[str, typer.Option("--status")] = "active",
    as_json: JsonOption = False,
) -> None:
    """Add a module; workers of the original do that by themselves."""
    from openaperture.cli import directory

    fields: dict[str, Any] = {"hostname": hostname, "type": kind, "status": status, "workload": []}
    _add(context, directory.module_in(exchange), fields, as_json=as_json)


@modules_app.command("remove")
def modules_remove(
    context: typer.Context,
    hostname: Annotated[str, typer.Argument(metavar="HOSTNAME", show_default=False)],
    exchange: OneExchangeOption,
    as_json: JsonOption = False,
) -> None:
    """Remove a module."""
    from openaperture.cli import directory

    _remove(context, directory.module_in(exchange), hostname, as_json=as_json)


# ------------------------------------------------------------------------------------------ database


@db_app.command("upgrade")
def db_upgrade(context: typer.Context, as_json: JsonOption = False) -> None:
    """Bring the schema up to date before the services of a new version start, which else do it themselves."""

    async def upgrade(settings: "Settings") -> int:
        from openaperture.app.schema import upgrade
        from openaperture.cli.exits import ExitCode
        from openaperture.cli.speech import answer
        from openaperture.cli.terminal import show_json

        revision = await upgrade(settings)
        if as_json:
            show_json({"revision": revision})
        else:
            answer(f"the schema of the database is that of revision {revision}")
        return ExitCode.COMPLETED

    invocation_of(context).complete(upgrade)


# -------------------------------------------------------------------------------------------- pieces


def _list(context: typer.Context, kind: "Kind", *, as_json: bool) -> None:
    from openaperture.cli import directory

    style = _style(as_json)
    invocation_of(context).complete(lambda settings: directory.list_kind(settings, kind, style))


def _add(context: typer.Context, kind: "Kind", fields: dict[str, Any], *, as_json: bool) -> None:
    from openaperture.cli import directory

    style = _style(as_json)
    invocation_of(context).complete(lambda settings: directory.add(settings, kind, fields, style))


def _remove(context: typer.Context, kind: "Kind", key: str, *, as_json: bool) -> None:
    from openaperture.cli import directory

    style = _style(as_json)
    invocation_of(context).complete(lambda settings: directory.remove(settings, kind, key, style))


def _style(as_json: bool) -> Any:
    from openaperture.cli.terminal import style_for

    return style_for(as_json=as_json, plain=False)

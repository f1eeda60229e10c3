"""Commands that look after the messaging directory: brokers, exchanges, clusters, modules."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.table import Table
from rich.text import Text

from openaperture.cli.exits import ExitCode
from openaperture.cli.session import open_session
from openaperture.cli.speech import answer
from openaperture.cli.terminal import Style, open_console, show_json
from openaperture.cli.untrusted import one_line
from openaperture.client.directory import (
    BROKERS,
    CLUSTERS,
    EXCHANGES,
    DirectoryCalls,
    Row,
    connections_of,
    modules_of,
)
from openaperture.config import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """How one kind of entry is reached and shown."""

    word: str
    path: str
    columns: Sequence[str]


BROKER = Kind(word="broker", path=BROKERS, columns=("id", "name", "failover_broker_id"))
EXCHANGE = Kind(
    word="exchange",
    path=EXCHANGES,
    columns=("id", "name", "root_exchange_name", "routing_key", "parent_exchange_id", "failover_exchange_id"),
)
CLUSTER = Kind(
    word="cluster",
    path=CLUSTERS,
    columns=("id", "etcd_token", "name", "allow_docker_builds", "messaging_exchange_id"),
)
_MODULE_COLUMNS = ("messaging_exchange_id", "hostname", "type", "status", "updated_at")


async def list_kind(settings: Settings, kind: Kind, style: Style) -> ExitCode:
    async with open_session(settings) as session:
        rows = await session.client.directory.list_rows(kind.path)
    _show(rows, kind.columns, kind.word, style)
    return ExitCode.COMPLETED


async def add(settings: Settings, kind: Kind, fields: Mapping[str, Any], style: Style) -> ExitCode:
    """The id or token of what was made is the result."""
    async with open_session(settings) as session:
        key = await session.client.directory.add(kind.path, fields)
    _show_made(kind, key, style)
    return ExitCode.COMPLETED


async def add_broker(
    settings: Settings, fields: Mapping[str, Any], connection: Mapping[str, Any] | None, style: Style
) -> ExitCode:
    """A broker, and how to connect to it."""
    async with open_session(settings) as session:
        key = await session.client.directory.add(BROKERS, fields)
        if connection is not None:
            await session.client.directory.add(connections_of(key), connection)
    _show_made(BROKER, key, style)
    return ExitCode.COMPLETED


async def remove(settings: Settings, kind: Kind, key: str, style: Style) -> ExitCode:
    async with open_session(settings) as session:
        await session.client.directory.remove(kind.path, key)
    _show_removed(kind, key, style)
    return ExitCode.COMPLETED


async def list_modules(settings: Settings, exchange_id: int | None, style: Style) -> ExitCode:
    """Of one exchange, or of all."""
    async with open_session(settings) as session:
        directory = session.client.directory
        chosen = [exchange_id] if exchange_id is not None else await _exchanges(directory)
        rows = [row for key in chosen for row in await directory.list_rows(modules_of(key))]
    _show(rows, _MODULE_COLUMNS, "module", style)
    return ExitCode.COMPLETED


async def _exchanges(directory: DirectoryCalls) -> list[int]:
    return [row["id"] for row in await directory.list_rows(EXCHANGES)]


def module_in(exchange_id: int) -> Kind:
    return Kind(word="module", path=modules_of(exchange_id), columns=_MODULE_COLUMNS)


def _show(rows: Sequence[Row], columns: Sequence[str], word: str, style: Style) -> None:
    if style is Style.JSON:
        show_json(rows)
        return
    if not rows:
        answer(f'no {word} yet; "openaperture {word}s add" adds one')
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column.upper(), no_wrap=True, overflow="ellipsis")
    for row in rows:
        values = ("" if row.get(column) is None else str(row[column]) for column in columns)
        table.add_row(*(Text(one_line(value)) for value in values))
    open_console(style).print(table)


def _show_made(kind: Kind, key: str, style: Style) -> None:
    if style is Style.JSON:
        show_json({"key": key})
    else:
        answer(f"{kind.word} {one_line(key)} is in the directory")


def _show_removed(kind: Kind, key: str, style: Style) -> None:
    if style is Style.JSON:
        show_json({"key": key, "removed": True})
    else:
        answer(f"{kind.word} {one_line(key)} is removed")

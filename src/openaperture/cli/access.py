"""Commands about who may use the Manager: tokens, clients, the audit."""

import re
from collections.abc import Sequence
from datetime import datetime

import msgspec
from rich.table import Table
from rich.text import Text

from openaperture.cli.exits import ExitCode
from openaperture.cli.session import open_session
from openaperture.cli.speech import answer, say
from openaperture.cli.terminal import Style, open_console, show_json, style_for
from openaperture.cli.untrusted import one_line
from openaperture.client.access import NewToken
from openaperture.client.access_models import AuditShown, ClientShown, TokenShown
from openaperture.config import Settings
from openaperture.domain.audit import AuditRecord, Break, Chain, Deed, Mark
from openaperture.domain.errors import BadInput

_PAGE = 1_000
_MARK = re.compile(r"([0-9]{1,18}):([0-9a-f]{64})")


# --------------------------------------------------------------------------------------------- tokens


async def list_tokens(settings: Settings, *, everybody: bool, as_json: bool) -> ExitCode:
    async with open_session(settings) as session:
        found = await session.client.access.list_tokens(everybody=everybody)
    if as_json:
        show_json(found)
    elif found:
        _show_table(("ID", "NAME", "ROLE", "EXPIRES", "USED", "LABEL"), [_token_cells(token) for token in found])
    else:
        answer('no tokens; "openaperture tokens create" makes one')
    return ExitCode.COMPLETED


async def create_token(settings: Settings, new: NewToken, *, as_json: bool) -> ExitCode:
    """The text alone goes to standard output, so that a script can take it."""
    async with open_session(settings) as session:
        made = await session.client.access.make_token(new)
    if as_json:
        show_json(made)
        return ExitCode.COMPLETED
    say(f"token {made.id} speaks for {one_line(made.name)} ({made.role}) until {_day(made.expires_at)}")
    answer(made.token)
    return ExitCode.COMPLETED


async def revoke_token(settings: Settings, token_id: str, *, as_json: bool) -> ExitCode:
    async with open_session(settings) as session:
        await session.client.access.revoke_token(token_id)
    _done({"id": token_id, "revoked": True}, f"token {one_line(token_id)} is revoked", as_json=as_json)
    return ExitCode.COMPLETED


# -------------------------------------------------------------------------------------------- clients


async def list_clients(settings: Settings, *, as_json: bool) -> ExitCode:
    async with open_session(settings) as session:
        found = await session.client.access.list_clients()
    if as_json:
        show_json(found)
    elif found:
        _show_table(("ID", "ROLE", "GROUPS", "ADDED", "BY", "STATE"), [_client_cells(client) for client in found])
    else:
        answer('no clients; "openaperture clients add" adds one')
    return ExitCode.COMPLETED


async def add_client(
    settings: Settings, client_id: str, role: str, groups: Sequence[str], *, as_json: bool
) -> ExitCode:
    """The secret alone goes to standard output, so that a script can take it."""
    async with open_session(settings) as session:
        made = await session.client.access.add_client(client_id, role, groups)
    if as_json:
        show_json(made)
        return ExitCode.COMPLETED
    say(f"client {one_line(made.id)} ({made.role}) gets tokens at /oauth/token for this secret:")
    answer(made.secret)
    return ExitCode.COMPLETED


async def disable_client(settings: Settings, client_id: str, *, as_json: bool) -> ExitCode:
    async with open_session(settings) as session:
        await session.client.access.disable_client(client_id)
    _done({"id": client_id, "disabled": True}, f"client {one_line(client_id)} is disabled", as_json=as_json)
    return ExitCode.COMPLETED


# ---------------------------------------------------------------------------------------------- audit


async def list_audit(settings: Settings, limit: int, *, as_json: bool) -> ExitCode:
    found: list[AuditShown] = []
    async with open_session(settings) as session:
        while len(found) < limit:
            before = found[-1].seq if found else None
            page = await session.client.access.list_audit(before=before, limit=min(_PAGE, limit - len(found)))
            found += page
            if not page:
                break
    if as_json:
        show_json(found)
    elif found:
        _show_table(("SEQ", "AT", "WHO", "ROLE", "FROM", "STATUS", "WHAT"), [_audit_cells(row) for row in found])
    else:
        answer("nothing was changed yet")
    return ExitCode.COMPLETED


async def verify_audit(settings: Settings, known: str | None, *, as_json: bool) -> ExitCode:
    """The chain is computed here, from what the Manager shows: not by the one who is to be checked."""
    chain = Chain(_mark_of(known))
    broken: Break | None = None
    async with open_session(settings) as session:
        while broken is None:
            page = await session.client.access.list_audit(after=chain.head.seq, limit=_PAGE)
            broken = chain.find_break(map(_record_of, page))
            if len(page) < _PAGE:
                break
    broken = broken or chain.find_missing_mark()
    head = chain.head
    if as_json:
        found = None if broken is None else {"seq": broken.seq, "text": broken.text}
        show_json({"records": head.seq, "last": f"{head.seq}:{head.digest}", "broken": found})
    elif broken is None:
        answer(f"{head.seq} records, none changed or removed; the last one is {head.seq}:{head.digest}")
    else:
        answer(f"the audit is broken at record {broken.seq}: {broken.text}")
    return ExitCode.COMPLETED if broken is None else ExitCode.FAILED


def _mark_of(known: str | None) -> Mark | None:
    if known is None:
        return None
    found = _MARK.fullmatch(known)
    if found is None:
        raise BadInput('--known is no record; write it as "openaperture audit verify" printed it, SEQ:DIGEST')
    return Mark(seq=int(found[1]), digest=found[2])


def _record_of(row: AuditShown) -> AuditRecord:
    fields = {name: getattr(row, name) for name in Deed.__dataclass_fields__}
    return AuditRecord(seq=row.seq, deed=Deed(**fields), previous=row.previous, digest=row.digest)


# --------------------------------------------------------------------------------------------- pieces


def _token_cells(token: TokenShown) -> Sequence[str]:
    ends = "revoked" if token.revoked_at else _day(token.expires_at)
    return (token.id, token.name, token.role, ends, _day(token.used_at), token.label)


def _client_cells(client: ClientShown) -> Sequence[str]:
    state = f"disabled {_day(client.disabled_at)}" if client.disabled_at else "enabled"
    groups = ", ".join(client.groups)
    return (client.id, client.role, groups, _day(client.created_at), client.created_by, state)


def _audit_cells(row: AuditShown) -> Sequence[str]:
    at = f"{row.at.astimezone():%Y-%m-%d %H:%M:%S}"
    details = ", ".join(f"{name}={value}" for name, value in row.details.items())
    what = f"{row.method} {row.path} {details}".rstrip()
    return (str(row.seq), at, row.who, row.role, row.address, str(row.status), what)


def _show_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in headings:
        table.add_column(heading, no_wrap=True, overflow="ellipsis")
    for row in rows:
        table.add_row(*(Text(one_line(cell)) for cell in row))
    style: Style = style_for(as_json=False, plain=False)
    open_console(style).print(table)


def _done(document: dict[str, object], sentence: str, *, as_json: bool) -> None:
    if as_json:
        show_json(msgspec.to_builtins(document))
    else:
        answer(sentence)


def _day(at: datetime | None) -> str:
    return f"{at.astimezone():%Y-%m-%d}" if at else ""

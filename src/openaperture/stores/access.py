"""Clients, tokens and the audit on SQLite or PostgreSQL."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, delete, func, insert, or_, select, text, update
from sqlalchemy.dialects import postgresql, sqlite

from openaperture.database import Database
from openaperture.database.errors import Rejected
from openaperture.database.tables import audit, clients, tokens
from openaperture.domain.access import Client, Identity, Role, Token, TokenKind
from openaperture.domain.audit import GENESIS, AuditRecord, Deed, linked

_AUDIT_LOCK = 0x6F61_6175_6469_7400
"""For pg_advisory_xact_lock: "oaaudit" in ASCII. Two that append at once would take the same place."""
_LISTED = 1_000
_PASSING = (TokenKind.ACCESS.value, TokenKind.SESSION.value)
"""Kinds that nobody wants to see in a list once they are over."""


class SqlAccess:
    """The port AccessStore. Any number of stores may share a database."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._insert = postgresql.insert if database.dialect == "postgresql" else sqlite.insert

    # ------------------------------------------------------------------------------------ clients

    async def add_client(self, client: Client) -> bool:
        row = {
            "id": client.id,
            "secret_hash": client.secret_hash,
            "role": client.role.value,
            "groups": _groups_text(client.groups),
            "created_at": client.created_at,
            "created_by": client.created_by,
            "disabled_at": client.disabled_at,
        }
        add = self._insert(clients).values(row).on_conflict_do_nothing().returning(clients.c.id)
        return await self._database.write(lambda connection: connection.execute(add).one_or_none() is not None)

    async def find_client(self, client_id: str) -> Client | None:
        found = await self._clients(select(clients).where(clients.c.id == client_id))
        return found[0] if found else None

    async def list_clients(self) -> list[Client]:
        return await self._clients(select(clients).order_by(clients.c.id))

    async def disable_client(self, client_id: str, at: datetime) -> bool:
        known = update(clients).where(clients.c.id == client_id)
        # What was disabled before keeps its instant, and is found all the same.
        disable = known.values(disabled_at=func.coalesce(clients.c.disabled_at, at))
        return await self._changed(disable)

    async def _clients(self, query: Any) -> list[Client]:
        return [_client_of(row) for row in await self._rows(query)]

    # ------------------------------------------------------------------------------------- tokens

    async def add_token(self, token: Token) -> bool:
        row = {
            "id": token.id,
            "text_hash": token.text_hash,
            "kind": token.kind.value,
            "subject": token.identity.name,
            "role": token.identity.role.value,
            "groups": _groups_text(token.identity.groups),
            "label": token.label,
            "client_id": token.client_id,
            "root": token.root,
            "created_at": token.created_at,
            "expires_at": token.expires_at,
            "used_at": token.used_at,
            "revoked_at": token.revoked_at,
        }
        add = self._insert(tokens).values(row).on_conflict_do_nothing().returning(tokens.c.id)
        return await self._database.write(lambda connection: connection.execute(add).one_or_none() is not None)

    async def find_token(self, token_id: str) -> Token | None:
        of_client = tokens.outerjoin(clients, clients.c.id == tokens.c.client_id)
        query = (
            select(tokens)
            .select_from(of_client)
            .where(tokens.c.id == token_id)
            .where(or_(tokens.c.client_id.is_(None), clients.c.id.is_not(None)), clients.c.disabled_at.is_(None))
        )
        found = await self._rows(query)
        return _token_of(found[0]) if found else None

    async def list_tokens(self, subject: str | None = None) -> list[Token]:
        query = select(tokens).where(tokens.c.kind == TokenKind.PERSONAL.value)
        if subject is not None:
            query = query.where(tokens.c.subject == subject)
        newest_first = query.order_by(tokens.c.created_at.desc(), tokens.c.id).limit(_LISTED)
        return [_token_of(row) for row in await self._rows(newest_first)]

    async def touch_token(self, token_id: str, at: datetime) -> None:
        touch = update(tokens).where(tokens.c.id == token_id).values(used_at=at)
        await self._changed(touch)

    async def revoke_token(self, token_id: str, at: datetime) -> None:
        family = or_(tokens.c.id == token_id, tokens.c.root == token_id)
        await self._changed(update(tokens).where(family, tokens.c.revoked_at.is_(None)).values(revoked_at=at))

    async def prune_tokens(self, before: datetime, *, limit: int) -> int:
        over = (
            select(tokens.c.id).where(tokens.c.kind.in_(_PASSING), tokens.c.expires_at < before).limit(limit)
        ).scalar_subquery()
        forget = delete(tokens).where(tokens.c.id.in_(over))
        return await self._database.write(lambda connection: connection.execute(forget).rowcount)

    # -------------------------------------------------------------------------------------- audit

    async def append_audit(self, deed: Deed) -> AuditRecord:
        last = select(audit.c.seq, audit.c.digest).order_by(audit.c.seq.desc()).limit(1)
        on_server = self._database.dialect == "postgresql"

        def append(connection: Connection) -> AuditRecord:
            if on_server:
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _AUDIT_LOCK})
            row = connection.execute(last).one_or_none()
            seq, previous = (row.seq + 1, row.digest) if row is not None else (1, GENESIS)
            record = linked(deed, seq, previous)
            connection.execute(insert(audit), _audit_row(record))
            return record

        return await self._database.write(append)

    async def list_audit(
        self, *, after: int | None = None, before: int | None = None, limit: int
    ) -> list[AuditRecord]:
        query = select(audit).limit(limit)
        if after is not None:
            query = query.where(audit.c.seq > after).order_by(audit.c.seq)
        else:
            query = query.order_by(audit.c.seq.desc())
            query = query if before is None else query.where(audit.c.seq < before)
        return [_record_of(row) for row in await self._rows(query)]

    # ------------------------------------------------------------------------------------- pieces

    async def _rows(self, query: Any) -> "list[Row[Any]]":
        try:
            return await self._database.read(lambda connection: list(connection.execute(query).all()))
        except Rejected:
            # Somebody asked for a text that no row can hold, such as one with a NUL character.
            return []

    async def _changed(self, statement: Any) -> bool:
        try:
            return await self._database.write(lambda connection: connection.execute(statement).rowcount > 0)
        except Rejected:
            return False


def _groups_text(groups: Iterable[str]) -> str:
    return msgspec.json.encode(sorted(groups)).decode()


def _groups_of(document: str) -> frozenset[str]:
    return frozenset(msgspec.json.decode(document, type=list[str]))


def _client_of(row: Row[Any]) -> Client:
    return Client(
        id=row.id,
        secret_hash=row.secret_hash,
        role=Role(row.role),
        groups=_groups_of(row.groups),
        created_at=row.created_at,
        created_by=row.created_by,
        disabled_at=row.disabled_at,
    )


def _token_of(row: Row[Any]) -> Token:
    return Token(
        id=row.id,
        text_hash=row.text_hash,
        kind=TokenKind(row.kind),
        identity=Identity(name=row.subject, role=Role(row.role), groups=_groups_of(row.groups)),
        label=row.label,
        client_id=row.client_id,
        root=row.root,
        created_at=row.created_at,
        expires_at=row.expires_at,
        used_at=row.used_at,
        revoked_at=row.revoked_at,
    )


def _audit_row(record: AuditRecord) -> dict[str, Any]:
    deed = record.deed
    return {
        "seq": record.seq,
        "at": deed.at,
        "who": deed.who,
        "role": deed.role,
        "address": deed.address,
        "method": deed.method,
        "path": deed.path,
        "workflow_id": deed.workflow_id,
        "details": msgspec.json.encode(dict(deed.details)).decode(),
        "status": deed.status,
        "previous": record.previous,
        "digest": record.digest,
    }


def _record_of(row: Row[Any]) -> AuditRecord:
    deed = Deed(
        at=row.at,
        who=row.who,
        role=row.role,
        address=row.address,
        method=row.method,
        path=row.path,
        workflow_id=row.workflow_id,
        details=msgspec.json.decode(row.details, type=dict[str, str]),
        status=row.status,
    )
    return AuditRecord(seq=row.seq, deed=deed, previous=row.previous, digest=row.digest)

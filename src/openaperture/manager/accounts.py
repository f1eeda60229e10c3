"""The routes of identities: who am I, personal tokens, clients, the audit."""

import re
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Annotated

from fastapi import FastAPI, Query, Request, Response
from pydantic import AfterValidator, Field

from openaperture.client import access_models as shown
from openaperture.domain.access import CLIENT_PREFIX, LOCAL_NAME, Client, Identity, Role, Token, TokenKind
from openaperture.domain.audit import AuditRecord
from openaperture.domain.errors import BadInput, Taken
from openaperture.manager.access import grant_of
from openaperture.manager.answers import answer
from openaperture.manager.credentials import SecretChecker, hash_of, new_client_secret, new_token
from openaperture.manager.idempotency import id_from_key
from openaperture.manager.identities import Grant, Identities
from openaperture.manager.refusals import refuse, shown_once
from openaperture.manager.requests import Strict
from openaperture.ports import AccessStore

MAX_DAYS = 366
DEFAULT_DAYS = 90
MAX_AUDIT_PAGE = 1_000
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")


def _id(text: str) -> str:
    if not _ID.fullmatch(text):
        raise ValueError("has to begin with a letter or digit, and to have at most 64 letters, digits and . _ @ -")
    return text


def _person(text: str) -> str:
    if text == LOCAL_NAME or text.startswith(CLIENT_PREFIX):
        raise ValueError("is a name that the Manager itself gives; choose another")
    return _id(text)


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("has characters that cannot be printed; leave them out")
    return text


Name = Annotated[str, AfterValidator(_id)]
Person = Annotated[str, AfterValidator(_person)]
Groups = Annotated[list[Name], Field(max_length=50)]
RoleName = Annotated[Role, Field(strict=False)]
Seq = Annotated[int, Query(ge=0, le=2**63 - 1)]


class TokenBody(Strict):
    """A personal token to make. Only an admin makes one for somebody else, or with other groups."""

    label: Annotated[str, Field(max_length=200), AfterValidator(_printable)] = ""
    role: RoleName | None = None
    days: Annotated[int, Field(ge=1, le=MAX_DAYS)] = DEFAULT_DAYS
    name: Person | None = None
    groups: Groups | None = None


class ClientBody(Strict):
    """A client to add."""

    id: Name
    role: RoleName
    groups: Groups = Field(default_factory=list[str])


class AccountRoutes:
    """Tokens, clients and the audit."""

    def __init__(
        self,
        store: AccessStore,
        identities: Identities,
        checker: SecretChecker,
        now: Callable[[], datetime],
    ) -> None:
        self._store = store
        self._identities = identities
        self._checker = checker
        self._now = now

    def add_to(self, app: FastAPI) -> None:
        for method, path, handler in (
            ("GET", "/me", self.show_me),
            ("GET", "/tokens", self.list_tokens),
            ("POST", "/tokens", self.make_token),
            ("DELETE", "/tokens/{token_id}", self.revoke_token),
            ("GET", "/clients", self.list_clients),
            ("POST", "/clients", self.add_client),
            ("DELETE", "/clients/{client_id}", self.disable_client),
            ("GET", "/audit", self.list_audit),
        ):
            app.add_api_route(path, handler, methods=[method], response_model=None)

    async def show_me(self, request: Request) -> Response:
        """Who asks, as the Manager sees it."""
        grant = _known(request)
        identity, token = grant.identity, grant.token
        return answer(
            shown.Me(
                name=identity.name,
                role=identity.role.value,
                groups=sorted(identity.groups),
                expires_at=token.expires_at if token else None,
            )
        )

    # ------------------------------------------------------------------------------------- tokens

    async def list_tokens(
        self, request: Request, *, everybody: Annotated[bool, Query(alias="all")] = False
    ) -> Response:
        """One's own personal tokens; for an admin those of all, if asked for."""
        identity = _known(request).identity
        if everybody and identity.role is not Role.ADMIN:
            return refuse(403, "forbidden", "only an admin sees the tokens of all; leave out all=true")
        found = await self._store.list_tokens(None if everybody else identity.name)
        return answer([_token(token) for token in found])

    async def make_token(self, request: Request, body: TokenBody) -> Response:
        """A personal token, with at most one's own power."""
        grant = _known(request)
        identity = _wanted(grant.identity, body)
        if isinstance(identity, str):
            return refuse(403, "forbidden", identity)
        derived = id_from_key(request)
        now, made = self._now(), new_token(TokenKind.PERSONAL, derived and derived.replace("-", "")[-16:])
        maker = grant.token if grant.token and grant.token.kind is not TokenKind.SESSION else None
        until = now + timedelta(days=body.days)
        token = Token(
            id=made.id,
            text_hash=hash_of(made.text),
            kind=TokenKind.PERSONAL,
            identity=identity,
            label=body.label,
            client_id=maker.client_id if maker else None,
            root=(maker.root or maker.id) if maker else None,
            created_at=now,
            # A token that was stolen must not make itself another life.
            expires_at=min(until, maker.expires_at) if maker else until,
        )
        if not await self._store.add_token(token):
            return shown_once(f"token {token.id}")
        response = answer(_made_token(token, made.text), headers={"location": f"/tokens/{made.id}"})
        response.status_code = 201
        return response

    async def revoke_token(self, request: Request, token_id: str) -> Response:
        """From now on it is refused, and so is what was made with it."""
        identity = _known(request).identity
        token = await self._store.find_token(token_id)
        if token is None or not (identity.role is Role.ADMIN or token.identity.name == identity.name):
            text = f'you have no token {token_id[:64]}; "openaperture tokens list" shows yours'
            return refuse(404, "unknown_token", text)
        await self._store.revoke_token(token_id, self._now())
        self._identities.forget(token_id)
        return Response(status_code=204)

    # ------------------------------------------------------------------------------------ clients

    async def list_clients(self) -> Response:
        """All of them, by id."""
        return answer([_client(client) for client in await self._store.list_clients()])

    async def add_client(self, request: Request, body: ClientBody) -> Response:
        """A program that may ask for tokens."""
        secret = new_client_secret()
        async with self._checker.turn:
            secret_hash = await self._checker.hash(secret)
        client = Client(
            id=body.id,
            secret_hash=secret_hash,
            role=body.role,
            groups=frozenset(body.groups),
            created_at=self._now(),
            created_by=_known(request).identity.name,
        )
        if not await self._store.add_client(client):
            text = f'there is or was a client "{body.id}"; choose another id, so that the audit means one by it'
            raise Taken(text)
        response = answer(_made_client(client, secret), headers={"location": f"/clients/{client.id}"})
        response.status_code = 201
        return response

    async def disable_client(self, client_id: str) -> Response:
        """It gets no more tokens, and those that it has are refused."""
        if not await self._store.disable_client(client_id, self._now()):
            text = f'there is no client {client_id[:64]}; "openaperture clients list" shows all'
            return refuse(404, "unknown_client", text)
        self._identities.forget_client(client_id)
        return Response(status_code=204)

    # -------------------------------------------------------------------------------------- audit

    async def list_audit(
        self,
        after: Seq | None = None,
        before: Seq | None = None,
        limit: Annotated[int, Query(ge=1, le=MAX_AUDIT_PAGE)] = 100,
    ) -> Response:
        """Newest first; with `after` oldest first, to check the chain."""
        if after is not None and before is not None:
            raise BadInput("after, before: one of them says where to go on; leave out the other")
        records = await self._store.list_audit(after=after, before=before, limit=limit)
        return answer([_record(record) for record in records])


def _known(request: Request) -> Grant:
    grant = grant_of(request)
    if grant is None:
        raise AssertionError(f"{request.url.path} is not public, and nobody is known")
    return grant


def _wanted(maker: Identity, body: TokenBody) -> Identity | str:
    """Whom the token is to speak for; a sentence when its maker may not make it."""
    role = body.role or maker.role
    if not maker.role.covers(role):
        article = "an" if maker.role[0] in "aeiou" else "a"
        return f"{article} {maker.role} makes no token with the role {role}; ask for {maker.role} or less"
    is_other = body.name is not None and body.name != maker.name
    if maker.role is not Role.ADMIN and (is_other or body.groups is not None):
        return "only an admin makes tokens for others or with other groups; leave out name and groups"
    own_groups = frozenset[str]() if is_other else maker.groups
    groups = own_groups if body.groups is None else frozenset(body.groups)
    return Identity(name=body.name or maker.name, role=role, groups=groups)


def _token(token: Token) -> shown.TokenShown:
    return shown.TokenShown(
        id=token.id,
        name=token.identity.name,
        role=token.identity.role.value,
        groups=sorted(token.identity.groups),
        label=token.label,
        created_at=token.created_at,
        expires_at=token.expires_at,
        used_at=token.used_at,
        revoked_at=token.revoked_at,
    )


def _made_token(token: Token, text: str) -> shown.TokenMade:
    bare = _token(token)
    return shown.TokenMade(**{name: getattr(bare, name) for name in bare.__struct_fields__}, token=text)


def _client(client: Client) -> shown.ClientShown:
    return shown.ClientShown(
        id=client.id,
        role=client.role.value,
        groups=sorted(client.groups),
        created_at=client.created_at,
        created_by=client.created_by,
        disabled_at=client.disabled_at,
    )


def _made_client(client: Client, secret: str) -> shown.ClientMade:
    bare = _client(client)
    return shown.ClientMade(**{name: getattr(bare, name) for name in bare.__struct_fields__}, secret=secret)


def _record(record: AuditRecord) -> shown.AuditShown:
    deed = record.deed
    return shown.AuditShown(
        seq=record.seq,
        at=deed.at,
        who=deed.who,
        role=deed.role,
        address=deed.address,
        method=deed.method,
        path=deed.path,
        workflow_id=deed.workflow_id,
        details=dict(deed.details),
        status=deed.status,
        previous=record.previous,
        digest=record.digest,
    )

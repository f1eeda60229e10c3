"""What a Manager says of identities, tokens, clients and the audit, as types for both ends."""

from datetime import datetime

from msgspec import Struct, field


class Me(Struct, kw_only=True, frozen=True):
    """Who asks, as the Manager sees it."""

    name: str
    role: str
    """viewer | operator | admin | worker | orchestrator"""
    groups: list[str] = field(default_factory=list[str])
    expires_at: datetime | None = None
    """When the token ends; None for one that does not say."""


class TokenShown(Struct, kw_only=True, frozen=True):
    """A personal token, without its text."""

    id: str
    name: str
    """Who it speaks for."""
    role: str
    groups: list[str] = field(default_factory=list[str])
    label: str = ""
    created_at: datetime
    expires_at: datetime
    used_at: datetime | None = None
    revoked_at: datetime | None = None


class TokenMade(TokenShown, kw_only=True, frozen=True):
    """A new one: the only time that its text is shown."""

    token: str

    def __repr__(self) -> str:
        return f"TokenMade({self.id})"


class ClientShown(Struct, kw_only=True, frozen=True):
    """A client, without its secret."""

    id: str
    role: str
    groups: list[str] = field(default_factory=list[str])
    created_at: datetime
    created_by: str
    disabled_at: datetime | None = None


class ClientMade(ClientShown, kw_only=True, frozen=True):
    """A new one: the only time that its secret is shown."""

    secret: str

    def __repr__(self) -> str:
        return f"ClientMade({self.id})"


class AuditShown(Struct, kw_only=True, frozen=True):
    """A record of the audit. `digest` covers all other fields; the domain module `audit` says how."""

    seq: int
    at: datetime
    who: str
    role: str
    address: str
    method: str
    path: str
    workflow_id: str | None = None
    details: dict[str, str] = field(default_factory=dict[str, str])
    status: int
    previous: str
    digest: str

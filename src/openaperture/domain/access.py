"""Who somebody is to the Manager, and what that lets them do. Pure.

A viewer sees, an operator also changes workflows, an admin does everything. Workers and orchestrators are
beside them: they reach what running processes need, and nothing that is for people.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

SESSION_IDLE = timedelta(hours=1)
"""A session of a browser ends when nobody used it for so long."""
LOCAL_NAME = "local"
"""The holder of the token that a running process keeps for the user who started it."""
CLIENT_PREFIX = "client:"
"""Before the id of an OAuth client where it stands for a name: no person can be called so."""


class Role(StrEnum):
    """What an identity may do. The order of the first three is their order of power."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    ADMIN = "admin"
    WORKER = "worker"
    ORCHESTRATOR = "orchestrator"
    """One elsewhere, which records the workflows that it runs: what a worker may, and that."""

    def covers(self, other: "Role") -> bool:
        """Whether it may do all that `other` may."""
        if self is Role.ADMIN or self is other:
            return True
        return (self, other) in {(Role.OPERATOR, Role.VIEWER), (Role.ORCHESTRATOR, Role.WORKER)}


LADDER = (Role.VIEWER, Role.OPERATOR, Role.ADMIN)
"""The roles of people."""


class TokenKind(StrEnum):
    """How a token came to be, and where it is accepted."""

    PERSONAL = "personal"
    """Made by a person or for one; sent as a bearer."""
    ACCESS = "access"
    """Given to an OAuth client; sent as a bearer."""
    SESSION = "session"
    """Given to a browser that logged in; sent as a cookie only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who asks."""

    name: str
    role: Role
    groups: frozenset[str] = frozenset()
    """Named groups, such as `release-managers`, which an approval may ask for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """A program that gets tokens for its id and secret."""

    id: str
    secret_hash: str
    role: Role
    groups: frozenset[str] = frozenset()
    created_at: datetime
    created_by: str
    disabled_at: datetime | None = None

    @property
    def identity(self) -> Identity:
        return Identity(name=f"{CLIENT_PREFIX}{self.id}", role=self.role, groups=self.groups)


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A token as it is stored: all but its text, of which there is a hash."""

    id: str
    """Part of the text, to find it by."""
    text_hash: str
    kind: TokenKind
    identity: Identity
    label: str = ""
    """What it is for, in the words of whoever made it."""
    client_id: str | None = None
    """The OAuth client it was given to: with that client disabled it is worth nothing."""
    root: str | None = None
    """The token that it was made with, or that one's own root: it is revoked with it."""
    created_at: datetime
    expires_at: datetime
    used_at: datetime | None = None
    """To the minute."""
    revoked_at: datetime | None = None

    def is_good(self, now: datetime) -> bool:
        """Whether it is accepted at that instant, as far as the token itself says."""
        if self.revoked_at is not None or now >= self.expires_at:
            return False
        idle_since = self.used_at or self.created_at
        return self.kind is not TokenKind.SESSION or now < idle_since + SESSION_IDLE

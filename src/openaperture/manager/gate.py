"""What the Manager has to be given to know its users."""

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from openaperture.manager.oidc import OidcProvider
from openaperture.ports import AccessStore


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """The parts and settings of access."""

    store: AccessStore
    local_token: str = field(repr=False)
    """Opens everything for whoever started this process; known to nobody else, and stored nowhere."""
    public_url: str | None = None
    """Where browsers find the Manager, if that is not where it listens."""
    proxies: Sequence[str] = ()
    """Networks of the proxies whose word on a client's address is taken."""
    token_seconds: float = 3_600.0
    """Life of a client's access token."""
    login_key: Callable[[], Awaitable[str]]
    """Fetches the key that seals logins under way; the same for all Managers of a database."""
    provider: OidcProvider | None = None
    """Where people log in."""
    now: Callable[[], datetime] = _now
    monotonic: Callable[[], float] = time.monotonic

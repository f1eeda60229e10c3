"""How the Manager of a process knows its users, from the settings; and whether it may be seen from outside."""

import secrets
from collections.abc import Callable
from datetime import UTC, datetime

from openaperture.app.core import Core
from openaperture.config import Settings
from openaperture.config.settings import OidcSettings
from openaperture.config.values import is_loopback
from openaperture.domain.access import Role
from openaperture.domain.errors import ConfigError
from openaperture.manager.claims import ClaimRules
from openaperture.manager.gate import Gate
from openaperture.manager.oidc import OidcOptions, OidcProvider
from openaperture.ports import AccessStore
from openaperture.stores.access import SqlAccess


def gate_of(core: Core, local_token: str) -> Gate:
    manager = core.settings.manager
    return Gate(
        store=SqlAccess(core.database),
        local_token=local_token,
        public_url=manager.public_url,
        proxies=manager.trusted_proxies,
        token_seconds=manager.token_seconds,
        login_key=lambda: core.store.get_or_create_setting("login_key", secrets.token_urlsafe(32)),
        provider=_provider(manager.oidc, core.clock.monotonic),
    )


def _provider(oidc: OidcSettings, monotonic: Callable[[], float]) -> OidcProvider | None:
    if oidc.issuer is None or oidc.client_id is None:
        return None
    rules = ClaimRules(
        client_id=oidc.client_id,
        name_claim=oidc.name_claim,
        role_claim=oidc.role_claim,
        group_claim=oidc.group_claim,
        roles={Role.VIEWER: oidc.viewers, Role.OPERATOR: oidc.operators, Role.ADMIN: oidc.admins},
    )
    secret = oidc.client_secret.get_secret_value() if oidc.client_secret else None
    options = OidcOptions(issuer=oidc.issuer, client_secret=secret, scopes=oidc.scopes, rules=rules)
    return OidcProvider(options, monotonic=monotonic)


async def check_exposure(settings: Settings, store: AccessStore, host: str) -> None:
    """Raise ConfigError for an address that others reach while nobody but the local user could log in."""
    if is_loopback(host) or settings.manager.oidc.issuer is not None or await _knows_somebody(store):
        return
    problem = (
        f"manager.host is {host}, which other machines reach, and nobody there could log in: add a client "
        'with "openaperture clients add", make a token with "openaperture tokens create", or configure '
        "manager.oidc; or write 127.0.0.1"
    )
    raise ConfigError([problem])


async def _knows_somebody(store: AccessStore) -> bool:
    if any(client.disabled_at is None for client in await store.list_clients()):
        return True
    now = datetime.now(UTC)
    return any(token.is_good(now) for token in await store.list_tokens())

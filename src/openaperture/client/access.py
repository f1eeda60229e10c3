"""The Manager's routes of identities as methods."""

import re
from collections.abc import Sequence

import msgspec

from openaperture.client.access_models import AuditShown, ClientMade, ClientShown, Me, TokenMade, TokenShown
from openaperture.client.transport import Transport
from openaperture.domain.errors import BadInput

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")


class NewToken(msgspec.Struct, kw_only=True, frozen=True, omit_defaults=True):
    """A personal token to make; what is left out is as the Manager has it."""

    label: str = ""
    role: str | None = None
    days: int | None = None
    name: str | None = None
    groups: list[str] | None = None


class AccessCalls:
    """Raises what every method of `ManagerClient` raises."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def get_me(self) -> Me:
        """Who the token speaks for."""
        return await self._transport.get("/me", Me)

    async def exchange(self, code: str, verifier: str) -> TokenMade:
        """The token of a login in the browser. Needs no token of ours."""
        body = {"code": code, "verifier": verifier}
        return self._transport.read(await self._transport.post("/login/token", body), TokenMade)

    async def list_tokens(self, *, everybody: bool = False) -> list[TokenShown]:
        """Personal tokens, the newest first."""
        found = await self._transport.fetch("/tokens", {"all": "true"} if everybody else None)
        return self._transport.read(found, list[TokenShown])

    async def make_token(self, new: NewToken) -> TokenMade:
        return self._transport.read(await self._transport.post("/tokens", new), TokenMade)

    async def revoke_token(self, token_id: str) -> None:
        await self._transport.delete(f"/tokens/{_checked(token_id)}")

    async def list_clients(self) -> list[ClientShown]:
        return await self._transport.get("/clients", list[ClientShown])

    async def add_client(self, client_id: str, role: str, groups: Sequence[str] = ()) -> ClientMade:
        body = {"id": client_id, "role": role, "groups": list(groups)}
        return self._transport.read(await self._transport.post("/clients", body), ClientMade)

    async def disable_client(self, client_id: str) -> None:
        await self._transport.delete(f"/clients/{_checked(client_id)}")

    async def list_audit(
        self, *, after: int | None = None, before: int | None = None, limit: int = 100
    ) -> list[AuditShown]:
        """With `after`, oldest first; else newest first."""
        found = await self._transport.fetch("/audit", {"after": after, "before": before, "limit": limit})
        return self._transport.read(found, list[AuditShown])


def _checked(name: str) -> str:
    """Raises BadInput for what can be no id, which keeps `../` and the like out of the path."""
    if not _ID.fullmatch(name):
        raise BadInput(f"{name[:64]!r} can be no id; the commands that list show those that there are")
    return name

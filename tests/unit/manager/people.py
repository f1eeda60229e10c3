"""Those who use the Manager in tests, each with their own token."""

from collections.abc import AsyncGenerator, MutableMapping
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any
from urllib.parse import unquote

import httpx

from openaperture.domain.access import Identity, Role, Token, TokenKind
from openaperture.manager.credentials import hash_of, new_token
from openaperture.manager.identities import SESSION_COOKIES
from tests.unit.manager.place import Place

ORIGIN = "http://manager"


@asynccontextmanager
async def sending(place: Place, **headers: str) -> AsyncGenerator[httpx.AsyncClient]:
    """Requests with these headers, and nothing of ours."""
    transport = httpx.ASGITransport(app=place.app, client=("192.0.2.7", 4711))
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    async with httpx.AsyncClient(transport=transport, base_url=ORIGIN, headers=named) as http:
        yield http


async def status_of(place: Place, target: str, *, method: str = "GET", **headers: str) -> int:
    """The status of a request whose path goes out exactly as it is written, which no tidy client does."""
    path, _, query = target.partition("?")
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": unquote(path),
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [(name.encode(), value.encode()) for name, value in {"host": "manager", **headers}.items()],
        "client": ("192.0.2.7", 4711),
        "server": ("manager", 80),
    }
    statuses: list[int] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    await place.app(scope, receive, send)
    [status] = statuses
    return status


def bearer(text: str) -> dict[str, str]:
    return {"authorization": f"Bearer {text}"}


async def make_token(place: Place, **fields: Any) -> tuple[str, str]:
    """Id and text of a new personal token, made by the admin of the place."""
    response = await place.http.post("/tokens", json=fields)
    assert response.status_code == 201, response.text
    return response.json()["id"], response.json()["token"]


async def make_client(place: Place, client_id: str = "ci", role: str = "worker", **fields: Any) -> str:
    """The secret of a new client."""
    response = await place.http.post("/clients", json={"id": client_id, "role": role, **fields})
    assert response.status_code == 201, response.text
    secret: str = response.json()["secret"]
    return secret


async def log_in(place: Place, client_id: str, secret: str, **fields: str) -> httpx.Response:
    body = {"grant_type": "client_credentials", "client_id": client_id, "client_secret": secret, **fields}
    async with sending(place) as http:
        return await http.post("/oauth/token", json=body)


async def access_token(place: Place, client_id: str, secret: str, **fields: str) -> str:
    response = await log_in(place, client_id, secret, **fields)
    assert response.status_code == 200, response.text
    text: str = response.json()["access_token"]
    return text


async def session_cookie(place: Place, role: Role = Role.ADMIN, *, hours: float = 8) -> dict[str, str]:
    """The cookie of a browser that logged in."""
    made, now = new_token(TokenKind.SESSION), place.clock.now()
    token = Token(
        id=made.id,
        text_hash=hash_of(made.text),
        kind=TokenKind.SESSION,
        identity=Identity(name="ada", role=role),
        created_at=now,
        expires_at=now + timedelta(hours=hours),
    )
    await place.access.add_token(token)
    return {"cookie": f"{SESSION_COOKIES[1]}={made.text}"}

"""Requests as the original's library sends them: its headers, its order, bodies without an escape."""

import json
from typing import Any

import httpx
from fastapi import FastAPI

from tests.unit.manager.place import TOKEN


class OldClient:
    """What `OpenAperture.ManagerApi.Resource` puts on the wire."""

    def __init__(self, app: FastAPI, token: str = TOKEN) -> None:
        self._transport = httpx.ASGITransport(app=app)
        self._token = token

    async def ask(self, method: str, path: str, body: Any = None) -> httpx.Response:
        content = b"" if body is None else json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode()
        headers = [
            ("Content-Type", "application/json"),
            ("Accept", "application/json"),
            ("User-Agent", "openaperture-manager-api"),
            ("Authorization", f"Bearer access_token={self._token}"),
            ("Content-Length", str(len(content))),
        ]
        request = httpx.Request(method, f"http://manager{path}", headers=headers, content=content)
        response = await self._transport.handle_async_request(request)
        await response.aread()
        return response

    async def make(self, path: str, body: Any) -> str:
        """Create something; returns the last part of its location, as the library does."""
        response = await self.ask("POST", path, body)
        assert response.status_code == 201, response.text
        return response.headers["location"].rpartition("/")[2]

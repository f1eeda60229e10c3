"""Logging in with the browser: it comes back to a socket of ours, with a code that only we can use."""

import asyncio
import secrets
import webbrowser
from base64 import urlsafe_b64encode
from hashlib import sha256
from urllib.parse import parse_qs, urlsplit

from openaperture.cli.speech import say
from openaperture.client import ManagerClient
from openaperture.domain.errors import AccessRefused

LOGIN_SECONDS = 300.0
_MAX_LINE = 16_384
_PAGE = "Logged in. This page can be closed."


async def browser_token(url: str) -> str:
    """The token of a login in the browser. Raises AccessRefused when none comes within five minutes."""
    verifier = secrets.token_urlsafe(32)
    challenge = urlsafe_b64encode(sha256(verifier.encode()).digest()).rstrip(b"=").decode()
    code: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        found = await _code_in(reader)
        status, text = ("200 OK", _PAGE) if found else ("404 Not Found", "There is nothing here.")
        head = f"HTTP/1.1 {status}\r\ncontent-type: text/plain\r\ncontent-length: {len(text)}\r\nconnection: close"
        writer.write(f"{head}\r\n\r\n{text}".encode())
        await writer.drain()
        writer.close()
        if found and not code.done():
            code.set_result(found)

    server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=_MAX_LINE)
    async with server:
        port = server.sockets[0].getsockname()[1]
        address = f"{url.rstrip('/')}/login?port={port}&challenge={challenge}"
        say(f"log in with your browser: {address}")
        await asyncio.to_thread(webbrowser.open, address)
        try:
            async with asyncio.timeout(LOGIN_SECONDS):
                shown = await code
        except TimeoutError as exc:
            raise AccessRefused(f"no login came from the browser within {LOGIN_SECONDS / 60:.0f} minutes") from exc
    async with ManagerClient(url, "none-yet") as client:
        return (await client.access.exchange(shown, verifier)).token


async def _code_in(reader: asyncio.StreamReader) -> str:
    """Of the first line of a request; empty when it brings none."""
    try:
        line = (await reader.readline()).decode("ascii")
    except (ValueError, ConnectionError):
        return ""
    target = line.split(" ")[1] if line.count(" ") == 2 else ""
    return parse_qs(urlsplit(target).query).get("code", [""])[0]

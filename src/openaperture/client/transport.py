"""Requests, answers and what can go wrong with them: the one place where HTTP becomes our errors.

    no connection, cut off, too slow, 429, 5xx     ManagerUnavailable   (GETs were repeated a little)
    409 as it is being done already                ManagerUnavailable   (it was repeated a little)
    400 and other 4xx about the request            BadInput
    401, 403                                       AccessRefused
    404 of a workflow, 409                         UnknownWorkflow, WrongState
    anything that no Manager says                  UnusableAnswer

The token goes to the host of the URL alone: redirects are not followed.
"""

import asyncio
import re
from collections.abc import Mapping
from typing import Any, TypeVar
from urllib.parse import urlsplit
from uuid import uuid4

import httpx
import msgspec

from openaperture.client.models import ErrorAnswer, ErrorDetails
from openaperture.domain.errors import (
    AccessRefused,
    BadInput,
    ConfigError,
    ManagerUnavailable,
    NotAllowed,
    OpenApertureError,
    UnknownEntry,
    UnknownWorkflow,
    UnusableAnswer,
    WrongState,
)

T = TypeVar("T")
Query = Mapping[str, "str | int | None"]

READ_SECONDS = 30.0
_WORKFLOW_ID = re.compile(r"[0-9A-Za-z_-]{1,128}")
_PAUSES_SECONDS = (0.2, 0.5)
"""Between the tries of a request that may be repeated."""
_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
_PASSING = frozenset({429, 500, 502, 503, 504})
_REPEATED = frozenset({502, 503, 504})


class Transport:
    """A connection pool to one Manager."""

    def __init__(self, url: str, token: str, transport: httpx.AsyncBaseTransport | None) -> None:
        self._url = _checked_url(url)
        self._http = httpx.AsyncClient(
            base_url=self._url,
            headers={
                "authorization": f"Bearer {_checked_token(token)}",
                "accept": "application/json",
                "user-agent": "openaperture",
            },
            transport=transport,
            # A proxy for the world is none for our own host.
            trust_env=urlsplit(self._url).hostname not in _LOOPBACK,
        )

    async def close(self) -> None:
        await self._http.aclose()

    async def get(self, path: str, kind: type[T]) -> T:
        return self.read(await self.fetch(path), kind)

    async def fetch(self, path: str, query: Query | None = None, *, wait_seconds: float = 0) -> httpx.Response:
        """GET; None in the query is left out. `wait_seconds` is how long the Manager may hold its answer."""
        given = {name: str(value) for name, value in (query or {}).items() if value is not None}
        request = self._http.build_request("GET", path, params=given, timeout=_timeout(wait_seconds))
        return await self._ask(request, repeatable=True)

    async def post(
        self, path: str, body: Any, *, repeatable: bool = False, key: str | None = None
    ) -> httpx.Response:
        """POST a struct or a mapping as JSON."""
        request = self._http.build_request(
            "POST",
            path,
            content=msgspec.json.encode(body),
            headers={"content-type": "application/json", **({"idempotency-key": key} if key else {})},
            timeout=_timeout(0),
        )
        return await self._ask(request, repeatable=repeatable)

    async def post_once(self, path: str, body: Any) -> httpx.Response:
        """POST with a key, so that it may be sent again when its outcome is unknown."""
        return await self.post(path, body, repeatable=True, key=str(uuid4()))

    async def delete(self, path: str) -> None:
        """DELETE; repeating it is harmless."""
        await self._ask(self._http.build_request("DELETE", path, timeout=_timeout(0)), repeatable=True)

    def read(self, response: httpx.Response, kind: type[T]) -> T:
        """The body as a `kind`. Raises UnusableAnswer."""
        try:
            return msgspec.json.decode(response.content, type=kind)
        except (msgspec.MsgspecError, UnicodeError, RecursionError) as exc:
            raise self._unusable(response, f"{exc}") from exc

    async def _ask(self, request: httpx.Request, *, repeatable: bool) -> httpx.Response:
        for pause_seconds in _PAUSES_SECONDS:
            try:
                response = await self._http.send(request)
            except httpx.HTTPError as exc:
                # A request that got no connection was never sent, so any may be repeated then.
                if not (repeatable or isinstance(exc, httpx.ConnectError)):
                    raise self._unreachable(exc) from exc
            else:
                if not (repeatable and (response.status_code in _REPEATED or self._is_in_progress(response))):
                    return self._accepted(response)
            await asyncio.sleep(pause_seconds)
        try:
            return self._accepted(await self._http.send(request))
        except httpx.HTTPError as exc:
            raise self._unreachable(exc) from exc

    def _accepted(self, response: httpx.Response) -> httpx.Response:
        if not response.is_success:
            raise self._refusal(response)
        return response

    # ----------------------------------------------------------------------- what went wrong

    def _unreachable(self, exc: Exception) -> ManagerUnavailable:
        match exc:
            case httpx.ConnectError() | httpx.ConnectTimeout():
                what = "cannot be reached; is it running, and is its address right?"
            case httpx.TimeoutException():
                what = f"did not answer within {READ_SECONDS:.0f} s; try again later"
            case httpx.RemoteProtocolError():
                what = "broke off in the middle of its answer; try again"
            case _:
                what = "could not be talked to; try again later"
        return ManagerUnavailable(f"the Manager at {self._url} {what} ({exc or type(exc).__name__})")

    def _refusal(self, response: httpx.Response) -> OpenApertureError:
        status = response.status_code
        if status in {401, 403}:
            return self._no_access(response)
        if status in _PASSING or self._is_in_progress(response):
            said = self._find_error(response)
            text = said.message if said else f"it answered {status}"
            return ManagerUnavailable(f"the Manager at {self._url} cannot do that now: {text}")
        error = self._find_error(response)
        if error is None:
            return self._unusable(response, "an error in an unknown form")
        match status, error.code:
            case 404, "unknown_workflow":
                return UnknownWorkflow(error.message)
            case 404, "unknown_token" | "unknown_client":
                return BadInput(error.message)
            case 404, "unknown_entry":
                return UnknownEntry(error.message)
            case 409, _:
                return WrongState(error.message)
            case ((400 | 413 | 415 | 422), _):
                return BadInput(error.message)
            case _:
                return self._unusable(response, error.message)

    def _no_access(self, response: httpx.Response) -> OpenApertureError:
        error = self._find_error(response)
        if error is None or error.code == "unauthorized":
            return AccessRefused(
                f"the Manager at {self._url} refuses the access token ({response.status_code}); "
                "it may belong to another Manager, or to an earlier run of this one"
            )
        if error.code == "not_allowed":
            return NotAllowed(error.message)
        return AccessRefused(f"the Manager at {self._url} refuses this: {error.message}")

    def _is_in_progress(self, response: httpx.Response) -> bool:
        """Whether somebody still does this, or died over it. The Manager has waited for them before it said so."""
        error = self._find_error(response) if response.status_code == 409 else None
        return error is not None and error.code == "in_progress"

    def _find_error(self, response: httpx.Response) -> ErrorDetails | None:
        try:
            return msgspec.json.decode(response.content, type=ErrorAnswer).error
        except (msgspec.MsgspecError, UnicodeError, RecursionError):
            return None

    def _unusable(self, response: httpx.Response, why: str) -> UnusableAnswer:
        request = response.request
        return UnusableAnswer(
            f"{request.method} {request.url.path} at {self._url} was answered with {response.status_code} and "
            f"something that no Manager says ({why}); check that the URL is that of a Manager"
        )


def path_of(workflow_id: str, rest: str = "") -> str:
    """Raises UnknownWorkflow for what can be no id, which keeps `../` and the like out of the path."""
    if not _WORKFLOW_ID.fullmatch(workflow_id):
        raise UnknownWorkflow(f'{workflow_id[:64]!r} is no workflow id; "openaperture list" shows those that are')
    return f"/workflows/{workflow_id}{rest}"


def _timeout(wait_seconds: float) -> httpx.Timeout:
    return httpx.Timeout(connect=5.0, read=READ_SECONDS + wait_seconds, write=READ_SECONDS, pool=5.0)


def _checked_url(url: str) -> str:
    try:
        parts = urlsplit(url)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        usable = False
        parts = urlsplit("")
    if not usable:
        raise ConfigError(['the Manager\'s URL is none; write it like "http://127.0.0.1:8080"'])
    if parts.username or parts.password:
        raise ConfigError(
            ["the Manager's URL carries a user or password, which would be shown; give a token instead"]
        )
    return url.rstrip("/")


def _checked_token(token: str) -> str:
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise ConfigError(["the Manager's access token is empty or has characters that no token has"])
    return token

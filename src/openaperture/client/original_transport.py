"""Requests to an original Manager: who we are, how long we wait, what is tried again, what an answer means.

    no connection, cut off, too slow, 408, 429, 5xx     ManagerUnavailable   (tried again as `Repeat` allows)
    400, 422                                            BadInput, with what is said about the fields
    401 (even with a new token), 403                    AccessRefused
    2xx, 404, 409                                       an Answer: what it means depends on the question
    anything else, a redirect, or too many bytes        UnusableAnswer

The token goes to the host of the url alone: redirects are not followed.
"""

import asyncio
import random
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import Any, TypeAlias, TypeVar
from urllib.parse import quote

import httpx
import msgspec

from openaperture.client.answers import NotAnAnswer, parse, read_body
from openaperture.client.oauth import Token, TokenSource, checked_url, is_loopback
from openaperture.domain.errors import AccessRefused, BadInput, ManagerUnavailable, UnusableAnswer
from openaperture.ports import Clock
from openaperture.runtime.backoff import Backoff

T = TypeVar("T")

TRY_SECONDS = 15.0
"""One try, from connecting to the end of its answer."""
CONNECT_SECONDS = 5.0
TRIES = 3
LONGEST_PAUSE_SECONDS = 5.0
"""A Manager that asks for a longer pause is not waited for: the caller has better ways to wait."""
LONGEST_RETRY_AFTER_SECONDS = 60.0
"""More is not believed."""
MAX_ANSWER_BYTES = 16 * 1_048_576
"""An event log has no limit in the original."""
MAX_SEGMENT_CHARS = 512
"""No id and no token is longer, and servers refuse long paths in their own words."""
MAX_SAID_CHARS = 300

_Said: TypeAlias = "str | int | float | list[_Said] | dict[str, _Said] | None"

_BUSY = frozenset({429, 503})
"""Said instead of doing anything."""
_PASSING = frozenset({408, 425, 429})


class Repeat(StrEnum):
    """What may be done again when we do not know whether it was done."""

    FREELY = "freely"
    UNDONE = "undone"
    """Only what certainly had no effect: no connection was made, or the Manager said that it is busy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A status that the caller knows how to read, and the body."""

    status: int
    body: bytes
    asked: str
    """Method and path, for texts."""


class _Failed(Exception):
    """A try that came to nothing."""

    def __init__(self, why: str, *, undone: bool) -> None:
        super().__init__(why)
        self.undone = undone


class OriginalTransport:
    """A connection pool to one original Manager."""

    def __init__(
        self, url: str, tokens: TokenSource, clock: Clock, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        """`transport` replaces the network. Raises ConfigError for a url that cannot be used."""
        self.url = checked_url(url, "manager_url").rstrip("/")
        self._tokens = tokens
        self._clock = clock
        self._busy_until = float("-inf")
        self._http = httpx.AsyncClient(
            base_url=self.url,
            headers={
                "Accept": "application/json",
                "Accept-Encoding": "identity",
                "Content-Type": "application/json",
                "User-Agent": "openaperture-manager-api",
            },
            transport=transport,
            trust_env=not is_loopback(self.url),
            timeout=httpx.Timeout(TRY_SECONDS, connect=CONNECT_SECONDS),
        )

    async def close(self) -> None:
        await self._http.aclose()
        await self._tokens.close()

    async def ask(
        self,
        method: str,
        segments: tuple[object, ...],
        *,
        query: Mapping[str, str] | None = None,
        body: object = None,
        repeat: Repeat = Repeat.FREELY,
        shown: str | None = None,
    ) -> Answer:
        """Send a request and read its answer. `segments` must be `addressable`; a body goes out as UTF-8 JSON.

        `shown` stands for the path in texts, when the path holds a secret.
        """
        path = "/" + "/".join(quote(str(segment), safe="") for segment in segments)
        asked = f"{method} {shown or path}"
        content = None if body is None else msgspec.json.encode(body)
        request = self._http.build_request(method, path, params=query, content=content)
        backoff = Backoff()
        for left in reversed(range(TRIES)):
            await self._wait_while_busy()
            try:
                return await self._ask_with_token(request, asked)
            except _Failed as exc:
                if not left or not (exc.undone or repeat is Repeat.FREELY):
                    raise self._unavailable(str(exc)) from exc.__cause__
            await self._clock.sleep(backoff.next_seconds())
        raise AssertionError("the last try returns or raises")

    def read(self, answer: Answer, kind: type[T]) -> T:
        """The body of an answer as a `kind`. Raises UnusableAnswer."""
        try:
            return parse(answer.body, kind)
        except NotAnAnswer as exc:
            raise self.unusable(answer, str(exc)) from exc

    def unusable(self, answer: Answer, why: str = "no Manager answers that") -> UnusableAnswer:
        return UnusableAnswer(
            f"{answer.asked} at {self.url} was answered with {answer.status} and something unusable: {why}; "
            "check that manager_url is that of a Manager"
        )

    def refused(self, answer: Answer) -> BadInput:
        return BadInput(f"the Manager at {self.url} refuses {answer.asked}: {what_is_said(answer.body)}")

    # ------------------------------------------------------------------------------------- one try

    async def _ask_with_token(self, request: httpx.Request, asked: str) -> Answer:
        """With one new token if the first is refused. Raises _Failed and what `_judged` raises."""
        token = await self._tokens.token()
        answer = await self._try(request, token, asked)
        if answer.status == 401:
            renewed = await self._tokens.renew(token)
            if renewed is not token:
                answer = await self._try(request, renewed, asked)
        return self._judged(answer)

    async def _try(self, request: httpx.Request, token: Token, asked: str) -> Answer:
        request.headers["Authorization"] = f"Bearer access_token={token.text}"
        try:
            async with asyncio.timeout(TRY_SECONDS):
                return await self._send(request, asked)
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as exc:
            raise _Failed(f"it cannot be reached ({exc or type(exc).__name__})", undone=True) from exc
        except (TimeoutError, httpx.TimeoutException) as exc:
            raise _Failed(f"{asked} was not answered within {TRY_SECONDS:.0f} s", undone=False) from exc
        except httpx.HTTPError as exc:
            raise _Failed(f"{asked} was broken off ({exc or type(exc).__name__})", undone=False) from exc

    async def _send(self, request: httpx.Request, asked: str) -> Answer:
        response = await self._http.send(request, stream=True)
        self._note_pause(response)
        try:
            body = await read_body(response, limit_bytes=MAX_ANSWER_BYTES)
        except NotAnAnswer as exc:
            raise self.unusable(Answer(status=response.status_code, body=b"", asked=asked), str(exc)) from exc
        finally:
            await response.aclose()
        return Answer(status=response.status_code, body=body, asked=asked)

    def _judged(self, answer: Answer) -> Answer:
        status = answer.status
        if 200 <= status < 300 or status in {404, 409}:
            return answer
        if status in {401, 403}:
            raise AccessRefused(
                f"the Manager at {self.url} refuses our access token for {answer.asked} ({status}); "
                "check the rights of oauth_client_id there, and that both use the same login service"
            )
        if status in {400, 422}:
            raise self.refused(answer)
        if status in _PASSING or status >= 500:
            raise _Failed(f"{answer.asked} was answered with {status}", undone=status in _BUSY)
        if 300 <= status < 400:
            raise self.unusable(answer, "it redirects, and our token is not sent to where it points")
        raise self.unusable(answer)

    # --------------------------------------------------------------------------------------- pauses

    def _note_pause(self, response: httpx.Response) -> None:
        """A Manager that asks for a pause gets it from all who ask it, not from this caller alone."""
        if response.status_code in _BUSY:
            seconds = min(_retry_after_seconds(response), LONGEST_RETRY_AFTER_SECONDS)
            self._busy_until = max(self._busy_until, self._clock.monotonic() + seconds)

    async def _wait_while_busy(self) -> None:
        seconds = self._busy_until - self._clock.monotonic()
        if seconds > LONGEST_PAUSE_SECONDS:
            raise self._unavailable(f"it asks for a pause of {seconds:.0f} s more")
        if seconds > 0:
            # Not all at the same instant when the pause is over.
            await self._clock.sleep(seconds + random.uniform(0.0, 0.5))  # noqa: S311 - spreads load, guards nothing

    def _unavailable(self, why: str) -> ManagerUnavailable:
        return ManagerUnavailable(f"the Manager at {self.url} cannot answer now: {why}; try again later")


def addressable(*segments: object) -> bool:
    """Whether something at the Manager can have these ids: not empty, not endless, no way out of the path."""
    return all(
        str(segment) not in {"", ".", ".."} and len(str(segment)) <= MAX_SEGMENT_CHARS for segment in segments
    )


def what_is_said(body: bytes) -> str:
    """What the body of a 400 or 409 says, in one short line.

    Three shapes: {"errors": [{"message": …}, {field: text}]}, {field: text or texts} of workflows, and
    {"error": {"message": …, …}} of a Manager of ours.
    """
    try:
        said: dict[str, _Said] = parse(body, dict[str, Any])
    except NotAnAnswer:
        return "it does not say why"
    errors, ours = said.get("errors"), said.get("error")
    if isinstance(ours, dict) and "message" in ours:
        said = {"message": ours["message"]}
    entries = errors if isinstance(errors, list) else [said]
    texts = [text for entry in entries if isinstance(entry, dict) for text in _field_texts(entry)]
    line = " ".join("; ".join(texts).split())
    return (line if len(line) <= MAX_SAID_CHARS else f"{line[:MAX_SAID_CHARS]}…") or "it does not say why"


def _field_texts(entry: Mapping[str, _Said]) -> list[str]:
    texts: list[str] = []
    for field, said in entry.items():
        messages = ", ".join(map(str, said)) if isinstance(said, list) else str(said)
        texts.append(messages if field == "message" else f"{field}: {messages}")
    return texts


def _retry_after_seconds(response: httpx.Response) -> float:
    """0 when the header is missing or says nothing that can be understood (RFC 9110, 10.2.3)."""
    said = response.headers.get("retry-after", "").strip()
    if said.isascii() and said.isdigit():
        return float(said[:9])
    try:
        at = parsedate_to_datetime(said)
        return max(0.0, (at - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError, OverflowError):
        return 0.0

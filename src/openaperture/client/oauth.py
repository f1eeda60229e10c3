"""OAuth2 client credentials, as the login service of the original speaks them: JSON both ways.

One token per login url and client id, kept in memory alone. The secret and the token appear in no text
and no `repr`, and go to the host of the url and nowhere else: redirects are not followed.
"""

import asyncio
import math
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import httpx
import msgspec

from openaperture.client.answers import NotAnAnswer, parse, read_body
from openaperture.client.single_flight import SingleFlight
from openaperture.domain.errors import (
    ConfigError,
    LoginRefused,
    ManagerUnavailable,
    OpenApertureError,
    UnusableAnswer,
)
from openaperture.ports import Clock
from openaperture.runtime.backoff import Backoff

REQUEST_SECONDS = 10.0
"""One request for a token, from connecting to the end of its answer."""
MARGIN_SECONDS = 30.0
"""A token is replaced this long before its end, as in the original …"""
MARGIN_SHARE = 0.2
"""… or, of a token that lives no longer than that, after four fifths of its life."""
RENEWAL_PAUSE_SECONDS = 5.0
"""A Manager that refuses even fresh tokens does not make us ask for another at every call."""
MAX_ANSWER_BYTES = 65_536
MAX_TOKEN_CHARS = 8_192

_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Token:
    """An access token. Two are the same only if they are one object: a login service may repeat a text."""

    text: str = field(repr=False)
    replace_at: float
    """By the monotonic clock."""


class _Answer(msgspec.Struct, kw_only=True):
    access_token: str
    expires_in: int | float


class TokenSource:
    """Hands out the token, asking for one when there is none or it ends soon."""

    def __init__(
        self,
        url: str,
        client_id: str,
        client_secret: str,
        clock: Clock,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        """`transport` replaces the network. Raises ConfigError for a url that cannot be used."""
        self._url = checked_url(url, "oauth_login_url")
        # A dict and no JSON text: a text would be shown by whatever prints our attributes.
        self._credentials = {
            "grant_type": "client_credentials",
            "client_id": client_id,
            "client_secret": client_secret,
        }
        self._clock = clock
        self._http = httpx.AsyncClient(
            headers={"accept": "application/json", "accept-encoding": "identity"},
            transport=transport,
            trust_env=not is_loopback(self._url),
            timeout=REQUEST_SECONDS,
        )
        self._flight = SingleFlight()
        self._backoff = Backoff()
        self._current: Token | None = None
        self._renewed_at = -math.inf
        self._failure: OpenApertureError | None = None
        self._silent_until = -math.inf

    async def close(self) -> None:
        await self._http.aclose()

    async def token(self) -> Token:
        """A token that is good for a while. Raises LoginRefused, ManagerUnavailable, UnusableAnswer."""
        good = self._find_good()
        return await self._flight.ask("token", self._ask) if good is None else good

    async def renew(self, refused: Token) -> Token:
        """Another token than `refused`, which a Manager did not accept. Raises as `token` does.

        Those who were refused together get one new token by one request. Gives back `refused` itself
        when there was a renewal a moment ago: then it is not the token that is wrong.
        """
        if self._current is not refused:
            return await self.token()
        now = self._clock.monotonic()
        if now - self._renewed_at < RENEWAL_PAUSE_SECONDS:
            return refused
        self._renewed_at = now
        self._current = None
        return await self.token()

    def _find_good(self) -> Token | None:
        good = self._current is not None and self._clock.monotonic() < self._current.replace_at
        return self._current if good else None

    async def _ask(self) -> Token:
        """Ask now, unless the last try failed a moment ago: then that failure is the answer still."""
        # Who takes the place of a caller that was cancelled may find that another has been quicker.
        if (good := self._find_good()) is not None:
            return good
        asked_at = self._clock.monotonic()
        if self._failure is not None and asked_at < self._silent_until:
            raise type(self._failure)(str(self._failure))
        try:
            self._current = self._read(await self._post(), asked_at)
        except OpenApertureError as exc:
            self._failure = exc
            self._silent_until = self._clock.monotonic() + self._backoff.next_seconds()
            raise
        self._failure = None
        self._backoff.reset()
        return self._current

    async def _post(self) -> bytes:
        request = self._http.build_request(
            "POST",
            self._url,
            content=msgspec.json.encode(self._credentials),
            headers={"content-type": "application/json"},
        )
        try:
            async with asyncio.timeout(REQUEST_SECONDS):
                response = await self._http.send(request, stream=True)
                try:
                    self._check(response)
                    return await read_body(response, limit_bytes=MAX_ANSWER_BYTES)
                finally:
                    await response.aclose()
        except TimeoutError:
            raise self._unavailable(f"it did not answer within {REQUEST_SECONDS:.0f} s") from None
        except (httpx.HTTPError, httpx.InvalidURL) as exc:
            # Without the cause: the request that it carries holds the secret.
            raise self._unavailable(f"it cannot be reached ({type(exc).__name__})") from None
        except NotAnAnswer as exc:
            raise self._unusable(str(exc)) from exc

    def _check(self, response: httpx.Response) -> None:
        status = response.status_code
        if status in {400, 401, 403}:
            raise LoginRefused(
                f'the login service at {self._url} refuses client "{self._credentials["client_id"]}" ({status}); '
                "check oauth_client_id and oauth_client_secret"
            )
        if status in {408, 425, 429} or status >= 500:
            raise self._unavailable(f"it answered {status}")
        if response.has_redirect_location:
            raise self._unusable("it redirects, and credentials are not sent to where it points")
        if status != 200:
            raise self._unusable(f"it answered {status}")

    def _read(self, body: bytes, asked_at: float) -> Token:
        try:
            answer = parse(body, _Answer)
        except NotAnAnswer as exc:
            raise self._unusable(str(exc)) from exc
        text, life_seconds = answer.access_token, answer.expires_in
        if not text or len(text) > MAX_TOKEN_CHARS or not text.isascii() or not text.isprintable() or " " in text:
            raise self._unusable("its access_token is empty, too long, or no text that a header can carry")
        if not 0 < life_seconds < math.inf:
            raise self._unusable("its expires_in is no number of seconds above 0")
        margin_seconds = MARGIN_SECONDS if life_seconds > MARGIN_SECONDS else life_seconds * MARGIN_SHARE
        # Counted from before the request: the answer was under way for part of its life.
        return Token(text=text, replace_at=asked_at + life_seconds - margin_seconds)

    def _unavailable(self, why: str) -> ManagerUnavailable:
        return ManagerUnavailable(f"no access token from the login service at {self._url}: {why}; try again later")

    def _unusable(self, why: str) -> UnusableAnswer:
        return UnusableAnswer(
            f"the login service at {self._url} gave no usable access token: {why}; check oauth_login_url"
        )


def checked_url(url: str, name: str) -> str:
    """An http(s) url without credentials or query, which texts would show. Raises ConfigError."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        usable = False
        parts = urlsplit("")
    if not usable:
        raise ConfigError([f'{name} is no url; write it like "https://host.example"'])
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise ConfigError([f"{name} carries a user, a password or a query, which would be shown; leave them out"])
    return url


def is_loopback(url: str) -> bool:
    """A proxy for the world is none for our own host."""
    return urlsplit(url).hostname in _LOOPBACK

"""A login service and an original Manager for tests, played by a function instead of a network."""

import asyncio
import json
from collections.abc import Callable, Coroutine

import httpx

from openaperture.client.oauth import TokenSource

LOGIN_URL = "https://auth.example.test/oauth/token"
SECRET = "s3cret-of-the-client"

Handler = (
    Callable[[httpx.Request], httpx.Response] | Callable[[httpx.Request], Coroutine[None, None, httpx.Response]]
)


class StepClock:
    """A clock that only moves when told: sleeping moves it at once."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds
        await asyncio.sleep(0)


class Login:
    """Hands out tokens T1, T2, … and counts; `answer` replaces what it says."""

    def __init__(self, expires_in: float = 3600) -> None:
        self.expires_in = expires_in
        self.asked = 0
        self.requests: list[httpx.Request] = []
        self.answer: httpx.Response | Exception | None = None
        self.gate = asyncio.Event()
        self.gate.set()
        self.arrived = asyncio.Event()

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked += 1
        number = self.asked
        self.requests.append(request)
        self.arrived.set()
        await self.gate.wait()
        if isinstance(self.answer, Exception):
            raise self.answer
        if self.answer is not None:
            return streamed(self.answer.status_code, self.answer.content, dict(self.answer.headers))
        return say(200, {"access_token": f"T{number}", "expires_in": self.expires_in})


def streamed(status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> httpx.Response:
    """A response whose body is read from a stream, as from a network."""

    class Body(httpx.AsyncByteStream):
        async def __aiter__(self):  # type: ignore[no-untyped-def]  # the base class leaves it open
            yield body

    return httpx.Response(status, headers=headers, stream=Body())


def say(status: int, value: object) -> httpx.Response:
    return streamed(status, json.dumps(value).encode())


def tokens_of(login: Handler, clock: StepClock) -> TokenSource:
    return TokenSource(LOGIN_URL, "id", SECRET, clock, httpx.MockTransport(login))

"""Client credentials: what is asked, how long a token serves, and what can go wrong."""

import asyncio
import json
import traceback

import httpx
import pytest

from openaperture.client.oauth import MAX_ANSWER_BYTES, RENEWAL_PAUSE_SECONDS, TokenSource
from openaperture.domain.errors import (
    AccessRefused,
    ConfigError,
    LoginRefused,
    ManagerUnavailable,
    OpenApertureError,
    UnusableAnswer,
)
from tests.unit.client.login import LOGIN_URL, SECRET, Login, StepClock, tokens_of

# --------------------------------------------------------------------------------------- asking


async def test_credentials_go_out_as_json() -> None:
    login = Login()
    token = await tokens_of(login, StepClock()).token()
    assert token.text == "T1"
    [request] = login.requests
    assert (request.method, str(request.url)) == ("POST", LOGIN_URL)
    assert json.loads(request.content) == {
        "grant_type": "client_credentials",
        "client_id": "id",
        "client_secret": SECRET,
    }
    assert request.headers["content-type"] == request.headers["accept"] == "application/json"


async def test_a_trailing_slash_of_the_login_url_stays() -> None:
    login = Login()
    source = TokenSource("https://auth.example.test/token/", "id", SECRET, StepClock(), httpx.MockTransport(login))
    await source.token()
    assert login.requests[0].url.path == "/token/"


@pytest.mark.parametrize("url", ["", "auth.example.test", "ftp://h/x", "https://u:p@h/x", "https://h/x?secret=1"])
def test_a_url_that_cannot_be_used_or_would_show_a_secret_is_refused(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        TokenSource(url, "id", SECRET, StepClock())
    assert "secret=1" not in str(caught.value)
    assert "u:p" not in str(caught.value)


# --------------------------------------------------------------------------------- how long it serves


@pytest.mark.parametrize(
    ("life_seconds", "serves_seconds"),
    [(3600, 3570), (150, 120), (100, 70), (60, 30), (33, 3), (10, 8), (0.5, 0.4)],
)
@pytest.mark.fault("F53")
async def test_a_token_serves_until_30_s_before_its_end_or_for_four_fifths_of_a_short_life(
    life_seconds: float, serves_seconds: float
) -> None:
    login, clock = Login(life_seconds), StepClock()
    source = tokens_of(login, clock)
    await source.token()
    asked_at = clock.now
    clock.now = asked_at + serves_seconds - 0.01
    assert (await source.token()).text == "T1"
    clock.now = asked_at + serves_seconds + 0.000_001
    assert (await source.token()).text == "T2"


@pytest.mark.fault("F53")
async def test_the_life_of_a_token_counts_from_before_the_request() -> None:
    login, clock = Login(100), StepClock()
    login.gate.clear()
    source = tokens_of(login, clock)
    asked_at = clock.now
    first = asyncio.ensure_future(source.token())
    await login.arrived.wait()
    clock.now += 30
    login.gate.set()
    assert (await first).replace_at == asked_at + 70


# ------------------------------------------------------------------------------------- one request


async def test_callers_at_the_same_time_make_one_request() -> None:
    login = Login()
    source = tokens_of(login, StepClock())
    got = await asyncio.gather(*(source.token() for _ in range(50)))
    assert {token.text for token in got} == {"T1"}
    assert login.asked == 1


@pytest.mark.fault("F52")
async def test_a_storm_of_401s_makes_one_renewal() -> None:
    login = Login()
    source = tokens_of(login, StepClock())
    refused = await source.token()
    renewed = await asyncio.gather(*(source.renew(refused) for _ in range(50)))
    assert {token.text for token in renewed} == {"T2"}
    # Latecomers that were refused with the old token get the new one too.
    assert (await source.renew(refused)).text == "T2"
    assert login.asked == 2


async def test_a_login_service_that_repeats_a_token_is_not_asked_for_it_by_everybody() -> None:
    login = Login()
    source = tokens_of(login, StepClock())
    refused = await source.token()
    login.answer = httpx.Response(200, json={"access_token": "T1", "expires_in": 3600})
    again = await asyncio.gather(*(source.renew(refused) for _ in range(5)))
    assert {token.text for token in again} == {"T1"}
    await source.renew(refused)
    assert login.asked == 2


async def test_a_new_token_that_is_refused_too_is_not_renewed_again_at_once() -> None:
    login, clock = Login(), StepClock()
    source = tokens_of(login, clock)
    second = await source.renew(await source.token())
    assert await source.renew(second) is second
    clock.now += RENEWAL_PAUSE_SECONDS
    assert (await source.renew(second)).text == "T3"


async def test_a_caller_that_gives_up_does_not_take_the_token_from_the_others() -> None:
    login = Login()
    login.gate.clear()
    source = tokens_of(login, StepClock())
    impatient = asyncio.ensure_future(source.token())
    await login.arrived.wait()
    patient = [asyncio.ensure_future(source.token()) for _ in range(3)]
    await asyncio.sleep(0)
    impatient.cancel()
    login.gate.set()
    assert {token.text for token in await asyncio.gather(*patient)} == {"T2"}
    assert login.asked == 2


# ------------------------------------------------------------------------------------ what goes wrong


@pytest.mark.parametrize("status", [400, 401, 403])
async def test_refused_credentials_say_which_settings_to_check(status: int) -> None:
    login = Login()
    login.answer = httpx.Response(status, text=f"no such {SECRET}")
    with pytest.raises(LoginRefused, match="check oauth_client_id and oauth_client_secret") as caught:
        await tokens_of(login, StepClock()).token()
    assert isinstance(caught.value, AccessRefused)
    _assert_no_secret(caught.value)


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(500),
        httpx.Response(503, headers={"retry-after": "3"}),
        httpx.Response(429),
        httpx.ConnectError("refused"),
        httpx.ReadTimeout("slow"),
        httpx.RemoteProtocolError("cut"),
    ],
)
async def test_a_login_service_that_is_ill_or_away_is_tried_later(answer: httpx.Response | Exception) -> None:
    login = Login()
    login.answer = answer
    with pytest.raises(ManagerUnavailable, match="try again later") as caught:
        await tokens_of(login, StepClock()).token()
    _assert_no_secret(caught.value)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>log in</html>",
        b"[]",
        b"null",
        b'"T"',
        b'{"expires_in": 3600}',
        b'{"access_token": "T"}',
        b'{"access_token": null, "expires_in": 3600}',
        b'{"access_token": "", "expires_in": 3600}',
        b'{"access_token": "a b", "expires_in": 3600}',
        b'{"access_token": "a\\r\\nX-Evil: 1", "expires_in": 3600}',
        '{"access_token": "tökn", "expires_in": 3600}'.encode(),
        b'{"access_token": "T", "expires_in": null}',
        b'{"access_token": "T", "expires_in": "3600"}',
        b'{"access_token": "T", "expires_in": true}',
        b'{"access_token": "T", "expires_in": 0}',
        b'{"access_token": "T", "expires_in": -5}',
        b'{"access_token": "T", "expires_in": NaN}',
        b'{"access_token": "T", "expires_in": 1e999}',
        b'{"access_token": "T", "expires_in": 123456789012345678901234}',
        b'{"access_token": "T", "access_token": "U", "expires_in": 3600}',
        b'{"access_token": "' + b"T" * 9_000 + b'", "expires_in": 3600}',
        b'{"access_token": "\\ud800", "expires_in": 3600}',
        b'{"access_token": "\xff", "expires_in": 3600}',
        b'{"a":' * 5_000,
        b" " * (MAX_ANSWER_BYTES + 1),
    ],
    ids=lambda body: repr(body[:40]),
)
async def test_an_answer_that_holds_no_usable_token_is_a_clear_error(body: bytes) -> None:
    login = Login()
    login.answer = httpx.Response(200, content=body)
    with pytest.raises(UnusableAnswer, match=r"gave no usable access token: .*; check oauth_login_url"):
        await tokens_of(login, StepClock()).token()


@pytest.mark.parametrize("status", [201, 204, 302, 307, 404, 418])
async def test_any_other_status_is_a_clear_error(status: int) -> None:
    login = Login()
    login.answer = httpx.Response(status, headers={"location": "https://evil.example.test/"})
    with pytest.raises(UnusableAnswer) as caught:
        await tokens_of(login, StepClock()).token()
    assert [request.url.host for request in login.requests] == ["auth.example.test"]
    _assert_no_secret(caught.value)


async def test_a_failure_is_not_kept_but_not_repeated_at_once_either() -> None:
    login, clock = Login(), StepClock()
    source = tokens_of(login, clock)
    login.answer = httpx.Response(500)
    for _ in range(20):
        with pytest.raises(ManagerUnavailable):
            await source.token()
    assert login.asked == 1
    login.answer = None
    clock.now += 6.0
    assert (await source.token()).text == "T2"


async def test_callers_at_the_same_time_share_one_failure() -> None:
    login = Login()
    login.answer = httpx.Response(401)
    source = tokens_of(login, StepClock())
    outcomes = await asyncio.gather(*(source.token() for _ in range(20)), return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {LoginRefused}
    assert login.asked == 1


async def test_neither_secret_nor_token_is_in_any_repr() -> None:
    source = tokens_of(Login(), StepClock())
    token = await source.token()
    for shown in (repr(source), str(source), repr(token), str(token)):
        assert SECRET not in shown
        assert "T1" not in shown


def _assert_no_secret(error: OpenApertureError) -> None:
    assert SECRET not in "".join(traceback.format_exception(error))

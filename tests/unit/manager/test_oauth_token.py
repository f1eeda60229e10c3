"""POST /oauth/token: as the original's clients call it, and as the standard says."""

import asyncio
import base64
import json
from typing import Any
from urllib.parse import quote_plus

import httpx
import pytest

from openaperture.client.oauth import TokenSource
from openaperture.manager.oauth import FAILURES_PER_ADDRESS, FAILURES_PER_CLIENT
from openaperture.observability.clock import SystemClock
from tests.unit.manager.people import bearer, log_in, make_client, sending
from tests.unit.manager.place import Place

FORM = {"content-type": "application/x-www-form-urlencoded"}


def basic(client_id: str, secret: str) -> dict[str, str]:
    encoded = base64.b64encode(f"{quote_plus(client_id)}:{quote_plus(secret)}".encode()).decode()
    return {"authorization": f"Basic {encoded}"}


async def asked(place: Place, *, address: str = "192.0.2.7", **request: Any) -> httpx.Response:
    transport = httpx.ASGITransport(app=place.app, client=(address, 4711))
    async with httpx.AsyncClient(transport=transport, base_url="http://manager") as http:
        return await http.post("/oauth/token", **request)


async def test_a_request_of_the_original_gets_a_token_that_works(place: Place) -> None:
    secret = await make_client(place)
    body = f'{{"grant_type":"client_credentials","client_secret":"{secret}","client_id":"ci"}}'
    headers = {"content-type": "application/json", "accept": "application/json"}
    answer = (await asked(place, content=body, headers=headers)).json()
    assert answer["token_type"] == "Bearer"
    assert answer["expires_in"] == 3_600
    async with sending(place, authorization=f"Bearer access_token={answer['access_token']}") as http:
        assert (await http.get("/me")).json()["name"] == "client:ci"


async def test_our_own_client_logs_in(place: Place) -> None:
    secret = await make_client(place)
    transport = httpx.ASGITransport(app=place.app)
    source = TokenSource("http://manager/oauth/token", "ci", secret, SystemClock(), transport)
    async with sending(place, **bearer((await source.token()).text)) as http:
        assert (await http.get("/me")).status_code == 200
    await source.close()


async def test_a_form_with_the_secret_in_it_or_in_the_header_is_as_good(place: Place) -> None:
    secret = await make_client(place)
    form = f"grant_type=client_credentials&client_id=ci&client_secret={quote_plus(secret)}"
    assert (await asked(place, content=form, headers=FORM)).status_code == 200
    by_header = await asked(
        place, content="grant_type=client_credentials", headers={**FORM, **basic("ci", secret)}
    )
    assert by_header.status_code == 200


async def test_scope_takes_power_away_and_gives_none(place: Place) -> None:
    secret = await make_client(place, role="operator", groups=["ops"])
    answer = (await log_in(place, "ci", secret, scope="viewer")).json()
    assert answer["scope"] == "viewer"
    async with sending(place, **bearer(answer["access_token"])) as http:
        assert (await http.get("/me")).json()["groups"] == ["ops"]
        assert (await http.post("/workflows", json={})).status_code == 403
    for scope in ("admin", "worker", "root", "viewer operator"):
        refused = await log_in(place, "ci", secret, scope=scope)
        assert (refused.status_code, refused.json()["error"]) == (400, "invalid_scope")


async def test_an_unknown_client_a_wrong_secret_and_a_disabled_client_look_the_same(place: Place) -> None:
    secret = await make_client(place)
    of_gone = await make_client(place, "gone")
    await place.http.delete("/clients/gone")
    answers = [
        await asked(place, json={"grant_type": "client_credentials", "client_id": name, "client_secret": text})
        for name, text in (("nobody", secret), ("ci", f"{secret}x"), ("gone", of_gone))
    ]
    assert {answer.status_code for answer in answers} == {401}
    assert {answer.json()["error"] for answer in answers} == {"invalid_client"}
    assert len({answer.content for answer in answers}) == 1
    assert len({str(sorted(answer.headers.items())) for answer in answers}) == 1


async def test_who_fails_too_often_has_to_wait_and_then_gets_in(place: Place) -> None:
    secret = await make_client(place)
    wrong = {"grant_type": "client_credentials", "client_id": "ci", "client_secret": "wrong"}
    for _ in range(FAILURES_PER_ADDRESS):
        assert (await asked(place, json=wrong)).status_code == 401
    refused = await asked(place, json={**wrong, "client_secret": secret})
    assert refused.status_code == 429
    assert 0 < int(refused.headers["retry-after"]) <= 60
    elsewhere = await asked(place, address="192.0.2.8", json={**wrong, "client_secret": secret})
    assert elsewhere.status_code == 200
    place.clock.seconds += 60
    assert (await asked(place, json={**wrong, "client_secret": secret})).status_code == 200


async def test_guesses_that_come_at_once_are_bounded_as_well(place: Place) -> None:
    await make_client(place)
    wrong = {"grant_type": "client_credentials", "client_id": "ci", "client_secret": "wrong"}
    answers = await asyncio.gather(*(asked(place, json=wrong) for _ in range(5 * FAILURES_PER_ADDRESS)))
    tried = [answer.status_code for answer in answers].count(401)
    assert FAILURES_PER_ADDRESS <= tried <= FAILURES_PER_ADDRESS + 1
    assert {answer.status_code for answer in answers} == {401, 429}


async def test_guesses_from_many_addresses_are_bounded_too(place: Place) -> None:
    await make_client(place)
    wrong = {"grant_type": "client_credentials", "client_id": "ci", "client_secret": "wrong"}
    statuses = [
        (await asked(place, address=f"192.0.2.{number}", json=wrong)).status_code
        for number in range(FAILURES_PER_CLIENT + 1)
    ]
    assert statuses == [401] * FAILURES_PER_CLIENT + [429]


@pytest.mark.parametrize(
    ("body", "headers", "code"),
    [
        (b"", {}, "invalid_request"),
        (b"[]", {}, "unsupported_grant_type"),
        (b'{"grant_type": "password"}', {}, "unsupported_grant_type"),
        (b'{"grant_type": "client_credentials"}', {}, "invalid_request"),
        (b'{"grant_type": "client_credentials", "client_id": 7, "client_secret": "s"}', {}, "invalid_request"),
        (b'{"grant_type": "client_credentials", "client_id": "ci"}', {}, "invalid_request"),
        (b"grant_type=client_credentials&grant_type=client_credentials", FORM, "invalid_request"),
        (b"grant_type", FORM, "invalid_request"),
        (b"&".join(b"a%d=1" % number for number in range(100)), FORM, "invalid_request"),
        (b"grant_type=client_credentials", {**FORM, "authorization": "Basic %%%"}, "invalid_request"),
        (b"grant_type=client_credentials", {**FORM, "authorization": "Basic /w=="}, "invalid_request"),
        (b"grant_type=client_credentials&client_secret=s", {**FORM, **basic("ci", "s")}, "invalid_request"),
        (b"grant_type=client_credentials&client_id=other", {**FORM, **basic("ci", "s")}, "invalid_request"),
    ],
)
async def test_a_request_that_cannot_be_used_is_refused_in_the_words_of_the_standard(
    place: Place, body: bytes, headers: dict[str, str], code: str
) -> None:
    response = await asked(place, content=body, headers={"content-type": "application/json", **headers})
    assert (response.status_code, response.json()["error"]) == (400, code)
    assert response.headers["cache-control"] == "no-store"


async def test_a_form_is_taken_nowhere_else(place: Place) -> None:
    response = await place.http.post("/workflows", content=b"a=b", headers=FORM)
    assert response.status_code == 415


async def test_tokens_that_are_over_do_not_pile_up(place: Place) -> None:
    secret = await make_client(place)
    first = json.loads((await log_in(place, "ci", secret)).content)["access_token"].split("_")[1]
    place.clock.seconds += 2 * 86_400
    assert await place.access.find_token(first) is not None
    await log_in(place, "ci", secret)
    assert await place.access.find_token(first) is None

"""People log in at a login service, with a browser or with the tokens that it gave them."""

import hmac
import json
import time
from base64 import urlsafe_b64encode
from collections.abc import AsyncGenerator, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import jwt
import pytest
import pytest_asyncio
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from openaperture.domain.access import Role
from openaperture.manager.claims import ClaimRules
from openaperture.manager.login import CODES_PER_ADDRESS
from openaperture.manager.oidc import REFETCH_SECONDS, OidcOptions, OidcProvider
from tests.unit.manager.login_service import (
    CLIENT_ID,
    CLIENT_SECRET,
    LoginService,
    key_pair,
    running_login_service,
)
from tests.unit.manager.people import ORIGIN, bearer, sending
from tests.unit.manager.place import Place, opened_manager

RULES = ClaimRules(
    client_id=CLIENT_ID,
    name_claim="preferred_username",
    role_claim="groups",
    group_claim="groups",
    roles={Role.VIEWER: ("everybody",), Role.OPERATOR: ("developers",), Role.ADMIN: ("platform",)},
)


class Ticks:
    """The clock of the provider."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def service() -> Iterator[LoginService]:
    with running_login_service() as service:
        yield service


@pytest.fixture
def ticks() -> Ticks:
    return Ticks()


@pytest.fixture
def provider(service: LoginService, ticks: Ticks) -> OidcProvider:
    options = OidcOptions(
        issuer=service.url, client_secret=CLIENT_SECRET, scopes=("openid", "profile"), rules=RULES
    )
    return OidcProvider(options, monotonic=ticks)


@pytest_asyncio.fixture
async def login_place(tmp_path: Path, provider: OidcProvider) -> AsyncGenerator[Place]:
    async with opened_manager(tmp_path, provider=provider) as place:
        yield place


async def through_the_service(browser: httpx.AsyncClient, path: str = "/login") -> str:
    """From our login to the service and back: the address that the browser is sent to in the end."""
    begun = await browser.get(path)
    assert begun.status_code == 303, begun.text
    async with httpx.AsyncClient() as outside:
        sent_back = await outside.get(begun.headers["location"])
    assert sent_back.status_code == 302
    return sent_back.headers["location"]


async def logged_in(browser: httpx.AsyncClient, path: str = "/login") -> httpx.Response:
    return await browser.get(await through_the_service(browser, path))


def challenge_of(verifier: str) -> str:
    return urlsafe_b64encode(sha256(verifier.encode()).digest()).rstrip(b"=").decode()


# ---------------------------------------------------------------------------------------- a browser


async def test_a_browser_comes_back_with_a_session_of_its_name_role_and_groups(login_place: Place) -> None:
    async with sending(login_place) as browser:
        done = await logged_in(browser, "/login?next=/workflows?state=held")
        assert (done.status_code, done.headers["location"]) == (303, "/workflows?state=held")
        cookies = done.headers.get_list("set-cookie")
        [session] = [cookie for cookie in cookies if cookie.startswith("openaperture=")]
        assert "HttpOnly" in session
        assert "SameSite=lax" in session
        assert "Path=/;" in session
        me = (await browser.get("/me")).json()
    assert (me["name"], me["role"], me["groups"]) == ("ada", "operator", ["developers"])


async def test_over_tls_the_cookie_is_for_this_host_and_tls_alone(tmp_path: Path, provider: OidcProvider) -> None:
    public_url = "https://manager"
    async with opened_manager(tmp_path, provider=provider, public_url=public_url) as place:
        transport = httpx.ASGITransport(app=place.app)
        async with httpx.AsyncClient(transport=transport, base_url=public_url) as browser:
            done = await logged_in(browser)
            [session] = [c for c in done.headers.get_list("set-cookie") if c.startswith("__Host-openaperture=")]
            assert "Secure" in session
            assert "Domain" not in session
            assert (await browser.get("/me")).status_code == 200
            assert "max-age" in (await browser.get("/me")).headers["strict-transport-security"]


async def test_each_login_begins_a_new_session_and_ends_the_one_before(login_place: Place) -> None:
    async with sending(login_place) as browser:
        await logged_in(browser)
        first = browser.cookies["openaperture"]
        await logged_in(browser)
        assert browser.cookies["openaperture"] != first
        assert (await browser.get("/me")).status_code == 200
    async with sending(login_place, cookie=f"openaperture={first}") as old:
        assert (await old.get("/me")).status_code == 401


async def test_logging_out_ends_the_session(login_place: Place) -> None:
    async with sending(login_place, origin=ORIGIN) as browser:
        await logged_in(browser)
        cookie = browser.cookies["openaperture"]
        assert (await browser.post("/logout")).status_code == 204
        assert "openaperture" not in browser.cookies
    async with sending(login_place, cookie=f"openaperture={cookie}") as old:
        assert (await old.get("/me")).status_code == 401
    assert (await login_place.http.post("/logout")).status_code == 400


async def test_a_login_is_recorded_and_no_secret_with_it(login_place: Place) -> None:
    async with sending(login_place) as browser:
        await logged_in(browser)
        cookie = browser.cookies["openaperture"][-32:]
    [record] = await login_place.access.list_audit(limit=10)
    assert (record.deed.who, record.deed.method, record.deed.path) == ("ada", "GET", "/login/callback")
    assert cookie not in repr(record)
    assert record.deed.status == 303


@pytest.mark.parametrize(
    "onward",
    [
        "https://evil.example.org",
        "//evil.example.org",
        "/\\evil.example.org",
        "\\/evil",
        "evil",
        "/a b",
        "/é",
        "/%0d",
    ],
)
async def test_a_login_leads_to_no_other_site(login_place: Place, onward: str) -> None:
    async with sending(login_place) as browser:
        response = await browser.get("/login", params={"next": onward.replace("%0d", "\r")})
    assert response.status_code == 400


# ------------------------------------------------------------------------------ what does not get in


@pytest.mark.parametrize(
    ("claims", "said"),
    [
        ({"groups": ["others"]}, "has no role here"),
        ({"groups": None}, "has no role here"),
        ({"groups": {"developers": True}}, "has no role here"),
        ({"preferred_username": None}, "no usable name"),
        ({"preferred_username": "local"}, "no usable name"),
        ({"preferred_username": "client:ci"}, "no usable name"),
        ({"preferred_username": "a\x1bb"}, "no usable name"),
        ({"preferred_username": 7}, "no usable name"),
        ({"iss": "https://other.example.org"}, "not accepted"),
        ({"aud": "another"}, "not accepted"),
        ({"aud": None}, "not accepted"),
        ({"exp": 1_000_000_000}, "not accepted"),
        ({"exp": None}, "not accepted"),
        ({"iat": None}, "not accepted"),
        ({"sub": None}, "not accepted"),
        ({"nbf": 4_000_000_000}, "not accepted"),
        ({"azp": "another"}, "another program"),
    ],
)
async def test_who_is_not_meant_is_not_let_in(
    login_place: Place, service: LoginService, claims: dict[str, Any], said: str
) -> None:
    service.claims |= claims
    async with sending(login_place) as browser:
        done = await logged_in(browser)
        assert (done.status_code, done.json()["error"]["code"]) == (403, "login_refused")
        assert said in done.json()["error"]["message"]
        assert (await browser.get("/me")).status_code == 401


async def test_of_several_roles_the_most_powerful_counts(login_place: Place, service: LoginService) -> None:
    service.claims["groups"] = ["everybody", "platform", "developers"]
    async with sending(login_place) as browser:
        await logged_in(browser)
        assert (await browser.get("/me")).json()["role"] == "admin"


async def test_an_answer_to_a_login_of_another_browser_is_refused(login_place: Place) -> None:
    async with sending(login_place) as browser, sending(login_place) as other:
        address = await through_the_service(other)
        assert (await browser.get(address)).json()["error"]["code"] == "bad_login"
        await through_the_service(browser)
        assert (await browser.get(address)).json()["error"]["code"] == "bad_login"
        assert (await browser.get("/me")).status_code == 401


async def test_a_code_is_good_once(login_place: Place) -> None:
    async with sending(login_place) as browser:
        address = await through_the_service(browser)
        kept = dict(browser.cookies)
        assert (await browser.get(address)).status_code == 303
    async with sending(login_place) as again:
        again.cookies.update(kept)
        assert (await again.get(address)).json()["error"]["code"] == "login_refused"


async def test_a_token_of_another_login_is_refused(login_place: Place, service: LoginService) -> None:
    service.claims["nonce"] = "of another login"
    true_token = service.token
    service.token = lambda **claims: true_token(**{**claims, "nonce": "of another login"})  # type: ignore[method-assign]
    async with sending(login_place) as browser:
        done = await logged_in(browser)
    assert (done.status_code, "another login" in done.text) == (403, True)


async def test_a_login_that_took_too_long_has_to_begin_anew(login_place: Place) -> None:
    async with sending(login_place) as browser:
        address = await through_the_service(browser)
        login_place.clock.seconds += 601
        assert (await browser.get(address)).json()["error"]["code"] == "bad_login"


async def test_a_cookie_that_was_changed_or_made_for_something_else_opens_nothing(login_place: Place) -> None:
    async with sending(login_place) as browser:
        address = await through_the_service(browser)
        good = browser.cookies["openaperture-login"].strip('"')
    body, _, mac = good.partition(".")
    for bad in (f"{body}x.{mac}", f"{body}.{mac[:-1]}", f"{body}.", ".", "", f"{body}.{'é' * 64}", body):
        async with sending(login_place) as other:
            headers = {"cookie": f"openaperture-login={bad}".encode("latin-1")}
            response = await other.get(address, headers=headers)  # type: ignore[arg-type]
            assert response.json()["error"]["code"] == "bad_login", bad
    async with sending(login_place) as browser:
        await browser.get(f"/login?port=4711&challenge={challenge_of('v' * 43)}")
        of_a_login = browser.cookies["openaperture-login"].strip('"')
    response = await login_place.http.post("/login/token", json={"code": of_a_login, "verifier": "v" * 43})
    assert (response.status_code, response.json()["error"]["code"]) == (403, "login_refused")


async def test_a_login_that_the_service_refused_says_so(login_place: Place) -> None:
    async with sending(login_place) as browser:
        state = parse_qs(urlsplit(await through_the_service(browser)).query)["state"][0]
        done = await browser.get("/login/callback", params={"state": state, "error": "access_denied"})
    assert (done.status_code, done.json()["error"]["code"]) == (403, "login_refused")


async def test_without_a_login_service_the_routes_say_so(place: Place) -> None:
    for path in ("/login", "/login/callback?state=a&code=b"):
        response = await place.http.get(path)
        assert (response.status_code, response.json()["error"]["code"]) == (404, "no_login")


# --------------------------------------------------------------------------------------- a terminal


async def test_who_shows_too_many_bad_codes_has_to_wait(login_place: Place) -> None:
    body = {"code": "guessed", "verifier": "v" * 43}
    async with sending(login_place) as terminal:
        for _ in range(CODES_PER_ADDRESS):
            assert (await terminal.post("/login/token", json=body)).status_code == 403
        refused = await terminal.post("/login/token", json=body)
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "slow_down")
        assert 0 < int(refused.headers["retry-after"]) <= 60
        assert (await login_place.http.post("/login/token", json=body)).status_code == 403
        login_place.clock.seconds += 60
        assert (await terminal.post("/login/token", json=body)).status_code == 403


async def test_a_terminal_gets_a_token_for_the_code_that_only_it_can_use(login_place: Place) -> None:
    verifier = "v" * 43
    challenge = challenge_of(verifier)
    async with sending(login_place) as browser:
        done = await logged_in(browser, f"/login?port=4711&challenge={challenge}")
        assert "openaperture" not in browser.cookies
    where = urlsplit(done.headers["location"])
    assert (where.scheme, where.netloc) == ("http", "127.0.0.1:4711")
    code = parse_qs(where.query)["code"][0]
    async with sending(login_place) as terminal:
        wrong = await terminal.post("/login/token", json={"code": code, "verifier": "w" * 43})
        assert wrong.status_code == 403
        given = await terminal.post("/login/token", json={"code": code, "verifier": verifier})
        assert given.status_code == 200
        me = (await terminal.get("/me", headers=bearer(given.json()["token"]))).json()
        assert (me["name"], me["role"], me["groups"]) == ("ada", "operator", ["developers"])
        login_place.clock.seconds += 61
        late = await terminal.post("/login/token", json={"code": code, "verifier": verifier})
        assert late.status_code == 403
    records = await login_place.access.list_audit(limit=10)
    assert [(record.deed.who, record.deed.path) for record in records] == [
        ("ada", "/login/token"),
        ("ada", "/login/callback"),
    ]
    assert records[0].deed.details == {"code": "***", "verifier": "***"}


@pytest.mark.parametrize(
    "query", ["port=80", "challenge=" + "x" * 43, "port=0&challenge=" + "x" * 43, "port=1&challenge=x"]
)
async def test_half_a_login_of_a_terminal_is_refused(login_place: Place, query: str) -> None:
    async with sending(login_place) as browser:
        assert (await browser.get(f"/login?{query}")).status_code == 400


# ------------------------------------------------------------------------------- tokens as bearers


async def me(place: Place, text: str) -> httpx.Response:
    async with sending(place, **bearer(text)) as http:
        return await http.get("/me")


@pytest.mark.parametrize("algorithm", ["RS256", "PS256", "ES256"])
async def test_a_token_of_the_service_is_a_bearer(
    login_place: Place, service: LoginService, algorithm: str
) -> None:
    service.algorithm, service.key, service.key_id = algorithm, key_pair(algorithm), algorithm
    service.published.clear()
    service.publish()
    response = await me(login_place, service.token())
    assert (response.status_code, response.json()["name"]) == (200, "ada")


async def test_tokens_that_others_could_have_made_are_refused(login_place: Place, service: LoginService) -> None:
    assert (await me(login_place, service.token())).status_code == 200
    good = service.token()
    head, claims, signature = good.split(".")
    public = service.key.public_key()
    pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    now = int(time.time())
    whole = {"iss": service.url, "aud": CLIENT_ID, "sub": "1", "iat": now, "exp": now + 300, **service.claims}
    secret_of_the_public_key = _signed_with_a_shared_secret(whole, pem)
    forged = [
        jwt.encode(whole, None, "none"),  # type: ignore[arg-type]
        secret_of_the_public_key,
        service.token(key=key_pair()),
        f"{head}.{claims}.",
        f"{head}.{claims}.{signature[:-8]}AAAAAAAA",
        f"{head}.{claims[:-4]}AAAA.{signature}",
        service.token(headers={"kid": "unknown"}),
        "e30.e30.e30",
        "a.b.c",
        good + "x" * 20_000,
        service.token(aud="another"),
        service.token(iss="https://other.example.org"),
        service.token(exp=now - 60),
        service.token(groups=["others"]),
    ]
    assert [(await me(login_place, text)).status_code for text in forged] == [401] * len(forged)


def _signed_with_a_shared_secret(claims: dict[str, Any], secret: bytes) -> str:
    """As the library itself would not: it knows what the trick is."""

    def part(raw: bytes) -> str:
        return urlsafe_b64encode(raw).rstrip(b"=").decode()

    body = f"{part(json.dumps({'alg': 'HS256', 'kid': 'k1'}).encode())}.{part(json.dumps(claims).encode())}"
    return f"{body}.{part(hmac.digest(secret, body.encode(), sha256))}"


async def test_keys_are_fetched_again_for_a_new_one_and_not_for_every_invention(
    login_place: Place, service: LoginService, ticks: Ticks
) -> None:
    assert (await me(login_place, service.token())).status_code == 200
    for number in range(20):
        assert (await me(login_place, service.token(headers={"kid": f"made up {number}"}))).status_code == 401
    assert service.key_requests == 1
    service.key, service.key_id = key_pair(), "k2"
    service.publish()
    ticks.seconds += REFETCH_SECONDS
    assert (await me(login_place, service.token())).status_code == 200
    assert service.key_requests == 2


async def test_a_key_that_was_withdrawn_is_refused_within_the_hour(
    login_place: Place, service: LoginService, ticks: Ticks
) -> None:
    text = service.token()
    assert (await me(login_place, text)).status_code == 200
    service.published.clear()
    ticks.seconds += 3_600
    assert (await me(login_place, text)).status_code == 401


# ---------------------------------------------------------------------- a service that cannot be used


@pytest.mark.parametrize(
    ("discovery", "said"),
    [
        ({"issuer": "https://other.example.org"}, "calls itself"),
        ({"token_endpoint": "http://192.0.2.1/token"}, "no https"),
        ({"jwks_uri": "file:///etc/passwd"}, "no https"),
        ({"jwks_uri": 7}, "none of OpenID Connect"),
    ],
)
async def test_a_service_that_says_strange_things_of_itself_is_not_used(
    login_place: Place, service: LoginService, discovery: dict[str, Any], said: str
) -> None:
    service.discovery = discovery
    async with sending(login_place) as browser:
        response = await browser.get("/login")
    assert (response.status_code, response.json()["error"]["code"]) == (503, "unavailable")
    assert said in response.json()["error"]["message"]


async def test_a_service_that_is_away_is_a_passing_fault_and_our_own_tokens_go_on(
    tmp_path: Path, ticks: Ticks
) -> None:
    options = OidcOptions(issuer="http://127.0.0.1:9", client_secret=None, scopes=("openid",), rules=RULES)
    async with opened_manager(tmp_path, provider=OidcProvider(options, monotonic=ticks)) as place:
        assert (await place.http.get("/login")).status_code == 503
        signed = jwt.encode({"a": 1}, key_pair(), "RS256")
        assert (await me(place, signed)).status_code == 503
        assert (await place.http.get("/me")).status_code == 200
        assert (await me(place, "oap_wrong")).status_code == 401


async def test_the_code_and_our_secret_are_told_to_nobody(login_place: Place, service: LoginService) -> None:
    service.status = 500
    async with sending(login_place) as browser:
        address = await through_the_service(browser)
        code = parse_qs(urlsplit(address).query)["code"][0]
        done = await browser.get(address)
    assert done.status_code == 503
    everything = done.text + repr(login_place.told.events) + repr(await login_place.access.list_audit(limit=10))
    assert code not in everything
    assert CLIENT_SECRET not in everything

"""Each change leaves one record; none holds a secret."""

import pytest

from openaperture.domain.audit import AuditRecord, Chain
from openaperture.domain.errors import StoreUnavailable
from openaperture.manager.audit import described
from openaperture.manager.peers import Peers
from tests.unit.manager.people import ORIGIN, access_token, bearer, log_in, make_client, make_token, sending
from tests.unit.manager.place import RELEASE, Place


async def recorded(place: Place) -> list[AuditRecord]:
    """All records, the oldest first; they form a chain."""
    records = await place.access.list_audit(after=0, limit=1000)
    assert Chain().find_break(records) is None
    return records


async def test_a_change_says_who_when_from_where_what_and_how_it_ended(place: Place) -> None:
    _, text = await make_token(place, name="ada", role="operator")
    async with sending(place, **bearer(text)) as http:
        created = await http.post("/workflows", json=RELEASE)
        workflow_id = created.headers["location"].removeprefix("/workflows/")
        await http.post(f"/workflows/{workflow_id}/cancel", json={"reason": "wrong branch"})
    *_, creation, cancel = [record.deed for record in await recorded(place)]
    assert (creation.method, creation.path, creation.status) == ("POST", "/workflows", 201)
    assert creation.workflow_id == workflow_id
    assert creation.details == {
        "source_repo": "acme/shop",
        "source_repo_git_ref": "v1",
        "milestones": "build, deploy",
    }
    assert (cancel.who, cancel.role, cancel.address) == ("ada", "operator", "192.0.2.7")
    assert (cancel.path, cancel.workflow_id) == (f"/workflows/{workflow_id}/cancel", workflow_id)
    assert (cancel.details, cancel.status) == ({"reason": "wrong branch"}, 200)
    assert cancel.at == place.clock.now()


async def test_every_mutating_request_leaves_exactly_one_record_whatever_becomes_of_it(place: Place) -> None:
    _, text = await make_token(place, name="ada", role="viewer")
    workflow_id = await place.create()
    for http_status, (who, method, path, body) in {
        204: ("admin", "DELETE", "/clients/known", b""),
        400: ("admin", "POST", "/workflows", b'{"sorce_repo": "x"}'),
        403: ("viewer", "POST", f"/workflows/{workflow_id}/cancel", b"{}"),
        404: ("admin", "POST", "/workflows/none/cancel", b"{}"),
        405: ("admin", "PATCH", "/workflows", b"{}"),
        409: ("admin", "POST", "/clients", b'{"id": "known", "role": "worker"}'),
        415: ("admin", "POST", "/workflows", b"<a/>"),
    }.items():
        if http_status == 204:
            await make_client(place, "known")
        before = len(await recorded(place))
        kind = "text/plain" if http_status == 415 else "application/json"
        async with sending(place, **bearer(text)) as viewer:
            http = viewer if who == "viewer" else place.http
            response = await http.request(method, path, content=body, headers={"content-type": kind})
        assert response.status_code == http_status
        after = await recorded(place)
        assert (len(after) - before, after[-1].deed.status) == (1, http_status)


async def test_a_failure_of_ours_is_recorded_as_such(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(_: str) -> None:
        raise RuntimeError("a defect")

    workflow_id = await place.create()
    monkeypatch.setattr(place.store, "find_workflow", fail)
    assert (await place.http.post(f"/workflows/{workflow_id}/cancel")).status_code == 500
    assert (await recorded(place))[-1].deed.status == 500


async def test_looking_leaves_no_record(place: Place) -> None:
    before = await recorded(place)
    for path in ("/workflows", "/status", "/audit", "/me", "/nothing"):
        await place.http.get(path)
    assert await recorded(place) == before


async def test_who_is_unknown_leaves_no_record_and_is_told_of(place: Place) -> None:
    async with sending(place) as http:
        assert (await http.post("/workflows", json=RELEASE)).status_code == 401
    await log_in(place, "ci", "wrong")
    assert await recorded(place) == []
    [(_, details)] = [event for event in place.told.events if event[0] == "access.refused"]
    assert details == {"address": "192.0.2.7", "method": "POST", "path": "/workflows"}


async def test_a_login_of_a_client_is_recorded_under_its_name(place: Place) -> None:
    secret = await make_client(place)
    await access_token(place, "ci", secret)
    deed = (await recorded(place))[-1].deed
    assert (deed.who, deed.path, deed.status) == ("client:ci", "/oauth/token", 200)
    assert deed.details == {"client_id": "ci", "scope": ""}


async def test_a_request_of_a_foreign_page_is_recorded(place: Place) -> None:
    async with sending(place, **bearer((await make_token(place))[1]), origin="https://evil.example.org") as http:
        await http.post("/workflows", json=RELEASE)
    assert (await recorded(place))[-1].deed.status == 403


async def test_what_could_not_be_recorded_is_not_confirmed(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(_: object) -> None:
        raise StoreUnavailable("the audit is away")

    monkeypatch.setattr(place.access, "append_audit", fail)
    response = await place.http.post("/workflows", json=RELEASE)
    assert (response.status_code, response.json()["error"]["code"]) == (503, "unrecorded")
    [(_, details)] = [event for event in place.told.events if event[0] == "audit.unwritten"]
    assert (details["who"], details["path"], details["status"]) == ("local", "/workflows", 201)


def test_secrets_are_masked_and_what_may_hold_them_is_left_out() -> None:
    sent = {
        "client_secret": "s3cret",
        "password": "s3cret",
        "apiKey": "s3cret",
        "code": "s3cret",
        "source_repo": "https://bot:s3cret@git.example.org/shop",
        "execute_options": {"innocent": "s3cret"},
        "list": [{"innocent": "s3cret"}],
        "milestones": ["build", "deploy"],
        "force_build": True,
        "nothing": None,
        "number": 7,
        "ugly": "a\x1b[2J\x00b",
        "long": "x" * 1_000,
    }
    shown = described(sent)
    assert "s3cret" not in str(shown)
    assert shown["source_repo"] == "https://bot:***@git.example.org/shop"
    assert (shown["execute_options"], shown["list"]) == ("(object)", "(1 items)")
    assert (shown["milestones"], shown["force_build"], shown["nothing"]) == ("build, deploy", "true", "null")
    assert shown["ugly"].isprintable()
    assert len(shown["long"]) == 200
    assert described(["a"]) == described(None) == described("text") == {}
    assert len(described({str(number): "" for number in range(1_000)})) == 40


async def test_no_secret_that_the_manager_gives_or_gets_is_left_anywhere(place: Place) -> None:
    """S13: a canary for each, looked for in the records, the events and the answers to others."""
    secret = await make_client(place)
    text = await access_token(place, "ci", secret)
    token_id, personal = await make_token(place, label="canary")
    async with sending(place, **bearer(personal)) as http:
        await http.post("/workflows", json={"source_repo": f"https://bot:{personal}@git.example.org/x"})
        await http.post("/workflows", json={personal: "an unknown field"})
        await http.get(f"/workflows/{token_id}")
    await log_in(place, "ci", f"{secret}wrong")
    answers = [
        (await place.http.get(path)).text for path in ("/audit?limit=1000", "/tokens?all=true", "/clients", "/me")
    ]
    everything = [*answers, repr(place.told.events), repr(await recorded(place))]
    canaries = [text[-32:] for text in (secret, text)]
    assert [canary for canary in canaries if any(canary in place_ for place_ in everything)] == []
    # The name of an unknown field is repeated by the error, and a name is recorded: it is the sender's own.
    assert not any(personal in place_ for place_ in answers[1:])


# ---------------------------------------------------------------------------------------- its pages


async def test_an_admin_reads_the_audit_page_by_page_in_both_directions(place: Place) -> None:
    for _ in range(5):
        await place.create()

    async def seqs(query: str) -> list[int]:
        response = await place.http.get(f"/audit{query}")
        assert response.status_code == 200
        return [record["seq"] for record in response.json()]

    assert await seqs("") == [5, 4, 3, 2, 1]
    assert await seqs("?limit=2") == [5, 4]
    assert await seqs("?limit=2&before=4") == [3, 2]
    assert await seqs("?limit=2&after=0") == [1, 2]
    assert await seqs("?after=5") == []
    for query in ("?after=0&before=4", "?limit=0", "?limit=1001", "?after=-1", "?before=x"):
        assert (await place.http.get(f"/audit{query}")).status_code == 400


# -------------------------------------------------------------------------------------------- peers


def scope(client: str, *forwarded: str) -> dict[str, object]:
    headers = [(b"x-forwarded-for", value.encode()) for value in forwarded] + [(b"host", b"manager")]
    return {"type": "http", "client": (client, 1), "headers": headers, "scheme": "http"}


@pytest.mark.parametrize(
    ("client", "forwarded", "address"),
    [
        ("192.0.2.7", [], "192.0.2.7"),
        ("192.0.2.7", ["203.0.113.9"], "192.0.2.7"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["203.0.113.9"], "203.0.113.9"),
        ("10.0.0.1", ["198.51.100.1, 203.0.113.9"], "203.0.113.9"),
        ("10.0.0.1", ["198.51.100.1", "203.0.113.9, 10.0.0.2"], "203.0.113.9"),
        ("10.0.0.1", ["<script>"], "unknown"),
        ("10.0.0.1", ["10.0.0.2"], "10.0.0.1"),
    ],
)
def test_only_a_proxy_of_ours_says_where_a_request_comes_from(
    client: str, forwarded: list[str], address: str
) -> None:
    assert Peers(proxies=["10.0.0.0/8"]).address_of(scope(client, *forwarded)) == address


def test_our_origin_is_the_configured_one_or_that_of_the_request() -> None:
    assert Peers().origin_of(scope("192.0.2.7")) == ORIGIN
    public = Peers(public_url="https://releases.example.org")
    assert public.origin_of(scope("192.0.2.7")) == "https://releases.example.org"
    assert public.is_secure(scope("192.0.2.7"))


def test_the_client_that_is_no_address_is_unknown() -> None:
    assert Peers().address_of({"type": "http", "client": None, "headers": []}) == "unknown"

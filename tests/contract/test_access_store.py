"""What every access store promises: the contract of `ports.AccessStore`."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import delete, text, update

from openaperture.database.tables import audit
from openaperture.domain.access import Client, Identity, Role, Token, TokenKind
from openaperture.domain.audit import GENESIS, Break, Chain, Deed, Mark
from openaperture.stores.access import SqlAccess
from tests.contract.stores import Opened

NOW = datetime(2026, 3, 5, 23, 25, 19, 4711, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.fixture
def store(place: Opened) -> SqlAccess:
    return SqlAccess(place.database)


def client(client_id: str = "ci", **fields: Any) -> Client:
    defaults: dict[str, Any] = {
        "secret_hash": "scrypt$…",
        "role": Role.WORKER,
        "groups": frozenset({"b", "a"}),
        "created_at": NOW,
        "created_by": "ada",
    }
    return Client(id=client_id, **defaults | fields)


def token(token_id: str, *, name: str = "ada", role: Role = Role.OPERATOR, **fields: Any) -> Token:
    defaults: dict[str, Any] = {
        "text_hash": f"hash of {token_id}",
        "kind": TokenKind.PERSONAL,
        "identity": Identity(name=name, role=role, groups=frozenset({"release-managers"})),
        "created_at": NOW,
        "expires_at": NOW + HOUR,
    }
    return Token(id=token_id, **defaults | fields)


def deed(number: int = 0, **fields: Any) -> Deed:
    defaults: dict[str, Any] = {
        "at": NOW + timedelta(seconds=number),
        "who": "ada",
        "role": "operator",
        "address": "192.0.2.7",
        "method": "POST",
        "path": f"/workflows/{number}/cancel",
        "details": {"reason": "wrong — branch"},
        "status": 200,
    }
    return Deed(**defaults | fields)


# ------------------------------------------------------------------------------------------ clients


async def test_a_client_is_found_as_it_was_added(store: SqlAccess) -> None:
    assert await store.add_client(client())
    assert await store.find_client("ci") == client()
    assert await store.find_client("other") is None
    assert await store.find_client("\0") is None


async def test_an_id_of_a_client_is_never_given_twice(store: SqlAccess) -> None:
    assert await store.add_client(client())
    assert await store.disable_client("ci", NOW)
    assert not await store.add_client(client(role=Role.ADMIN))
    found = await store.find_client("ci")
    assert found is not None
    assert (found.role, found.disabled_at) == (Role.WORKER, NOW)


async def test_a_client_that_is_disabled_again_keeps_its_first_instant(store: SqlAccess) -> None:
    await store.add_client(client())
    assert await store.disable_client("ci", NOW)
    assert await store.disable_client("ci", NOW + HOUR)
    assert [found.disabled_at for found in await store.list_clients()] == [NOW]
    assert not await store.disable_client("other", NOW)


async def test_clients_are_listed_by_their_ids(store: SqlAccess) -> None:
    for client_id in ("b", "a", "c"):
        await store.add_client(client(client_id))
    assert [found.id for found in await store.list_clients()] == ["a", "b", "c"]


# ------------------------------------------------------------------------------------------- tokens


async def test_a_token_is_found_as_it_was_added(store: SqlAccess) -> None:
    given = token("t1", label="for the build", root="t0", used_at=NOW)
    assert await store.add_token(given)
    assert not await store.add_token(replace(given, label="another"))
    assert await store.find_token("t1") == given
    assert await store.find_token("t2") is None
    assert await store.find_token("\0") is None


async def test_a_token_of_a_disabled_client_is_not_found(store: SqlAccess) -> None:
    await store.add_client(client())
    await store.add_token(token("t1", kind=TokenKind.ACCESS, client_id="ci"))
    await store.add_token(token("t2", kind=TokenKind.ACCESS, client_id="unknown"))
    assert await store.find_token("t1") is not None
    assert await store.find_token("t2") is None
    await store.disable_client("ci", NOW)
    assert await store.find_token("t1") is None


async def test_personal_tokens_are_listed_of_one_or_of_all_the_newest_first(store: SqlAccess) -> None:
    await store.add_token(token("t1"))
    await store.add_token(token("t2", created_at=NOW + HOUR))
    await store.add_token(token("t3", name="bob", created_at=NOW - HOUR))
    await store.add_token(token("t4", kind=TokenKind.ACCESS))
    await store.add_token(token("t5", kind=TokenKind.SESSION))
    assert [found.id for found in await store.list_tokens("ada")] == ["t2", "t1"]
    assert [found.id for found in await store.list_tokens()] == ["t2", "t1", "t3"]


async def test_revoking_takes_what_was_made_with_the_token_along(store: SqlAccess) -> None:
    for given in (token("t1"), token("t2", root="t1"), token("t3")):
        await store.add_token(given)
    await store.revoke_token("t1", NOW)
    await store.revoke_token("t1", NOW + HOUR)
    assert {found.id: found.revoked_at for found in await store.list_tokens()} == {
        "t1": NOW,
        "t2": NOW,
        "t3": None,
    }


async def test_the_use_of_a_token_is_noted(store: SqlAccess) -> None:
    await store.add_token(token("t1"))
    await store.touch_token("t1", NOW + HOUR)
    found = await store.find_token("t1")
    assert found is not None
    assert found.used_at == NOW + HOUR


async def test_only_access_tokens_and_sessions_that_are_over_are_forgotten(store: SqlAccess) -> None:
    for kind in TokenKind:
        await store.add_token(token(f"old {kind}", kind=kind, expires_at=NOW - HOUR))
        await store.add_token(token(f"new {kind}", kind=kind))
    assert await store.prune_tokens(NOW, limit=1) == 1
    assert await store.prune_tokens(NOW, limit=100) == 1
    assert await store.prune_tokens(NOW, limit=100) == 0
    left = [await store.find_token(f"{age} {kind}") for age in ("old", "new") for kind in TokenKind]
    assert [found.id for found in left if found] == ["old personal", *(f"new {kind}" for kind in TokenKind)]


# -------------------------------------------------------------------------------------------- audit


async def broken(store: SqlAccess, mark: Mark | None = None) -> Break | None:
    chain = Chain(mark)
    return chain.find_break(await store.list_audit(after=0, limit=1000)) or chain.find_missing_mark()


async def test_records_come_back_as_they_were_and_form_a_chain(store: SqlAccess) -> None:
    first = await store.append_audit(deed(1, workflow_id="w"))
    second = await store.append_audit(deed(2, details={}))
    assert (first.seq, first.previous, second.seq, second.previous) == (1, GENESIS, 2, first.digest)
    assert await store.list_audit(after=0, limit=10) == [first, second]
    assert await store.list_audit(limit=10) == [second, first]
    assert await store.list_audit(before=2, limit=10) == [first]
    assert await store.list_audit(after=1, limit=10) == [second]
    assert await broken(store) is None


async def test_those_who_append_at_once_get_a_place_each(place: Opened) -> None:
    stores = [SqlAccess(place.database) for _ in range(4)]
    await asyncio.gather(*(store.append_audit(deed(number)) for number in range(25) for store in stores))
    records = await stores[0].list_audit(after=0, limit=1000)
    assert [record.seq for record in records] == list(range(1, 101))
    assert await broken(stores[0]) is None


@pytest.mark.parametrize("column", ["at", "who", "role", "address", "method", "path", "workflow_id", "details"])
async def test_a_record_that_was_changed_is_found(place: Opened, store: SqlAccess, column: str) -> None:
    for number in range(3):
        await store.append_audit(deed(number))
    value = {"at": NOW - HOUR, "details": "{}"}.get(column, "other")
    await place.database.write(lambda c: c.execute(update(audit).where(audit.c.seq == 2).values({column: value})))
    found = await broken(store)
    assert found is not None
    assert found.seq == 2


async def test_a_record_that_was_removed_is_found(place: Opened, store: SqlAccess) -> None:
    for number in range(3):
        await store.append_audit(deed(number))
    await place.database.write(lambda c: c.execute(delete(audit).where(audit.c.seq == 2)))
    assert await broken(store) == Break(seq=3, text="record 2 is missing")


async def test_an_end_that_was_cut_off_is_found_by_what_was_noted(place: Opened, store: SqlAccess) -> None:
    records = [await store.append_audit(deed(number)) for number in range(3)]
    mark = Mark(seq=3, digest=records[-1].digest)
    assert await broken(store, mark) is None
    await place.database.write(lambda c: c.execute(delete(audit).where(audit.c.seq == 3)))
    assert await broken(store) is None
    missing = await broken(store, mark)
    assert missing is not None
    assert missing.seq == 3


async def test_a_chain_that_was_computed_anew_is_found_by_what_was_noted(place: Opened, store: SqlAccess) -> None:
    noted = await store.append_audit(deed(1))
    await place.database.write(lambda c: c.execute(text("DELETE FROM audit")))
    await store.append_audit(deed(1, who="mallory"))
    assert await broken(store) is None
    found = await broken(store, Mark(seq=1, digest=noted.digest))
    assert found is not None
    assert "noted elsewhere" in found.text

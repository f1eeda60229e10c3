"""Secrets of the original's world stay where they belong, and notices have the shape that was asked for.

Each secret has a text that nothing else has. They go through everything that can go wrong on the way; then all
that people can see is searched for them.
"""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncGenerator, Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import msgspec
import psycopg
import pytest
from psycopg import sql

from openaperture.app import elsewhere
from openaperture.app.manager import Api
from openaperture.codecs import etf
from openaperture.codecs.etf import Atom, Term
from openaperture.domain.workflow import State
from openaperture.observability.logs import open_log
from tests.compat.rabbit import VirtualHost, virtual_hosts
from tests.contract.brokers import until
from tests.contract.stores import fresh_schema
from tests.functional.original_site import OriginalSite, opened_original_site
from tests.servers import shared_servers

AWS_KEY, AWS_SECRET = "canary-0a1b-access-key", "canary-2c3d-secret-key"
BROKER_PASSWORD = "canary-4e5f-broker"
CLIENT_SECRET = "canary-6a7b-client"
TOKEN_KEY = "canary-8c9d-token-key"
CANARY = "canary-"
AWS_CONFIG: Mapping[str, Any] = {
    "access_key_id": AWS_KEY,
    "secret_access_key": AWS_SECRET,
    "ecs": {"cluster": "c"},
}
FOUND = {"etcd_token": "lab-tok", "aws_config": AWS_CONFIG}
"""What a builder finds out: a cluster on a broker that does not let us in, and secrets."""


@pytest.fixture(scope="module")
def hosts(amqp_url: str) -> Iterator[Mapping[str, VirtualHost]]:
    with virtual_hosts(shared_servers()[0]) as made:
        yield made


@pytest.fixture
async def guarded(
    hosts: Mapping[str, VirtualHost], postgresql_url: str, tmp_path: Path
) -> AsyncGenerator[OriginalSite]:
    """A site whose secrets can be told apart, with the log that the product writes."""
    secrets = {"oauth_client_secret": CLIENT_SECRET, "token_key": TOKEN_KEY, "notices": "json"}
    log = open_log(tmp_path / "orchestrator.log")
    with fresh_schema(postgresql_url) as database:
        async with opened_original_site(tmp_path, hosts, told=log, database=database, **secrets) as site:
            site.tables.secret = CLIENT_SECRET
            with site.tables.lock:
                [row] = site.tables.content["broker_connections"]["2"]
                row["password"] = BROKER_PASSWORD
            yield site


def with_secret(**fields: Term) -> bytes:
    """A message whose secrets make it one that cannot be used."""
    known: dict[str, Term] = {"id": b"7f1f6d3c-0f6a-4c36-9b55-0d6f0b1c2a10", "milestones": [b"build"]}
    return etf.encode({Atom(key): value for key, value in (known | fields).items()})


SPOILT: tuple[bytes, ...] = (
    with_secret(aws_config=AWS_SECRET.encode()),
    with_secret(aws_config=(AWS_SECRET.encode(),)),
    with_secret(aws_config={b"secret_access_key": (AWS_SECRET.encode(),)}),
    with_secret(aws_config={b"secret_access_key": AWS_SECRET.encode() + b"\xff"}),
    with_secret(aws_config=[AWS_SECRET.encode()]),
    with_secret(aws_config={b"k": AWS_SECRET.encode()}, milestones={b"k": AWS_SECRET.encode()}),
    with_secret(aws_config={b"k": AWS_SECRET.encode()}, id=b"7"),
    with_secret(aws_config={b"k": AWS_SECRET.encode()})[:-9],
    AWS_SECRET.encode(),
)


async def test_secrets_appear_in_nothing_that_people_see(
    guarded: OriginalSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = guarded
    monkeypatch.setattr(elsewhere, "PUBLISH_SECONDS", 1.0)
    async with site.engine(), site.old_hand() as builder:
        for body in SPOILT:
            await site.send_term(body)
        failed = await site.start_old("build", aws_config=AWS_CONFIG)
        await builder.fail(await builder.take(), "it does not build")
        await site.until_recorded(failed, workflow_completed=True)
        stuck = await site.start_old("config", "deploy", aws_config=AWS_CONFIG)
        request = await builder.take()
        assert request.aws_config == AWS_CONFIG
        await builder.complete(request, **FOUND)
        await builder.complete(request, **FOUND)
        await site.until_entry(stuck, "callback.late")
        await _until_broker_refuses(site, stuck)
        answers = await _answers(site, [failed, stuck])
        letters = await site.parked(len(SPOILT))
        rows, said = (
            await asyncio.to_thread(_rows, site.core.settings.database),
            await asyncio.to_thread(_command_line, site, stuck),
        )
    calls = site.journal.calls_of_group(site.run)
    exposed = {
        "log": (site.core.settings.data_dir / "orchestrator.log").read_text(),
        "events": repr(site.events.told),
        "rows": rows,
        "answers": answers,
        "reasons of dead letters": repr([reason for reason, _ in letters]),
        "saves and system events": repr([call.body for call in calls if not call.path.startswith("/oauth")]),
        "notes": repr([message.body for message in site.seen(stuck).note_messages]),
        "command line": said,
    }
    for place, text in exposed.items():
        assert text, place
        assert CANARY not in text, place
    assert any(call.path == "/system_events" for call in calls)
    assert "Bearer" not in exposed["log"]
    assert (await site.get(failed)).state is State.FAILED
    assert AWS_SECRET not in repr(site.core.settings)


async def _until_broker_refuses(site: OriginalSite, workflow_id: str) -> None:
    async def is_told() -> bool:
        found = await site.core.store.list_troubles([workflow_id])
        return workflow_id in found

    await until(is_told)
    await site.events.wait_for("broker.disconnected", 2)


async def _answers(site: OriginalSite, ids: list[str]) -> str:
    """Everything that the API says, as it says it."""
    api = Api(site.core, site.core.decider())
    paths = ["/workflows", *(f"/workflows/{key}{part}" for key in ids for part in ("", "/events", "/attempts"))]
    headers = {"Authorization": f"Bearer {api.token}"}
    transport = httpx.ASGITransport(app=api.app)  # pyright: ignore[reportPrivateUsage]  (raw answers)
    async with httpx.AsyncClient(transport=transport, base_url="http://manager", headers=headers) as client:
        found = [await client.get(path) for path in paths]
    assert {answer.status_code for answer in found} == {200}
    return "\n".join(answer.text for answer in found)


def _rows(database: str) -> str:
    """All rows, but for what messages and the state of a workflow hold, and our own key."""
    kept: list[str] = []
    with psycopg.connect(database) as connection:
        found = connection.execute("select tablename from pg_tables where schemaname = current_schema()")
        tables = [str(name) for (name,) in found]
        for table in tables:
            cursor = connection.execute(sql.SQL("select * from {}").format(sql.Identifier(table)))
            names = [column.name for column in cursor.description or ()]
            for row in cursor:
                shown = {key: value for key, value in zip(names, row, strict=True) if not _may_hold(table, key)}
                kept.append(f"{table}: {shown}")
    assert {line.partition(":")[0] for line in kept} >= {"workflows", "events", "attempts", "outbox"}
    return "\n".join(kept)


def _may_hold(table: str, column: str) -> bool:
    return (table, column) in {("workflows", "document"), ("outbox", "body"), ("settings", "value")}


def _command_line(site: OriginalSite, workflow_id: str) -> str:
    """What the commands print, for people and for programs."""
    settings = site.core.settings
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("OPENAPERTURE_")}
    environment = inherited | {
        "OPENAPERTURE_DATA_DIR": str(settings.data_dir),
        "OPENAPERTURE_DATABASE": settings.database,
        "OPENAPERTURE_BROKER": settings.broker,
        "OPENAPERTURE_OAUTH_CLIENT_SECRET": CLIENT_SECRET,
        "OPENAPERTURE_TOKEN_KEY": TOKEN_KEY,
    }
    said = ""
    for arguments in (["show", workflow_id], ["show", workflow_id, "--json"], ["config", "show"]):
        done = subprocess.run(
            [sys.executable, "-m", "openaperture", *arguments],
            cwd=settings.data_dir,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        said += done.stdout + done.stderr
    return said


# --------------------------------------------------------------------------------------------------- notices


async def test_notices_are_json_when_the_configuration_says_so(guarded: OriginalSite) -> None:
    site = guarded
    config = {
        "hipchat": {"room_names": ["releases", "ops"]},
        "email": {
            "groups": {"team": ["ann@example.test", "bob@example.test"]},
            "events": {"on_workflow_completed": ["team", "eve@example.test"]},
        },
    }
    async with site.engine(), site.old_hand() as builder:
        workflow_id = await site.start_old("build", notifications_config=config)
        await builder.complete(await builder.take())
        seen = await site.until_calls(workflow_id, lambda seen: bool(seen.emails))
    notes = [msgspec.json.decode(message.body) for message in seen.note_messages]
    assert {message.properties["content_type"] for message in seen.note_messages} == {"application/json"}
    prefix = f"[OA][{workflow_id}][team/shop]"
    assert notes[0] == {
        "is_success": True,
        "prefix": prefix,
        "message": "workflow started",
        "room_names": ["releases", "ops"],
    }
    [email] = seen.emails
    told = msgspec.json.decode(email.body)
    assert set(told) == {"prefix", "message", "notifications"}
    assert told["prefix"] == f"SUCCEEDED {prefix}"
    assert told["message"].endswith(f"https://ui.example.test/index.html#/oa/workflows/workflows/{workflow_id}")
    recipients = ["ann@example.test", "bob@example.test", "eve@example.test"]
    assert told["notifications"] == {"email_addresses": recipients}
    # The e-mail tells of the end, so it waits until the Manager knows of it.
    assert [save for save in seen.saves if save.at <= email.at][-1].body["workflow_completed"] is True

"""Databases and stores for tests, and what is put into them."""

import random
import secrets
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import Connection, select, text, update
from sqlalchemy.engine import make_url

from openaperture.database import Database
from openaperture.database.tables import lock_claims
from openaperture.domain.attempts import Attempt, AttemptKey
from openaperture.domain.history import Entry
from openaperture.domain.milestones import OnLoss
from openaperture.domain.releases import Release
from openaperture.domain.workflow import State, Step, Workflow
from openaperture.ports import Change, OutboxRow, Records, RowKind, Store
from openaperture.stores.sql import SqlStore
from tests.simulation.faults import Gate, Weather
from tests.simulation.journal import Journal
from tests.simulation.store import Disk, SimulatedStore

LONG_AGO = datetime(2021, 3, 5, 23, 25, 19, 4711, tzinfo=UTC)


@contextmanager
def fresh_schema(postgresql_url: str) -> Generator[str]:
    """The url of an empty schema of its own, dropped at the end."""
    name = f"test_{secrets.token_hex(6)}"
    with psycopg.connect(postgresql_url, autocommit=True) as connection:
        connection.execute(sql.SQL("create schema {}").format(sql.Identifier(name)))
    url = make_url(postgresql_url).update_query_dict({"options": f"-csearch_path={name}"})
    try:
        yield url.render_as_string(hide_password=False)
    finally:
        with psycopg.connect(postgresql_url, autocommit=True) as connection:
            # Quietly: a cascade has much to tell.
            connection.execute("set client_min_messages = error")
            connection.execute(sql.SQL("drop schema {} cascade").format(sql.Identifier(name)))


@dataclass(slots=True)
class Told:
    """An Observer that remembers."""

    events: list[tuple[str, dict[str, Any]]] = field(default_factory=list[tuple[str, dict[str, Any]]])

    def emit(self, name: str, /, **details: Any) -> None:
        self.events.append((name, details))


class AnyStore(Store, Records, Protocol):
    """Both sides of a store, and what its adapters offer beside the ports."""

    async def get_or_create_setting(self, name: str, value: str) -> str: ...


class Place(Protocol):
    """What outlives stores, and stores on it."""

    @property
    def told(self) -> Told:
        """What its stores told their observer."""
        ...

    @property
    def dialect(self) -> str: ...

    def store(self) -> AnyStore: ...

    def store_in(self, seconds: float) -> AnyStore:
        """A store whose clock goes that much ahead."""
        ...

    async def edit_document(self, workflow_id: str, old: str, new: str) -> None:
        """Replace a text in the stored document of a workflow."""
        ...

    async def pass_lock(self, name: str, workflow_id: str) -> None:
        """Give the lock to another one of its queue that is not its turn."""
        ...


@dataclass(frozen=True, slots=True)
class Opened:
    """An open database, and stores on it."""

    database: Database
    told: Told

    @property
    def dialect(self) -> str:
        return self.database.dialect

    def store(self, now: Callable[[], datetime] | None = None) -> SqlStore:
        return SqlStore(self.database, observer=self.told, now=now)

    def store_in(self, seconds: float) -> SqlStore:
        return self.store(lambda: datetime.now(UTC) + timedelta(seconds=seconds))

    async def edit_document(self, workflow_id: str, old: str, new: str) -> None:
        statement = text("UPDATE workflows SET document = replace(document, :old, :new) WHERE id = :id")
        await self.database.write(
            lambda connection: connection.execute(statement, {"old": old, "new": new, "id": workflow_id})
        )

    async def pass_lock(self, name: str, workflow_id: str) -> None:
        claims = lock_claims.c

        def passed(connection: Connection) -> None:
            granted = select(claims.token, claims.granted_at, claims.lease_until).where(
                claims.name == name, claims.state == "granted"
            )
            row = dict(connection.execute(granted).mappings().one())
            back = update(lock_claims).where(claims.name == name)
            connection.execute(back.values(state="waiting", **dict.fromkeys(row)))
            to = update(lock_claims).where(claims.name == name, claims.workflow_id == workflow_id)
            connection.execute(to.values(state="granted", **row))

        await self.database.write(passed)


class InMemory:
    """The store of the simulation, without faults."""

    dialect = "memory"

    def __init__(self) -> None:
        self.told = Told()
        self._gate = Gate(Weather(random.Random(0)), Journal())
        self._disk = Disk(self._gate.journal, lambda: datetime.now(UTC))

    def store(self) -> SimulatedStore:
        return self.store_in(0.0)

    def store_in(self, seconds: float) -> SimulatedStore:
        return SimulatedStore(self._disk, self._gate, self.told, ahead_seconds=seconds)

    async def edit_document(self, workflow_id: str, old: str, new: str) -> None:
        row = self._disk.workflows[workflow_id].row
        self._disk.put({**row, "document": row["document"].replace(old, new)})

    async def pass_lock(self, name: str, workflow_id: str) -> None:
        queue = [claim for claim in self._disk.locks.claims if claim.name == name]
        [holder] = [claim for claim in queue if claim.holds]
        [other] = [claim for claim in queue if claim.workflow_id == workflow_id]
        other.state, other.token, other.granted_at = "granted", holder.token, holder.granted_at
        other.lease_until = holder.lease_until
        holder.wait()


@asynccontextmanager
async def opened_store(kind: str, request: pytest.FixtureRequest, folder: Path) -> AsyncGenerator[Place]:
    """A place for stores: `sqlite`, `postgresql` or `memory`."""
    if kind == "memory":
        yield InMemory()
    elif kind == "sqlite":
        async with opened(f"sqlite:///{folder / 'store.db'}") as here:
            yield here
    else:
        with fresh_schema(request.getfixturevalue("postgresql_url")) as url:
            async with opened(url) as here:
                yield here


@asynccontextmanager
async def opened(url: str) -> AsyncGenerator[Opened]:
    database = await Database.open(url)
    try:
        yield Opened(database, Told())
    finally:
        await database.close()


def attempt(number: int = 1, position: int = 0, **fields: Any) -> Attempt:
    defaults: dict[str, Any] = {
        "key": AttemptKey(generation=0, position=position, number=number),
        "milestone": "build",
        "requested_at": LONG_AGO,
        "pickup_by": LONG_AGO + timedelta(minutes=10),
        "on_loss": OnLoss.RETRY,
        "run_seconds": 7_200.0,
    }
    return Attempt(**defaults | fields)


def workflow(workflow_id: str, **fields: Any) -> Workflow:
    defaults: dict[str, Any] = {
        "release": Release(milestones=("build", "deploy"), source_repo="acme/shop", source_repo_git_ref="v1"),
        "state": State.RUNNING,
        "steps": (Step(milestone="build", live=attempt()),),
        "created_at": LONG_AGO,
    }
    return Workflow(id=workflow_id, **defaults | fields)


def creation(workflow_id: str, *, of: dict[str, Any] | None = None, **fields: Any) -> Change:
    """A change that stores a new workflow; `of` are fields of the workflow."""
    return Change(workflow=workflow(workflow_id, version=1, **(of or {})), expected_version=0, **fields)


def successor(change: Change, *, of: dict[str, Any] | None = None, **fields: Any) -> Change:
    """The next change of the same workflow."""
    version = change.workflow.version
    return Change(
        workflow=replace(change.workflow, version=version + 1, **(of or {})), expected_version=version, **fields
    )


def row(row_id: str, workflow_id: str = "w", **fields: Any) -> OutboxRow:
    defaults: dict[str, Any] = {
        "kind": RowKind.REQUEST,
        "attempt": "0.0.1",
        "queue": "builder",
        "body": b'{"id": "w"}',
        "content_type": "application/json",
    }
    return OutboxRow(id=row_id, workflow_id=workflow_id, **defaults | fields)


def entry(text: str, **fields: Any) -> Entry:
    return Entry(kind="milestone.note", text=text, at=LONG_AGO, **fields)

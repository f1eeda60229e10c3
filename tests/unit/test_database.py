"""The database below the stores: who may open it, its schema, its transactions when something goes wrong."""

import asyncio
import os
import sqlite3
import stat
import sys
from collections.abc import AsyncGenerator, Callable, Generator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine, event, inspect, text

from openaperture.database import Database, lift, migrate, postgresql
from openaperture.database.errors import Rejected
from openaperture.database.tables import metadata
from openaperture.database.url import parse
from openaperture.domain.errors import ConfigError, StoreUnavailable
from tests.contract.stores import fresh_schema
from tests.servers import free_port

PATIENCE_SECONDS = 20.0


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Generator[str]:
    """An empty place for a database."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'it.db'}"
        return
    with fresh_schema(request.getfixturevalue("postgresql_url")) as schema:
        yield schema


@pytest.fixture
async def database(url: str) -> AsyncGenerator[Database]:
    opened = await Database.open(url)
    await opened.write(lambda connection: connection.execute(text("CREATE TABLE t (n INTEGER PRIMARY KEY)")))
    yield opened
    await opened.close()


@pytest.fixture
async def sqlite(tmp_path: Path) -> AsyncGenerator[Database]:
    opened = await Database.open(f"sqlite:///{tmp_path / 'it.db'}")
    await opened.write(lambda connection: connection.execute(text("CREATE TABLE t (n INTEGER PRIMARY KEY)")))
    yield opened
    await opened.close()


@pytest.fixture
async def server(postgresql_url: str) -> AsyncGenerator[Database]:
    with fresh_schema(postgresql_url) as schema:
        opened = await Database.open(schema)
        await opened.write(lambda connection: connection.execute(text("CREATE TABLE t (n INTEGER PRIMARY KEY)")))
        yield opened
        await opened.close()


def _insert(connection: Connection, number: int) -> int:
    connection.execute(text("INSERT INTO t VALUES (:n)"), {"n": number})
    return number


def _inserting(number: int) -> Callable[[Connection], int]:
    return partial(_insert, number=number)


async def _numbers(database: Database) -> list[int]:
    return await database.read(lambda connection: list(connection.scalars(text("SELECT n FROM t ORDER BY n"))))


# ---------------------------------------------------------------------------------------------- schema


def _schema(connection: Connection) -> dict[str, Any]:
    """All that a schema is made of, in a form that can be compared."""
    looked = inspect(connection)
    tables = [name for name in looked.get_table_names() if name not in {"t", "alembic_version"}]
    described: dict[str, Any] = {
        table: (
            [
                (column["name"], str(column["type"]), column["nullable"], str(column["default"]))
                for column in looked.get_columns(table)
            ],
            looked.get_pk_constraint(table)["constrained_columns"],
            looked.get_foreign_keys(table),
            sorted(
                (unique["name"] or "", unique["column_names"]) for unique in looked.get_unique_constraints(table)
            ),
        )
        for table in tables
    }
    if connection.dialect.name == "sqlite":
        indexes = connection.execute(text("SELECT name, sql FROM sqlite_master WHERE type = 'index'"))
    else:
        indexes = connection.execute(
            text("SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = current_schema()")
        )
    schema = connection.scalar(text("SELECT current_schema()")) if connection.dialect.name != "sqlite" else ""
    described["indexes"] = sorted(
        (name, (sql or "").replace(f"{schema}.", "") if schema else sql or "")
        for name, sql in indexes
        if "alembic" not in name and name != "t_pkey"
    )
    return described


def _migrated(url: str) -> dict[str, Any]:
    engine = create_engine(parse(url))
    with engine.begin() as connection:
        command.upgrade(lift.configuration(connection), "head")
        assert migrate.find_revision(connection) == migrate.NEWEST
        found = _schema(connection)
    engine.dispose()
    return found


async def test_all_migrations_lead_to_the_schema_that_an_empty_database_gets(
    tmp_path: Path, postgresql_url: str
) -> None:
    with fresh_schema(postgresql_url) as first, fresh_schema(postgresql_url) as second:
        for made, migrated in (
            (f"sqlite:///{tmp_path / 'made.db'}", f"sqlite:///{tmp_path / 'migrated.db'}"),
            (first, second),
        ):
            database = await Database.open(made)
            schema = await database.read(_schema)
            await database.close()
            assert set(schema) == {*metadata.tables, "indexes"}
            assert schema == _migrated(migrated)


def test_the_newest_migration_is_the_one_that_new_databases_are_marked_with() -> None:
    assert ScriptDirectory.from_config(lift.configuration()).get_current_head() == migrate.NEWEST


async def test_an_older_schema_is_lifted_when_it_is_opened(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a next version would: its newest revision is not the one that the database is marked with."""
    await (await Database.open(url)).close()
    lifted: list[str] = []

    def to_newest(connection: Connection, found: str, where: str, newest: str) -> None:
        lifted.append(f"{found} -> {newest}")

    newest = migrate.NEWEST
    monkeypatch.setattr(migrate, "NEWEST", "next")
    monkeypatch.setattr(lift, "to_newest", to_newest)
    await (await Database.open(url)).close()
    assert lifted == [f"{newest} -> next"]


@pytest.mark.fault("F65")
async def test_the_schema_of_a_newer_version_is_refused_and_left_alone(url: str) -> None:
    """Invariant I12: refuse to start rather than misread."""
    database = await Database.open(url)
    await database.write(lambda c: c.execute(text("UPDATE alembic_version SET version_num = '0999'")))
    await database.close()
    for _ in range(2):
        with pytest.raises(ConfigError, match=r"0999 of a newer version.*backup"):
            await Database.open(url)


async def test_opening_again_keeps_what_was_stored(url: str) -> None:
    first = await Database.open(url)
    await first.write(lambda c: c.execute(text("INSERT INTO settings VALUES ('a', 'b')")))
    await first.close()
    second = await Database.open(url)
    assert await second.read(lambda c: c.scalar(text("SELECT value FROM settings"))) == "b"
    await second.close()


@pytest.mark.fault("F65")
async def test_many_that_open_an_empty_database_at_once_all_find_the_schema(postgresql_url: str) -> None:
    """Failure model F65: several orchestrators start together after an upgrade."""
    with fresh_schema(postgresql_url) as schema:
        opened = await asyncio.gather(*(Database.open(schema) for _ in range(6)))
        await asyncio.gather(*(database.close() for database in opened))


# ------------------------------------------------------------------------------------------------ urls


@pytest.mark.parametrize(
    "url",
    [
        "",
        "nonsense",
        "mysql://u:topsecret@h/db",
        "sqlite://",
        "sqlite:///:memory:",
        "postgresql://u:topsecret@h:x/d",
    ],
)
async def test_an_unusable_url_is_refused_with_the_forms_that_can_be_used(url: str) -> None:
    with pytest.raises(ConfigError, match=r"sqlite:///path.*postgresql://") as caught:
        await Database.open(url)
    assert "topsecret" not in str(caught.value)


async def test_a_server_that_is_not_there_is_named_without_its_password() -> None:
    port = free_port(20_000)
    with pytest.raises(StoreUnavailable, match=f"127.0.0.1:{port}") as caught:
        await Database.open(f"postgresql://someone:topsecret@127.0.0.1:{port}/db")
    assert "topsecret" not in str(caught.value)


async def test_a_path_that_cannot_be_a_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ConfigError, match="choose another path"):
        await Database.open(f"sqlite:///{tmp_path / 'file' / 'it.db'}")
    (tmp_path / "text.db").write_text("no database, but long enough to have a header of one" * 20)
    with pytest.raises(ConfigError, match="damaged"):
        await Database.open(f"sqlite:///{tmp_path / 'text.db'}")


# ---------------------------------------------------------------------------------- transactions, both


async def test_a_failed_write_leaves_nothing_and_its_error_comes_out(database: Database) -> None:
    def fail(connection: Connection) -> None:
        _insert(connection, 1)
        raise LookupError("of the work itself")

    with pytest.raises(LookupError, match="of the work itself"):
        await database.write(fail)
    assert await database.write(_inserting(2)) == 2
    assert await _numbers(database) == [2]


async def test_a_value_that_cannot_be_stored_is_rejected_and_names_the_table_of_a_duplicate(
    database: Database,
) -> None:
    await database.write(_inserting(1))
    with pytest.raises(Rejected) as caught:
        await database.write(_inserting(1))
    assert caught.value.duplicate_in == "t"
    with pytest.raises(Rejected) as caught:
        await database.write(lambda c: c.execute(text("INSERT INTO settings VALUES ('a', NULL)")))
    assert caught.value.duplicate_in is None


async def test_writes_that_were_begun_are_finished_by_close(url: str) -> None:
    database = await Database.open(url)
    await database.write(lambda connection: connection.execute(text("CREATE TABLE t (n INTEGER PRIMARY KEY)")))
    writes = [asyncio.ensure_future(database.write(_inserting(n))) for n in range(3)]
    await asyncio.sleep(0)
    await database.close()
    await database.close()
    assert await asyncio.gather(*writes) == [0, 1, 2]
    with pytest.raises(StoreUnavailable, match="closed"):
        await database.write(_inserting(9))
    with pytest.raises(StoreUnavailable, match="closed"):
        await _numbers(database)
    again = await Database.open(url)
    assert await _numbers(again) == [0, 1, 2]
    await again.close()


# ---------------------------------------------------------------------------------------------- SQLite


async def test_writes_that_wait_together_share_one_commit(sqlite: Database) -> None:
    commits: list[int] = []
    engine = sqlite._backend._writer._engine  # type: ignore[attr-defined]
    event.listen(engine, "commit", lambda _: commits.append(1))
    await asyncio.gather(*(sqlite.write(_inserting(n)) for n in range(100)))
    assert len(commits) == 1
    assert await _numbers(sqlite) == list(range(100))


async def test_a_write_that_fails_leaves_the_others_of_its_group_alone(sqlite: Database) -> None:
    def half(connection: Connection) -> int:
        _insert(connection, 1000)
        return _insert(connection, 3)

    works = [*(_inserting(n) for n in range(4)), half, _inserting(4)]
    writes = [sqlite.write(work) for work in works]
    outcomes = await asyncio.gather(*writes, return_exceptions=True)
    assert outcomes[:4] == [0, 1, 2, 3]
    assert isinstance(outcomes[4], Rejected)
    assert outcomes[5] == 4
    assert await _numbers(sqlite) == [0, 1, 2, 3, 4]


async def test_a_write_that_nobody_waits_for_any_more_is_not_begun(sqlite: Database) -> None:
    waiting = asyncio.ensure_future(sqlite.write(_inserting(1)))
    kept = asyncio.ensure_future(sqlite.write(_inserting(2)))
    await asyncio.sleep(0)
    waiting.cancel()
    await kept
    assert await _numbers(sqlite) == [2]


@pytest.mark.fault("F50")
async def test_an_answered_write_is_durable_against_a_power_cut(sqlite: Database) -> None:
    """Failure model F50: WAL with synchronous=FULL (2)."""
    pragmas = ("journal_mode", "synchronous", "foreign_keys")
    found = await sqlite.write(lambda c: [c.exec_driver_sql(f"PRAGMA {name}").scalar() for name in pragmas])
    assert found == ["wal", 2, 1]


async def test_readers_work_while_a_write_is_under_way(sqlite: Database) -> None:
    loop = asyncio.get_running_loop()
    begun = asyncio.Event()
    go_on = asyncio.Event()

    def slow(connection: Connection) -> None:
        _insert(connection, 1)
        loop.call_soon_threadsafe(begun.set)
        asyncio.run_coroutine_threadsafe(go_on.wait(), loop).result(PATIENCE_SECONDS)

    writing = asyncio.ensure_future(sqlite.write(slow))
    await begun.wait()
    assert await _numbers(sqlite) == []
    go_on.set()
    await writing
    assert await _numbers(sqlite) == [1]


async def test_the_file_is_for_its_owner_alone(tmp_path: Path, sqlite: Database) -> None:
    """It holds the key of the attempt tokens."""
    assert stat.S_IMODE((tmp_path / "it.db").stat().st_mode) == 0o600


async def test_a_foreign_lock_on_the_file_is_reported_and_passes(tmp_path: Path, sqlite: Database) -> None:
    await sqlite.write(lambda c: c.exec_driver_sql("PRAGMA busy_timeout = 50").all())
    foreign = sqlite3.connect(tmp_path / "it.db", isolation_level=None)
    foreign.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailable, match="locked"):
        await sqlite.write(_inserting(1))
    foreign.execute("ROLLBACK")
    foreign.close()
    assert await sqlite.write(_inserting(2)) == 2


_HOLDER = """
import asyncio, sys
from openaperture.database import Database

async def hold():
    database = await Database.open(sys.argv[1])
    print("open", flush=True)
    await asyncio.Event().wait()

asyncio.run(hold())
"""


@pytest.mark.fault("F51")
async def test_a_second_process_is_refused_with_the_pid_of_the_first_until_that_is_gone(tmp_path: Path) -> None:
    """Failure model F51."""
    url = f"sqlite:///{tmp_path / 'it.db'}"
    holder = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _HOLDER, url, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert holder.stdout is not None
        async with asyncio.timeout(PATIENCE_SECONDS):
            assert await holder.stdout.readline() == b"open\n"
        with pytest.raises(ConfigError, match=f"in use by process {holder.pid}, .*PostgreSQL"):
            await Database.open(url)
        looking_on = await Database.open(url, owner_lock=False)
        await looking_on.close()
    finally:
        holder.kill()
        await holder.wait()
    await (await Database.open(url)).close()


async def test_one_process_cannot_open_a_file_twice_either(tmp_path: Path, sqlite: Database) -> None:
    with pytest.raises(ConfigError, match=f"in use by process {os.getpid()},"):
        await Database.open(f"sqlite:///{tmp_path / 'it.db'}")
    assert await sqlite.write(_inserting(1)) == 1


# ------------------------------------------------------------------------------------------ PostgreSQL


@pytest.mark.fault("F43")
async def test_a_deadlock_is_solved_by_repeating_the_whole_transaction(server: Database) -> None:
    """Failure model F43 (40P01)."""
    for number in (1, 2):
        await server.write(_inserting(number))
    both = asyncio.Barrier(2)
    loop = asyncio.get_running_loop()
    met: set[int] = set()

    def cross(connection: Connection, first: int, second: int) -> None:
        lock = text("SELECT n FROM t WHERE n = :n FOR UPDATE")
        connection.execute(lock, {"n": first})
        if first not in met:
            met.add(first)
            asyncio.run_coroutine_threadsafe(both.wait(), loop).result(PATIENCE_SECONDS)
        connection.execute(lock, {"n": second})
        connection.execute(text("INSERT INTO t VALUES (:n)"), {"n": 10 + first})

    async with asyncio.timeout(PATIENCE_SECONDS):
        await asyncio.gather(
            server.write(lambda c: cross(c, 1, 2)),
            server.write(lambda c: cross(c, 2, 1)),
        )
    assert await _numbers(server) == [1, 2, 11, 12]


@pytest.mark.fault("F45")
async def test_a_connection_lost_before_the_commit_is_replaced_and_the_work_repeated(server: Database) -> None:
    """Failure model F45."""
    tries: list[int] = []

    def cut_once(connection: Connection) -> None:
        _insert(connection, 1)
        tries.append(1)
        if len(tries) == 1:
            connection.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))

    await server.write(cut_once)
    assert await _numbers(server) == [1]
    assert len(tries) == 2


async def test_connections_that_died_while_idle_are_not_noticed_by_callers(
    server: Database, postgresql_url: str
) -> None:
    await asyncio.gather(*(server.write(_inserting(n)) for n in range(4)))
    engine = create_engine(parse(postgresql_url))
    kill = text("SELECT pg_terminate_backend(:pid)")
    pids = await asyncio.gather(
        *(server.read(lambda c: c.scalar(text("SELECT pg_backend_pid() FROM pg_sleep(0.05)"))) for _ in range(4))
    )
    with engine.begin() as connection:
        for pid in pids:
            connection.execute(kill, {"pid": pid})
    engine.dispose()
    assert await asyncio.gather(*(server.write(_inserting(n)) for n in range(10, 18)))
    assert len(await _numbers(server)) == 12


_AT_COMMIT = """
CREATE SEQUENCE commits;
CREATE FUNCTION at_commit() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body} RETURN NULL; END $$;
CREATE CONSTRAINT TRIGGER at_commit AFTER INSERT ON t DEFERRABLE INITIALLY DEFERRED
FOR EACH ROW EXECUTE FUNCTION at_commit();
"""


@pytest.mark.fault("F05")
async def test_a_connection_lost_during_the_commit_leaves_the_outcome_open(server: Database) -> None:
    """Failure model F05: it may have committed, so it is not repeated here."""
    body = "PERFORM nextval('commits'); PERFORM pg_terminate_backend(pg_backend_pid());"
    await server.write(lambda c: c.exec_driver_sql(_AT_COMMIT.format(body=body)))
    with pytest.raises(StoreUnavailable, match="outcome is unknown"):
        await server.write(_inserting(1))
    assert await server.read(lambda c: c.scalar(text("SELECT last_value FROM commits"))) == 1


@pytest.mark.fault("F43")
async def test_a_commit_that_the_server_says_it_rolled_back_is_repeated(server: Database) -> None:
    """Failure model F43 (40001)."""
    body = "IF nextval('commits') < 3 THEN RAISE EXCEPTION 'again' USING ERRCODE = '40001'; END IF;"
    await server.write(lambda c: c.exec_driver_sql(_AT_COMMIT.format(body=body)))
    await server.write(_inserting(1))
    assert await _numbers(server) == [1]
    assert await server.read(lambda c: c.scalar(text("SELECT last_value FROM commits"))) == 3


async def test_what_cannot_pass_is_given_up_after_a_few_tries(server: Database) -> None:
    body = "PERFORM nextval('commits'); RAISE EXCEPTION 'always' USING ERRCODE = '40001';"
    await server.write(lambda c: c.exec_driver_sql(_AT_COMMIT.format(body=body)))
    with pytest.raises(StoreUnavailable, match="always"):
        await server.write(_inserting(1))
    assert await server.read(lambda c: c.scalar(text("SELECT last_value FROM commits"))) == 5


@pytest.mark.fault("F47")
async def test_a_call_that_takes_too_long_is_cut_off_and_frees_its_thread(
    server: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Failure model F47. A frozen server looks the same from here."""
    monkeypatch.setattr(postgresql.Postgresql._repeated, "__kwdefaults__", {"seconds": 0.3})
    sleep = text("SELECT pg_sleep(12)")
    calls = [server.write(lambda c: c.execute(sleep)) for _ in range(postgresql.CONNECTIONS)]
    for outcome in await asyncio.gather(*calls, return_exceptions=True):
        assert isinstance(outcome, StoreUnavailable)
    monkeypatch.undo()
    async with asyncio.timeout(5):
        await server.write(_inserting(1))
    assert await _numbers(server) == [1]


async def test_a_statement_that_the_server_finds_too_slow_is_unavailable(server: Database) -> None:
    def slow(connection: Connection) -> None:
        connection.execute(text("SET LOCAL statement_timeout = 50"))
        connection.execute(text("SELECT pg_sleep(5)"))

    with pytest.raises(StoreUnavailable, match="statement timeout"):
        await server.write(slow)


async def test_texts_of_the_server_are_instants_in_utc_whatever_its_time_zone(server: Database) -> None:
    assert await server.read(lambda c: c.scalar(text("SHOW TimeZone"))) == "UTC"

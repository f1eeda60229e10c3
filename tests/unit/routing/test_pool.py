"""Several brokers at once: which one a message takes, and which it must not.

The brokers are embedded ones, each on a file of its own, behind urls of the directory.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import urlsplit

import pytest

from openaperture.brokers.embedded import EmbeddedBroker
from openaperture.database import Database
from openaperture.domain.errors import BrokerUnavailable, ConfigError, Unconfirmed, Unroutable
from openaperture.domain.routes import Route, Way
from openaperture.ports import Address, Broker, Consumer, Message
from openaperture.routing import BrokerPool, Directory
from tests.contract.brokers import Events, receive, running, texts, until
from tests.unit.client.login import StepClock
from tests.unit.routing.tables import Tables, manager_of

QUEUE = "builder"
ELSEWHERE = Route(broker_id="2", exchange_id="3", exchange="", routing_key=QUEUE)
FAILOVER = Way(broker_id="3", exchange_id="3", exchange="", routing_key=QUEUE)


class Gate:
    """A broker that a test can take away, or let fall silent after it has sent."""

    def __init__(self, inner: Broker) -> None:
        self.inner = inner
        self.error: Exception | None = None
        self.error_after: Exception | None = None
        self.hold = asyncio.Event()
        self.hold.set()
        self.closed = asyncio.Event()
        self.tries = 0

    async def run(self) -> None:
        await self.closed.wait()

    async def publish(self, address: Address, message: Message, *, timeout_seconds: float = 10.0) -> None:
        self.tries += 1
        await self.hold.wait()
        if self.error is not None:
            raise self.error
        await self.inner.publish(address, message, timeout_seconds=timeout_seconds)
        if self.error_after is not None:
            raise self.error_after

    async def consume(self, queue: str, *, prefetch: int, temporary: bool = False) -> Consumer:
        return await self.inner.consume(queue, prefetch=prefetch, temporary=temporary)

    async def declare(self, queue: str) -> None:
        await self.inner.declare(queue)

    async def check(self, queue: str) -> None:
        await self.inner.check(queue)

    async def depth(self, queue: str) -> int:
        return await self.inner.depth(queue)

    async def close(self) -> None:
        self.closed.set()


class Site:
    """A pool of broker 1, with 2 and 3 in the directory, all of them with a queue."""

    def __init__(self, servers: dict[str, Broker], seed: int) -> None:
        self.servers = servers
        """By host."""
        self.opened: list[tuple[str, Gate]] = []
        self.broken: dict[str, Exception] = {}
        self.tables, self.clock, self.events = Tables(), StepClock(), Events()
        self.tables.brokers["3"] = {"id": 3, "failover_broker_id": None}
        self.tables.connections = {
            "2": [{"host": "mq-2", "username": "oa", "password": "pw-2"}],
            "3": [{"host": "mq-3", "username": "oa", "password": "pw-3"}],
        }
        self.own = Gate(servers["mq-1"])
        self.pool = BrokerPool(
            Directory(manager_of(self.tables, self.clock), self.clock),
            self.own,
            "1",
            self._open,
            self.events,
            clock=StillClock(self.clock),
            chance=Random(seed),
            idle_seconds=600.0,
        )

    def _open(self, url: str) -> Broker:
        host = host_of(url)
        if isinstance(error := self.broken.get(host), ConfigError):
            raise error
        gate = Gate(self.servers.get(host, self.servers["mq-1"]))
        gate.error = self.broken.get(host)
        self.opened.append((url, gate))
        return gate

    @property
    def hosts(self) -> list[str]:
        """Of what was opened, in order."""
        return [host_of(url) for url, _ in self.opened]

    async def publish(self, route: Route, text: str = "m", timeout_seconds: float = 5.0) -> None:
        await self.pool.publish(
            route, Message(body=text.encode(), message_id=text), timeout_seconds=timeout_seconds
        )

    async def depths(self) -> dict[str, int]:
        return {host: await broker.depth(QUEUE) for host, broker in self.servers.items()}


def host_of(url: str) -> str:
    return urlsplit(url).hostname or ""


class StillClock:
    """Time of the test, and sleepers that sleep until they are cancelled."""

    def __init__(self, clock: StepClock) -> None:
        self._clock = clock

    def monotonic(self) -> float:
        return self._clock.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.Event().wait()


@asynccontextmanager
async def embedded(file: Path) -> AsyncGenerator[Broker]:
    database = await Database.open(f"sqlite:///{file}")
    try:
        async with running(EmbeddedBroker(database, observer=Events())) as broker:
            await broker.declare(QUEUE)
            yield broker
    finally:
        await database.close()


@asynccontextmanager
async def opened_site(folder: Path, seed: int = 3) -> AsyncGenerator[Site]:
    async with (
        embedded(folder / "1.db") as first,
        embedded(folder / "2.db") as second,
        embedded(folder / "3.db") as third,
        asyncio.timeout(60),
        asyncio.TaskGroup() as tasks,
    ):
        site = Site({"mq-1": first, "mq-2": second, "mq-3": third}, seed)
        running_pool = tasks.create_task(site.pool.run())
        yield site
        await site.pool.close()
        await running_pool


async def closed(*gates: Gate) -> None:
    async with asyncio.timeout(20):
        for gate in gates:
            await gate.closed.wait()


# ------------------------------------------------------------------------------------ which broker


async def test_what_goes_to_our_own_broker_opens_nothing(tmp_path: Path) -> None:
    async with opened_site(tmp_path) as site:
        await site.publish(replace(ELSEWHERE, broker_id="1"))
        assert await site.depths() == {"mq-1": 1, "mq-2": 0, "mq-3": 0}
        assert site.opened == []
        assert site.tables.asked == []


async def test_another_broker_is_opened_once_and_kept(tmp_path: Path) -> None:
    async with opened_site(tmp_path) as site:
        await asyncio.gather(*(site.publish(ELSEWHERE, f"m{number}") for number in range(20)))
        assert await site.depths() == {"mq-1": 0, "mq-2": 20, "mq-3": 0}
        assert [url for url, _ in site.opened] == ["amqp://oa:pw-2@mq-2:5672/%2F"]
        [delivery] = await receive(await site.servers["mq-2"].consume(QUEUE, prefetch=1), 1)
        assert texts([delivery]) == ["m0"]


async def test_several_brokers_are_open_at_once(tmp_path: Path) -> None:
    async with opened_site(tmp_path) as site:
        for broker_id in ("1", "2", "3", "2", "1", "3"):
            await site.publish(replace(ELSEWHERE, broker_id=broker_id))
        assert await site.depths() == {"mq-1": 2, "mq-2": 2, "mq-3": 2}
        assert len(site.opened) == 2


async def test_a_message_that_no_queue_takes_is_unroutable_there_and_stays_so(tmp_path: Path) -> None:
    async with opened_site(tmp_path) as site:
        route = replace(ELSEWHERE, routing_key="nowhere", failover=FAILOVER)
        with pytest.raises(Unroutable):
            await site.publish(route)
        assert site.hosts == ["mq-2"]


async def test_passwords_are_told_to_nobody(tmp_path: Path) -> None:
    async with opened_site(tmp_path) as site:
        site.broken["mq-2"] = BrokerUnavailable("away")
        with pytest.raises(BrokerUnavailable) as caught:
            await site.publish(ELSEWHERE)
        told = repr(site.events.told) + repr(vars(site.pool)["_lines"]) + str(caught.value)
        assert "mq-2" in told
        assert "pw-2" not in told


# ------------------------------------------------------------------------------------- connections


async def test_a_broker_without_usable_connections_says_what_to_add(tmp_path: Path) -> None:
    async with opened_site(tmp_path) as site:
        for rows in ([], [{"host": None}], [{"host": "mq-2", "port": 99_999}]):
            site.tables.connections["2"] = rows
            site.clock.now += 301.0
            with pytest.raises(BrokerUnavailable, match=r"broker 2 has no connection .* add one"):
                await site.publish(ELSEWHERE)
        site.tables.connections["2"] = [{"host": "mq-2"}]
        site.clock.now += 301.0
        await site.publish(ELSEWHERE)


async def test_a_connection_that_cannot_be_reached_gives_way_to_the_next(tmp_path: Path) -> None:
    async with opened_site(tmp_path) as site:
        site.tables.connections["2"] = [{"host": host} for host in ("gone-1", "gone-2", "mq-2")]
        site.broken |= {"gone-1": BrokerUnavailable("away"), "gone-2": ConfigError(["no url"])}
        await site.publish(ELSEWHERE, "m1")
        await site.publish(ELSEWHERE, "m2")
        assert (await site.depths())["mq-2"] == 2
        assert site.hosts.count("mq-2") == 1
        await closed(*(gate for _, gate in site.opened[:-1]))


async def test_the_first_connection_is_chosen_at_random_and_then_kept(tmp_path: Path) -> None:
    chosen: set[str] = set()
    for seed in range(8):
        (folder := tmp_path / str(seed)).mkdir()
        async with opened_site(folder, seed) as site:
            rows = [{"host": "mq-2"}, {"host": "mq-3"}]
            site.tables.connections["2"] = rows
            await site.publish(ELSEWHERE)
            chosen |= set(site.hosts)
            site.tables.connections["2"] = [{"host": "mq-1"}, *rows]
            site.clock.now += 301.0
            await site.publish(ELSEWHERE)
            assert len(site.opened) == 1
    assert chosen == {"mq-2", "mq-3"}


async def test_when_all_connections_fail_the_last_reason_is_told(tmp_path: Path) -> None:
    async with opened_site(tmp_path) as site:
        site.tables.connections["2"] = [{"host": "gone-1"}, {"host": "gone-2"}]
        site.broken |= {"gone-1": BrokerUnavailable("away"), "gone-2": BrokerUnavailable("away too")}
        with pytest.raises(BrokerUnavailable, match="away"):
            await site.publish(ELSEWHERE)
        assert sorted(site.hosts) == ["gone-1", "gone-2"]


async def test_changed_connections_replace_what_is_open_when_its_last_message_is_through(tmp_path: Path) -> None:
    async with opened_site(tmp_path) as site:
        await site.publish(ELSEWHERE)
        [(_, old)] = site.opened
        old.hold.clear()
        slow = asyncio.ensure_future(site.publish(ELSEWHERE, "slow"))
        await until(lambda: _is(lambda: old.tries == 2))
        site.tables.connections["2"] = [{"host": "mq-3"}]
        site.clock.now += 301.0
        await site.publish(ELSEWHERE, "new")
        assert site.hosts == ["mq-2", "mq-3"]
        assert not old.closed.is_set()
        old.hold.set()
        await slow
        await closed(old)
        assert await site.depths() == {"mq-1": 0, "mq-2": 2, "mq-3": 1}


async def test_while_the_manager_is_away_what_it_said_last_is_used(tmp_path: Path) -> None:
    async with opened_site(tmp_path) as site:
        await site.publish(ELSEWHERE)
        site.tables.forced["*"] = 500
        site.clock.now += 90_000.0
        await site.publish(ELSEWHERE)
        with pytest.raises(BrokerUnavailable, match="how to connect to broker 3 cannot be looked up"):
            await site.publish(replace(ELSEWHERE, broker_id="3"))


async def test_a_manager_that_is_silent_holds_up_no_publish(tmp_path: Path) -> None:
    async with opened_site(tmp_path) as site:
        await site.publish(ELSEWHERE)
        site.tables.silent = True
        site.clock.now += 301.0
        await site.publish(ELSEWHERE, timeout_seconds=0.5)
        with pytest.raises(BrokerUnavailable, match="it was not answered in time"):
            await site.publish(replace(ELSEWHERE, broker_id="3"), timeout_seconds=0.5)
        assert (await site.depths())["mq-2"] == 2


async def test_a_broker_that_nobody_uses_is_closed_and_opened_again_when_needed(tmp_path: Path) -> None:
    async with opened_site(tmp_path) as site:
        await site.publish(ELSEWHERE)
        site.clock.now += 599.0
        site.pool.close_idle()
        await site.publish(ELSEWHERE)
        site.clock.now += 600.0
        site.pool.close_idle()
        await closed(site.opened[0][1])
        await site.publish(ELSEWHERE)
        assert site.hosts == ["mq-2", "mq-2"]


async def test_a_broker_with_something_under_way_is_not_idle(tmp_path: Path) -> None:
    async with opened_site(tmp_path) as site:
        await site.publish(ELSEWHERE)
        [(_, gate)] = site.opened
        gate.hold.clear()
        slow = asyncio.ensure_future(site.publish(ELSEWHERE, "slow"))
        await until(lambda: _is(lambda: gate.tries == 2))
        site.clock.now += 6_000.0
        site.pool.close_idle()
        gate.hold.set()
        await slow
        await site.publish(ELSEWHERE)
        assert site.hosts == ["mq-2"]
        assert not gate.closed.is_set()


async def test_closing_ends_all_lines_and_refuses_what_comes_later(tmp_path: Path) -> None:
    async with opened_site(tmp_path) as site:
        for broker_id in ("2", "3"):
            await site.publish(replace(ELSEWHERE, broker_id=broker_id))
        await site.pool.close()
        await closed(*(gate for _, gate in site.opened))
        with pytest.raises(BrokerUnavailable, match="being closed"):
            await site.publish(replace(ELSEWHERE, broker_id="2"))
        await site.publish(replace(ELSEWHERE, broker_id="1"))


# --------------------------------------------------------------------------------------- failover


async def test_what_was_not_sent_goes_to_the_failover_broker(tmp_path: Path) -> None:
    async with opened_site(tmp_path) as site:
        site.broken["mq-2"] = BrokerUnavailable("away")
        await site.publish(replace(ELSEWHERE, failover=FAILOVER))
        assert await site.depths() == {"mq-1": 0, "mq-2": 0, "mq-3": 1}
        told = await site.events.wait_for("pool.failed_over")
        assert (told["broker_id"], told["failover_broker_id"]) == ("2", "3")


async def test_our_own_broker_fails_over_too(tmp_path: Path) -> None:
    async with opened_site(tmp_path) as site:
        site.own.error = BrokerUnavailable("away")
        await site.publish(replace(ELSEWHERE, broker_id="1", failover=FAILOVER))
        assert await site.depths() == {"mq-1": 0, "mq-2": 0, "mq-3": 1}


async def test_what_may_have_arrived_is_published_nowhere_else(tmp_path: Path) -> None:
    async with opened_site(tmp_path) as site:
        site.tables.connections["2"] = [{"host": "mq-2"}, {"host": "mq-2", "port": 5673}]
        route = replace(ELSEWHERE, failover=FAILOVER)
        await site.publish(route)
        [(_, gate)] = site.opened
        gate.error_after = Unconfirmed("silence")
        with pytest.raises(Unconfirmed):
            await site.publish(route, "unknown")
        assert await site.depths() == {"mq-1": 0, "mq-2": 2, "mq-3": 0}
        assert len(site.opened) == 1


async def test_a_broker_that_is_away_is_passed_over_for_a_while(tmp_path: Path) -> None:
    async with opened_site(tmp_path) as site:
        route = replace(ELSEWHERE, failover=FAILOVER)
        site.broken["mq-2"] = BrokerUnavailable("away")
        await site.publish(route, "m1")
        [(_, gate), _] = site.opened
        await site.publish(route, "m2")
        assert (gate.tries, (await site.depths())["mq-3"]) == (1, 2)
        gate.error = None
        site.clock.now += 30.0
        await site.publish(route, "m3")
        assert (await site.depths())["mq-2"] == 1


async def test_when_the_failover_is_away_too_the_first_broker_is_tried_again(tmp_path: Path) -> None:
    async with opened_site(tmp_path) as site:
        route = replace(ELSEWHERE, failover=FAILOVER)
        site.broken |= {"mq-2": BrokerUnavailable("away"), "mq-3": BrokerUnavailable("away as well")}
        for _ in range(2):
            with pytest.raises(BrokerUnavailable, match="away as well"):
                await site.publish(route)
        site.opened[0][1].error = None
        await site.publish(route)
        assert (await site.depths())["mq-2"] == 1


def _is(holds: Callable[[], bool]) -> Awaitable[Any]:
    async def answer() -> bool:
        return holds()

    return answer()

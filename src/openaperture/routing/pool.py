"""Publishes over the broker that a route names: our own, or one that the directory knows.

Other brokers are connected to when something goes there, and left after a while without use. How to
connect is the directory's to say and may change at any time; what is open and no longer listed is left.

Rules of failing over: only what was certainly not sent goes to the failover broker. What was sent and not
confirmed may have arrived, and two brokers cannot tell that they have the same message.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from openaperture.domain.errors import BrokerUnavailable, OpenApertureError, Unconfirmed
from openaperture.domain.routes import Route, Way
from openaperture.ports import Address, Broker, Clock, Message, Observer
from openaperture.routing.addresses import url_of
from openaperture.routing.directory import Directory
from openaperture.routing.line import Line

IDLE_SECONDS = 600.0
SWEEP_SECONDS = 30.0
DOWN_SECONDS = 30.0
"""For how long a broker with a failover is passed over once it could not be reached."""
LOOK_UP_SHARE = 0.3
"""Part of the time of a publish that may go into looking up how to connect."""


@dataclass(slots=True)
class _Place:
    """What we know of one foreign broker."""

    urls: list[str]
    """In the order in which they are tried."""
    line: Line | None = None

    def update(self, urls: list[str], chance: Random) -> None:
        """Take over a new list, the one in use first. An unchanged list stays as it is: its first worked last."""
        if set(urls) != set(self.urls):
            in_use = self.line.url if self.line else None
            self.urls = sorted(chance.sample(urls, len(urls)), key=lambda url: url != in_use)


class BrokerPool:
    """Broker connections by broker id. Events: `pool.opened | closed | failed_over | passed_over`.

    `own` is run and closed by its owner; the pool runs and closes what it opens.
    """

    def __init__(
        self,
        directory: Directory,
        own: Broker,
        own_broker_id: str,
        open_broker: Callable[[str], Broker],
        observer: Observer,
        *,
        clock: Clock,
        chance: Random,
        idle_seconds: float = IDLE_SECONDS,
    ) -> None:
        """`open_broker` makes a broker object of an amqp url; it connects when it is run."""
        self._directory = directory
        self._own = own
        self._own_broker_id = own_broker_id
        self._open_broker = open_broker
        self._observer = observer
        self._clock = clock
        self._chance = chance
        self._idle_seconds = idle_seconds
        self._places: dict[str, _Place] = {}
        self._down_until: dict[str, float] = {}
        self._lines: set[Line] = set()
        self._opened: asyncio.Queue[Line | None] = asyncio.Queue()
        self._closed = False

    async def run(self) -> None:
        """Keep the opened brokers running, and close those that nobody uses. Returns after `close`."""
        async with asyncio.TaskGroup() as tasks:
            sweep = tasks.create_task(self._sweep(), name="pool.sweep")
            while (line := await self._opened.get()) is not None:
                tasks.create_task(self._keep(line), name="pool.line")
            sweep.cancel()

    async def close(self) -> None:
        """Let `run` close what was opened, and return. Publishes under way fail as on a lost connection."""
        self._closed = True
        for line in self._lines:
            line.retire(now=True)
        self._opened.put_nowait(None)

    # -------------------------------------------------------------------------------------- publish

    async def publish(self, route: Route, message: Message, *, timeout_seconds: float = 10.0) -> None:
        """Return when a broker of the route confirmed that a queue has the message.

        Raises as `Broker.publish`: Unroutable, BrokerUnavailable (nothing was sent), Unconfirmed. What an
        operator has to repair in the directory counts as BrokerUnavailable too.
        """
        failover = route.failover
        if failover is None:
            await self._publish(route.way, message, timeout_seconds)
        elif self._clock.monotonic() < self._down_until.get(route.broker_id, 0.0):
            await self._publish_passing_over(route.way, failover, message, timeout_seconds)
        else:
            await self._publish_or_fail_over(route.way, failover, message, timeout_seconds)

    async def _publish_or_fail_over(
        self, way: Way, failover: Way, message: Message, timeout_seconds: float
    ) -> None:
        """Half of the time for each: a broker that is gone may take its half to show it."""
        try:
            await self._publish(way, message, timeout_seconds / 2)
        except Unconfirmed:
            raise
        except BrokerUnavailable as exc:
            self._down_until[way.broker_id] = self._clock.monotonic() + DOWN_SECONDS
            self._observer.emit(
                "pool.failed_over", broker_id=way.broker_id, failover_broker_id=failover.broker_id, error=exc
            )
            await self._publish(failover, message, timeout_seconds / 2)

    async def _publish_passing_over(
        self, way: Way, failover: Way, message: Message, timeout_seconds: float
    ) -> None:
        """To the failover at once. If that cannot be reached either, the next publish tries both again."""
        self._observer.emit("pool.passed_over", broker_id=way.broker_id, failover_broker_id=failover.broker_id)
        try:
            await self._publish(failover, message, timeout_seconds)
        except Unconfirmed:
            raise
        except BrokerUnavailable:
            self._down_until.pop(way.broker_id, None)
            raise

    async def _publish(self, way: Way, message: Message, timeout_seconds: float) -> None:
        address = Address(exchange=way.exchange, routing_key=way.routing_key)
        if way.broker_id == self._own_broker_id:
            await self._own.publish(address, message, timeout_seconds=timeout_seconds)
            return
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_seconds
        place = await self._find_place(way.broker_id, timeout_seconds * LOOK_UP_SHARE)
        for left in reversed(range(1, len(place.urls) + 1)):
            url = place.urls[0]
            try:
                line = self._line_of(way.broker_id, place)
                url = line.url
                share_seconds = max(0.0, deadline - loop.time()) / left
                await line.publish(address, message, timeout_seconds=share_seconds)
            except Unconfirmed:
                raise
            except BrokerUnavailable:
                self._give_up(place, url)
                if left == 1:
                    raise
            else:
                return

    # ------------------------------------------------------------------------------------ brokers

    async def _find_place(self, broker_id: str, look_up_seconds: float) -> _Place:
        """How to get to a broker now. While the directory does not answer, what it said last."""
        known = self._places.get(broker_id)
        try:
            async with asyncio.timeout(look_up_seconds):
                connections = await self._directory.list_connections(broker_id)
        except (OpenApertureError, TimeoutError) as exc:
            if known is not None:
                return known
            why = str(exc) or "it was not answered in time"
            raise BrokerUnavailable(f"how to connect to broker {broker_id} cannot be looked up: {why}") from exc
        urls = [url for connection in connections if (url := url_of(connection)) is not None]
        if not urls:
            raise BrokerUnavailable(
                f"broker {broker_id} has no connection that can be used; add one with host, user and password "
                "in the Manager"
            )
        place = self._places.setdefault(broker_id, _Place(urls=[]))
        place.update(urls, self._chance)
        return place

    def _line_of(self, broker_id: str, place: _Place) -> Line:
        """The open line if it is listed still, else a new one. Raises BrokerUnavailable."""
        if self._closed:
            raise BrokerUnavailable("nothing was sent: the brokers are being closed")
        line = place.line
        if line is not None and line.url in place.urls and not line.retired:
            return line
        if line is not None:
            line.retire()
        url = place.urls[0]
        try:
            broker = self._open_broker(url)
        except OpenApertureError as exc:
            raise BrokerUnavailable(f"the connection of broker {broker_id} cannot be used: {exc}") from exc
        line = place.line = Line(url, broker, self._clock, broker_id=broker_id)
        self._lines.add(line)
        self._opened.put_nowait(line)
        self._observer.emit("pool.opened", broker_id=broker_id, server=line.server)
        return line

    def _give_up(self, place: _Place, url: str) -> None:
        """Go on with the next connection. Of many who failed on one, the first does it for all."""
        if len(place.urls) > 1 and place.urls[0] == url:
            place.urls.append(place.urls.pop(0))
            if place.line is not None and place.line.url == url:
                place.line.retire()
                place.line = None

    async def _keep(self, line: Line) -> None:
        try:
            await line.run()
        finally:
            self._lines.discard(line)
            self._observer.emit("pool.closed", broker_id=line.broker_id, server=line.server)

    async def _sweep(self) -> None:
        while True:
            await self._clock.sleep(SWEEP_SECONDS)
            self.close_idle()

    def close_idle(self) -> None:
        """Leave the brokers that nothing was sent to for a while."""
        for line in self._lines:
            if line.idle_seconds() >= self._idle_seconds:
                line.retire()

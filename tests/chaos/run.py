"""One run: start everything, strike while releases stream through, let it come to rest, judge what is left."""

import random
import shutil
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql

from tests.chaos.check import judge
from tests.chaos.load import Person, Starts
from tests.chaos.parts import Part, Place
from tests.chaos.report import Outcome
from tests.chaos.strikes import Blow, Lane, Recovery, Striker, lanes, plan
from tests.servers import PostgresServer, RabbitServer, services_folder

REST_SECONDS = 240.0
"""When nothing is struck any more and nothing has ended for this long, no more will end."""
TELL_SECONDS = 30.0
SPREAD = 1.2
"""Pauses are half as long on average: strikes and pauses together fill the time about."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a run shall do."""

    counts: Mapping[tuple[str, Blow], int]
    """(target, blow) -> how often."""
    minutes: float
    together: bool = False
    """Strike different targets at the same time."""
    quorum: bool = False
    orchestrators: int = 3
    workers: int = 3
    releases_per_second: float = 8.0
    seed: int = 0


@contextmanager
def _opened(wanted: Wanted, folder: Path) -> Generator[Place]:
    """The place on servers of its own, all of which are gone afterwards."""
    rabbit, postgres = RabbitServer(folder / RabbitServer.name), PostgresServer(folder / PostgresServer.name)
    try:
        rabbit.start()
        postgres.start()
        place = Place(folder, rabbit, postgres, orchestrators=wanted.orchestrators, workers=wanted.workers)
        try:
            place.start(quorum=wanted.quorum)
            yield place
        finally:
            place.end()
    finally:
        rabbit.remove()
        postgres.remove()


def run(wanted: Wanted, stop: threading.Event | None = None) -> Outcome:
    """Set `stop` to strike no more, and to judge what there is. Raises whatever keeps a run from being judged."""
    services_folder().mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="chaos-", dir=services_folder(), ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o711)  # the users that run the servers must get through
        with _opened(wanted, Path(folder)) as place:
            starts = Starts(
                place.rabbit.url, place.database, place.accepted, per_second=wanted.releases_per_second
            )
            person = Person(place.database, place.environment("person"), lambda: place.ledgers)
            starts.start()
            person.start()
            recoveries = _strike(wanted, place, stop or threading.Event())
            starts.stop()
            _come_to_rest(place)
            person.stop()
            exits = [part.terminate() for part in (*place.orchestrators, *place.workers)]
            verdict = judge(place.database, place.rabbit.url, place.accepted, place.ledgers)
            codes = [each.exit_code for each in recoveries] + exits
            verdict.report("processes did not end in order", [code for code in codes if code])
            verdict.report("parts never worked again", [each for each in recoveries if each.works_seconds is None])
            verdict.report("defects are in the logs", _defects(place))
            if verdict.problems:
                verdict.problems.append(f"what is left of this run is in {_keep(place)}")
    answers = Counter(word for _, word in person.answers)
    return Outcome(verdict=verdict, recoveries=recoveries, answers=answers, seconds=time.monotonic() - began)


def _strike(wanted: Wanted, place: Place, stop: threading.Event) -> list[Recovery]:
    """Carry out the plan, as far as the time allows."""
    orchestrators: list[Part] = [*place.orchestrators]
    workers: list[Part] = [*place.workers]
    parts = {"orchestrator": orchestrators, "worker": workers}
    for server in place.servers:
        parts[server.name] = [server]
    names = [part.name for part in orchestrators]
    if place.pulse.first_after(names, 0, REST_SECONDS) is None:
        raise AssertionError(f"nothing works even before the first strike; logs in {place.folder}")
    chance = random.Random(wanted.seed)
    strikes = plan(wanted.counts, chance)
    strikers: list[tuple[Striker, threading.Thread]] = []
    for lane in lanes(strikes, parts) if wanted.together else [Lane(parts=parts, strikes=strikes)]:
        # Spread over the time that there is: a server that is always down would keep the others from working.
        pause_seconds = SPREAD * 60 * wanted.minutes / len(lane.strikes) if wanted.together else 0.5
        striker = Striker(
            lane.parts, names, place.pulse, random.Random(chance.random()), stop, pause_seconds=pause_seconds
        )
        strikers.append((striker, threading.Thread(target=striker.carry_out, args=[lane.strikes])))
    for _, thread in strikers:
        thread.start()
    _watch(strikers, time.monotonic() + 60 * wanted.minutes, stop, len(strikes))
    failures = [striker.failure for striker, _ in strikers if striker.failure is not None]
    if failures:
        raise failures[0]
    return [recovery for striker, _ in strikers for recovery in striker.done]


def _watch(
    strikers: list[tuple[Striker, threading.Thread]], deadline: float, stop: threading.Event, total: int
) -> None:
    """Wait for the strikers, and say now and then how far they are."""
    while any(thread.is_alive() for _, thread in strikers):
        next_told = time.monotonic() + TELL_SECONDS
        for _, thread in strikers:
            thread.join(max(0.0, min(next_told, deadline) - time.monotonic()))
        if time.monotonic() >= deadline:
            stop.set()
            for _, thread in strikers:
                thread.join()
        done = Counter(recovery.strike.target for striker, _ in strikers for recovery in striker.done)
        print(f"{sum(done.values())} of {total} strikes: {dict(done)}", file=sys.stderr, flush=True)


def _come_to_rest(place: Place) -> None:
    """Wait until all has ended that can; what has not by then is for the judge."""
    open_ones = "select count(*) from workflows where state not in ('completed', 'failed', 'cancelled')"
    unsent = "select count(*) from outbox"
    accepted = len(place.accepted.read_text().split())
    before: list[tuple[int, ...] | None] = []
    deadline = time.monotonic() + REST_SECONDS
    while time.monotonic() < deadline:
        with psycopg.connect(place.database) as connection:
            stored = connection.execute("select count(*) from workflows").fetchone()
            waiting = [connection.execute(query).fetchone() for query in (open_ones, unsent)]
        if stored == (accepted,) and waiting == [(0,), (0,)]:
            return
        if waiting != before:
            deadline, before = time.monotonic() + REST_SECONDS, waiting
        time.sleep(0.5)


def _keep(place: Place) -> Path:
    """Copy what a problem can be understood from; the servers and their data vanish with the run."""
    kept = services_folder() / f"kept-{time.strftime('%Y%m%dT%H%M%S')}"
    kept.mkdir()
    for file in (place.accepted, *place.logs, *place.ledgers):
        shutil.copy(file, kept)
    with psycopg.connect(place.database) as connection, connection.cursor() as cursor:
        for table in ("workflows", "events", "attempts", "outbox"):
            copy = sql.SQL("copy {} to stdout with csv header").format(sql.Identifier(table))
            with (kept / f"{table}.csv").open("wb") as csv, cursor.copy(copy) as rows:
                for row in rows:
                    csv.write(row)
    return kept


def _defects(place: Place) -> list[str]:
    """Lines of the logs that speak of a defect of the product."""
    found: list[str] = []
    for log in place.logs:
        found += [
            line[:2000]
            for line in log.read_text(errors="replace").splitlines()
            if '"level": "error"' in line or "Traceback" in line
        ]
    return found

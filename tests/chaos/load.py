"""A steady stream of small releases, and the person who is asked about those that are held."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from uuid import uuid4

import pika
import psycopg
from pika.exceptions import AMQPError

from tests.chaos.ledger import read_ledger

INTAKE = "workflow_orchestration"
MILESTONES = ["build", "deploy"]
MOST_OPEN = 400
"""When so many releases are under way, no more are started: the parts were down for long."""
LOOK_SECONDS = 1.0
RESOLVE_SECONDS = 120.0


class Starts:
    """Publishes starts and writes down which of them the broker has accepted."""

    def __init__(self, broker: str, database: str, accepted: Path, *, per_second: float) -> None:
        self._broker = broker
        self._database = database
        self._accepted = accepted
        self._pause_seconds = 1 / per_second
        self._looked_at = 0.0
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._publish_all, name="starts", daemon=True)

    def start(self) -> None:
        self._accepted.touch()
        self._thread.start()

    def stop(self) -> None:
        """Return when the last start is accepted: the broker must be up."""
        self._stopped.set()
        self._thread.join()

    def _publish_all(self) -> None:
        pending: str | None = None
        with self._accepted.open("a") as accepted:
            while pending or not self._stopped.is_set():
                try:
                    with pika.BlockingConnection(pika.URLParameters(self._broker)) as connection:
                        channel = connection.channel()
                        channel.confirm_delivery()
                        while pending or not self._stopped.wait(self._pause_seconds):
                            pending = pending or str(uuid4())
                            _publish(channel, pending)
                            accepted.write(pending + "\n")
                            accepted.flush()
                            pending = None
                            self._hold_back(connection)
                except (AMQPError, OSError):
                    # Whether the broker has it is not known: the same start goes out again, with the same id.
                    self._stopped.wait(0.2)

    def _hold_back(self, connection: "pika.BlockingConnection") -> None:
        if time.monotonic() - self._looked_at < LOOK_SECONDS:
            return
        while not self._stopped.is_set() and self._is_behind():
            connection.sleep(LOOK_SECONDS)
        self._looked_at = time.monotonic()

    def _is_behind(self) -> bool:
        ended = "('completed', 'failed', 'cancelled')"
        query = f"select count(*) from (select 1 from workflows where state not in {ended} limit {MOST_OPEN}) x"
        try:
            with psycopg.connect(self._database, connect_timeout=5) as connection:
                row = connection.execute(query).fetchone()
        except psycopg.Error:
            return False
        return row is not None and row[0] >= MOST_OPEN


def _publish(channel: "pika.adapters.blocking_connection.BlockingChannel", workflow_id: str) -> None:
    body = json.dumps({"id": workflow_id, "milestones": MILESTONES}).encode()
    properties = pika.BasicProperties(
        delivery_mode=2, message_id=f"start-{workflow_id}", content_type="application/json"
    )
    channel.basic_publish("", INTAKE, body, properties, mandatory=True)


class Person:
    """Answers for held deploys: looks whether the effect is there, and says so by the command line."""

    def __init__(self, database: str, environment: Mapping[str, str], ledgers: Callable[[], list[Path]]) -> None:
        self._database = database
        self._environment = environment
        self._ledgers = ledgers
        self.answers: list[tuple[str, str]] = []
        """(workflow id, what was said)."""
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._look_after_all, name="person", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()

    def _look_after_all(self) -> None:
        while not self._stopped.wait(LOOK_SECONDS):
            try:
                held = self._list_held()
            except psycopg.Error:
                continue
            for workflow_id, milestone, generation in held:
                self._resolve(workflow_id, milestone, generation)

    def _list_held(self) -> list[tuple[str, str, int]]:
        query = (
            "select w.id, w.current_step, max(a.generation) from workflows w"
            " join attempts a on a.workflow_id = w.id and a.milestone = w.current_step"
            " where w.state = 'held' group by 1, 2"
        )
        with psycopg.connect(self._database, connect_timeout=5) as connection:
            return connection.execute(query).fetchall()

    def _resolve(self, workflow_id: str, milestone: str, generation: int) -> None:
        wanted = (workflow_id, milestone, generation)
        effects = [effect for ledger in self._ledgers() for effect in read_ledger(ledger)]
        is_done = any((e.workflow_id, e.milestone, e.generation) == wanted for e in effects)
        word = "worked" if is_done else "again"
        # It may fail: a server may be down, or the worker may have answered after all. Then it is looked at anew.
        done = subprocess.run(
            [sys.executable, "-m", "openaperture", "resolve", workflow_id, word],
            check=False,
            env=dict(self._environment),
            capture_output=True,
            timeout=RESOLVE_SECONDS,
        )
        if done.returncode == 0:
            self.answers.append((workflow_id, word))

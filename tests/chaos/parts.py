"""The product and its servers as parts that can be struck: on private servers, by the real command line."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pika
import psycopg

from tests.chaos.ledger import QUEUES
from tests.chaos.load import INTAKE
from tests.chaos.pulse import Pulse
from tests.fault.deployment import Process
from tests.servers import PROJECT, PostgresServer, RabbitServer, Server

RESULT = b'"event": "milestone.completed"'
"""What an orchestrator writes after it has saved a result."""
HEARTBEAT_SECONDS = 6.0
"""After this a worker that was killed is missed. Short, so that its milestones do not pile up."""
DATABASE = "chaos"


class Part(Protocol):
    """Something that is killed and must work again."""

    @property
    def name(self) -> str: ...

    @property
    def signs(self) -> Sequence[str]:
        """Names in the pulse that show that it works."""
        ...

    def kill(self) -> None: ...

    def start(self) -> None:
        """Return when it runs, or at least will by itself."""
        ...

    def pause(self) -> None: ...

    def resume(self) -> None: ...

    def terminate(self) -> int:
        """End it in order; its exit code."""
        ...


@dataclass(frozen=True)
class ProcessPart:
    """An orchestrator or a worker."""

    name: str
    process: Process

    @property
    def signs(self) -> Sequence[str]:
        return [self.name]

    def kill(self) -> None:
        self.process.kill()

    def start(self) -> None:
        self.process.start()

    def pause(self) -> None:
        self.process.pause()

    def resume(self) -> None:
        self.process.resume()

    def terminate(self) -> int:
        return self.process.terminate(timeout_seconds=90)


@dataclass(frozen=True)
class ServerPart:
    """RabbitMQ or PostgreSQL. It works when any orchestrator has saved a result."""

    name: str
    server: Server
    signs: Sequence[str]

    def kill(self) -> None:
        self.server.kill()

    def start(self) -> None:
        self.server.start()

    def pause(self) -> None:
        self.server.pause()

    def resume(self) -> None:
        self.server.resume()

    def terminate(self) -> int:
        self.server.stop()
        return 0


class Place:
    """Two servers, some orchestrators and some workers, all in one folder."""

    def __init__(
        self, folder: Path, rabbit: RabbitServer, postgres: PostgresServer, *, orchestrators: int, workers: int
    ) -> None:
        """The servers run already."""
        self.folder = folder
        self.rabbit = rabbit
        self.postgres = postgres
        self.orchestrators = [self._orchestrator(f"orchestrator-{number}") for number in range(orchestrators)]
        self.workers = [self._worker(f"worker-{number}") for number in range(workers)]
        names = [part.name for part in self.orchestrators]
        self.servers = [ServerPart("rabbitmq", rabbit, names), ServerPart("postgresql", postgres, names)]
        self.pulse = Pulse(
            {
                **{part.name: (self._log(part.name), RESULT) for part in self.orchestrators},
                **{part.name: (self._ledger(part.name), b" ") for part in self.workers},
            }
        )

    @property
    def database(self) -> str:
        return self.postgres.url.rsplit("/", 1)[0] + f"/{DATABASE}"

    @property
    def accepted(self) -> Path:
        return self.folder / "accepted"

    @property
    def logs(self) -> list[Path]:
        return [self._log(part.name) for part in (*self.orchestrators, *self.workers)]

    @property
    def ledgers(self) -> list[Path]:
        return [ledger for part in self.workers if (ledger := self._ledger(part.name)).exists()]

    def start(self, *, quorum: bool) -> None:
        """Make the database and the queues, then start orchestrators and workers."""
        with psycopg.connect(self.postgres.url, autocommit=True) as connection:
            connection.execute(f"create database {DATABASE}")
        self._declare(quorum=quorum)
        # RabbitMQ writes down what queues there are some seconds later: a kill before that would lose them.
        self.rabbit.stop()
        self.rabbit.start()
        self.pulse.start()
        for part in (*self.orchestrators, *self.workers):
            part.start()

    def environment(self, name: str) -> dict[str, str]:
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("OPENAPERTURE_")}
        kinds = {
            f"OPENAPERTURE_MILESTONES__{kind}__{key}": value
            for kind in ("BUILD", "DEPLOY")
            for key, value in {"HEARTBEAT_SECONDS": f"{HEARTBEAT_SECONDS}", "MAX_ATTEMPTS": "100"}.items()
        }
        return {
            **inherited,
            **kinds,
            "PYTHONPATH": os.pathsep.join([str(PROJECT), str(PROJECT / "src")]),
            "OPENAPERTURE_DATABASE": self.database,
            "OPENAPERTURE_BROKER": self.rabbit.url,
            "OPENAPERTURE_DATA_DIR": str(self.folder / name),
            "OPENAPERTURE_HOSTNAME": name,
            "OPENAPERTURE_DECLARE_QUEUES": "false",
        }

    def end(self) -> None:
        """End the processes that still run."""
        for part in (*self.workers, *self.orchestrators):
            if part.process.popen is not None:
                part.process.kill()
        self.pulse.stop()

    def _declare(self, *, quorum: bool) -> None:
        kind = {"x-queue-type": "quorum"} if quorum else {}
        with pika.BlockingConnection(pika.URLParameters(self.rabbit.url)) as connection:
            channel = connection.channel()
            for queue in (INTAKE, *QUEUES):
                dead = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": f"{queue}_error"}
                channel.queue_declare(f"{queue}_error", durable=True, arguments=kind)
                channel.queue_declare(queue, durable=True, arguments={**dead, **kind})

    def _log(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def _ledger(self, name: str) -> Path:
        return self.folder / f"{name}.ledger"

    def _orchestrator(self, name: str) -> ProcessPart:
        return ProcessPart(name, Process(["orchestrator"], self.environment(name), self._log(name)))

    def _worker(self, name: str) -> ProcessPart:
        ledger = str(self._ledger(name))
        process = Process([ledger], self.environment(name), self._log(name), module="tests.chaos.worker")
        return ProcessPart(name, process)

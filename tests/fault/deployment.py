"""The product as its users run it: processes of the command line on real servers, killed and started again."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psycopg

MANIFEST = {
    "milestones": {
        "build": {
            "run": ['echo "$OPENAPERTURE_WORKFLOW_ID build" >> "$LEDGER"; sleep 1; echo made > made.txt'],
            "outputs": {"made": {"file": "made.txt"}},
        },
        "deploy": {
            "run": [
                'echo "$OPENAPERTURE_WORKFLOW_ID deploy" >> "$LEDGER"; sleep 1',
                'test -s "$OPENAPERTURE_INPUT_BUILD_MADE"',
            ],
            "on_loss": "retry",
        },
    }
}
ENDED = {"completed", "failed", "cancelled"}


def make_repository(folder: Path, ledger: Path) -> Path:
    """A git repository whose milestones write down that they ran."""
    folder.mkdir()
    manifest = json.loads(json.dumps(MANIFEST))
    for milestone in manifest["milestones"].values():
        milestone["environment"] = {"LEDGER": str(ledger)}
    (folder / "openaperture.json").write_text(json.dumps(manifest))
    identity = ["-c", "user.name=test", "-c", "user.email=test@example.test"]
    for command in (["init", "-q", "-b", "main"], ["add", "."], [*identity, "commit", "-qm", "release me"]):
        subprocess.run(["git", *command], cwd=folder, check=True)
    return folder


@dataclass
class Process:
    """One command of the product, restarted with the same arguments and folders."""

    arguments: Sequence[str]
    environment: Mapping[str, str]
    log: Path
    popen: subprocess.Popen[bytes] | None = None
    module: str = "openaperture"
    """Another one for a program of the tests."""

    def start(self) -> None:
        command = [sys.executable, "-m", self.module, *self.arguments]
        with self.log.open("ab") as log:
            self.popen = subprocess.Popen(
                command, env=dict(self.environment), stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def kill(self) -> None:
        assert self.popen is not None
        self.popen.kill()
        self.popen.wait(10)

    def pause(self) -> None:
        """Stop it where it stands, as a machine that is frozen, until `resume`."""
        assert self.popen is not None
        self.popen.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self.popen is not None
        self.popen.send_signal(signal.SIGCONT)

    def terminate(self, timeout_seconds: float = 30) -> int:
        """End it as an operator does; returns its exit code."""
        assert self.popen is not None
        self.popen.send_signal(signal.SIGTERM)
        return self.popen.wait(timeout_seconds)


@dataclass
class Deployment:
    """Orchestrators and workers on one RabbitMQ and one PostgreSQL."""

    folder: Path
    database: str
    broker: str
    orchestrators: list[Process] = field(default_factory=list)
    workers: list[Process] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.ledger = self.folder / "ledger"
        self.ledger.touch()
        self.repository = make_repository(self.folder / "repository", self.ledger)

    def environment(self, name: str) -> dict[str, str]:
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("OPENAPERTURE_")}
        return {
            **inherited,
            "OPENAPERTURE_DATABASE": self.database,
            "OPENAPERTURE_BROKER": self.broker,
            "OPENAPERTURE_DATA_DIR": str(self.folder / name),
            "OPENAPERTURE_WORKER__ARTIFACTS_DIR": str(self.folder / "artifacts"),
            "OPENAPERTURE_WORKER__LOCAL_REPOSITORIES": json.dumps([str(self.folder)]),
        }

    def start(self, *, orchestrators: int, workers: int) -> None:
        for group, verb, count in (
            (self.orchestrators, "orchestrator", orchestrators),
            (self.workers, "worker", workers),
        ):
            for number in range(count):
                name = f"{verb}-{number}"
                process = Process([verb], self.environment(name), self.folder / f"{name}.log")
                process.start()
                group.append(process)

    def stop(self) -> None:
        for process in [*self.workers, *self.orchestrators]:
            process.kill()

    def submit(self, count: int) -> list[str]:
        command = [
            *(sys.executable, "-m", "openaperture", "submit", str(self.repository)),
            *("--milestones", "build,deploy", "--json"),
        ]
        submitted: list[str] = []
        for _ in range(count):
            output = subprocess.check_output(command, env=self.environment("client"), timeout=60)
            submitted.append(json.loads(output)["id"])
        return submitted

    def states(self, ids: Sequence[str]) -> Counter[str]:
        with psycopg.connect(self.database, connect_timeout=5) as connection:
            rows = connection.execute("select state from workflows where id = any(%s)", [list(ids)])
            return Counter(state for (state,) in rows)

    def count_entries(self, ids: Sequence[str], kind: str) -> Counter[tuple[str, str]]:
        """(workflow, milestone) -> how many entries of this kind the history has."""
        with psycopg.connect(self.database) as connection:
            rows = connection.execute(
                "select workflow_id, details::json->>'milestone' from events"
                " where kind = %s and workflow_id = any(%s)",
                [kind, list(ids)],
            )
            return Counter((workflow_id, milestone) for workflow_id, milestone in rows)

    def runs(self) -> Counter[str]:
        """`<workflow> <milestone>` -> how often its effect happened, as the effect itself wrote it down."""
        return Counter(self.ledger.read_text().splitlines())

    def wait_until_ended(self, ids: Sequence[str], timeout_seconds: float) -> None:
        self._wait(lambda: sum(self.states(ids)[state] for state in ENDED) == len(ids), timeout_seconds, ids)

    def wait_until_running(self, minimum_effects: int, timeout_seconds: float = 60) -> None:
        self._wait(lambda: sum(self.runs().values()) >= minimum_effects, timeout_seconds, [])

    def _wait(self, condition: Callable[[], bool], timeout_seconds: float, ids: Sequence[str]) -> None:
        deadline = time.monotonic() + timeout_seconds
        while True:
            try:
                if condition():
                    return
            except psycopg.OperationalError:
                pass  # the database was killed by the test
            if time.monotonic() > deadline:
                raise AssertionError(f"not in time; {dict(self.states(ids))}; logs in {self.folder}")
            time.sleep(0.1)

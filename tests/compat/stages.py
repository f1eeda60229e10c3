"""Runs groups of cases, each against a real orchestrator process with a Manager of its own."""

import copy
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.compat.cases import STANDARD_GROUP, Case, read_meta
from tests.compat.journal import Journal
from tests.compat.manager import LOGIN_PATH, Tables, serving
from tests.compat.quirks import play
from tests.compat.rabbit import UNBOUND_EXCHANGE, Post, VirtualHost
from tests.compat.trial import Stage, Trial

START_SECONDS = 30.0
TAKE_SECONDS = 5.0
END_SECONDS = 30.0
SHORT_TOKEN_SECONDS = 33.0
PLAYED_AT_ONCE = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What all groups share."""

    hosts: Mapping[str, VirtualHost]
    journal: Journal
    folder: Path


def play_group(world: World, group: str, cases: Sequence[Case]) -> list[Trial]:
    """Play the cases at once; return when the orchestrator has ended and the fate of every delivery is known."""
    tables = tables_of(world, cases)
    with serving(tables, world.journal, group) as url:
        post = Post(world.hosts["1"], queue_name_of(group))
        try:
            stage = Stage(group=group, tables=tables, journal=world.journal, post=post)
            trials = [Trial(case=case, stage=stage) for case in cases]
            with orchestrator(world, group, url) as process:
                was_running = _play_all(trials, post, process)
            _tell_fates(trials, post)
            if was_running and process.popen.returncode:
                _complain(trials, f"expected exit code 0, seen {process.popen.returncode}", process)
        finally:
            post.close()
    return trials


def queue_name_of(group: str) -> str:
    """The name on the broker. In messages and routing keys the queue keeps its logical name all the same."""
    return "workflow_orchestration" if group == STANDARD_GROUP else f"compat.{group}.workflow_orchestration"


def tables_of(world: World, cases: Sequence[Case]) -> Tables:
    """The standard tables with what the cases replace, and connections that lead to our virtual hosts."""
    content: dict[str, Any] = copy.deepcopy(read_meta()["std"])
    content["broker_connections"] = {broker_id: [host.row] for broker_id, host in world.hosts.items()}
    for case in cases:
        for name, rows in case.manager.items():
            if name in {"modules", "exchange_brokers"}:
                content[name] |= rows
            elif name in {"clusters", "module_sequence"}:
                content[name] = rows
        if case.given.get("delivery", {}).get("publish") == "fails":
            _exchange(content, 2)["root_exchange_name"] = UNBOUND_EXCHANGE
    forced = {call: status for case in cases for call, status in case.forced.items()}
    is_short = any("token_requests" in case.expect for case in cases)
    return Tables(content, forced=forced, token_seconds=SHORT_TOKEN_SECONDS if is_short else 3600)


def _exchange(content: Mapping[str, Any], exchange_id: int) -> dict[str, Any]:
    return next(exchange for exchange in content["exchanges"] if exchange["id"] == exchange_id)


def environment_of(world: World, group: str, manager_url: str, folder: Path) -> dict[str, str]:
    """That of the cases, with the addresses of our servers."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("OPENAPERTURE_")}
    default: dict[str, str] = dict(read_meta()["config_default"])
    return {
        **inherited,
        **default,
        "QUEUE_NAME": queue_name_of(group),
        "HOSTNAME": default["HOSTNAME"] if group == STANDARD_GROUP else f"{default['HOSTNAME']}-{group}",
        "MANAGER_URL": manager_url,
        "OAUTH_LOGIN_URL": manager_url + LOGIN_PATH,
        "OPENAPERTURE_BROKER": world.hosts["1"].url,
        "OPENAPERTURE_DATABASE": f"sqlite:///{folder / 'openaperture.db'}",
        "OPENAPERTURE_DATA_DIR": str(folder),
        "OPENAPERTURE_DECLARE_QUEUES": "false",
        "NO_PROXY": "127.0.0.1",
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Orchestrator:
    """A running process."""

    popen: subprocess.Popen[bytes]
    log: Path

    def last_words(self) -> str:
        return self.log.read_text(errors="replace")[-600:].strip()

    def end(self) -> None:
        """As an operator ends it; by force when it does not."""
        if self.popen.poll() is None:
            self.popen.send_signal(signal.SIGTERM)
        try:
            self.popen.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            self.popen.wait()


@contextmanager
def orchestrator(world: World, group: str, manager_url: str) -> Iterator[Orchestrator]:
    """An orchestrator in a folder of its own, started as its users start it, and ended at the end."""
    folder = world.folder / group
    folder.mkdir()
    log = folder / "output.log"
    with log.open("wb") as output:
        popen = subprocess.Popen(
            [sys.executable, "-m", "openaperture", "orchestrator"],
            cwd=folder,
            env=environment_of(world, group, manager_url, folder),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    process = Orchestrator(popen=popen, log=log)
    try:
        yield process
    finally:
        process.end()


def _play_all(trials: Sequence[Trial], post: Post, process: Orchestrator) -> bool:
    """Whether the orchestrator ran to the end."""
    if not post.wait_for_consumer(START_SECONDS, lambda: process.popen.poll() is None):
        _complain(trials, "start: expected a consumer, seen none", process)
        return False
    with ThreadPoolExecutor(PLAYED_AT_ONCE) as pool:
        list(pool.map(play, trials))
    post.wait_until_taken(TAKE_SECONDS)
    if process.popen.poll() is not None:
        _complain(trials, "expected it to go on, seen its end", process)
        return False
    return True


def _complain(trials: Sequence[Trial], fault: str, process: Orchestrator) -> None:
    for trial in trials:
        trial.complaints.append(f"{fault}; it said: {process.last_words()!r}")


def _tell_fates(trials: Sequence[Trial], post: Post) -> None:
    """By workflow id where there is one, else by the body."""
    post.wait_until_unconsumed(TAKE_SECONDS)
    left, dead = post.take_left(), post.take_dead()
    for trial in trials:
        mark = trial.case.workflow_id.encode() if trial.case.incoming else trial.body
        trial.is_left = bool(mark) and any(mark in body for body in left)
        trial.is_dead = bool(mark) and any(mark in body for body in dead)

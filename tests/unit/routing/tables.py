"""A small original Manager: tables, served over HTTP paths to the real client."""

import asyncio
from dataclasses import dataclass, field
from typing import Any

import httpx

from openaperture.client.original import OriginalManager
from tests.unit.client.login import Login, StepClock, say, streamed, tokens_of

BUILD = {"id": 1, "etcd_token": "build-tok-1", "messaging_exchange_id": 1, "allow_docker_builds": True}
APP = {"id": 2, "etcd_token": "app-tok-2", "messaging_exchange_id": 2, "allow_docker_builds": False}


def exchange(number: int, routing_key: str, root: str, failover: int | None = None) -> dict[str, Any]:
    return {
        "id": number,
        "routing_key": routing_key,
        "root_exchange_name": root,
        "failover_exchange_id": failover,
        "name": "not used to publish",
    }


def module(kind: str, **more: Any) -> dict[str, Any]:
    return {"hostname": f"{kind}-host", "type": kind, "status": "active", "workload": [], **more}


@dataclass
class Tables:
    """Two exchanges with builders and deployers, and one that only broker 2 reaches."""

    exchanges: dict[str, dict[str, Any]] = field(
        default_factory=lambda: {
            "1": exchange(1, "aws.us-east-1", "AWS"),
            "2": exchange(2, "aws.us-west-1", "AWS"),
            "3": exchange(3, "lab", "lab"),
        }
    )
    brokers: dict[str, dict[str, Any]] = field(
        default_factory=lambda: {
            "1": {"id": 1, "name": "main", "failover_broker_id": None},
            "2": {"id": 2, "name": "lab", "failover_broker_id": None},
        }
    )
    connections: dict[str, list[dict[str, Any]]] = field(default_factory=dict[str, list[dict[str, Any]]])
    restrictions: dict[str, list[dict[str, Any]]] = field(
        default_factory=lambda: {"3": [{"id": 77, "messaging_exchange_id": 3, "messaging_broker_id": 2}]}
    )
    modules: dict[str, list[dict[str, Any]]] = field(
        default_factory=lambda: {
            "1": [module("builder"), module("deployer")],
            "2": [module("builder"), module("deployer")],
            "3": [],
        }
    )
    clusters: list[dict[str, Any]] = field(default_factory=lambda: [BUILD, APP])
    forced: dict[str, int | Exception] = field(default_factory=dict[str, "int | Exception"])
    """Path -> a status or error that is answered whatever the tables say; "*" is every path."""
    asked: list[str] = field(default_factory=list[str])
    silent: bool = False
    """Questions arrive and are never answered."""

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path
        self.asked.append(path)
        await asyncio.sleep(0)  # as on a network, others come in between
        if self.silent:
            await asyncio.Event().wait()
        forced = self.forced.get(path, self.forced.get("*"))
        if isinstance(forced, Exception):
            raise forced
        if forced is not None:
            return streamed(forced)
        found = self._find(path.strip("/").split("/"), request.url.params.get("allow_docker_builds") == "true")
        return streamed(404) if found is None else say(200, found)

    def _find(self, parts: list[str], builds: bool) -> object:
        match parts:
            case ["messaging", "exchanges", number, *rest]:
                return self._find_of_exchange(number, rest, builds) if number in self.exchanges else None
            case ["messaging", "brokers", number]:
                return self.brokers.get(number)
            case ["messaging", "brokers", number, "connections"]:
                return self.connections.get(number, []) if number in self.brokers else None
            case ["clusters"]:
                return self._list_clusters(builds)
            case ["clusters", token]:
                return next((row for row in self.clusters if row["etcd_token"] == token), None)
            case _:
                return None

    def _find_of_exchange(self, number: str, rest: list[str], builds: bool) -> object:
        match rest:
            case []:
                return self.exchanges[number]
            case ["brokers"]:
                return self.restrictions.get(number, [])
            case ["modules"]:
                return self.modules.get(number, [])
            case ["clusters"]:
                mine = self._list_clusters(builds)
                return [row for row in mine if str(row["messaging_exchange_id"]) == number]
            case _:
                return None

    def _list_clusters(self, builds: bool) -> list[dict[str, Any]]:
        return [row for row in self.clusters if row.get("allow_docker_builds") or not builds]

    def count(self, path: str) -> int:
        return self.asked.count(path)


def manager_of(tables: Tables, clock: StepClock, login: Login | None = None) -> OriginalManager:
    tokens = tokens_of(login or Login(), clock)
    return OriginalManager("https://mgr.example.test", tokens, clock, httpx.MockTransport(tables))

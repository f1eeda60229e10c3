"""The cases as data, each with a workflow id of its own so that many can share an orchestrator."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from uuid import uuid4

FILE = Path(__file__).with_name("cases.json")
WORKFLOW_ID = "7f1f6d3c-0f6a-4c36-9b55-0d6f0b1c2a10"
STANDARD_GROUP = "std"
_OF_ONE_WORKFLOW = {"responses", "workflows", "base"}
"""Overrides of the Manager that may touch one workflow only; others need an orchestrator of their own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What arrives, what the Manager answers, and what has to be seen."""

    number: int
    name: str
    level: str
    workflow_id: str
    given: Mapping[str, Any]
    expect: Mapping[str, Any]

    @property
    def id(self) -> str:
        return f"{self.number:02}-" + re.sub(r"[^a-z0-9_]+", "-", self.name.lower()).strip("-")

    @property
    def is_quirk(self) -> bool:
        """Then the expectation tells what the original did, and what we demand stands in `quirks`."""
        return self.level == "quirk"

    @property
    def incoming(self) -> dict[str, Any]:
        """Empty when no workflow arrives, or none that could be read."""
        return dict(self.given["incoming"] or {})

    @property
    def manager(self) -> Mapping[str, Any]:
        """The overrides of the standard tables."""
        manager = self.given["manager"]
        return manager if isinstance(manager, dict) else {}

    @property
    def forced(self) -> Mapping[str, int]:
        return dict(self.manager.get("responses", {}))

    @property
    def group(self) -> str:
        """Cases of one group share an orchestrator and its Manager."""
        is_apart = (
            self.manager.keys() - _OF_ONE_WORKFLOW
            or any(self.workflow_id not in call for call in self.forced)
            or "publish" in self.given.get("delivery", {})
            or "token_requests" in self.expect
        )
        return f"case-{self.number:02}" if is_apart else STANDARD_GROUP


@cache
def read_meta() -> Mapping[str, Any]:
    """What holds for all cases: the notation, the standard tables, the environment."""
    return dict(json.loads(FILE.read_text())["meta"])


@cache
def read_cases() -> tuple[Case, ...]:
    found = json.loads(FILE.read_text())["cases"]
    fresh = _fresh_workflow(found)
    return tuple(_case(number, content, fresh) for number, content in enumerate(found))


def _case(number: int, content: Mapping[str, Any], fresh: Mapping[str, Any]) -> Case:
    workflow_id = str(uuid4())
    given, expect = dict(content["given"]), dict(content["expect"])
    if "elapsed_seconds" in given:
        given["incoming"] = {**fresh, "workflow_start_time": {"$ago": given["elapsed_seconds"]}}
    mine = json.loads(json.dumps([given, expect]).replace(WORKFLOW_ID, workflow_id))
    return Case(
        number=number,
        name=content["name"],
        level=content["level"],
        workflow_id=workflow_id,
        given=mine[0],
        expect=mine[1],
    )


def _fresh_workflow(found: list[Any]) -> Mapping[str, Any]:
    """The start message of the first case, which has nothing special."""
    return dict(found[0]["given"]["incoming"])

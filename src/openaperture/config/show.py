"""The effective settings for people, without their secrets."""

import json
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, cast

from pydantic import BaseModel, SecretStr

from openaperture.config.settings import Settings
from openaperture.config.values import MASK, SecretUrl
from openaperture.domain.milestones import ApprovalRule, MilestoneKind

_NOT_SET = {"name", "exchange_by", "approval"}
"""Fields of a kind that no setting of its own gives."""


def shown(settings: Settings) -> dict[str, Any]:
    """Every setting by its key, nested as in the file. Secrets are masked; None means that it is not set."""
    table = _table(settings)
    table.pop("milestone_sections")
    table["milestones"] = {kind.name: _kind(kind) for kind in settings.milestones}
    return table


def shown_toml(settings: Settings) -> str:
    """The same as a TOML file; what is not set is a comment."""
    return "\n".join(_lines(shown(settings), "")).strip() + "\n"


def _table(section: BaseModel) -> dict[str, Any]:
    return {name: _value(name, getattr(section, name)) for name in type(section).model_fields}


def _value(name: str, value: object) -> Any:
    match value:
        case BaseModel():
            return _table(value)
        case SecretStr():
            return MASK
        case SecretUrl():
            return value.masked()
        case Path():
            return str(value)
        case tuple():
            return list(cast("tuple[str, ...]", value))
        case dict() if name == "environment":
            # Any of them may be a password: only the operator knows.
            return dict.fromkeys(cast("dict[str, str]", value), MASK)
        case _:
            return value


def _kind(kind: MilestoneKind) -> dict[str, Any]:
    table = {
        field.name: getattr(kind, field.name)
        for field in fields(kind)
        if field.name not in _NOT_SET and getattr(kind, field.name) is not None
    }
    return {**table, "retry_on": sorted(kind.retry_on), **_approval(kind.approval)}


def _approval(rule: ApprovalRule | None) -> dict[str, Any]:
    if rule is None:
        return {}
    return {
        "approval_role": rule.role,
        "approvals": rule.required,
        "approval_not_author": rule.not_author,
        "approval_expires_seconds": rule.expires_seconds,
        "approval_on_expiry": rule.on_expiry,
    }


def _lines(table: Mapping[str, Any], path: str) -> list[str]:
    """The table's own lines, below its heading, then the tables in it."""
    lines: list[str] = []
    tables: list[str] = []
    for name, value in table.items():
        if isinstance(value, dict):
            tables += _lines(cast("dict[str, Any]", value), f"{path}.{name}" if path else name)
        else:
            lines.append(f"# {name} is not set" if value is None else f"{name} = {_toml(value)}")
    heading = ["", f"[{path}]"] if path and lines else []
    return [*heading, *lines, *tables]


def _toml(value: object) -> str:
    """TOML's numbers, booleans, lists and texts are JSON's, DEL aside."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")

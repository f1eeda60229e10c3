"""The overrides of the original: given with `execute`, or before it in `execute_options`."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from openaperture.domain.releases import Release
from openaperture.manager.requests import ExecuteBody, number

_FLAGS = {"true": True, "false": False}
_LARGEST_ID = 2**31 - 1


def overridden(release: Release, body: ExecuteBody) -> Release:
    """The release as it is to run. As in the original, options that it was stored with win over the body."""
    asked = body.model_dump()
    options = release.execute_options
    if options is None:
        if all(value is None for value in asked.values()):
            return release
        return _with(replace(release, execute_options=asked), asked)
    return _with(release, {name: _usable(name, options.get(name)) for name in asked})


def _with(release: Release, asked: Mapping[str, Any]) -> Release:
    return replace(release, **{name: value for name, value in asked.items() if value is not None})


def _usable(name: str, value: Any) -> bool | int | None:
    """An option was stored as anything; what makes no sense counts as not given, as in the original."""
    if name == "force_build":
        return value if isinstance(value, bool) else _FLAGS.get(str(value))
    exchange_id = number(value)
    if isinstance(exchange_id, int) and not isinstance(exchange_id, bool) and 0 < exchange_id <= _LARGEST_ID:
        return exchange_id
    return None

"""Answers as JSON."""

from collections.abc import Mapping
from typing import Any

import msgspec
from fastapi import Response

HEADERS = {"cache-control": "no-store", "x-content-type-options": "nosniff"}
"""On every answer: what it says changes, and none of it is for a browser to guess at."""


def answer(value: Any, *, headers: Mapping[str, str] | None = None) -> Response:
    """200 with a struct, or a list or mapping of plain values and structs."""
    return Response(
        msgspec.json.encode(value), media_type="application/json", headers={**HEADERS, **(headers or {})}
    )


def done(status: int, location: str) -> Response:
    """No body, as in the original; where the workflow is, in a header."""
    return Response(status_code=status, headers={**HEADERS, "location": location})

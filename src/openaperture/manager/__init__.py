"""The Manager: the HTTP API over the store, for people, scripts and old clients."""

from typing import TYPE_CHECKING

from openaperture.manager.gate import Gate
from openaperture.manager.parts import Parts
from openaperture.ports import Observer

if TYPE_CHECKING:
    from fastapi import FastAPI


def create_app(parts: Parts, *, gate: Gate, version: str, observer: Observer | None = None) -> "FastAPI":
    """The API as an ASGI application. `gate` is how users are known, `observer` is told of failures."""
    # FastAPI takes a third of a second to import, which a command that needs no Manager need not wait for.
    from openaperture.manager.app import build  # noqa: PLC0415

    return build(parts, gate=gate, version=version, observer=observer)

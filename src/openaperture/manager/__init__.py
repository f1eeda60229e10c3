"""The Manager: the HTTP API over the store, for people, scripts and old clients."""

from typing import TYPE_CHECKING

from openaperture.engine.verbs import Verbs
from openaperture.ports import MessagingDirectory, Observer, Records

if TYPE_CHECKING:
    from fastapi import FastAPI


def create_app(
    verbs: Verbs,
    records: Records,
    directory: MessagingDirectory,
    *,
    token: str,
    version: str,
    observer: Observer | None = None,
) -> "FastAPI":
    """The API as an ASGI application. `token` opens everything; `observer` is told of unexpected failures."""
    # FastAPI takes a third of a second to import, which a command that needs no Manager need not wait for.
    from openaperture.manager.app import build  # noqa: PLC0415

    return build(verbs, records, directory, token=token, version=version, observer=observer)

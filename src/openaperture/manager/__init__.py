"""The Manager: the HTTP API over the store, for people, scripts and old clients."""

from typing import TYPE_CHECKING

from openaperture.engine.admission import Admission
from openaperture.engine.verbs import Verbs
from openaperture.ports import Observer, Records

if TYPE_CHECKING:
    from fastapi import FastAPI


def create_app(
    verbs: Verbs,
    records: Records,
    *,
    token: str,
    version: str,
    observer: Observer | None = None,
    admission: Admission | None = None,
) -> "FastAPI":
    """The API as an ASGI application. `token` opens everything; `observer` is told of unexpected failures.

    While `admission` is closed, no workflow is started.
    """
    # FastAPI takes a third of a second to import, which a command that needs no Manager need not wait for.
    from openaperture.manager.app import build  # noqa: PLC0415

    return build(verbs, records, token=token, version=version, observer=observer, admission=admission)

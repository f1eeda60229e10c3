"""What the routes of the directory have in common: finding entries by ids of a path, and showing them."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from fastapi import Request, Response

from openaperture.client.rows import number_of
from openaperture.domain.errors import UnknownEntry
from openaperture.domain.times import rfc1123_text
from openaperture.manager.answers import HEADERS
from openaperture.manager.idempotency import id_from_key
from openaperture.ports import Fields, Listing, MessagingDirectory


async def get_entry(directory: MessagingDirectory, listing: Listing, id_text: str) -> Fields:
    """The entry with the id that a path names. Raises UnknownEntry, also for what can be no id."""
    number = number_of(id_text)
    found = await directory.find_row(listing, id=number) if number is not None else None
    if found is None:
        raise unknown(listing, id_text)
    return found


async def add_once(directory: MessagingDirectory, listing: Listing, fields: Fields, request: Request) -> None:
    """Add an entry that has no name of its own, unless this request came before with its key, and has done so."""
    made_as = id_from_key(request)
    if made_as is None or await directory.find_row(listing, made_as=made_as) is None:
        await directory.add(listing, {**fields, "made_as": made_as})


def unknown(listing: Listing, name: str) -> UnknownEntry:
    return UnknownEntry(f"there is no {listing} {name[:64]!r}; list them to see those that are")


def shown(row: Fields, names: Iterable[str]) -> Mapping[str, Any]:
    """These fields, instants as the original writes them."""
    return {name: rfc1123_text(value) if isinstance(value := row.get(name), datetime) else value for name in names}


def gone() -> Response:
    """204: it was deleted."""
    return Response(status_code=204, headers=HEADERS)

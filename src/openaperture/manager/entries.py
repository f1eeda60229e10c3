"""What the routes of the directory have in common: finding entries by ids of a path, and showing them."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from fastapi import Response

from openaperture.client.rows import number_of
from openaperture.domain.errors import UnknownEntry
from openaperture.domain.times import rfc1123_text
from openaperture.manager.answers import HEADERS
from openaperture.ports import Fields, Listing, MessagingDirectory


async def get_entry(directory: MessagingDirectory, listing: Listing, id_text: str) -> Fields:
    """The entry with the id that a path names. Raises UnknownEntry, also for what can be no id."""
    number = number_of(id_text)
    found = await directory.find_row(listing, id=number) if number is not None else None
    if found is None:
        raise unknown(listing, id_text)
    return found


def unknown(listing: Listing, name: str) -> UnknownEntry:
    return UnknownEntry(f"there is no {listing} {name[:64]!r}; list them to see those that are")


def shown(row: Fields, names: Iterable[str]) -> Mapping[str, Any]:
    """These fields, instants as the original writes them."""
    return {name: rfc1123_text(value) if isinstance(value := row.get(name), datetime) else value for name in names}


def gone() -> Response:
    """204: it was deleted."""
    return Response(status_code=204, headers=HEADERS)

"""What the routes of the directory have in common: finding entries by ids of a path, and showing them."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from fastapi import Response

from openaperture.domain.errors import UnknownEntry
from openaperture.domain.times import rfc1123_text
from openaperture.manager.answers import HEADERS
from openaperture.ports import Fields, Listing, MessagingDirectory

_LARGEST = 2**63 - 1


async def get_entry(directory: MessagingDirectory, listing: Listing, id_text: str) -> Fields:
    """The entry with the id that a path names. Raises UnknownEntry, also for what can be no id."""
    number = number_of(id_text)
    found = await directory.find_row(listing, id=number) if number is not None else None
    if found is None:
        raise unknown(listing, id_text)
    return found


def unknown(listing: Listing, name: str) -> UnknownEntry:
    return UnknownEntry(f"there is no {listing} {name[:64]!r}; list them to see those that are")


def number_of(text: str) -> int | None:
    """The original's ids are numbers; None for anything else."""
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        return None
    return number if (number := int(text)) <= _LARGEST else None


def shown(row: Fields, names: Iterable[str]) -> Mapping[str, Any]:
    """These fields, instants as the original writes them."""
    return {name: rfc1123_text(value) if isinstance(value := row.get(name), datetime) else value for name in names}


def gone() -> Response:
    """204: it was deleted."""
    return Response(status_code=204, headers=HEADERS)

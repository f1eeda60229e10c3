"""Exchanges lie within one another: what that makes of their routing keys. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """An exchange as it was registered."""

    name: str
    parent_id: int | None = None
    fragment: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rooted:
    """Where messages for an exchange are published."""

    root_name: str
    """Name of the outermost exchange: the AMQP exchange."""
    routing_key: str
    """The fragments from the outermost exchange inwards, with dots between; empty when there is none."""


def places_of(rows: Iterable[Mapping[str, Any]]) -> Mapping[int, Place]:
    """Rows as the directory has them, by their ids."""
    return {
        row["id"]: Place(
            name=row["name"], parent_id=row["parent_exchange_id"], fragment=row["routing_key_fragment"]
        )
        for row in rows
    }


def rooted(places: Mapping[int, Place], exchange_id: int) -> Rooted:
    """Follow the parents of an exchange that is among `places`.

    A parent that is not there ends the way, and so does one that was passed before.
    """
    chain: list[int] = []
    at: int | None = exchange_id
    while at is not None and at in places and at not in chain:
        chain.append(at)
        at = places[at].parent_id
    fragments = [places[passed].fragment for passed in reversed(chain)]
    return Rooted(root_name=places[chain[-1]].name, routing_key=".".join(filter(None, fragments)))


def would_enclose_itself(places: Mapping[int, Place], exchange_id: int, parent_id: int | None) -> bool:
    """Whether an exchange with this parent would lie within itself."""
    passed: set[int] = set()
    while parent_id is not None and parent_id in places and parent_id not in passed:
        if parent_id == exchange_id:
            return True
        passed.add(parent_id)
        parent_id = places[parent_id].parent_id
    return False

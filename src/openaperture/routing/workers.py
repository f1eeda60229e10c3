"""Whether an exchange has workers of a type.

A worker counts when it is registered as active. Its age refuses nothing by itself: where an Overseer
runs, it renews the entries of living workers, marks the silent ones inactive after 10 minutes and
removes them 10 minutes later, so an old entry that is still active only exists where no Overseer runs,
and there all entries are old. So age only decides between places: workers that were heard of lately are
preferred to such that were not.
"""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from enum import IntEnum

from openaperture.client.rows import Module

STALE_AFTER = timedelta(minutes=20)


class Workers(IntEnum):
    """What is known of the workers in one place; more is better."""

    UNKNOWN_EXCHANGE = 0
    NONE = 1
    STALE = 2
    """Registered as active, and not renewed lately."""
    FRESH = 3
    """Also when no age is known: our own Manager tells none for workers that it hears of itself."""


def judge(modules: Iterable[Module] | None, module_type: str, now: datetime) -> Workers:
    """`modules` as the directory lists them; None for an exchange that does not exist."""
    if modules is None:
        return Workers.UNKNOWN_EXCHANGE
    active = [module for module in modules if module.type == module_type and module.status == "active"]
    if not active:
        return Workers.NONE
    return Workers.FRESH if any(_is_fresh(module, now) for module in active) else Workers.STALE


def _is_fresh(module: Module, now: datetime) -> bool:
    try:
        at = parsedate_to_datetime(module.updated_at or "")
    except (ValueError, TypeError, OverflowError):
        return True
    # A zone that is missing, or written as -0000, means UTC here: the Manager prints nothing else.
    aware = at if at.tzinfo is not None else at.replace(tzinfo=UTC)
    return now - aware < STALE_AFTER

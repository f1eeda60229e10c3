"""Pages of a feed, made up."""

from datetime import UTC, datetime

from openaperture.domain.history import Entry
from openaperture.ports import FeedEntry, FeedPage, HistoryEntry

NOW = datetime(2026, 3, 5, 23, 25, 19, tzinfo=UTC)


def told(number: int, workflow_id: str = "w", kind: str = "milestone.note") -> FeedEntry:
    return FeedEntry(
        workflow_id=workflow_id,
        row=HistoryEntry(id=number, entry=Entry(kind=kind, text=f"event {number}", at=NOW)),
    )


def page(*numbers: int, oldest: int = 0, coming: int = 0) -> FeedPage:
    entries = [told(number) for number in numbers]
    return FeedPage(entries=entries, last_id=max(numbers, default=0), oldest=oldest, coming=coming)

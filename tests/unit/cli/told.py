"""What a Manager says of a release, made up for the tests."""

from datetime import UTC, datetime, timedelta
from typing import Any

from openaperture.client.models import Event, Explanation, LogChunk, Workflow

BEGIN = datetime(2030, 3, 5, 12, 0, 0, tzinfo=UTC)
ID = "41f0c2d1-0000-4000-8000-000000000001"


def at(seconds: float) -> datetime:
    return BEGIN + timedelta(seconds=seconds)


def event(number: int, kind: str, text: str = "", *, attempt: str | None = None, **details: Any) -> Event:
    """Event `number` of the history, as many seconds after the begin."""
    about = {"attempt": attempt} if attempt else {}
    return Event(id=number, kind=kind, text=text or kind, at=at(number), details={**about, **details})


def chunk(
    number: int, *lines: str, attempt: str = "0.0.1", milestone: str = "build", seconds: float = 0
) -> LogChunk:
    return LogChunk(
        id=number, attempt=attempt, milestone=milestone, sequence=number, lines=list(lines), at=at(seconds)
    )


def workflow(state: str, *, reason: str = "", **fields: Any) -> Workflow:
    defaults: dict[str, Any] = {
        "id": ID,
        "source_repo": "acme/shop",
        "source_repo_git_ref": "main",
        "milestones": ["build", "deploy"],
        "explanation": Explanation(code=state, text=f"it is {state}"),
    }
    return Workflow(state=state, reason=reason, **{**defaults, **fields})

"""The routes of system events: what the services want their operators to look into."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request, Response

from openaperture.domain.errors import Taken
from openaperture.manager.answers import answer, done
from openaperture.manager.directory_bodies import SystemEventBody
from openaperture.manager.entries import add_once, get_entry, shown
from openaperture.manager.idempotency import id_from_key
from openaperture.ports import Fields, Listing, MessagingDirectory

_PATH = "/system_events"
_FIELDS = (
    *("id", "type", "message", "severity", "data", "inserted_at", "updated_at"),
    *("dismissed_at", "dismissed_by_id", "dismissed_reason", "assigned_at", "assignee_id", "assigned_by_id"),
)
"""The last six are the original's and always null: nobody dismisses or assigns an event here."""
_ONCE_WITHIN = timedelta(hours=1)
MAX_EVENTS = 1_000

Hours = Annotated[float, Query(le=1_000_000, allow_inf_nan=False)]


class SystemEventRoutes:
    """What the API does with system events."""

    def __init__(self, directory: MessagingDirectory) -> None:
        self._directory = directory

    def add_to(self, app: FastAPI) -> None:
        for method, path, handler in (
            ("GET", "", self.list_events),
            ("POST", "", self.create),
            ("GET", "/{event_id}", self.show),
        ):
            app.add_api_route(f"{_PATH}{path}", handler, methods=[method], response_model=None)

    async def list_events(self, lookback: Hours = 24.0, assignee_id: str = "") -> Response:
        """Oldest first. There are none that are assigned to anybody."""
        if assignee_id:
            return answer([])
        since = datetime.now(UTC) - timedelta(hours=lookback) if lookback > 0 else None
        rows = await self._directory.list_rows(Listing.SYSTEM_EVENT, since=since, limit=MAX_EVENTS)
        return answer([shown(row, _FIELDS) for row in rows])

    async def show(self, event_id: str) -> Response:
        return answer(shown(await get_entry(self._directory, Listing.SYSTEM_EVENT, event_id), _FIELDS))

    async def create(self, request: Request, body: SystemEventBody) -> Response:
        fields = body.model_dump(exclude={"unique"})
        if body.unique and await self._is_told(fields, by=id_from_key(request)):
            raise Taken(
                f'a system event of type "{body.type}" with this data was told within the last hour; '
                "look at that one, or send it without unique"
            )
        await add_once(self._directory, Listing.SYSTEM_EVENT, fields, request)
        return done(201, _PATH)

    async def _is_told(self, fields: Mapping[str, Any], *, by: str | None) -> bool:
        """By another request than this one, which may have come before."""
        since = datetime.now(UTC) - _ONCE_WITHIN
        told = await self._directory.list_rows(Listing.SYSTEM_EVENT, since=since, type=fields["type"])
        others = (event for event in told if by is None or event["made_as"] != by)
        return any(_is_same(event, fields) for event in others)


def _is_same(event: Fields, fields: Mapping[str, Any]) -> bool:
    """As in the original: without data it is the type alone that counts."""
    return event["data"] is None or fields["data"] is None or event["data"] == fields["data"]

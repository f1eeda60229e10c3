"""Server-sent events (WHATWG HTML, section 9.2): the history as it is written.

Each event carries its number as `id`; a client that comes back sends the last one as Last-Event-ID, and is told
all that came after it, once. A stream ends with its workflow, and with the Manager. Who comes back to an ended
workflow with nothing left to tell is answered 204, which tells a browser to stop.
"""

from collections import Counter
from collections.abc import AsyncGenerator, Sequence

import msgspec
from fastapi import FastAPI, Request, Response
from starlette.responses import StreamingResponse

from openaperture.client.models import FeedEvent
from openaperture.domain.errors import BadInput
from openaperture.domain.workflow import Workflow
from openaperture.manager.access import name_of
from openaperture.manager.answers import HEADERS
from openaperture.manager.feed import PAGE, Feed, Subscription
from openaperture.manager.follow import ENDINGS, Follower
from openaperture.manager.refusals import refuse
from openaperture.manager.views import event_of
from openaperture.ports import FeedEntry, Records

MEDIA_TYPE = "text/event-stream"
HEARTBEAT_SECONDS = 15.0
"""A comment so often shows both ends, and proxies between, that the other one is there."""
MAX_STREAMS = 900
"""In all: some connections are left for other requests."""
MAX_STREAMS_EACH = 100
"""Of one user."""
_RETRY_MILLISECONDS = 2_000
_BREAK_SECONDS = "5"


class Streams:
    """Opens streams, and counts them."""

    def __init__(
        self,
        feed: Feed,
        records: Records,
        follower: Follower,
        *,
        most: int = MAX_STREAMS,
        most_each: int = MAX_STREAMS_EACH,
        heartbeat_seconds: float = HEARTBEAT_SECONDS,
    ) -> None:
        self._feed = feed
        self._records = records
        self._follower = follower
        self._most = most
        self._most_each = most_each
        self._heartbeat_seconds = heartbeat_seconds
        self._open: Counter[str] = Counter()

    def add_to(self, app: FastAPI) -> None:
        app.add_api_route("/events", self.of_all, methods=["GET"], response_model=None)

    async def of_all(self, request: Request) -> Response:
        """From now on, or from where the client was."""
        seen = _last_seen(request)
        # Known before the answer begins: what is stored once the client has it does not get lost.
        last_id = (await self._feed.source.read(None, limit=1)).last_id if seen is None else seen
        return self._opened(request, None, last_id)

    async def of_workflow(self, request: Request, workflow_id: str, after: int) -> Response:
        """From its beginning, or from where the client was."""
        workflow = await self._follower.get_workflow(workflow_id)
        seen = _last_seen(request)
        last_id = after if seen is None else seen
        if await self._follower.has_ended(workflow) and not await self._records.list_entries(
            workflow_id, after=last_id, limit=1
        ):
            return Response(status_code=204, headers=HEADERS)
        return self._opened(request, workflow, last_id)

    def _opened(self, request: Request, workflow: Workflow | None, last_id: int) -> Response:
        caller = name_of(request)
        retry = {"retry-after": _BREAK_SECONDS}
        if self._open[caller] >= self._most_each:
            text = f"{caller} has {self._most_each} streams open; close some, or listen to /events, which has all"
            return refuse(429, "too_many_streams", text, headers=retry)
        if not self._feed.is_running or self._open.total() >= self._most:
            text = "the Manager opens no more streams now; try again, or ask with wait="
            return refuse(503, "no_stream", text, headers=retry)
        stream = self._counted(caller, workflow, last_id)
        return StreamingResponse(stream, media_type=MEDIA_TYPE, headers=HEADERS)

    async def _counted(self, caller: str, workflow: Workflow | None, last_id: int) -> AsyncGenerator[bytes]:
        self._open[caller] += 1
        try:
            with self._feed.listening(workflow.id if workflow else None) as subscription:
                yield f"retry: {_RETRY_MILLISECONDS}\n\n".encode()
                async for part in self._told(subscription, workflow, last_id):
                    yield part
        finally:
            self._open[caller] -= 1
            if not self._open[caller]:
                del self._open[caller]

    async def _told(
        self, subscription: Subscription, workflow: Workflow | None, last_id: int
    ) -> AsyncGenerator[bytes]:
        await self._feed.placed()
        subscription.missed = True
        ended = workflow is not None and await self._follower.has_ended(workflow)
        while not subscription.closed:
            entries: Sequence[FeedEntry]
            if subscription.missed or ended:
                # What is in the store already. What comes after it is handed out from now on.
                subscription.missed = False
                entries = await self._stored(workflow, last_id)
                subscription.missed |= bool(entries)
            else:
                entries = await subscription.take(self._heartbeat_seconds)
            new = [entry for entry in entries if entry.row.id > last_id]
            if new:
                last_id = new[-1].row.id
                yield b"".join(map(_written, new))
            elif ended:
                return
            elif not entries and not subscription.missed:
                yield b": still here\n\n"
            # Something may follow the end, such as what becomes of the locks: it is read from the store.
            ended = ended or (workflow is not None and any(entry.row.entry.kind in ENDINGS for entry in new))

    async def _stored(self, workflow: Workflow | None, after: int) -> Sequence[FeedEntry]:
        if workflow is not None:
            rows = await self._records.list_entries(workflow.id, after=after, limit=PAGE)
            return [FeedEntry(workflow_id=workflow.id, row=row) for row in rows]
        upto = self._feed.position
        page = await self._feed.source.read(after, limit=PAGE)
        return [entry for entry in page.entries if entry.row.id <= upto]


def wants_stream(request: Request) -> bool:
    """Whether the client asks for server-sent events."""
    kinds = [kind.partition(";")[0].strip().lower() for kind in request.headers.get("accept", "").split(",")]
    return MEDIA_TYPE in kinds


def _last_seen(request: Request) -> int | None:
    given = request.headers.get("last-event-id", "")
    if not given:
        return None
    if not (given.isascii() and given.isdigit() and len(given) < 19):
        raise BadInput("last-event-id: it is no id of an event; send the last one that was received, or none")
    return int(given)


def _written(entry: FeedEntry) -> bytes:
    event = event_of(entry.row)
    shown = FeedEvent(**msgspec.structs.asdict(event), workflow_id=entry.workflow_id)
    # JSON has no line breaks of its own, so one line of data is enough.
    return b"id: %d\ndata: %b\n\n" % (event.id, msgspec.json.encode(shown))

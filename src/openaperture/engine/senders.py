"""What is done about each kind of outbox row. A sender answers with a value; the relay acts on it.

A sender may be called for one row more than once, also at two places at once: publishing the same bytes
twice, looking up a route twice and recording a newer state than asked for are all harmless.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from weakref import WeakValueDictionary

from openaperture.domain.attempts import Attempt, AttemptKey
from openaperture.domain.errors import (
    AccessRefused,
    BrokerUnavailable,
    ManagerUnavailable,
    OpenApertureError,
    RouteRefused,
    TryLater,
    Unconfirmed,
    Unroutable,
    UnusableAnswer,
)
from openaperture.domain.events import Routed, Sent, Undeliverable, Unsure
from openaperture.domain.events import RouteRefused as RouteRefusedEvent
from openaperture.domain.milestones import MilestoneKind, kind_of
from openaperture.domain.routes import Need, Route
from openaperture.domain.workflow import Wire, Workflow
from openaperture.engine.intake import Item
from openaperture.engine.ports import Deliver, Routes
from openaperture.ports import Deferred, Message, Observer, OutboxRow, Store

LOOK_UP_SECONDS = 15.0
"""All look-ups of one route together: less than the lease of a row."""
MAX_NOTICE_TRIES = 10
"""After some minutes a note that no queue takes is given up: nobody waits for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Handled:
    """What became of a row. Without anything said it is done, and deleted."""

    deferred: Deferred | None = None
    items: Sequence[Item] = ()
    """Told to their workflows before the row is deleted: a crash between only tells them twice."""
    is_settled: bool = False
    """The sender has brought the database up to date itself."""
    freed: Sequence[OutboxRow] = ()
    """Rows that may be sent now."""


Sender = Callable[[OutboxRow], Awaitable[Handled]]


def deferral(row: OutboxRow, error: OpenApertureError) -> Handled:
    """Again after a while: half a second, growing to half a minute."""
    seconds = min(30.0, 0.5 * 2.0 ** min(row.tries, 6))
    return Handled(deferred=Deferred(id=row.id, seconds=seconds, error=str(error)))


class RequestSender:
    """Publishes requests. What no queue takes becomes an event."""

    def __init__(self, deliver: Deliver) -> None:
        self._deliver = deliver

    async def __call__(self, row: OutboxRow) -> Handled:
        try:
            await self._deliver(row, message_of(row))
        except Unroutable as exc:
            event = Undeliverable(key=key_of(row), reason=str(exc))
            return Handled(items=[Item(workflow_id=row.workflow_id, event=event)])
        except Unconfirmed as exc:
            if row.content_type is not None:
                return deferral(row, exc)
            # A worker of ours drops a second copy; one of the original would do it twice.
            unsure = Unsure(key=key_of(row), reason=str(exc))
            return Handled(items=[Item(workflow_id=row.workflow_id, event=unsure)])
        except (BrokerUnavailable, TryLater) as exc:
            return deferral(row, exc)
        if row.content_type is not None:
            return Handled()
        # A worker of the original says nothing until it is done: its time begins now.
        return Handled(items=[Item(workflow_id=row.workflow_id, event=Sent(key=key_of(row)))])


class NoticeSender:
    """Publishes notes and e-mails, those of one workflow one by one: they are read in the order of their coming.

    Their absence holds nothing up, so one that no queue takes now is passed by the ones behind it.
    """

    def __init__(self, deliver: Deliver, observer: Observer) -> None:
        self._deliver = deliver
        self._observer = observer
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def __call__(self, row: OutboxRow) -> Handled:
        turn = self._turns.get(row.workflow_id)
        if turn is None:
            turn = self._turns[row.workflow_id] = asyncio.Lock()
        async with turn:
            return await self._send(row)

    async def _send(self, row: OutboxRow) -> Handled:
        try:
            await self._deliver(row, message_of(row))
        except (Unroutable, RouteRefused) as exc:
            if row.tries + 1 < MAX_NOTICE_TRIES:
                return deferral(row, exc)
            self._observer.emit("notice.dropped", workflow_id=row.workflow_id, queue=row.queue, error=exc)
        except (BrokerUnavailable, TryLater, AccessRefused, UnusableAnswer) as exc:
            return deferral(row, exc)
        return Handled()


class RouteFinder:
    """Looks up where the request of an attempt goes."""

    def __init__(
        self,
        store: Store,
        routes: Routes,
        kinds: Mapping[str, MilestoneKind],
        *,
        exchange_id: str,
        broker_id: str,
        queue_name: str,
    ) -> None:
        """`exchange_id`, `broker_id` and the logical `queue_name` are our own."""
        self._store = store
        self._routes = routes
        self._kinds = kinds
        self._exchange_id = exchange_id
        self._broker_id = broker_id
        self._queue_name = queue_name

    async def __call__(self, row: OutboxRow) -> Handled:
        try:
            loaded = await self._store.load([row.workflow_id])
            workflow = loaded.workflows.get(row.workflow_id)
            attempt = workflow.find_attempt(key_of(row)) if workflow else None
            if workflow is None or attempt is None:
                return Handled()
            async with asyncio.timeout(LOOK_UP_SECONDS):
                route = await self._find(workflow, attempt)
        except RouteRefused as exc:
            refused = RouteRefusedEvent(key=key_of(row), condition=exc.condition, reason=str(exc))
            return Handled(items=[Item(workflow_id=row.workflow_id, event=refused)])
        except (TryLater, AccessRefused, UnusableAnswer) as exc:
            return deferral(row, exc)
        except TimeoutError:
            return deferral(row, ManagerUnavailable("the Manager took too long to say where its workers are"))
        return Handled(items=[Item(workflow_id=row.workflow_id, event=Routed(key=attempt.key, route=route))])

    async def _find(self, workflow: Workflow, attempt: Attempt) -> Route:
        kind = kind_of(self._kinds, attempt.milestone)
        if kind.queue is None:
            # A schedule of the original: to the orchestrators that its start message names.
            origin = workflow.origin
            return await self._routes.route_directly(
                (origin and origin.exchange_id) or self._exchange_id,
                (origin and origin.broker_id) or self._broker_id,
                (origin and origin.queue_name) or self._queue_name,
            )
        ours = workflow.wire is Wire.JSON
        need = Need(
            milestone=attempt.milestone,
            queue=kind.queue,
            # Workers of ours claim their requests and register nowhere; whether one is there shows by itself.
            module_type=None if ours else kind.module_type,
            exchange_by=kind.exchange_by,
            fixed_exchange_id=kind.exchange_id,
            override_exchange_id=workflow.override_for(kind),
            etcd_token=workflow.etcd_token or _token_among(workflow.outputs),
            own_by_default=ours,
        )
        return await self._routes.route(need)


def _token_among(outputs: Mapping[str, Mapping[str, str]]) -> str | None:
    """The cluster that a milestone of ours chose: its output `etcd_token`; the last one counts."""
    tokens = [token for named in outputs.values() if (token := named.get("etcd_token"))]
    return tokens[-1] if tokens else None


def key_of(row: OutboxRow) -> AttemptKey:
    """The attempt that a row is about."""
    generation, position, number = (int(part) for part in row.attempt.split("."))
    return AttemptKey(generation=generation, position=position, number=number)


def message_of(row: OutboxRow) -> Message:
    """Erlang terms travel as the original sends them: without any properties but persistence."""
    if row.content_type is None:
        return Message(body=row.body, content_type=None)
    return Message(body=row.body, content_type=row.content_type, message_id=row.id)

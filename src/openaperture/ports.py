"""What the engine and the workers need of the world, as contracts.

Each port has one contract suite in `tests/contract`; an adapter exists when it passes.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol

from openaperture.domain.access import Client, Token
from openaperture.domain.attempts import Attempt, Ended
from openaperture.domain.audit import AuditRecord, Deed
from openaperture.domain.commands import LockCommand
from openaperture.domain.events import LockDenied, LocksGranted
from openaperture.domain.history import Entry, LogChunk
from openaperture.domain.routes import Route
from openaperture.domain.workflow import Workflow

# ---------------------------------------------------------------------------------------- broker


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where a message goes: an AMQP exchange ("" is the default one) and a routing key."""

    exchange: str = ""
    routing_key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A message and the properties that we use."""

    body: bytes
    content_type: str | None = "application/json"
    message_id: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Delivery:
    """A received message and the means to settle it, once, with the consumer that received it."""

    message: Message
    queue: str
    redelivered: bool
    tag: object
    """Known to the adapter only. Belongs to one session: after a reconnect it settles nothing."""


class Consumer(Protocol):
    """A subscription to one queue. It outlives reconnects: `receive` just waits until it is back.

    Settling a delivery of a session that has ended is silently nothing: the broker redelivers it.
    """

    @property
    def is_subscribed(self) -> bool:
        """Whether messages would come now: not while the broker is away, nor while paused or closed."""
        ...

    async def receive(self, limit: int) -> list[Delivery]:
        """Wait for at least one delivery; return all that are ready, up to `limit`, oldest first."""
        ...

    async def ack(self, deliveries: Sequence[Delivery]) -> None:
        """Done: the broker forgets them."""
        ...

    async def requeue(self, deliveries: Sequence[Delivery]) -> None:
        """Not done: back to the queue, for anybody, with `redelivered` set."""
        ...

    async def dead_letter(self, delivery: Delivery, reason: str) -> None:
        """Never to be tried again: to `<queue>_error` with the header `x-reason`, then acked.

        Nothing is lost on the way: at worst it is in both queues.
        """
        ...

    async def pause(self) -> None:
        """Take no more. Deliveries not yet returned by `receive` go back; settled ones stay settled."""
        ...

    async def resume(self, *, prefetch: int | None = None) -> None:
        """Take messages again; with `prefetch`, at most that many unsettled ones of those that come now.

        What came before the pause and is unsettled does not count. Nothing changes unless paused.
        """
        ...

    async def close(self) -> None:
        """End the subscription. What is unsettled goes back to the queue."""
        ...


class Broker(Protocol):
    """A message broker: durable queues, confirmed and mandatory publishing, manual acks."""

    async def run(self) -> None:
        """Keep the sessions alive, reconnecting with backoff, until cancelled. One task, always running."""
        ...

    async def publish(self, address: Address, message: Message, *, timeout_seconds: float = 10.0) -> None:
        """Publish persistent and mandatory; return when the broker confirmed that a queue has it.

        Safe to call concurrently; calls in flight share the wait.
        Raises Unroutable (no exchange, no queue), BrokerUnavailable (no session within the timeout:
        not sent), Unconfirmed (sent, outcome unknown: publish again with the same message_id).
        """
        ...

    async def consume(self, queue: str, *, prefetch: int, temporary: bool = False) -> Consumer:
        """Subscribe to `queue`, which must exist, with manual acks. From then on `<queue>_error` exists too.

        A queue that was declared here and is deleted later is declared again, empty.
        `temporary` declares the queue for this subscription alone; it vanishes with it or with its
        connection, and is declared anew after a reconnect (what it held is lost: for answers only).
        Raises QueueMismatch, BrokerUnavailable.
        """
        ...

    async def declare(self, queue: str) -> None:
        """Create a durable queue and `<queue>_error` for its dead letters. Repeating it is harmless.

        Raises QueueMismatch when it exists with other arguments, BrokerUnavailable.
        """
        ...

    async def check(self, queue: str) -> None:
        """Raise QueueMismatch unless the queue exists. Creates nothing."""
        ...

    async def depth(self, queue: str) -> int:
        """How many messages wait in the queue, those being handled not counted."""
        ...

    async def close(self) -> None:
        """Close the sessions in order. Consumers end; unsettled deliveries go back."""
        ...


# ----------------------------------------------------------------------------------------- store


class RowKind(StrEnum):
    """What an outbox row asks for."""

    REQUEST = "request"
    """Publish a request to a worker."""
    NOTICE = "notice"
    """Publish a note or an e-mail to a Notifications module."""
    ROUTE = "route"
    """Look up where the request of an attempt goes."""
    RECORD = "record"
    """Record the workflow with the Manager, as it is when that is done. One row per workflow."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxRow:
    """Something to do outside, saved with the decision that asked for it."""

    id: str
    """Also the AMQP message id: every copy on the wire carries the same one, and the same bytes."""
    workflow_id: str
    kind: RowKind
    attempt: str = ""
    """Attempt key as text, where the row is about one."""
    queue: str = ""
    """Logical queue of those who read it; routing turns it into an address."""
    route: Route | None = None
    """Where it goes, if that was looked up."""
    body: bytes = b""
    content_type: str | None = None
    """None for Erlang terms, which travel without any properties of ours."""
    version: int = 0
    """The version of the workflow that asked for it."""
    held: bool = False
    """Not to be done before that version was recorded with the Manager."""
    tries: int = 0


def record_id(workflow_id: str) -> str:
    """Id of the one RECORD row of a workflow."""
    return f"{workflow_id}.record"


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What one decision, or several in a row, did to one workflow. Committed whole or not at all."""

    workflow: Workflow
    """The new state; its version is `expected_version` + 1."""
    expected_version: int
    """The version that was loaded; 0 for a workflow that was not stored."""
    entries: Sequence[Entry] = ()
    requested: Sequence[Attempt] = ()
    """Attempts that were made or claimed."""
    ended: Sequence[Ended] = ()
    logs: Sequence[LogChunk] = ()
    locks: Sequence[LockCommand] = ()
    outbox: Sequence[OutboxRow] = ()
    message_ids: Sequence[str] = ()
    """Ids of the messages handled by this change, for the inbox."""


class CommitOutcome(StrEnum):
    SAVED = "saved"
    CONFLICT = "conflict"
    """Somebody else was faster: load and decide again."""
    REFUSED = "refused"
    """The database cannot store this one, ever; the others of its batch are not affected."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """Answer to `Store.load`."""

    now: datetime
    """The store's clock: the only one that deadlines are set and judged by."""
    workflows: Mapping[str, Workflow]
    handled: frozenset[str]
    """Those of the asked message ids that were handled before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deferred:
    """An outbox row that could not be published yet."""

    id: str
    seconds: float
    error: str


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Due:
    """A workflow whose `wake_at` has passed. They are ordered by that, and by id where it is the same."""

    wake_at: datetime
    workflow_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LockNews:
    """A workflow has all the locks that it waits for, or does not get one."""

    workflow_id: str
    event: LocksGranted | LockDenied


class Store(Protocol):
    """The engine's truth. A method that raises StoreUnavailable may have taken effect: load and look."""

    async def load(self, ids: Collection[str], message_ids: Collection[str] = ()) -> Loaded:
        """Read workflows and inbox ids in one go. Unknown ids are left out."""
        ...

    async def commit(self, changes: Sequence[Change], *, owner: str = "") -> list[CommitOutcome]:
        """Save changes of different workflows in one transaction; the outcomes are in their order.

        Each change is all or nothing; one that conflicts or is refused does not spoil the others.
        With an `owner`, the new outbox rows are leased to it for a few seconds, since it has them at
        hand; without one they are free for any relay at once.
        """
        ...

    async def claim_outbox(self, owner: str, *, limit: int, lease_seconds: float) -> list[OutboxRow]:
        """Lease up to `limit` rows that are due and leased to nobody else, oldest first."""
        ...

    async def claim_row(self, row_id: str, owner: str, *, lease_seconds: float) -> bool:
        """Lease one row, unless it is gone or leased to somebody else."""
        ...

    async def settle_record(
        self, workflow_id: str, version: int, *, live: Collection[str], owner: str, lease_seconds: float
    ) -> list[OutboxRow]:
        """The Manager has this version: delete its RECORD row, and free the rows that waited for it.

        Requests of attempts that are not `live` any more are deleted instead. What is freed is leased to
        `owner` and returned.
        """
        ...

    async def settle_outbox(self, *, sent: Sequence[str], deferred: Sequence[Deferred] = ()) -> None:
        """Delete what was confirmed; free the others again after their delay, with one more try counted."""
        ...

    async def list_due(self, limit: int, *, after: Due | None = None) -> list[Due]:
        """Workflows whose `wake_at` has passed, longest overdue first; only what comes `after` that one.

        Fewer than `limit` are the last ones.
        """
        ...

    async def list_stranded(self, limit: int) -> list[str]:
        """Ids of workflows that break invariant I8: not ended, and nothing would ever move them."""
        ...

    async def list_lock_news(self, limit: int) -> list[LockNews]:
        """What became of those who wait for locks, and do not know yet. Told again until they do."""
        ...

    async def tend_locks(self) -> int:
        """Free the locks of workflows that have ended or are gone, pass on those that nobody took up in time
        and those that came out of turn to one that still waits, give the free ones to the first in their queue.
        Returns how many claims that changed."""
        ...

    async def prune(self, *, inbox_seconds: float, limit: int) -> int:
        """Forget inbox ids older than that; returns how many."""
        ...


BEGUN_LIMIT = 3
"""So often a message that came back may be at hand when its process ends. Then it is suspected of ending it."""


class Begun(Protocol):
    """Remembers, across crashes, which messages were begun and not finished.

    `count`, then `begin` before they are handled, then `finish`. All raise StoreUnavailable, and can be repeated.
    """

    async def count(self, keys: Collection[str]) -> Mapping[str, int]:
        """How often each was begun without being finished, up to BEGUN_LIMIT."""
        ...

    async def begin(self, counts: Mapping[str, int]) -> None:
        """Durably count each once more than it says here."""
        ...

    async def finish(self, keys: Collection[str]) -> None:
        """Forget these."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryEntry:
    """A stored `Entry`. `id` grows along the history of one workflow."""

    id: int
    entry: Entry


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredLog:
    """A stored `LogChunk`. `id` grows in the order of storing."""

    id: int
    chunk: LogChunk


@dataclass(frozen=True, slots=True, kw_only=True)
class LogFilter:
    """Which chunks of output. None filters nothing."""

    attempt: str | None = None
    first: int | None = None
    """Lowest sequence number."""
    last: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowFilter:
    """Which workflows to list. None filters nothing."""

    states: Collection[str] | None = None
    source_repo: str | None = None
    deployment_repo: str | None = None
    ref: str | None = None
    """Of either repository."""
    milestone: str | None = None
    """Anywhere among its milestones."""
    text: str | None = None
    """Somewhere in its repositories, refs, reason or id, without regard to case."""
    created_after: datetime | None = None
    created_before: datetime | None = None
    before: tuple[datetime, str] | None = None
    """Cursor: (created_at, id) of the last workflow of the page before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """Something that a workflow asked for and that could not be done yet."""

    kind: RowKind
    error: str
    again_at: datetime
    """When it is tried next."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighting:
    """When a worker last took a milestone of some name."""

    worker: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class LockClaim:
    """A workflow's place in the queue of a lock."""

    name: str
    workflow_id: str
    state: str
    """waiting | granted | held | refused | superseded"""
    token: int | None
    asked_at: datetime
    granted_at: datetime | None
    kept: str | None
    """Why it holds it though it has ended."""

    @property
    def holds(self) -> bool:
        return self.state in {"granted", "held"}


ALL_LOGS = LogFilter()


class Records(Protocol):
    """The reading side of a store, for people: the Manager and the command line."""

    async def find_workflow(self, workflow_id: str) -> Workflow | None: ...

    async def list_workflows(self, wanted: WorkflowFilter, *, limit: int) -> list[Workflow]:
        """Newest first."""
        ...

    async def list_entries(self, workflow_id: str, *, after: int = 0, limit: int = 1000) -> list[HistoryEntry]: ...

    async def list_attempts(self, workflow_id: str) -> list[Mapping[str, Any]]:
        """All attempts of a workflow, oldest first: the columns of the attempts table as plain JSON values."""
        ...

    async def list_logs(
        self, workflow_id: str, wanted: LogFilter = ALL_LOGS, *, after: int = 0, limit: int = 1000
    ) -> list[StoredLog]: ...

    async def list_last_logs(self, workflow_id: str, wanted: LogFilter, *, limit: int) -> list[StoredLog]:
        """The newest of them, oldest first."""
        ...

    async def list_troubles(self, ids: Collection[str]) -> Mapping[str, Trouble]:
        """Of those workflows whose rows in the outbox were deferred: why, the oldest one of each."""
        ...

    async def list_locks(self, names: Collection[str] | None = None) -> list[LockClaim]:
        """The holders and the queues of these locks, or of all that are held or waited for, in their order."""
        ...

    async def list_children(self, workflow_id: str) -> list[Workflow]:
        """The workflows that repeat this one, or a part of it, oldest first."""
        ...

    async def find_sightings(self, milestones: Collection[str]) -> Mapping[str, Sighting]:
        """Of each of these: when a worker last took one, whatever workflow it was of."""
        ...

    async def count_outbox(self) -> int:
        """How many messages wait to be published."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Errand:
    """The oldest of what a workflow asked for and that was not done yet."""

    kind: RowKind
    since: datetime


class Traffic(Protocol):
    """What is under way by now, of all workflows: it tells a worker that is busy from one that is not there."""

    async def list_at_work(self, milestones: Collection[str], *, limit: int) -> list[Sighting]:
        """The workers that have one of these now, and since when; the latest first."""
        ...

    async def find_errand(self, workflow_id: str) -> Errand | None:
        """None when all that it asked for was done. Notes to people do not count."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedEntry:
    """An event of any workflow. Numbers grow over all of them."""

    workflow_id: str
    row: HistoryEntry


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedPage:
    """Events as they were seen, in the order of their numbers, and what was being written meanwhile."""

    entries: Sequence[FeedEntry]
    last_id: int
    """The highest number of all."""
    oldest: int
    """Every transaction before this one has ended, and is seen."""
    coming: int
    """Whoever took a number that was given out by now is a transaction before this one."""


class EventFeed(Protocol):
    """The histories of all workflows as one. Raises StoreUnavailable."""

    async def read(self, after: int | None, *, limit: int) -> FeedPage:
        """The events with higher numbers than `after`; with None only what the page says of the whole."""
        ...


# -------------------------------------------------------------------------------------- directory


class Listing(StrEnum):
    """What the messaging directory lists. The fields of each are the columns of its table."""

    EXCHANGE = "exchange"
    BROKER = "broker"
    CONNECTION = "broker connection"
    RESTRICTION = "restriction"
    CLUSTER = "cluster"
    MODULE = "module"
    SYSTEM_EVENT = "system event"


Fields = Mapping[str, Any]
"""Column -> value. `workload` and `data` are any JSON value; `inserted_at` and `updated_at` are instants."""


class MessagingDirectory(Protocol):
    """Where workers are: exchanges, brokers, clusters, modules; and what operators were told.

    `wanted` are columns and the values that they have to have. Raises StoreUnavailable.
    """

    async def list_rows(
        self, listing: Listing, *, since: datetime | None = None, limit: int | None = None, **wanted: Any
    ) -> list[Fields]:
        """Oldest first; with `since` those inserted after it, with `limit` the newest so many."""
        ...

    async def find_row(self, listing: Listing, **wanted: Any) -> Fields | None: ...

    async def add(self, listing: Listing, fields: Fields, *, replacing: bool = False) -> int:
        """Store an entry; returns its id. `replacing` one with the same key is allowed.

        Raises Taken, and BadInput when it refers to an entry that is not there.
        """
        ...

    async def change(self, listing: Listing, row_id: int, fields: Fields) -> None:
        """Set these fields. Raises UnknownEntry, Taken, BadInput."""
        ...

    async def remove(self, listing: Listing, **wanted: Any) -> int:
        """Delete entries, and what belongs to them; returns how many. Who refers to them does so no more."""
        ...


class ForeignRecords(Protocol):
    """What orchestrators elsewhere record of workflows that they run. Raises StoreUnavailable."""

    async def find_foreign(self, ids: Collection[str]) -> Mapping[str, Fields]:
        """The original's fields by workflow, as they were put, and `updated_at`."""
        ...

    async def put_foreign(self, workflow_id: str, fields: Fields, *, version: int, known: Fields | None) -> bool:
        """Replace the record that was judged: `known`, as it was found, or None where there was none.

        False, and nothing is written, when it or the version of the workflow is another one by now.
        Raises BadInput when no database can hold it.
        """
        ...

    async def delete_workflow(self, workflow_id: str, version: int) -> bool:
        """Delete a workflow with all that belongs to it; False when its version is another one by now."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptAnswer:
    """An answer of the API, to be given again."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownKey:
    """What is known of a key."""

    request: str
    """Digest of the request that it came with first."""
    at: datetime
    """When that was."""
    answer: KeptAnswer | None
    """None while it is being done, or when a crash came before it was kept."""
    leased: bool
    """Whether it is for who asked to do it now."""


class RequestKeys(Protocol):
    """Keys by which clients mark a request that they may send again. Raises StoreUnavailable."""

    async def begin(self, key: str, request: str, owner: str, *, lease_seconds: float) -> KnownKey:
        """Write the key down, unless it is known; keys are forgotten a day after.

        It is leased to `owner`, unless it has an answer, came with another request, or somebody else has a
        lease that has not run out.
        """
        ...

    async def settle(self, key: str, answer: KeptAnswer) -> None:
        """Keep the answer. The first one counts."""
        ...

    async def release(self, key: str, owner: str) -> None:
        """Give the lease back: nothing is being done any more, and there is no answer to keep."""
        ...


# ---------------------------------------------------------------------------------------- access


class AccessStore(Protocol):
    """Clients, tokens and the audit. Every method raises StoreUnavailable."""

    async def add_client(self, client: Client) -> bool:
        """False when there is one of that id, disabled or not: an id is never given twice."""
        ...

    async def find_client(self, client_id: str) -> Client | None: ...

    async def list_clients(self) -> list[Client]:
        """By id, the disabled ones too."""
        ...

    async def disable_client(self, client_id: str, at: datetime) -> bool:
        """Its tokens are worth nothing from now on. False when there is no such client."""
        ...

    async def add_token(self, token: Token) -> bool:
        """False when there is one of that id."""
        ...

    async def find_token(self, token_id: str) -> Token | None:
        """None also when the client that it was given to is disabled."""
        ...

    async def list_tokens(self, subject: str | None = None) -> list[Token]:
        """Personal tokens, of one name or of all, the newest 1,000, newest first."""
        ...

    async def touch_token(self, token_id: str, at: datetime) -> None:
        """Note that it was used."""
        ...

    async def revoke_token(self, token_id: str, at: datetime) -> None:
        """Also those that were made with it. What was revoked before keeps its instant."""
        ...

    async def prune_tokens(self, before: datetime, *, limit: int) -> int:
        """Forget access tokens and sessions that expired before that instant; returns how many."""
        ...

    async def append_audit(self, deed: Deed) -> AuditRecord:
        """Put it at the end of the chain, durably, whoever else appends at the same time."""
        ...

    async def list_audit(
        self, *, after: int | None = None, before: int | None = None, limit: int
    ) -> list[AuditRecord]:
        """With `after`, oldest first; else newest first, those before `before`."""
        ...


# ------------------------------------------------------------------------------ clock and observer


class Clock(Protocol):
    """Time inside the process. Deadlines of workflows use the store's clock instead."""

    def monotonic(self) -> float: ...

    async def sleep(self, seconds: float) -> None: ...


class Observer(Protocol):
    """Told of what the engine does. Logs, metrics and the live feed subscribe; none may raise."""

    def emit(self, name: str, /, **details: Any) -> None:
        """`name` is a stable dotted name; details are plain values without secrets or payloads."""
        ...

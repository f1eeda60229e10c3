"""What every process that has a database is made of."""

import os
import secrets
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from openaperture.brokers.embedded import EmbeddedBroker
from openaperture.codecs import incoming, terms
from openaperture.codecs import json as json_codec
from openaperture.codecs.notices import JsonNotices, TermNotices
from openaperture.config import Settings
from openaperture.database import Database
from openaperture.domain.errors import ConfigError
from openaperture.domain.milestones import MilestoneKind, table_of
from openaperture.engine.admission import Admission
from openaperture.engine.decider import Decider, HandOver
from openaperture.engine.outbox import OutboxWriter
from openaperture.engine.ports import NoticeWriter, Wire
from openaperture.engine.requests import Identity, RequestBuilder
from openaperture.engine.tokens import TokenMint
from openaperture.observability.clock import SystemClock
from openaperture.ports import Address, Begun, Broker, Observer
from openaperture.stores.begun import SqlBegun
from openaperture.stores.directory import SqlDirectory
from openaperture.stores.sql import SqlStore

_NOTICES: Mapping[str, NoticeWriter | None] = {"off": None, "terms": TermNotices(), "json": JsonNotices()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Core:
    """The settings, and the store with what hangs on it."""

    settings: Settings
    observer: Observer
    database: Database
    store: SqlStore
    directory: SqlDirectory
    clock: SystemClock
    wire: Wire
    owner: str

    @property
    def kinds(self) -> Mapping[str, MilestoneKind]:
        return table_of(self.settings.milestones)

    def decider(self, hand_over: HandOver | None = None) -> Decider:
        """With a relay in this process its rows are leased to us; without one any relay takes them."""
        settings, wire = self.settings, self.wire
        identity = Identity(
            callback=Address(routing_key=settings.queue_name),
            exchange_id=settings.exchange_id,
            broker_id=settings.broker_id,
        )
        recorded = settings.manager_url is not None
        looks_up_routes = recorded or settings.routes_by_own_tables
        requests = RequestBuilder(
            identity, wire.mint, self.kinds, wire.encode, wire.encode_workflow, looks_up_routes=looks_up_routes
        )
        outbox = OutboxWriter(
            requests, notices=_NOTICES[settings.notices], ui_url=settings.ui_url, records=recorded
        )
        owner = self.owner if hand_over else ""
        return Decider(self.store, outbox, self.kinds, self.observer, owner=owner, hand_over=hand_over)

    def begun(self) -> Begun:
        """What messages that end the process are found by."""
        return SqlBegun(self.database)

    def admission(self) -> Admission:
        """Whether new workflows may begin."""
        limit = self.settings.orchestrator.outbox_limit
        return Admission(self.store.count_outbox, self.clock, self.observer, limit=limit)

    def broker(self) -> Broker:
        """Our own broker; it connects when it is run."""
        return broker_of(self.settings, self.database, self.observer)


@asynccontextmanager
async def open_core(settings: Settings, observer: Observer) -> AsyncGenerator[Core]:
    """Open the database (its schema is brought up to date) and build what needs nothing else."""
    if not settings.database:
        problem = (
            "database is not set, and the broker is one that others share: they would not see what is stored "
            'here; write database = "postgresql://user:password@host/name", the same for all'
        )
        raise ConfigError([problem])
    database = await Database.open(settings.database)
    try:
        store = SqlStore(database, observer=observer)
        configured = settings.token_key.get_secret_value() if settings.token_key else None
        key = configured or await store.get_or_create_setting("token_key", secrets.token_urlsafe(32))
        wire = Wire(
            mint=TokenMint(key),
            encode=json_codec.encode,
            encode_workflow=terms.encode_workflow,
            decode=incoming.decode,
        )
        yield Core(
            settings=settings,
            observer=observer,
            database=database,
            store=store,
            directory=SqlDirectory(database),
            clock=SystemClock(),
            wire=wire,
            owner=f"{settings.hostname}.{os.getpid()}.{secrets.token_hex(4)}",
        )
    finally:
        await database.close()


def broker_of(settings: Settings, database: Database | None, observer: Observer) -> Broker:
    """The broker that the settings name. The embedded one needs the database of its process."""
    if settings.broker != "embedded":
        # Imported only here: a command on a laptop starts without the client of RabbitMQ.
        from openaperture.brokers.amqp import AmqpBroker  # noqa: PLC0415

        return AmqpBroker(settings.broker, observer=observer)
    if database is None:
        raise AssertionError("the embedded broker lives in the database of its process")
    return EmbeddedBroker(database, observer=observer)

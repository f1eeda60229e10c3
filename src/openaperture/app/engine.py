"""The services of an orchestrating process, put together and in the order in which they drain."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from openaperture.app.core import Core
from openaperture.app.elsewhere import Elsewhere
from openaperture.config import Settings
from openaperture.engine.decider import Decider
from openaperture.engine.membership import Membership
from openaperture.engine.orchestrator import Orchestrator
from openaperture.engine.recorder import Recorder
from openaperture.engine.relay import PUBLISH_SECONDS, Relay
from openaperture.engine.senders import NoticeSender, RequestSender, RouteFinder, Sender
from openaperture.engine.silence import Cautious
from openaperture.engine.timers import Timers
from openaperture.ports import Address, Broker, Message, Observer, OutboxRow, RowKind
from openaperture.runtime.supervisor import Service
from openaperture.runtime.topology import prepare
from openaperture.stores.begun import SqlBegun
from openaperture.worker.command import CommandWorker


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """An orchestrator, its relay and its timers."""

    services: Sequence[Service]
    decider: Decider


def build_engine(core: Core, broker: Broker, elsewhere: Elsewhere | None) -> Engine:
    tuning = core.settings.orchestrator
    relay = Relay(
        core.store,
        broker,
        core.wire,
        core.clock,
        core.observer,
        owner=core.owner,
        window=tuning.relay_window,
        poll_seconds=tuning.poll_seconds,
    )
    decider = core.decider(relay.hand_over)
    orchestrator = Orchestrator(
        broker,
        decider,
        core.wire,
        core.clock,
        core.observer,
        queue=core.settings.queue_name,
        batch=tuning.batch,
        begun=SqlBegun(core.database),
        admission=core.admission(),
    )
    timers = Timers(
        core.store,
        decider,
        core.clock,
        core.observer,
        poll_seconds=tuning.poll_seconds,
        heard_seconds=orchestrator.heard_seconds,
    )
    recorder = _recorder(core, decider, elsewhere)
    senders = _senders(core, broker, elsewhere, recorder)
    membership = elsewhere.membership if elsewhere else None
    services: list[Service] = [
        _intake(core, broker, orchestrator, membership),
        Service(name="timers", run=timers.run, drain=timers.drain),
        Service(name="relay", run=lambda: relay.run(decider, senders), drain=relay.drain),
        *(elsewhere.services if elsewhere else []),
        Service(name="broker", run=broker.run, drain=broker.close),
    ]
    if membership is not None:
        services.insert(1, Service(name="membership", run=membership.run, drain=membership.drain))
    if recorder is not None:
        services.insert(1, Service(name="watch", run=lambda: recorder.watch(core.clock), drain=recorder.drain))
    return Engine(services=services, decider=decider)


def _intake(core: Core, broker: Broker, orchestrator: Orchestrator, membership: Membership | None) -> Service:
    settings = core.settings

    async def orchestrate() -> None:
        workers = {kind.queue for kind in core.kinds.values() if kind.queue}
        # Operators who own the topology may have queues of some kinds only: theirs are not checked here.
        queues = [settings.queue_name, *(sorted(workers) if settings.declare_queues else ())]
        if membership is not None:
            await membership.join()
        await prepare(
            broker,
            queues,
            core.observer,
            declare=settings.declare_queues,
            is_stopping=lambda: orchestrator.is_draining,
        )
        await orchestrator.run()

    return Service(name="orchestrator", run=orchestrate, drain=orchestrator.drain)


def _recorder(core: Core, decider: Decider, elsewhere: Elsewhere | None) -> Recorder | None:
    if elsewhere is None or elsewhere.manager is None:
        return None
    return Recorder(core.store, elsewhere.manager, decider, core.observer, owner=core.owner)


def _senders(
    core: Core, broker: Broker, elsewhere: Elsewhere | None, recorder: Recorder | None
) -> Mapping[RowKind, Sender]:
    if elsewhere is None:

        async def deliver(row: OutboxRow, message: Message) -> None:
            await broker.publish(Address(routing_key=row.queue), message, timeout_seconds=PUBLISH_SECONDS)

        careful = Cautious(deliver, core.clock, core.observer, timeout_seconds=PUBLISH_SECONDS)
        return {
            RowKind.REQUEST: RequestSender(careful),
            RowKind.NOTICE: NoticeSender(careful, core.observer),
        }
    network = elsewhere.network
    finder = RouteFinder(
        core.store,
        network.router,
        core.kinds,
        exchange_id=network.exchange_id,
        broker_id=network.broker_id,
        queue_name="workflow_orchestration",
    )
    careful = Cautious(network.deliver, core.clock, core.observer, timeout_seconds=PUBLISH_SECONDS)
    recording: dict[RowKind, Sender] = {} if recorder is None else {RowKind.RECORD: recorder}
    return {
        RowKind.REQUEST: RequestSender(careful),
        RowKind.NOTICE: NoticeSender(careful, core.observer),
        RowKind.ROUTE: finder,
        **recording,
    }


def worker_service(settings: Settings, broker: Broker, observer: Observer, queues: Sequence[str] = ()) -> Service:
    """A command worker, on these queues or on the configured ones."""
    configured = settings.worker
    names = list(queues or configured.queues)
    worker = CommandWorker(
        broker,
        queues=names,
        slots=configured.slots,
        work_dir=configured.work_dir,
        artifacts_dir=configured.artifacts_dir,
        local_repositories=configured.local_repositories,
        private_networks=configured.private_networks,
        environment=configured.environment,
        grace_seconds=configured.grace_seconds,
        observer=observer,
    )

    async def work() -> None:
        await prepare(
            broker, names, observer, declare=settings.declare_queues, is_stopping=lambda: worker.is_draining
        )
        await worker.run()

    return Service(name="worker", run=work, drain=worker.drain)

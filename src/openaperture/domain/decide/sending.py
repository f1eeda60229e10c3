"""What the Manager has to say about a request: where it goes, or that it goes nowhere."""

from dataclasses import replace
from datetime import datetime, timedelta

from openaperture.domain import events as e
from openaperture.domain.commands import Decision, Dispatch
from openaperture.domain.decide.advance import fail, fail_milestone
from openaperture.domain.decide.pieces import Kinds, about, before, end, with_ended
from openaperture.domain.history import Entry
from openaperture.domain.milestones import kind_of
from openaperture.domain.workflow import Attempt, Wire, Workflow


def routed(workflow: Workflow, attempt: Attempt, event: e.Routed, now: datetime, kinds: Kinds) -> Decision:
    """The request can be sent. Its route is kept, so that every copy goes the same way."""
    if attempt.route is not None:
        return Decision(workflow=workflow)
    known = replace(attempt, route=event.route)
    sent = replace(workflow, live=(known,))
    dispatches = (Dispatch(attempt=known),)
    if kind_of(kinds, attempt.milestone).queue is None:
        return Decision(workflow=sent, dispatches=dispatches)
    cluster = f", cluster {event.route.cluster_token}" if event.route.cluster_token else ""
    entry = Entry(
        kind="milestone.dispatched",
        text=f"milestone {attempt.milestone} sent to exchange {event.route.exchange_id}{cluster}",
        at=now,
        details=about(attempt),
    )
    entries = (*_redirection(workflow, attempt, now, kinds), entry)
    return Decision(workflow=sent, entries=entries, dispatches=dispatches)


def sent(workflow: Workflow, attempt: Attempt, now: datetime, kinds: Kinds) -> Decision:
    """From now on a worker of the original may be at it: only how long it may run bounds it."""
    is_told_to_itself = kind_of(kinds, attempt.milestone).queue is None
    if workflow.wire is Wire.JSON or attempt.run_until is not None or is_told_to_itself:
        return Decision(workflow=workflow)
    begun = replace(attempt, pickup_by=None, run_until=now + timedelta(seconds=attempt.run_seconds))
    return Decision(workflow=replace(workflow, live=(begun,)))


def refused(workflow: Workflow, attempt: Attempt, event: e.RouteRefused, now: datetime, kinds: Kinds) -> Decision:
    """There is no way to a worker, and waiting will not make one."""
    # Without a token the route is refused before anybody looks at the exchange.
    entries = () if event.condition == "invalid_etcd_token" else _redirection(workflow, attempt, now, kinds)
    return before(fail_milestone(workflow, attempt, "refused", event.reason, now), *entries)


def _redirection(workflow: Workflow, attempt: Attempt, now: datetime, kinds: Kinds) -> tuple[Entry, ...]:
    override = workflow.override_for(kind_of(kinds, attempt.milestone))
    if override is None:
        return ()
    purpose = kind_of(kinds, attempt.milestone).purpose
    text = f"{purpose} goes to exchange {override} instead: the workflow overrides it"
    return (Entry(kind="milestone.redirected", text=text, at=now, details=about(attempt)),)


def unsaved(workflow: Workflow, event: e.Unsaved, now: datetime) -> Decision:
    """The Manager does not know it any more: what cannot be recorded is not done."""
    ended = [end(attempt, "cancelled", event.reason, now) for attempt in workflow.live]
    return with_ended(fail(workflow, event.reason, now), *ended)

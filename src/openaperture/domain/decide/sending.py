"""What became of a request on its way: where it goes, that it goes nowhere, that it was sent."""

from dataclasses import replace
from datetime import timedelta

from openaperture.domain import events as e
from openaperture.domain.attempts import Attempt
from openaperture.domain.decide.advance import fail as fail_workflow
from openaperture.domain.decide.draft import Draft, about
from openaperture.domain.decide.losses import undeliverable, unsure
from openaperture.domain.decide.steps import fail
from openaperture.domain.milestones import FailureKind
from openaperture.domain.workflow import Step, Wire


def of_request(d: Draft, event: e.OfRequest) -> None:
    """Of no meaning once a worker has it, a person has to look after it, or it was replaced."""
    step = d.workflow.find_step(event.key)
    if step is None or step.live is None or step.live.worker is not None or step.unknown:
        return
    attempt = step.live
    match event:
        case e.Routed():
            _routed(d, step, attempt, event)
        case e.RouteRefused():
            _refused(d, step, attempt, event)
        case e.Unsure():
            unsure(d, step, attempt, event.reason)
        case e.Sent():
            _sent(d, step, attempt)
        case e.Undeliverable():
            undeliverable(d, step, attempt, event.reason)


def _routed(d: Draft, step: Step, attempt: Attempt, event: e.Routed) -> None:
    """The request can be sent. Its route is kept, so that every copy goes the same way."""
    if attempt.route is not None:
        return
    known = replace(attempt, route=event.route)
    d.put(step, live=known)
    d.dispatch(known)
    if d.kind(attempt.milestone).queue is None:
        return
    _tell_redirection(d, attempt)
    cluster = f", cluster {event.route.cluster_token}" if event.route.cluster_token else ""
    text = f"milestone {attempt.milestone} sent to exchange {event.route.exchange_id}{cluster}"
    d.tell("milestone.dispatched", text, **about(attempt))


def _sent(d: Draft, step: Step, attempt: Attempt) -> None:
    """From now on a worker of the original may be at it: only how long it may run bounds it."""
    is_told_to_itself = d.kind(attempt.milestone).queue is None
    if d.workflow.wire is Wire.JSON or attempt.run_until is not None or is_told_to_itself:
        return
    d.put(step, live=replace(attempt, pickup_by=None, run_until=d.now + timedelta(seconds=attempt.run_seconds)))


def _refused(d: Draft, step: Step, attempt: Attempt, event: e.RouteRefused) -> None:
    """There is no way to a worker, and waiting will not make one."""
    # Without a token the route is refused before anybody looks at the exchange.
    if event.condition != "invalid_etcd_token":
        _tell_redirection(d, attempt)
    fail(d, step, FailureKind.REFUSED, "refused", event.reason)


def _tell_redirection(d: Draft, attempt: Attempt) -> None:
    kind = d.kind(attempt.milestone)
    override = d.workflow.override_for(kind)
    if override is not None:
        text = f"{kind.purpose} goes to exchange {override} instead: the workflow overrides it"
        d.tell("milestone.redirected", text, **about(attempt))


def unsaved(d: Draft, event: e.Unsaved) -> None:
    """The Manager does not know it any more: what cannot be recorded is not done."""
    fail_workflow(d, event.reason)

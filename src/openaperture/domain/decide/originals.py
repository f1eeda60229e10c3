"""Messages of the original: the whole workflow arrives, and its flags say how its current step went.

They carry no token. The `step_time` that their request had names the attempt; a stale one is a repeat.
Flags and positions of such a message have no authority over a workflow that we know. One that we have never
seen is taken over from it: it was begun by an orchestrator of the original, or before our database was new.
"""

from dataclasses import replace
from datetime import datetime, timedelta

from openaperture.domain import events as e
from openaperture.domain.commands import Decision
from openaperture.domain.decide.advance import complete, fail, keep_schedule, problem_of_milestones, start
from openaperture.domain.decide.pieces import Kinds, before, end, with_ended
from openaperture.domain.decide.workers import failed
from openaperture.domain.history import Entry
from openaperture.domain.milestones import kind_of
from openaperture.domain.workflow import Attempt, AttemptKey, State, Wire, Workflow

UNKNOWN_TIME = datetime.fromisoformat("0001-01-01T00:00:00+00:00")
"""The request time of an attempt that was taken over from a message without a `step_time`."""


def handed_over(workflow: Workflow, event: e.HandedOver, now: datetime, kinds: Kinds) -> Decision | None:
    """None when it answers no request that is out."""
    if workflow.wire is not Wire.TERMS:
        return None
    if workflow.state is not State.CREATED:
        attempt = _find_asked(workflow, event, kinds)
        return None if attempt is None else _answer(workflow, attempt, event, now, kinds)
    if event.step is None and not event.failed:
        return start(workflow, e.StartRequested(), now, kinds)
    return _take_up(workflow, event, now, kinds) if workflow.version == 0 else None


def _find_asked(workflow: Workflow, event: e.HandedOver, kinds: Kinds) -> Attempt | None:
    """The attempt that was asked for at that time. A schedule is asked for under the step before it as well."""
    asked_at = event.step_time or UNKNOWN_TIME
    for attempt in workflow.live:
        same_step = attempt.milestone == event.step or kind_of(kinds, attempt.milestone).queue is None
        if attempt.requested_at == asked_at and same_step:
            return attempt
    return None


def _take_up(workflow: Workflow, event: e.HandedOver, now: datetime, kinds: Kinds) -> Decision:
    """Go on with a workflow that somebody else began."""
    milestones = workflow.release.milestones
    text = f"taken over at {event.step or 'no milestone'} from a message of an orchestrator of the original"
    entry = Entry(kind="workflow.taken_over", text=text, at=now)
    begun = replace(workflow, started_at=workflow.started_at or now, step_started_at=event.step_time)
    problem = problem_of_milestones(begun, kinds)
    if not problem and event.step not in milestones:
        problem = (
            f'the message says that "{event.step}" was done, which is none of the milestones '
            f"{', '.join(milestones) or '(there are none)'}; start the workflow again"
        )
    if problem:
        return before(fail(_ignoring_position(begun), problem, now), entry)
    position = milestones.index(event.step or "")
    attempt = _attempt_of(event, position, now, kinds)
    asked = replace(begun, position=position, last_number=1, live=(attempt,), asked_since=now)
    return before(_answer(asked, attempt, event, now, kinds), entry)


def _ignoring_position(workflow: Workflow) -> Workflow:
    """Where it stands is unknown: no milestone is blamed."""
    return replace(workflow, position=len(workflow.release.milestones))


def _attempt_of(event: e.HandedOver, position: int, now: datetime, kinds: Kinds) -> Attempt:
    kind = kind_of(kinds, event.step or "")
    return Attempt(
        key=AttemptKey(generation=0, position=position, number=1),
        milestone=kind.name,
        requested_at=event.step_time or UNKNOWN_TIME,
        pickup_by=None,
        run_until=now + timedelta(seconds=kind.run_seconds),
        on_loss=kind.on_loss,
        run_seconds=kind.run_seconds,
    )


def _answer(workflow: Workflow, attempt: Attempt, event: e.HandedOver, now: datetime, kinds: Kinds) -> Decision:
    told = _with_what_it_brings(workflow, event)
    if event.failed:
        last = f": {event.event_log[-1]}" if event.event_log else ""
        message = f"a worker reported a failure{last}"
        return failed(told, attempt, e.MilestoneFailed(key=attempt.key, worker=None, message=message), now, kinds)
    if kind_of(kinds, attempt.milestone).queue is None and event.step != attempt.milestone:
        looked = end(attempt, "completed", "the schedule is looked at again", now)
        return with_ended(keep_schedule(told, now, kinds), looked)
    return complete(told, attempt, e.MilestoneCompleted(key=attempt.key, worker=None), now, kinds)


def _with_what_it_brings(workflow: Workflow, event: e.HandedOver) -> Workflow:
    """What a worker found out, for the workers after it. A log that is not longer was not extended."""
    log = event.event_log
    return replace(
        workflow,
        event_log=log if len(log) > len(workflow.event_log) else workflow.event_log,
        carried={**workflow.carried, **event.carried},
        etcd_token=event.etcd_token or workflow.etcd_token,
        notifications_config=event.notifications_config or workflow.notifications_config,
        source_commit_hash=event.source_commit_hash or workflow.source_commit_hash,
    )

"""Messages of the original: the whole workflow arrives, and its flags say how its current step went.

They carry no token. The `step_time` that their request had names the attempt; a stale one is a repeat.
Flags and positions of such a message have no authority over a workflow that we know. One that we have never
seen is taken over from it: it was begun by an orchestrator of the original, or before our database was new.
"""

from dataclasses import replace
from datetime import datetime, timedelta

from openaperture.domain import events as e
from openaperture.domain.attempts import Attempt, AttemptKey
from openaperture.domain.decide.advance import fail, problem_of_milestones, start
from openaperture.domain.decide.draft import Draft
from openaperture.domain.decide.schedule import keep_schedule
from openaperture.domain.decide.workers import done, failed
from openaperture.domain.workflow import State, Step, Wire, Workflow

UNKNOWN_TIME = datetime.fromisoformat("0001-01-01T00:00:00+00:00")
"""The request time of an attempt that was taken over from a message without a `step_time`."""


def handed_over(d: Draft, event: e.HandedOver) -> bool:
    """False when it answers no request that is out."""
    workflow = d.workflow
    if workflow.wire is not Wire.TERMS:
        return False
    if workflow.state is not State.CREATED:
        step = _find_asked(d, event)
        if step is not None and step.live is not None:
            _answer(d, step, step.live, event)
        return step is not None
    if event.step is None and not event.failed:
        start(d)
        return True
    if workflow.version == 0:
        _take_up(d, event)
    return workflow.version == 0


def _find_asked(d: Draft, event: e.HandedOver) -> Step | None:
    """The step that was asked for at that time. A schedule is asked for under the step before it as well."""
    asked_at = event.step_time or UNKNOWN_TIME
    for step in d.workflow.steps:
        same_step = step.milestone == event.step or d.kind(step.milestone).queue is None
        if step.live is not None and step.live.requested_at == asked_at and same_step:
            return step
    return None


def _take_up(d: Draft, event: e.HandedOver) -> None:
    """Go on with a workflow that somebody else began."""
    milestones = d.workflow.release.milestones
    text = f"taken over at {event.step or 'no milestone'} from a message of an orchestrator of the original"
    d.tell("workflow.taken_over", text)
    d.change(started_at=d.workflow.started_at or d.now, step_started_at=event.step_time)
    problem = problem_of_milestones(d.workflow, d.kinds)
    if not problem and event.step not in milestones:
        problem = (
            f'the message says that "{event.step}" was done, which is none of the milestones '
            f"{', '.join(d.workflow.release.flat) or '(there are none)'}; start the workflow again"
        )
    if problem:
        d.change(position=len(milestones))  # where it stands is unknown: no milestone is blamed
        fail(d, problem)
        return
    position = milestones.index(event.step or "")
    attempt = _attempt_of(d, event, position)
    step = Step(milestone=attempt.milestone, live=attempt, asked_since=d.now)
    d.change(position=position, last_number=1, steps=(step,), state=State.RUNNING)
    _answer(d, step, attempt, event)


def _attempt_of(d: Draft, event: e.HandedOver, position: int) -> Attempt:
    kind = d.kind(event.step or "")
    return Attempt(
        key=AttemptKey(generation=0, position=position, number=1),
        milestone=kind.name,
        requested_at=event.step_time or UNKNOWN_TIME,
        pickup_by=None,
        run_until=d.now + timedelta(seconds=kind.run_seconds),
        on_loss=kind.on_loss,
        run_seconds=kind.run_seconds,
    )


def _answer(d: Draft, step: Step, attempt: Attempt, event: e.HandedOver) -> None:
    d.workflow = _with_what_it_brings(d.workflow, event)
    if event.failed:
        last = f": {event.event_log[-1]}" if event.event_log else ""
        message = f"a worker reported a failure{last}"
        failed(d, step, attempt, e.MilestoneFailed(key=attempt.key, worker=None, message=message))
    elif d.kind(attempt.milestone).queue is None and event.step != attempt.milestone:
        d.end(attempt, "completed", "the schedule is looked at again")
        keep_schedule(d, replace(step, live=None))
    else:
        done(d, step, e.MilestoneCompleted(key=attempt.key, worker=None))


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

"""From one position to the next, and to the end.

A position is one milestone, or a group of them. Whatever happens to one of them ends in `settle`, which looks
whether the position is over, and where the workflow stands by now.
"""

from dataclasses import replace

from openaperture.domain.decide.approvals import ask_people, void_changed
from openaperture.domain.decide.draft import Draft, Kinds
from openaperture.domain.decide.locks import are_due, ask_locks, give_back
from openaperture.domain.decide.schedule import keep_schedule
from openaperture.domain.decide.steps import cut_off, request
from openaperture.domain.milestones import FailureKind
from openaperture.domain.releases import MAX_MEMBERS, members_of
from openaperture.domain.times import elapsed_text
from openaperture.domain.workflow import Failure, Result, State, Step, Wire, Workflow


def start(d: Draft, by: str = "") -> None:
    d.change(started_at=d.workflow.started_at or d.now)
    d.tell("workflow.started", "workflow started" + (f" by {by}" if by else ""))
    if problem := problem_of_milestones(d.workflow, d.kinds):
        fail(d, problem)
    else:
        enter(d)


def problem_of_milestones(workflow: Workflow, kinds: Kinds) -> str:
    """Why this list cannot be worked off; empty when it can."""
    release = workflow.release
    entries = (*release.milestones[workflow.position :], *release.on_failure)
    groups = [entry for entry in entries if not isinstance(entry, str)]
    unknown = [name for entry in entries for name in members_of(entry) if name not in kinds]
    if unknown:
        return (
            f'milestone "{unknown[0]}" is not known; known are {", ".join(sorted(kinds))}; '
            f"define it as [milestones.{unknown[0]}] in the orchestrator's configuration"
        )
    if groups and workflow.wire is Wire.TERMS:
        return "workers of the original take no groups of milestones; give them one after the other"
    for group in groups:
        if not 0 < len(group) <= MAX_MEMBERS or len(set(group)) < len(group):
            return f"a group has from 1 to {MAX_MEMBERS} different milestones, unlike ({', '.join(group)})"
    if release.locks_from is not None and release.position_of(release.locks_from) is None:
        return f'locks_from names "{release.locks_from}", which is none of the milestones'
    return ""


def enter(d: Draft) -> None:
    """Come to the milestones at the position, or to the end when none is left."""
    d.change(steps=(), wait=None, last_number=0, step_started_at=None)
    workflow = d.workflow
    if workflow.position >= len(workflow.course):
        _finish(d)
    elif workflow.pause is not None:
        _stand_paused(d)
    elif are_due(d):
        ask_locks(d)
    else:
        begin(d)


def begin(d: Draft) -> None:
    """Begin the milestones at the position."""
    names, generation = d.workflow.members, d.workflow.generation
    steps = tuple(Step(milestone=name, generation=generation, asked_since=d.now) for name in names)
    # Running, whatever comes of it: `settle` sees where it stands once all were begun.
    d.change(steps=steps, step_started_at=d.now, state=State.RUNNING)
    for name in names:
        if name in d.workflow.inherited:
            d.put(d.step(name), result=Result.COMPLETED)
            whom = f" by workflow {d.workflow.lineage.parent_id}" if d.workflow.lineage else " already"
            d.tell("milestone.skipped", f"{name} was completed{whom}", milestone=name)
        else:
            d.tell("milestone.started", f"milestone {name} started", milestone=name)
            begin_step(d, d.step(name))


def begin_step(d: Draft, step: Step) -> None:
    """As its kind wants it: people are asked, the clock, or a worker."""
    kind = d.kind(step.milestone)
    if kind.approval is not None:
        ask_people(d, step, kind.approval)
    elif kind.queue is None:
        keep_schedule(d, step)
    else:
        request(d, step)


def resume(d: Draft) -> None:
    """Go on with what was not begun while it was paused."""
    if d.workflow.state is State.PAUSED and not d.workflow.steps:
        enter(d)
        return
    for step in d.workflow.steps:
        if step.is_idle:
            request(d, replace(step, asked_since=d.now))


def settle(d: Draft) -> None:
    """Draw the conclusions: leave the position when all its milestones have ended, and say where it stands."""
    if d.workflow.state is not State.CANCELLING:
        void_changed(d)
    while not d.workflow.ended and d.workflow.steps and all(step.result for step in d.workflow.steps):
        if d.workflow.state is State.CANCELLING:
            cancelled(d)
        else:
            _leave(d)
    workflow = d.workflow
    if workflow.ended or not workflow.steps or workflow.state is State.CANCELLING:
        return
    _stand(d)


def _leave(d: Draft) -> None:
    workflow = d.workflow
    broken = [step for step in workflow.steps if step.result is not Result.COMPLETED]
    if broken and workflow.failure is None:
        step = next((step for step in broken if step.result is Result.FAILED), broken[0])
        kind = step.kind or FailureKind.CANCELLED
        _fail_because(d, step.milestone, kind, f"milestone {step.milestone} failed: {step.failure}")
        return
    # What follows a failure goes on whatever becomes of it.
    d.change(position=workflow.position + 1, inherited=())
    enter(d)


def fail_here(d: Draft, kind: FailureKind, reason: str) -> None:
    """It cannot go on at its position. Where nothing was begun, nothing has to follow either."""
    workflow = d.workflow
    if workflow.failure is not None:
        fail(d, workflow.failure.reason)
    elif workflow.position == 0 and workflow.generation == 0:
        fail(d, reason)
    else:
        _fail_because(d, ", ".join(workflow.members), kind, reason)


def _fail_because(d: Draft, milestone: str, kind: FailureKind, reason: str) -> None:
    """The first failure: to what follows it, if anything does."""
    workflow = d.workflow
    if not workflow.release.on_failure:
        fail(d, reason)
        return
    failure = Failure(
        milestone=milestone, kind=kind, reason=reason, position=workflow.position, outputs=workflow.outputs
    )
    follows = ", ".join(workflow.release.on_failure)
    d.warn("workflow.failing", f"{reason}; now follows {follows}", milestone=milestone)
    d.change(finished=_finished(workflow), failure=failure, reason=reason)
    d.change(generation=workflow.generation + 1, position=0, inherited=())
    enter(d)


def _finished(workflow: Workflow) -> tuple[str, ...]:
    """Members of its group that a retry need not do again. People are asked again: it may become another thing."""
    if not workflow.steps:
        return workflow.inherited
    return tuple(step.milestone for step in workflow.steps if step.result is Result.COMPLETED and not step.votes)


def _stand(d: Draft) -> None:
    """The state that its milestones add up to."""
    workflow = d.workflow
    unknown = next((step.unknown for step in workflow.steps if step.unknown), "")
    failing = workflow.failure.reason if workflow.failure else ""
    if unknown:
        d.change(state=State.HELD, reason=unknown)
    elif any(step.live for step in workflow.steps):
        d.change(state=State.RUNNING, reason=failing)
    elif any(step.wait for step in workflow.steps):
        d.change(state=State.WAITING, reason=failing)
    else:
        _stand_paused(d)


def _stand_paused(d: Draft) -> None:
    """Only what a pause keeps from being begun has neither a worker, nor a wait, nor an end."""
    workflow = d.workflow
    if workflow.state is State.PAUSED or workflow.pause is None:
        return
    why = f": {workflow.pause.reason}" if workflow.pause.reason else ""
    reason = f"paused by {workflow.pause.by}{why}"
    d.change(state=State.PAUSED, reason=reason)
    text = f'{reason}; before {workflow.current_milestone}; "openaperture resume {workflow.id}" lets it go on'
    d.tell("workflow.paused", text)


# --------------------------------------------------------------------------------------------- ends


def _finish(d: Draft) -> None:
    failure = d.workflow.failure
    if failure is not None:
        fail(d, failure.reason)
        return
    _end(d, State.COMPLETED, "")
    d.tell("workflow.completed", f"workflow completed after {elapsed_text(d.workflow.started_at, d.now)}")


def fail(d: Draft, reason: str) -> None:
    """It ends without success."""
    workflow = d.workflow
    if workflow.step_started_at is not None:
        elapsed = elapsed_text(workflow.step_started_at, d.now)
        d.change(step_durations={**dict.fromkeys(workflow.members, elapsed), **workflow.step_durations})
    _end(d, State.FAILED, reason)
    d.warn("workflow.failed", reason)


def cancelled(d: Draft) -> None:
    """It ends because somebody cancelled it."""
    reason = d.workflow.reason
    _end(d, State.CANCELLED, reason)
    d.warn("workflow.cancelled", reason)


def _end(d: Draft, state: State, reason: str) -> None:
    for step in d.workflow.steps:
        if step.live is not None:
            cut_off(d, step, "cancelled", reason)
    give_back(d)
    failure = d.workflow.failure
    position = failure.position if failure else d.workflow.position
    if failure is None:
        d.change(finished=() if state is State.COMPLETED else _finished(d.workflow))
    d.change(state=state, reason=reason, ended_at=d.now, position=position, steps=(), wait=None, pause=None)

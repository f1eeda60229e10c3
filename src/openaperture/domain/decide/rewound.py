"""A database that was put back to an older state: workers know of attempts that it has never asked for.

Their tokens prove that we asked once. Going on as if nothing had been would do again what is done; so the workflow
is held for a person, who can see what was really done.
"""

from openaperture.domain import events as e
from openaperture.domain.attempts import AttemptKey
from openaperture.domain.decide.advance import settle
from openaperture.domain.decide.draft import Draft
from openaperture.domain.workflow import State, Workflow


def is_ahead(workflow: Workflow, key: AttemptKey) -> bool:
    """Whether this attempt comes after all that the workflow, as it is stored, has ever asked for."""
    if workflow.ended or workflow.state in {State.CREATED, State.CANCELLING}:
        return False
    newest = AttemptKey(generation=workflow.generation, position=workflow.position, number=workflow.last_number)
    return key > newest


def hold_rewound(d: Draft, event: e.HeartbeatSeen | e.MilestoneCompleted | e.MilestoneFailed) -> None:
    """The worker gets no answer: told that its attempt is void, it would break off in the middle."""
    told = {e.MilestoneCompleted: "completed", e.MilestoneFailed: "failed"}.get(type(event), "still at it")
    text = (
        f'worker {event.worker} says "{told}" of attempt {event.key}, which this database has never asked for: it '
        "was probably restored without its last commits"
    )
    waiting = next((step for step in d.workflow.steps if step.result is None and not step.unknown), None)
    if waiting is None:
        d.warn("callback.late", f"{text}; nothing changes")
        return
    reason = (
        f"{text}; look at what was done after {waiting.milestone}, then say "
        f'"openaperture resolve {d.workflow.id} worked", "failed" or "again" of {waiting.milestone}'
    )
    d.put(waiting, wait=None, unknown=reason)
    d.warn("workflow.held", reason, milestone=waiting.milestone)
    settle(d)

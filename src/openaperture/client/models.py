"""What a Manager says, as types. The Manager writes with these and the client reads with them.

Reading is tolerant: fields that are not known are passed over, so an older client understands a newer
Manager. Instants are aware and in UTC. Where the original has a field, its name and type are the same.
"""

from datetime import datetime
from typing import Any

from msgspec import Struct, field


class NewWorkflow(Struct, kw_only=True, frozen=True, omit_defaults=True):
    """What is asked for by `create` and `submit`."""

    milestones: list[str | list[str]] | None = None
    """Names, and lists of names: groups, whose milestones run side by side."""
    on_failure: list[str] = []
    """Milestones to run once it has failed."""
    on_group_failure: str = "finish"
    """finish | cancel: what the failure of one member of a group means for the others."""
    milestone_options: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])
    """Milestone -> limits in place of those of its kind."""
    locks: list[str] = []
    locks_from: str | None = None
    """The milestone before which they are taken; without it, the first."""
    when_locked: str = "wait"
    """wait | newest | refuse"""
    deployment_repo: str | None = None
    deployment_repo_git_ref: str | None = None
    source_repo: str | None = None
    source_repo_git_ref: str | None = None
    scheduled_start_time: str | None = None
    """RFC 1123, such as `Tue, 05 Mar 2013 23:25:19 UTC`."""
    execute_options: dict[str, Any] | None = None
    force_build: bool | None = None
    build_messaging_exchange_id: int | None = None
    deploy_messaging_exchange_id: int | None = None
    id: str | None = None
    """A UUID. Without one the Manager makes one up; with one, creating it again changes nothing."""


class Explanation(Struct, kw_only=True, frozen=True):
    """Why a workflow stands where it stands, as data and as a sentence."""

    code: str
    """not_started | outbox | pickup | sent | running | scheduled | backoff | undeliverable | approval | lock |
    held | paused | cancelling | completed | failed | cancelled | elsewhere"""
    text: str
    until: datetime | None = None
    """When it is looked at again if nothing happens before; None when only an event or a person moves it."""
    details: dict[str, Any] = field(default_factory=dict[str, Any])
    """The same as data, by the code. `lock`: `locks`, each with `name`, `holder`, `since`, `ahead` (how many wait
    before it) and `kept`. `approval`: `milestone`, `role`, `required`, `approved_by`, `inputs`. `pickup`:
    `milestone`, `queue`, `exchange`, `routing_key`, `last_worker`, `last_taken_at`, `at_work` (what workers of
    that queue have now, each with `worker` and `since`). `outbox`: `error`, `again_at`, `since`, `backlog`.
    `held`: `milestones`. Of any that is to be paused before its next milestone: `pause`, with `by`, `reason`,
    `at`."""


class Step(Struct, kw_only=True, frozen=True):
    """One milestone of the current position; of a group there are several."""

    milestone: str
    state: str
    """requested | running | stopping | waiting | unknown | idle (the workflow is paused) | completed | failed |
    cancelled"""
    text: str = ""
    """Why it is not running, where it is not."""
    worker: str | None = None
    progress: float | None = None
    """How much is done, from 0 to 1, if its worker says."""
    until: datetime | None = None


class Attempt(Struct, kw_only=True, frozen=True):
    """One dispatch of one milestone."""

    attempt: str
    """`generation.position.number`."""
    generation: int
    position: int
    number: int
    milestone: str
    requested_at: datetime
    worker: str | None = None
    claimed_at: datetime | None = None
    ended_at: datetime | None = None
    outcome: str | None = None
    """completed | failed | lost | timed_out | unclaimed | undeliverable | cancelled, or resolved_worked and so on
    when a person said it; None while it is live."""
    message: str | None = None


class WorkflowSummary(Struct, kw_only=True, frozen=True):
    """A workflow as it is listed."""

    id: str
    deployment_repo: str | None = None
    deployment_repo_git_ref: str | None = None
    source_repo: str | None = None
    source_repo_git_ref: str | None = None
    source_commit_hash: str | None = None
    """Commit that the worker resolved the ref to; None until then."""
    milestones: list[str] = []
    """All of them in one row, also those of groups."""
    current_step: str | None = None
    """Milestone at its position, kept when it fails; None before the start, `workflow_completed` after success."""
    elapsed_step_time: str | None = None
    elapsed_workflow_time: str | None = None
    workflow_duration: str | None = None
    """Set once it has ended, such as `2 minute(s)`."""
    workflow_step_durations: dict[str, str] = field(default_factory=dict[str, str])
    """Milestone -> how long it took."""
    workflow_error: bool = False
    workflow_completed: bool = False
    """It has ended, whether well or not."""
    event_log: list[str] | None = None
    """Texts of its history, oldest first; None in lists."""
    scheduled_start_time: str | None = None
    execute_options: dict[str, Any] | None = None
    inserted_at: str | None = None
    """RFC 1123, as `updated_at`."""
    updated_at: str | None = None
    force_build: bool | None = None
    build_messaging_exchange_id: int | None = None
    deploy_messaging_exchange_id: int | None = None
    state: str
    """created | running | waiting | held | paused | cancelling | completed | failed | cancelled"""
    reason: str = ""
    """Why it failed, is held or was cancelled."""
    position: int = 0
    """Index into the plan; its length once all are done. While what follows a failure is run: into that."""
    plan: list[list[str]] = []
    """The milestones by position: a list of more than one is a group, whose milestones run side by side."""
    on_failure: list[str] = []
    on_group_failure: str = "finish"
    milestone_options: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])
    """Milestone -> what it is given in place of the limits of its kind."""
    locks: list[str] = []
    locks_from: str | None = None
    when_locked: str = "wait"
    steps: list[Step] = []
    """The milestones of the current position; none before the start and after the end."""
    created_by: str | None = None
    parent_id: str | None = None
    """The workflow that this one repeats, or a part of it."""
    first_position: int = 0
    """Where it began. The milestones before that, with their outputs, were taken over from the one it repeats."""
    explanation: Explanation
    progress: float | None = None
    """How much of the running milestone is done, from 0 to 1, if its worker says."""
    outputs: dict[str, dict[str, str]] = field(default_factory=dict[str, dict[str, str]])
    """Milestone -> name -> text."""
    created_at: datetime | None = None
    started_at: datetime | None = None
    step_started_at: datetime | None = None
    ended_at: datetime | None = None

    @property
    def ended(self) -> bool:
        return self.state in {"completed", "failed", "cancelled"}


class Workflow(WorkflowSummary, kw_only=True, frozen=True):
    """A workflow as it is shown by itself."""

    attempts: list[Attempt] = []
    """Oldest first."""
    children: list[str] = []
    """Ids of the workflows that repeat this one, or a part of it, oldest first."""


class WorkflowPage(Struct, kw_only=True, frozen=True):
    """Workflows, newest first, and how to ask for the next ones."""

    workflows: list[WorkflowSummary]
    next_cursor: str | None = None
    """None when these are the last."""


class LockPlace(Struct, kw_only=True, frozen=True):
    """A workflow's place at a lock."""

    workflow_id: str
    asked_at: datetime
    granted_at: datetime | None = None
    token: int | None = None
    """Of the holder: grows each time that the lock is given."""
    kept: str | None = None
    """Why it has the lock though it has ended."""


class Lock(Struct, kw_only=True, frozen=True):
    """A lock that somebody has or waits for."""

    name: str
    holder: LockPlace | None = None
    waiting: list[LockPlace] = []
    """Who is next comes first."""


class Event(Struct, kw_only=True, frozen=True):
    """One line of a workflow's history."""

    id: int
    kind: str
    text: str
    at: datetime
    success: bool = True
    details: dict[str, Any] = field(default_factory=dict[str, Any])
    """`milestone` and `attempt` where it is about one, `outputs` of a completed one."""


class FeedEvent(Event, kw_only=True, frozen=True):
    """An event of a stream."""

    workflow_id: str


class EventPage(Struct, kw_only=True, frozen=True):
    """Events, oldest first."""

    events: list[Event]
    last_id: int
    """What to ask after for the next page."""
    ended: bool
    """The workflow has ended and these are its last events."""


class LogChunk(Struct, kw_only=True, frozen=True):
    """Some lines of a worker's output. Untrusted text."""

    id: int
    attempt: str
    milestone: str
    sequence: int
    lines: list[str]
    at: datetime


class LogPage(Struct, kw_only=True, frozen=True):
    """Output, oldest first."""

    chunks: list[LogChunk]
    last_id: int
    """What to ask after for the next page."""
    ended: bool
    """The workflow has ended and this is its last output."""


class Problem(Struct, kw_only=True, frozen=True):
    """What is wrong with one field of a request."""

    field: str
    """Its name; `body` when it is the whole body."""
    message: str


class ErrorDetails(Struct, kw_only=True, frozen=True, omit_defaults=True):
    """What went wrong."""

    code: str
    message: str
    """A whole sentence for people."""
    problems: list[Problem] = []
    """With the code `bad_request`: everything that is wrong with the request, field by field."""


class ErrorAnswer(Struct, kw_only=True, frozen=True):
    """The one shape of every answer that is an error."""

    error: ErrorDetails

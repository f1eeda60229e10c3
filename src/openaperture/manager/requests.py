"""The bodies that the API takes. Unknown fields and wrong types are refused, all of them at once."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, cast
from urllib.parse import urlsplit
from uuid import UUID

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    JsonValue,
    Tag,
    model_validator,
)

from openaperture.client.models import Workflow as Shown
from openaperture.domain.errors import BadInput
from openaperture.domain.milestones import FailureKind, MilestoneOptions, OnLoss
from openaperture.domain.releases import MAX_MEMBERS, OnGroupFailure, Release, WhenLocked
from openaperture.domain.times import start_time_of


def plain(text: str) -> str:
    """Raise ValueError for what a terminal or a log could not show."""
    if not text.isprintable():
        raise ValueError("has characters that cannot be printed; leave them out")
    return text


def _trimmed(text: str) -> str | None:
    """As the original: without trailing slashes and blanks. Nothing is as good as null."""
    trimmed = plain(text).rstrip("/\\ ")
    if "://" in trimmed and _password_of(trimmed):
        raise ValueError("holds a password, which everybody would see; name the repository without one")
    return trimmed or None


def _password_of(url: str) -> str | None:
    try:
        return urlsplit(url).password
    except ValueError:
        return None


def _ref(text: str) -> str | None:
    if text.startswith("-"):
        raise ValueError('begins with "-", as no git ref does')
    return plain(text) or None


def _uuid(text: str) -> str:
    try:
        canonical = str(UUID(text))
    except ValueError as exc:
        raise ValueError("is not a UUID; send one or leave it out") from exc
    if canonical != text.lower():
        raise ValueError(f"is not a UUID in its usual form, which is {canonical}")
    return canonical


def _start_time(text: str) -> str:
    try:
        start_time_of(text)
    except BadInput as exc:
        raise ValueError(str(exc)) from exc
    return text


def number(value: Any) -> Any:
    """Digits in a text are as good as a number, as in the original, and an empty text is as good as none."""
    if value == "":
        return None
    return (
        int(value) if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 20 else value
    )


def utc(instant: datetime) -> datetime:
    if instant.tzinfo is None:
        raise ValueError('has no time zone; write it as "2026-03-05T23:25:19Z"')
    try:
        return instant.astimezone(UTC)
    except OverflowError as exc:
        raise ValueError("is beyond the years 1 to 9999") from exc


def _flag(value: Any) -> Any:
    return {"true": True, "false": False}.get(value, value) if isinstance(value, str) else value


def _at(sent: Any, name: str) -> Any:
    return cast("Mapping[str, Any]", sent).get(name) if isinstance(sent, dict) else None


def without(sent: Any, names: Iterable[str]) -> Any:
    """What was sent, if it is an object, without these fields."""
    if not isinstance(sent, dict):
        return sent
    dropped = frozenset(names)
    return {name: value for name, value in cast("Mapping[str, Any]", sent).items() if name not in dropped}


Repository = Annotated[str, Field(max_length=1_024), AfterValidator(_trimmed)]
Ref = Annotated[str, Field(max_length=256), AfterValidator(_ref)]
Milestone = Annotated[str, Field(min_length=1, max_length=64), AfterValidator(plain)]
Id = Annotated[str, Field(max_length=64), AfterValidator(_uuid)]
StartTime = Annotated[str, Field(max_length=64), AfterValidator(_start_time)]
ExchangeId = Annotated[Annotated[int, Field(ge=1, le=2**31 - 1)] | None, BeforeValidator(number)]
Line = Annotated[str, Field(max_length=256)]
Short = Annotated[str, Field(max_length=128)]
Flag = Annotated[bool | None, BeforeValidator(_flag)]
Reason = Annotated[str, Field(max_length=4_096)]
Seconds = Annotated[float, Field(gt=0, le=30 * 86_400, allow_inf_nan=False)]
LOCK_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._:/@-]*$"
Lock = Annotated[str, Field(min_length=1, max_length=128, pattern=LOCK_PATTERN)]
Group = Annotated[list[Milestone], Field(min_length=1, max_length=MAX_MEMBERS)]
Entry = Annotated[
    Annotated[Milestone, Tag("(name)")] | Annotated[Group, Tag("(group)")],
    Discriminator(lambda sent: "(group)" if isinstance(sent, list) else "(name)"),
]
"""A milestone, or a group of them that run side by side. What is wrong with it is told without the tags."""


SET_BY_A_RUN = (
    *("source_commit_hash", "current_step", "elapsed_step_time", "elapsed_workflow_time", "workflow_duration"),
    *("workflow_step_durations", "workflow_error", "workflow_completed", "event_log"),
)


class Strict(BaseModel):
    """What all bodies share."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class ExecuteBody(Strict):
    """Overrides of the original, for one run."""

    force_build: Flag = None
    build_messaging_exchange_id: ExchangeId = None
    deploy_messaging_exchange_id: ExchangeId = None


class LimitsBody(Strict):
    """What one milestone of a workflow is given in place of the limits of its kind."""

    on_loss: Annotated[OnLoss, Field(strict=False)] | None = None
    retry_on: list[Annotated[FailureKind, Field(strict=False)]] | None = None
    max_attempts: Annotated[int, Field(ge=1, le=100)] | None = None
    pickup_seconds: Seconds | None = None
    pickup_limit_seconds: Seconds | None = None
    heartbeat_seconds: Annotated[float, Field(ge=1, le=86_400, allow_inf_nan=False)] | None = None
    run_seconds: Seconds | None = None

    def options(self) -> MilestoneOptions:
        retry_on = None if self.retry_on is None else frozenset(self.retry_on)
        return MilestoneOptions(**self.model_dump(exclude={"retry_on"}), retry_on=retry_on)


class CreateBody(ExecuteBody):
    """A workflow to store. The fields of the original that a sender may decide.

    Clients of the original also send what a run sets: that will do as long as it says that nothing has run.
    """

    id: Id | None = None
    milestones: Annotated[list[Entry], Field(max_length=100)] | None = None
    on_failure: Annotated[list[Milestone], Field(max_length=20)] = []
    on_group_failure: Annotated[OnGroupFailure, Field(strict=False)] = OnGroupFailure.FINISH
    milestone_options: Annotated[dict[Milestone, LimitsBody], Field(max_length=100)] = {}
    locks: Annotated[list[Lock], Field(max_length=16)] = []
    locks_from: Milestone | None = None
    when_locked: Annotated[WhenLocked, Field(strict=False)] = WhenLocked.WAIT
    deployment_repo: Repository | None = None
    deployment_repo_git_ref: Ref | None = None
    source_repo: Repository | None = None
    source_repo_git_ref: Ref | None = None
    scheduled_start_time: StartTime | None = None
    execute_options: dict[str, JsonValue] | None = None

    @model_validator(mode="before")
    @classmethod
    def _without_what_says_nothing(cls, sent: Any) -> Any:
        return without(sent, [name for name in SET_BY_A_RUN if not _at(sent, name)])

    def release(self) -> Release:
        ours = {"id", "milestones", "on_failure", "milestone_options", "locks"}
        entries = self.milestones or ()
        return Release(
            milestones=tuple(entry if isinstance(entry, str) else tuple(entry) for entry in entries),
            on_failure=tuple(self.on_failure),
            milestone_options={name: limits.options() for name, limits in self.milestone_options.items()},
            locks=tuple(dict.fromkeys(self.locks)),
            **self.model_dump(exclude=ours),
        )


class UpdateBody(Strict):
    """A PUT: the 17 fields of the original. What is left out stays, null erases."""

    id: Annotated[str, Field(max_length=64)] | None = None
    milestones: Annotated[list[Milestone], Field(max_length=100)] | None = None
    deployment_repo: Repository | None = None
    deployment_repo_git_ref: Ref | None = None
    source_repo: Repository | None = None
    source_repo_git_ref: Ref | None = None
    source_commit_hash: Line | None = None
    current_step: Short | None = None
    elapsed_step_time: Short | None = None
    elapsed_workflow_time: Short | None = None
    workflow_duration: Short | None = None
    workflow_step_durations: dict[str, str] | None = None
    workflow_error: bool | None = None
    workflow_completed: bool | None = None
    event_log: list[str] | None = None
    scheduled_start_time: StartTime | None = None
    execute_options: dict[str, JsonValue] | None = None

    @model_validator(mode="before")
    @classmethod
    def _without_what_we_add(cls, sent: Any) -> Any:
        """Who reads a workflow, changes a field and sends all of it back also sends what only we show."""
        return without(sent, [name for name in Shown.__struct_fields__ if name not in cls.model_fields])

    def fields(self) -> dict[str, Any]:
        return self.model_dump(exclude_unset=True, exclude={"id"})


class ReasonBody(Strict):
    """Why, for the history."""

    reason: Reason = ""


class ForceBody(ReasonBody):
    """`force`: whatever a worker is doing."""

    force: bool = False


class ResolveBody(ReasonBody):
    resolution: Literal["worked", "failed", "again"]
    milestone: Milestone | None = None


class VoteBody(ReasonBody):
    milestone: Milestone | None = None
    inputs: Annotated[str, Field(max_length=64)] | None = None


class AgainBody(Strict):
    newest: bool = False


class RerunBody(AgainBody):
    milestone: Milestone

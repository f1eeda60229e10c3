"""The bodies that the API takes. Unknown fields and wrong types are refused, all of them at once."""

import json
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit
from uuid import UUID

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, JsonValue

from openaperture.domain.errors import BadInput
from openaperture.domain.events import Resolution
from openaperture.domain.times import start_time_of
from openaperture.domain.workflow import Release


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
    """Digits in a text are as good as a number, as in the original."""
    return (
        int(value) if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 20 else value
    )


Repository = Annotated[str, Field(max_length=1_024), AfterValidator(_trimmed)]
Ref = Annotated[str, Field(max_length=256), AfterValidator(_ref)]
Milestone = Annotated[str, Field(min_length=1, max_length=64), AfterValidator(plain)]
Id = Annotated[str, Field(max_length=64), AfterValidator(_uuid)]
StartTime = Annotated[str, Field(max_length=64), AfterValidator(_start_time)]
ExchangeId = Annotated[int, BeforeValidator(number), Field(ge=1, le=2**31 - 1)]
Reason = Annotated[str, Field(max_length=4_096)]


class Strict(BaseModel):
    """What all bodies share."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class ExecuteBody(Strict):
    """Overrides of the original. They are part of a workflow here, and given when it is created."""

    force_build: bool | None = None
    build_messaging_exchange_id: ExchangeId | None = None
    deploy_messaging_exchange_id: ExchangeId | None = None

    def check(self, release: Release) -> None:
        """Raise BadInput if it asks for something else than the workflow was created with."""
        for name in type(self).model_fields:
            asked, stored = getattr(self, name), getattr(release, name)
            if asked is not None and asked != stored:
                raise BadInput(
                    f"{name}: the workflow was created with {json.dumps(stored)}, which starting it does not "
                    "change; create one with the value that is wanted"
                )


class CreateBody(ExecuteBody):
    """A workflow to store. The fields of the original that a sender may decide."""

    id: Id | None = None
    milestones: Annotated[list[Milestone], Field(max_length=100)] | None = None
    deployment_repo: Repository | None = None
    deployment_repo_git_ref: Ref | None = None
    source_repo: Repository | None = None
    source_repo_git_ref: Ref | None = None
    scheduled_start_time: StartTime | None = None
    execute_options: dict[str, JsonValue] | None = None

    def release(self) -> Release:
        fields = self.model_dump(exclude={"id", "milestones"})
        return Release(milestones=tuple(self.milestones or ()), **fields)


class CancelBody(Strict):
    reason: Reason = ""


class ResolveBody(Strict):
    resolution: Literal["worked", "failed", "again"]
    reason: Reason = ""

    def said(self) -> Resolution:
        return Resolution(self.resolution)

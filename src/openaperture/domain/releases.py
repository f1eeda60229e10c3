"""What a workflow is asked to do, as a value: repositories, milestones, and how they are to be treated."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from openaperture.domain.milestones import MilestoneOptions

Entry = str | tuple[str, ...]
"""A milestone, or a group of milestones that run side by side."""
MAX_MEMBERS = 20
"""Of one group."""


class OnGroupFailure(StrEnum):
    """What the failure of one member of a group means for the others."""

    FINISH = "finish"
    """They go on; the group ends when all have."""
    CANCEL = "cancel"
    """They are stopped."""


class WhenLocked(StrEnum):
    """What to do when somebody else has a lock that is asked for."""

    WAIT = "wait"
    """First come, first served."""
    NEWEST = "newest"
    """Wait, and take the place of those who wait in this way already: they end as cancelled."""
    REFUSE = "refuse"
    """Fail."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """What was asked for. Never changes after the workflow was stored."""

    milestones: tuple[Entry, ...]
    on_failure: tuple[str, ...] = ()
    """Milestones to run once the workflow has failed, one after the other."""
    on_group_failure: OnGroupFailure = OnGroupFailure.FINISH
    milestone_options: Mapping[str, MilestoneOptions] = field(default_factory=dict[str, MilestoneOptions])
    """Limits by the name of a milestone."""
    locks: tuple[str, ...] = ()
    """Names of what only one workflow may have at a time, such as `environment:prod`. Kept to the end."""
    locks_from: str | None = None
    """The milestone before which they are taken; None is the first."""
    when_locked: WhenLocked = WhenLocked.WAIT
    deployment_repo: str | None = None
    deployment_repo_git_ref: str | None = None
    source_repo: str | None = None
    source_repo_git_ref: str | None = None
    scheduled_start_time: str | None = None
    """RFC 1123 text, as in the original."""
    execute_options: Mapping[str, Any] | None = None
    force_build: bool | None = None
    build_messaging_exchange_id: int | None = None
    deploy_messaging_exchange_id: int | None = None

    @property
    def flat(self) -> tuple[str, ...]:
        """The names of all its milestones, without groups: what workers of the original take."""
        return tuple(name for entry in self.milestones for name in members_of(entry))

    def position_of(self, milestone: str) -> int | None:
        """Where the first milestone of that name, or the group with it, stands; None when there is none."""
        return next((at for at, entry in enumerate(self.milestones) if milestone in members_of(entry)), None)

    @property
    def locks_position(self) -> int:
        """The position before which its locks are taken."""
        return (self.position_of(self.locks_from) if self.locks_from else None) or 0


def members_of(entry: Entry) -> tuple[str, ...]:
    return (entry,) if isinstance(entry, str) else entry

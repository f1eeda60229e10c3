"""A workflow that repeats another one, or a part of it.

What has ended never changes, so doing it again is a workflow of its own: with the inputs of the first one pinned,
the outputs of the milestones before its beginning taken over, and a history of its own.
"""

import re
from collections.abc import Collection
from dataclasses import replace
from enum import StrEnum

from openaperture.domain.errors import WrongState
from openaperture.domain.releases import members_of
from openaperture.domain.workflow import Lineage, State, Workflow

_COMMIT = re.compile("[0-9a-f]{40}|[0-9a-f]{64}")


class Repeat(StrEnum):
    """How much of a workflow is done again."""

    RETRY = "retry"
    """From the milestone that failed; of a group, only the members that did not succeed."""
    RERUN = "rerun"
    """From a milestone that a person names."""
    AGAIN = "again"
    """All of it."""


def successor_of(
    workflow: Workflow, repeat: Repeat, new_id: str, by: str, *, milestone: str | None = None, newest: bool = False
) -> Workflow:
    """The workflow that repeats this one, to be stored and started. `milestone` is where a rerun begins.

    `newest` releases what the refs point to by now, in place of the commit that was released before.
    Raises WrongState when this one cannot be repeated so.
    """
    if not workflow.ended:
        say = f'say what became of it ("openaperture resolve {workflow.id} …")'
        end = f"cancel it, or {say if workflow.state is State.HELD else 'wait'}"
        raise WrongState(
            f"workflow {workflow.id} is {workflow.state}, and has to end before it is repeated: {end}"
        )
    position = _beginning_of(workflow, repeat, milestone)
    before = {name for entry in workflow.release.milestones[:position] for name in members_of(entry)}
    inherited = workflow.finished if repeat is Repeat.RETRY else ()
    kept = before | set(inherited)
    if newest:
        _require_newer(workflow, kept)
    left = workflow.failure.outputs if workflow.failure else workflow.outputs
    fresh = Workflow(id=new_id, release=workflow.release, created_by=by, written_by=_authors(workflow))
    return replace(
        fresh,
        position=position,
        inherited=inherited,
        outputs={name: outputs for name, outputs in left.items() if name in kept},
        step_durations={name: text for name, text in workflow.step_durations.items() if name in kept},
        source_commit_hash=None if newest else workflow.source_commit_hash,
        notifications_config=workflow.notifications_config,
        etcd_token=workflow.etcd_token,
        wire=workflow.wire,
        origin=workflow.origin,
        carried=workflow.carried if position else _start_fields(workflow),
        lineage=Lineage(
            parent_id=workflow.id,
            verb=repeat.value,
            by=by,
            milestone=", ".join(members_of(workflow.release.milestones[position])) if position else None,
            position=position,
        ),
    )


def _require_newer(workflow: Workflow, kept: Collection[str]) -> None:
    """All of a workflow is of one commit: with a newer one, nothing of what is done can be kept."""
    if kept:
        raise WrongState(
            f"the newest commit has to go through all milestones: "
            f'"openaperture again --newest {workflow.id}" begins at the first one'
        )
    ref = workflow.release.source_repo_git_ref or ""
    if _COMMIT.fullmatch(ref):
        raise WrongState(
            f"workflow {workflow.id} names the commit {ref} and no branch or tag, so nothing newer is known; "
            "release the repository anew"
        )


def _beginning_of(workflow: Workflow, repeat: Repeat, milestone: str | None) -> int:
    match repeat:
        case Repeat.AGAIN:
            return 0
        case Repeat.RETRY:
            if workflow.state is State.COMPLETED:
                raise WrongState(
                    f"workflow {workflow.id} is completed, so nothing of it has failed; "
                    f'"openaperture again {workflow.id}" runs it again'
                )
            return min(workflow.position, max(len(workflow.release.milestones) - 1, 0))
        case Repeat.RERUN:
            position = workflow.release.position_of(milestone or "")
            if position is None:
                known = ", ".join(workflow.release.flat)
                raise WrongState(f'workflow {workflow.id} has no milestone "{milestone}"; it has {known}')
            if position > workflow.position:
                raise WrongState(
                    f"workflow {workflow.id} never got to {milestone}: it ended at {workflow.current_milestone}; "
                    f'"openaperture retry {workflow.id}" goes on from there'
                )
            return position


def _authors(workflow: Workflow) -> tuple[str, ...]:
    return tuple(sorted({name for name in (workflow.created_by, *workflow.written_by) if name}))


def _start_fields(workflow: Workflow) -> dict[str, object]:
    """Of what travels in messages of the original, what its start message brought."""
    return {key: value for key, value in workflow.carried.items() if key in {"workflow_id", "force_build"}}

"""A workflow that repeats another one, or a part of it.

What has ended never changes, so doing it again is a workflow of its own: with the inputs of the first one pinned,
the outputs of the milestones before its beginning taken over, and a history of its own.
"""

from collections.abc import Iterable
from dataclasses import replace
from enum import StrEnum

from openaperture.domain.errors import WrongState
from openaperture.domain.releases import members_of
from openaperture.domain.workflow import Lineage, State, Workflow


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
        raise WrongState(
            f"workflow {workflow.id} is {workflow.state}; it can be repeated once it has ended: cancel it, or wait"
        )
    position = _beginning_of(workflow, repeat, milestone)
    before = {name for entry in workflow.release.milestones[:position] for name in members_of(entry)}
    inherited = _completed(workflow, position) if repeat is Repeat.RETRY else ()
    kept = before | set(inherited)
    fresh = Workflow(id=new_id, release=workflow.release, created_by=by)
    return replace(
        fresh,
        position=position,
        inherited=inherited,
        outputs={name: outputs for name, outputs in workflow.outputs.items() if name in kept},
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
        ),
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


def _completed(workflow: Workflow, position: int) -> tuple[str, ...]:
    """Members of the group at the position that have left their outputs: they are not run again."""
    milestones = workflow.release.milestones
    members: Iterable[str] = members_of(milestones[position]) if position < len(milestones) else ()
    return tuple(name for name in members if name in workflow.outputs)


def _start_fields(workflow: Workflow) -> dict[str, object]:
    """Of what travels in messages of the original, what its start message brought."""
    return {key: value for key, value in workflow.carried.items() if key in {"workflow_id", "force_build"}}

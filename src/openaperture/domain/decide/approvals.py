"""The milestones that wait for people: who is asked, what counts, until when."""

import json
from datetime import timedelta
from hashlib import sha256

from openaperture.domain import events as e
from openaperture.domain.decide.draft import Draft, Kinds
from openaperture.domain.decide.steps import complete, fail, wait
from openaperture.domain.milestones import ApprovalRule, FailureKind, OnExpiry, kind_of
from openaperture.domain.workflow import Result, Step, Vote, Wait, Workflow

EVERYTHING = "*"
"""The group of whoever may do everything."""


def ask_people(d: Draft, step: Step, rule: ApprovalRule) -> None:
    until = d.now + timedelta(seconds=rule.expires_seconds)
    text = (
        f'{step.milestone} waits for {_persons(rule.required)} of "{rule.role}" to approve: '
        f'"openaperture approve {d.workflow.id}", or "reject"'
    )
    d.tell(
        "approval.asked",
        text,
        milestone=step.milestone,
        role=rule.role,
        required=rule.required,
        until=until.isoformat(),
        inputs=digest_of_inputs(d.workflow),
    )
    wait(d, step, Wait(code="approval", text=text, until=until))


def objection_to(workflow: Workflow, vote: e.Voted, kinds: Kinds) -> str:
    """Why this person has no say in that now; empty when the person has."""
    asked = [step for step in workflow.steps if step.wait is not None and step.wait.code == "approval"]
    meant = [step for step in asked if vote.milestone in {None, step.milestone}]
    if not meant:
        which = f"{vote.milestone} of workflow" if vote.milestone else "workflow"
        return f"{which} {workflow.id} waits for nobody's approval"
    if len(meant) > 1:
        names = ", ".join(step.milestone for step in meant)
        return f"workflow {workflow.id} waits for more than one approval ({names}); say which"
    rule = kind_of(kinds, meant[0].milestone).approval
    if rule is None:
        return f"{meant[0].milestone} is no approval any more: the configuration has changed; cancel it"
    if not vote.groups & {rule.role, EVERYTHING}:
        return f'{vote.by} is not of the group "{rule.role}", whose approval {meant[0].milestone} waits for'
    if rule.not_author and vote.by in {workflow.created_by, *workflow.written_by}:
        return f"{vote.by} has a hand in what workflow {workflow.id} asks for; somebody else has to approve it"
    if any(old.by == vote.by for old in meant[0].votes) and vote.approves:
        return f"{vote.by} has approved {meant[0].milestone} already"
    if vote.inputs is not None and vote.inputs != digest_of_inputs(workflow):
        return f"what {vote.by} has seen of workflow {workflow.id} has changed since; look at it again"
    return ""


def vote(d: Draft, event: e.Voted) -> None:
    """`objection_to` has been asked."""
    step = next(
        step
        for step in d.workflow.steps
        if step.wait is not None and step.wait.code == "approval" and event.milestone in {None, step.milestone}
    )
    why = f": {event.reason}" if event.reason else ""
    if not event.approves:
        d.warn("approval.rejected", f"{event.by} rejects {step.milestone}{why}", by=event.by)
        fail(d, step, FailureKind.REFUSED, "refused", f"rejected by {event.by}{why}")
        return
    given = Vote(by=event.by, reason=event.reason, at=d.now, inputs=digest_of_inputs(d.workflow))
    votes = (*step.votes, given)
    required = (d.kind(step.milestone).approval or ApprovalRule()).required
    text = f"{event.by} approves {step.milestone} ({len(votes)} of {required}){why}"
    d.tell("approval.given", text, milestone=step.milestone, by=event.by, inputs=given.inputs)
    step = d.put(step, votes=votes)
    if len(votes) >= required:
        names = ", ".join(vote.by for vote in votes)
        complete(d, step, f"approved by {names}", {"approved_by": names, "inputs": given.inputs})


def void_changed(d: Draft) -> None:
    """Drop the approvals of what has changed since: of a commit or of outputs that are others now.

    Also where enough had approved, until the position is left: people approve what goes on from there.
    """
    if any(step.result is Result.FAILED for step in d.workflow.steps):
        return
    digest = digest_of_inputs(d.workflow) if any(step.votes for step in d.workflow.steps) else ""
    for step in d.workflow.steps:
        kept = tuple(vote for vote in step.votes if vote.inputs == digest)
        if kept == step.votes or step.result is Result.CANCELLED:
            continue
        gone = ", ".join(vote.by for vote in step.votes if vote not in kept)
        text = f"what {gone} approved has changed since, and {step.milestone} waits anew"
        d.warn("approval.voided", text, milestone=step.milestone, inputs=digest)
        waits = d.put(step, votes=kept, result=None)
        if step.result is not None:
            left = {name: outputs for name, outputs in d.workflow.outputs.items() if name != step.milestone}
            d.change(outputs=left)
            ask_people(d, waits, d.kind(step.milestone).approval or ApprovalRule())


def expire(d: Draft, step: Step, rule: ApprovalRule) -> None:
    """Nobody decided in time."""
    message = f'nobody of "{rule.role}" decided in time'
    if rule.on_expiry is OnExpiry.REJECT:
        fail(d, step, FailureKind.REFUSED, "refused", f"{message}, which counts as a rejection")
    else:
        fail(d, step, FailureKind.TIMED_OUT, "timed_out", message)


def digest_of_inputs(workflow: Workflow) -> str:
    """Of all that an approval is about: what is released, at which commit, and what the milestones have left.

    But for what the votes themselves leave: one approval of a group does not change what another is about.
    """
    release = workflow.release
    voted = {step.milestone for step in workflow.steps if step.votes}
    about = (
        release.source_repo,
        release.source_repo_git_ref,
        release.deployment_repo,
        release.deployment_repo_git_ref,
        workflow.source_commit_hash,
        {name: dict(outputs) for name, outputs in workflow.outputs.items() if name not in voted},
    )
    return sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:16]


def _persons(number: int) -> str:
    return "one person" if number == 1 else f"{number} persons"

"""The locks of a workflow: asked for all at once before a milestone, kept to the end.

Who gets a lock is for the store to say, in the transaction that saves the decision: `commands.AskLocks`.
"""

from datetime import timedelta

from openaperture.domain import events as e
from openaperture.domain.commands import AskLocks, FreeLocks, KeepLocks
from openaperture.domain.decide.draft import Draft
from openaperture.domain.milestones import OnLoss
from openaperture.domain.workflow import State, Wait, Workflow

LIMIT_SECONDS = 7 * 86_400.0
"""How long a workflow may wait for its locks before it fails."""


def are_due(d: Draft) -> bool:
    """Whether its locks have to be asked for before it goes on."""
    workflow = d.workflow
    if all(name in workflow.lock_tokens for name in workflow.release.locks):
        return False
    if workflow.failure is None:
        return workflow.position >= workflow.release.locks_position
    # It failed before its locks were due. What follows needs them only where it may do harm: as a rollback
    return any(d.kind(name).on_loss is OnLoss.HOLD for name in workflow.members)


def ask_locks(d: Draft) -> None:
    """For all of them at once. One that is left when another was taken away is given back first: nobody waits for

    a lock with another one in hand.
    """
    release = d.workflow.release
    if d.workflow.lock_tokens:
        free(d)
    names = " and ".join(f'"{name}"' for name in release.locks)
    what = f"the lock {names}" if len(release.locks) == 1 else f"the locks {names}"
    until = d.now + timedelta(seconds=LIMIT_SECONDS)
    d.change(state=State.WAITING, wait=Wait(code="lock", text=f"waits for {what}", until=until))
    d.lock(AskLocks(names=release.locks, when_locked=release.when_locked))
    d.tell("lock.asked", f"asks for {what}", locks=list(release.locks), when_locked=release.when_locked.value)


def is_waiting(workflow: Workflow) -> bool:
    return workflow.wait is not None and workflow.wait.code == "lock"


def taken(d: Draft, event: e.LocksGranted) -> None:
    d.change(wait=None, lock_tokens=dict(event.tokens))
    d.lock(KeepLocks(names=tuple(event.tokens)))
    names = ", ".join(event.tokens)
    d.tell("lock.taken", f"has the lock {names}", locks=dict(event.tokens))


def why_denied(event: e.LockDenied) -> str:
    if event.code == "superseded":
        return f'workflow {event.by} is newer and takes the place in the queue for the lock "{event.name}"'
    return f'the lock "{event.name}" is taken by workflow {event.by}, and this workflow does not wait for it'


def give_back(d: Draft) -> None:
    """At the end of a workflow: its locks go to the next one, unless a deploy may still be under way."""
    workflow = d.workflow
    if not workflow.lock_tokens and not is_waiting(workflow):
        return
    names = ", ".join(workflow.release.locks)
    if workflow.keeps_locks:
        text = (
            f"keeps the lock {names}: {workflow.keeps_locks}; look at the target, then say "
            f'"openaperture locks release {workflow.release.locks[0]}"'
        )
        d.warn("lock.kept", text, locks=list(workflow.release.locks))
        d.lock(KeepLocks(names=tuple(workflow.lock_tokens), why=workflow.keeps_locks))
        return
    free(d)


def free(d: Draft) -> None:
    d.change(lock_tokens={}, keeps_locks="", kept_for=())
    d.lock(FreeLocks(names=d.workflow.release.locks))


def objection_to_forcing(workflow: Workflow) -> str:
    """Why its lock should not be taken away now: somebody else would get it and do the same. Empty: nothing is.

    What is held is for a person anyway, and what has ended has no worker that we could wait for.
    """
    busy = next((step.live for step in workflow.steps if step.live and not step.unknown), None)
    if busy is None:
        return ""
    how = f"runs at worker {busy.worker}" if busy.worker else "is asked for"
    what = f"{busy.milestone} of workflow {workflow.id} {how} under the lock"
    return f"{what}; cancel that workflow, or take the lock by force"


def forced(d: Draft, event: e.LockForced) -> None:
    """A person takes it away. The workflow goes on: whoever does that knows why."""
    why = f": {event.reason}" if event.reason else ""
    left = {name: token for name, token in d.workflow.lock_tokens.items() if name != event.name}
    d.change(lock_tokens=left)
    if not left:
        d.change(keeps_locks="", kept_for=())
    d.lock(FreeLocks(names=(event.name,)))
    d.warn("lock.forced", f'{event.by} takes away the lock "{event.name}"{why}', by=event.by)

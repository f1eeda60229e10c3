"""What must be true of locks, from the records alone: one rule per function, as in `checker.py`."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from math import inf

from openaperture.domain.attempts import AttemptKey
from openaperture.domain.releases import members_of
from openaperture.domain.workflow import Workflow
from tests.simulation.journal import Saved
from tests.simulation.store import Disk
from tests.simulation.tape import Tape, is_live

DEPLOYS = {"deploy", "deploy_too"}
"""What must not be done twice, nor beside another one that has the same lock."""


def one_holder_per_lock(tape: Tape) -> Iterator[str]:
    """No two workflows believe to have one lock, and its token grows with every holder."""
    holders: dict[str, str] = {}
    tokens: dict[str, int] = {}
    for _, saved in tape.saved:
        workflow_id = saved.after.id
        for name in [name for name, holder in holders.items() if holder == workflow_id]:
            if name not in saved.after.lock_tokens:
                del holders[name]
        for name, token in saved.after.lock_tokens.items():
            holder = holders.setdefault(name, workflow_id)
            if holder != workflow_id:
                yield f"lock {name} is with workflow {workflow_id} and with {holder}"
            had = saved.before is not None and saved.before.lock_tokens.get(name) == token
            if not had and token <= tokens.get(name, 0):
                yield f"lock {name} came to workflow {workflow_id} with the old token {token}"
            tokens[name] = max(token, tokens.get(name, 0))


def asked_only_with_its_locks(tape: Tape) -> Iterator[str]:
    """A milestone that needs locks is asked for only while its workflow has them all.

    What was begun when a person took one away goes on without it, and may be asked for once more. What comes
    after that, or is done afresh because a person says so, needs it again.
    """
    for workflow_id, changes in tape.by_workflow.items():
        taken: dict[str, tuple[int, int]] = {}
        for _, saved in changes:
            had: Mapping[str, int] = saved.before.lock_tokens if saved.before else {}
            here = (saved.before.position, _generation_of(saved.before)) if saved.before else (0, 0)
            taken = {name: at for name, at in taken.items() if name not in saved.after.lock_tokens}
            taken |= {name: here for name in _forced(saved) if name in had}
            for key in saved.requested:
                if saved.after.ended or (saved.before is not None and is_live(saved.before, key)):
                    continue
                if not _needs_locks(tape, saved.after, key):
                    continue
                excused = {
                    name
                    for name, (position, generation) in taken.items()
                    if key.position == position and key.generation <= generation
                }
                if missing := set(saved.after.release.locks) - excused - set(saved.after.lock_tokens):
                    yield f"workflow {workflow_id}: {key} was asked for without {sorted(missing)}"


def _forced(saved: Saved) -> set[str]:
    """Locks that a person took away."""
    if saved.before is None or not any(entry.kind == "lock.forced" for entry in saved.entries):
        return set()
    return set(saved.before.lock_tokens) - set(saved.after.lock_tokens)


def _generation_of(workflow: Workflow) -> int:
    return max([workflow.generation, *(step.generation for step in workflow.steps)])


def _needs_locks(tape: Tape, workflow: Workflow, key: AttemptKey) -> bool:
    """From the position on before which they are taken. Of what follows a failure, only what may do harm."""
    release = workflow.release
    if not tape.follows_failure(workflow.id, key):
        return bool(release.locks) and key.position >= release.locks_position
    members = members_of(release.on_failure[key.position]) if key.position < len(release.on_failure) else ()
    return bool(release.locks) and not DEPLOYS.isdisjoint(members)


def locked_work_never_overlaps(tape: Tape) -> Iterator[str]:
    """Of two deploys that have one lock, none runs beside the other.

    One runs to its end, or to that of its process; one without an end is at it for ever. A person may let
    another one in: by saying what became of it, or by taking its lock away. To the records it is over by that.
    """
    for name, spans in _locked_spans(tape).items():
        latest, whose = -inf, ""
        for begin, end, workflow_id in sorted(spans):
            if begin < latest and workflow_id != whose:
                yield f"lock {name}: workflows {whose} and {workflow_id} deployed at once"
            if end > latest:
                latest, whose = end, workflow_id


Effect = tuple[str, AttemptKey]
Span = tuple[float, float, str]
"""From where to where in the records, and the workflow."""


def _locked_spans(tape: Tape) -> dict[str, list[Span]]:
    """Whose deploy was at work when, by the locks that its workflow had when it was asked for."""
    died = {each.who: place for place, each in tape.died}
    finished: dict[tuple[str, str, AttemptKey], list[int]] = defaultdict(list)
    for place, each in tape.finished:
        finished[each.worker, each.workflow_id, each.key].append(place)
    asked, over, forced = _asked(tape), _called_over(tape), _taken_away(tape)
    spans: dict[str, list[Span]] = defaultdict(list)
    for place, began in tape.began:
        if began.milestone not in DEPLOYS:
            continue
        effect = (began.workflow_id, began.key)
        own_end = min((at for at in finished[began.worker, *effect] if at > place), default=inf)
        end = min(own_end, died.get(began.worker, inf), over.get(effect, inf))
        asked_at, names = asked.get(effect, (place, ()))
        for name in names:
            let_in = min((at for at in forced[began.workflow_id, name] if at >= asked_at), default=inf)
            if place < min(end, let_in):
                spans[name].append((place, min(end, let_in), began.workflow_id))
    return spans


def _asked(tape: Tape) -> dict[Effect, tuple[int, tuple[str, ...]]]:
    """Where each attempt was made, and the locks of its workflow then: it may have lost them before it begins."""
    asked: dict[Effect, tuple[int, tuple[str, ...]]] = {}
    for place, saved in tape.saved:
        for key in saved.requested:
            asked.setdefault((saved.after.id, key), (place, tuple(saved.after.lock_tokens)))
    return asked


def _called_over(tape: Tape) -> dict[Effect, int]:
    """Where a person said what became of it."""
    over: dict[Effect, int] = {}
    for place, saved in tape.saved:
        for key, outcome in saved.ended.items():
            if outcome.startswith("resolved_"):
                over.setdefault((saved.after.id, key), place)
    return over


def _taken_away(tape: Tape) -> dict[tuple[str, str], list[int]]:
    """Where a person took which lock away from which workflow."""
    forced: dict[tuple[str, str], list[int]] = defaultdict(list)
    for place, saved in tape.saved:
        for name in _forced(saved):
            forced[saved.after.id, name].append(place)
    return forced


def locks_are_given_back(tape: Tape, disk: Disk) -> Iterator[str]:
    """Whoever has ended has no lock any more, unless it says why it keeps it; nobody waits for a free one."""
    held = {claim.name for claim in disk.locks.claims if claim.holds}
    for claim in disk.locks.claims:
        workflow = tape.by_workflow[claim.workflow_id][-1][1].after
        if workflow.ended and not workflow.keeps_locks:
            yield f"lock {claim.name} is {claim.state} with workflow {claim.workflow_id}, which has ended"
        elif workflow.ended and claim.kept is None:
            yield f"lock {claim.name} is kept by workflow {claim.workflow_id}, and the queue does not know why"
        if claim.state == "waiting" and claim.name not in held:
            yield f"lock {claim.name} is free, and workflow {claim.workflow_id} waits for it"

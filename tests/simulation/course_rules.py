"""What must be true of the course of a workflow, of its bounds and of secrets: one rule per function."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta

from openaperture.domain.releases import members_of
from openaperture.domain.workflow import State, Step, Workflow
from tests.simulation.journal import Saved
from tests.simulation.loop import START_SECONDS
from tests.simulation.old_worker import CLUSTER_SECRET, OLD_QUEUES
from tests.simulation.tape import Tape, terms_in
from tests.simulation.world import EPOCH, TIMES, TOKEN_KEY

WITHOUT_WORKERS = {"sign_off", "scheduled"}
"""Milestones whose end nobody but the orchestrator can tell of."""
ENDS_UNSEEN = {"milestone.completed", "milestone.due"}
MOST_TRIES: Mapping[str, int] = {"test": 3}
"""And of all others what the table of the world says."""
MAX_TRIES: int = TIMES["max_attempts"]
TRIES = {"failed", "lost", "timed_out"}
WAIT_SECONDS = {"backoff": 90.0, "undeliverable": 90.0, "approval": 60.0, "lock": 7 * 86_400.0}
"""The longest of each; a start time may be any."""
DEADLINE_SECONDS = 900.0
LOG_LINES = 1_000
"""Of the log that travels with each message of the original."""
_TOKEN = re.compile(r"\d+\.\d+\.\d+\.[A-Za-z0-9_-]{43}")
NOTICES = "notifications_hipchat"


def nothing_is_skipped(tape: Tape) -> Iterator[str]:
    """I6: what is called completed has done each place of its list, or takes it over from one that really did."""
    done = _done(tape)
    for workflow_id, changes in tape.by_workflow.items():
        last = changes[-1][1].after
        if last.state is not State.COMPLETED:
            continue
        for position, entry in enumerate(last.release.milestones):
            for milestone in members_of(entry):
                if not _has_done(tape, done, workflow_id, position, milestone):
                    yield f"workflow {workflow_id} is completed, and nobody did {milestone} at {position}"


Place = tuple[str, int, str]


def _done(tape: Tape) -> set[Place]:
    """What was done where: by the ledger of the workers, by the word of a person, or without anybody's work."""
    done: set[Place] = set()
    for _, finished in tape.finished:
        what = (finished.workflow_id, finished.key)
        if finished.how == "done" and not tape.follows_failure(*what):
            done.add((finished.workflow_id, finished.key.position, tape.milestones.get(what, "")))
    for _, saved in tape.saved:
        for key, outcome in saved.ended.items():
            if outcome == "resolved_worked" and not tape.follows_failure(saved.after.id, key):
                done.add((saved.after.id, key.position, tape.milestones.get((saved.after.id, key), "")))
        for entry in saved.entries:
            if entry.kind in ENDS_UNSEEN and entry.details.get("milestone") in WITHOUT_WORKERS:
                position = position_of(saved, entry.details.get("attempt"))
                done.add((saved.after.id, position, str(entry.details["milestone"])))
    return done


def position_of(saved: Saved, attempt: object) -> int:
    """Of the milestone that an entry is about; of one without attempts, that of its workflow until then."""
    if attempt is not None:
        return int(str(attempt).split(".")[1])
    return saved.before.position if saved.before else 0


def _has_done(tape: Tape, done: set[Place], workflow_id: str, position: int, milestone: str) -> bool:
    """Itself, or one that it repeats: only before its beginning, or where it says that it takes that over."""
    while (workflow_id, position, milestone) not in done:
        first = tape.by_workflow[workflow_id][0][1].after
        inherits = position < first.position or (position == first.position and milestone in first.inherited)
        if first.lineage is None or not inherits or first.lineage.parent_id not in tape.by_workflow:
            return False
        workflow_id = first.lineage.parent_id
    return True


def the_unknown_is_for_people(tape: Tape) -> Iterator[str]:
    """I6: a held attempt that was begun is over by the word of its worker or of a person, and by nothing else."""
    began = {(each.workflow_id, each.key) for _, each in tape.began}
    said = {(each.workflow_id, each.key): place for place, each in reversed(tape.finished)}
    for place, saved in tape.saved:
        if saved.before is None or saved.after.state in {State.CANCELLING, State.CANCELLED}:
            continue
        held = {step.live.key for step in saved.before.steps if step.unknown and step.live is not None}
        for key, outcome in saved.ended.items():
            what = (saved.after.id, key)
            silent = what in began and said.get(what, place) >= place
            if key in held and silent and not outcome.startswith("resolved_"):
                yield f"workflow {saved.after.id}: {key} was held, and ended as {outcome} without anybody's word"


def tries_are_limited(tape: Tape) -> Iterator[str]:
    """I10: a milestone is tried so often and no more, unless a person wants it done again."""
    tries: Counter[tuple[str, int, int, str]] = Counter()
    for _, saved in tape.saved:
        for key, outcome in saved.ended.items():
            milestone = tape.milestones.get((saved.after.id, key))
            if outcome in TRIES and milestone is not None:
                tries[saved.after.id, key.generation, key.position, milestone] += 1
    for (workflow_id, _, position, milestone), count in tries.items():
        if count > MOST_TRIES.get(milestone, MAX_TRIES):
            yield f"workflow {workflow_id}: {milestone} at {position} was tried {count} times"


def every_wait_is_limited(tape: Tape) -> Iterator[str]:
    """I10: whatever is waited for has a limit; of a group each member has its own."""
    for _, saved in tape.saved:
        if saved.after.ended:
            continue
        now = EPOCH + timedelta(seconds=saved.at - START_SECONDS)
        for what, seconds, until in _waits_of(saved.after):
            late = not tape.clock_jumped and seconds is not None
            if until is None or (late and until > now + timedelta(seconds=seconds or 0.0)):
                yield f"workflow {saved.after.id} waits for {what} until {until}"


def _waits_of(workflow: Workflow) -> Iterator[tuple[str, float | None, datetime | None]]:
    """What it waits for, at most how long, and until when."""
    if workflow.wait is not None:
        yield workflow.wait.code, WAIT_SECONDS.get(workflow.wait.code), workflow.wait.until
    for step in workflow.steps:
        if step.result is None and not step.unknown and not step.is_idle:
            yield step.milestone, _limit_of(step), step.wake_at


def _limit_of(step: Step) -> float | None:
    return DEADLINE_SECONDS if step.wait is None else WAIT_SECONDS.get(step.wait.code)


def messages_do_not_grow(tape: Tape) -> Iterator[str]:
    """I10: a message of the original carries a log, and however long its workflow lives, that stays short."""
    for _, arrived in tape.arrived:
        if arrived.content_type is None and arrived.queue in OLD_QUEUES:
            lines = len(terms_in(arrived.body).event_log or ())
            if lines > LOG_LINES:
                yield f"a message to {arrived.queue} carries {lines} lines of log"


def no_secret_leaves(tape: Tape) -> Iterator[str]:
    """I11: what proves or opens something stands in nothing that is shown: history, events, notices, records.

    In messages to workers and back it has to stand, but for the key that all tokens are made with.
    """
    for where, text in _shown(tape):
        if TOKEN_KEY in text or CLUSTER_SECRET in text or _TOKEN.search(text):
            yield f"{where} tells a secret"
    for _, arrived in tape.arrived:
        if TOKEN_KEY.encode() in arrived.body:
            yield f"a message on {arrived.queue} holds the key of all tokens"


def _shown(tape: Tape) -> Iterator[tuple[str, str]]:
    """What people see, and where that is."""
    for _, saved in tape.saved:
        for entry in saved.entries:
            yield f"the entry {entry.kind} of workflow {saved.after.id}", f"{entry.text} {dict(entry.details)}"
    for _, told in tape.told:
        yield f"the event {told.name} of {told.by}", str(dict(told.details))
    for _, each in tape.recorded:
        yield f"the record of workflow {each.workflow_id}", each.step
    for _, arrived in tape.arrived:
        if arrived.queue == NOTICES:
            yield f"the notice {arrived.message_id}", arrived.body.decode(errors="replace")

"""The independent judge: from the records alone, did every invariant of the failure model hold?

Each function judges one invariant and answers with a sentence per violation. None of them asks the program. Those
of locks are in `lock_rules.py`; those of what a workflow does, of its bounds and of secrets in `course_rules.py`.

What the records of a simulation cannot tell is proved elsewhere:

  I10  memory, and what lies with a consumer, in tests/fault/test_overload.py and tests/contract/test_broker.py;
       sizes and depths of messages in tests/property/test_etf.py, tests/unit/test_etf.py and
       tests/unit/test_json_codec.py; here tries, waits and the log that travels are judged
  I11  logs, answers, databases and command lines in tests/functional/test_original_secrets.py,
       tests/functional/test_access.py and tests/unit/manager/test_audit.py; here history, events, notices, records
  I12  needs two versions of the program: tests/contract/test_store.py reads what a newer one wrote, and
       tests/unit/test_database.py shows that one refuses a schema which it does not know
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from itertools import pairwise
from typing import Any

import msgspec

from openaperture.domain.attempts import AttemptKey
from openaperture.domain.milestones import OnLoss
from openaperture.domain.workflow import TERMINAL, State, Wire, Workflow
from openaperture.ports import RowKind
from tests.simulation import course_rules, lock_rules
from tests.simulation.broker import Server
from tests.simulation.course_rules import position_of
from tests.simulation.journal import Arrived, Began, Finished, Journal, Settled, _short
from tests.simulation.loop import Process, SimulationLoop
from tests.simulation.store import Disk
from tests.simulation.tape import (
    INTAKE,
    Tape,
    attempt_in,
    attempt_of,
    is_genuine,
    is_live,
    terms_in,
    type_of,
    workflow_in,
)

WORKERS = {"builder", "deployer", "old_builder", "old_deployer", "painters"}
LEASE_SECONDS = 12.0
HEARD_SECONDS = 2.0
"""What came later than this before a loss may still have been under way to the orchestrator."""
MANY = 5
"""Violations of one kind that are told; of more, the number."""
DEFECTS = {"decision.failed", "message.failed", "relay.failed", "request.failed", "process.raised"}
APPROVALS = 2
RETRIED = {"test"}
"""Milestones that are tried again when they fail."""
MAY_RUN_AGAIN = {"lost", "released", "unclaimed", "undeliverable", "timed_out"}


def judge(journal: Journal, disk: Disk, server: Server, loop: SimulationLoop) -> list[str]:
    """All violations at the end of a run, once its faults are over."""
    tape = Tape(journal)
    checks: Sequence[tuple[str, Callable[[], Iterator[str]]]] = (
        ("I1", lambda: no_start_is_lost(tape)),
        ("I2", lambda: saved_before_published(tape)),
        ("I3", lambda: one_decision_per_version(tape)),
        ("I4", lambda: one_dispatch_per_attempt(tape)),
        ("I5", lambda: only_the_current_attempt_counts(tape)),
        ("I5", lambda: a_message_is_handled_once(tape)),
        ("I6", lambda: one_result_per_milestone(tape)),
        ("I6", lambda: effects_run_again_only_after_a_loss(tape)),
        ("I6", lambda: one_worker_runs_a_milestone_once(tape)),
        ("I6", lambda: only_the_silent_are_given_up(tape)),
        ("I6", lambda: course_rules.nothing_is_skipped(tape)),
        ("I6", lambda: course_rules.the_unknown_is_for_people(tape)),
        ("I7", lambda: the_end_is_final(tape)),
        ("I8", lambda: nothing_is_stranded(tape, disk)),
        ("I9", lambda: deliveries_are_conserved(tape)),
        ("I9", lambda: acked_only_when_safe(tape)),
        ("I9", lambda: rows_leave_only_when_done(tape)),
        ("I10", lambda: course_rules.tries_are_limited(tape)),
        ("I10", lambda: course_rules.every_wait_is_limited(tape)),
        ("I10", lambda: course_rules.messages_do_not_grow(tape)),
        ("I11", lambda: course_rules.no_secret_leaves(tape)),
        ("people", lambda: enough_have_approved(tape)),
        ("people", lambda: nothing_begins_while_paused(tape)),
        ("lock", lambda: lock_rules.one_holder_per_lock(tape)),
        ("lock", lambda: lock_rules.locked_work_never_overlaps(tape)),
        ("lock", lambda: lock_rules.asked_only_with_its_locks(tape)),
        ("lock", lambda: lock_rules.locks_are_given_back(tape, disk)),
        ("record", lambda: recorded_before_asked(tape)),
        ("record", lambda: the_manager_is_told_the_end(tape)),
        ("I13", lambda: everything_ends(disk, server)),
        ("defect", lambda: no_defect_was_met(tape, loop)),
    )
    return [text for name, check in checks for text in _told(name, check())]


def _told(name: str, violations: Iterator[str]) -> list[str]:
    found = list(violations)
    more = [f"{name}: and {len(found) - MANY} more"] if len(found) > MANY else []
    return [f"{name}: {text}" for text in found[:MANY]] + more


def no_start_is_lost(tape: Tape) -> Iterator[str]:
    """I1: whoever was told that it is safe finds it in the database, from that moment on."""
    for place, asked in tape.asked:
        changes = tape.by_workflow.get(asked.workflow_id)
        if asked.what == "create" and (not changes or changes[0][0] > place):
            yield f"workflow {asked.workflow_id} was created for somebody, and is not stored"
    for place, settled in tape.settled:
        body = tape.bodies.get(settled.serial, b"")
        if settled.queue != INTAKE or settled.how != "ack" or not body.startswith(b'{"id":"'):
            continue
        changes = tape.by_workflow.get(body[7 : body.index(b'"', 7)].decode())
        if not changes or changes[0][0] > place:
            yield f"{settled.message_id} was acked before its workflow was stored"


def saved_before_published(tape: Tape) -> Iterator[str]:
    """I2: nothing is on a worker's queue whose attempt is not stored."""
    known: dict[tuple[str, str], int] = {}
    for place, saved in tape.saved:
        for key in saved.requested:
            known.setdefault((saved.after.id, str(key)), place)
    for place, arrived in tape.arrived:
        if arrived.queue not in WORKERS:
            continue
        if arrived.content_type is None:
            old = terms_in(arrived.body)
            if tape.asked_at.get((old.id, old.current_step or "", old.step_time), (place,))[0] >= place:
                yield f"the request for {old.current_step} of workflow {old.id} was sent before it was stored"
            continue
        workflow_id, asked = attempt_of(arrived.body)
        if known.get((workflow_id, asked), place) >= place:
            yield f"the request of attempt {asked} of workflow {workflow_id} was sent before it was stored"


def one_decision_per_version(tape: Tape) -> Iterator[str]:
    """I3: versions follow each other, from 1, without gap, fork or repeat."""
    for workflow_id, changes in tape.by_workflow.items():
        versions = [saved.after.version for _, saved in changes]
        if versions != list(range(1, len(versions) + 1)):
            yield f"workflow {workflow_id} went through the versions {versions}"
        for _, saved in changes:
            if saved.expected_version != saved.after.version - 1:
                yield f"workflow {workflow_id}: {saved.after.version} was made of {saved.expected_version}"
        for (_, one), (_, two) in pairwise(changes):
            same_course = one.after.failure == two.after.failure and not two.after.ended
            went_back = same_course and two.after.position < one.after.position
            if went_back or two.after.generation < one.after.generation:
                yield f"workflow {workflow_id} went back at version {two.after.version}"


def one_dispatch_per_attempt(tape: Tape) -> Iterator[str]:
    """I4: all copies of one request are the same, and each attempt has one."""
    bodies: dict[str, tuple[str, bytes]] = {}
    names: dict[tuple[str, str], str] = {}
    for _, arrived in tape.arrived:
        if arrived.queue not in WORKERS or arrived.content_type is None or arrived.message_id is None:
            continue
        if bodies.setdefault(arrived.message_id, (arrived.queue, arrived.body)) != (arrived.queue, arrived.body):
            yield f"message {arrived.message_id} was sent with two contents"
        attempt = attempt_of(arrived.body)
        if names.setdefault(attempt, arrived.message_id) != arrived.message_id:
            yield f"attempt {attempt[1]} of workflow {attempt[0]} was sent under two names"
    for _, saved in tape.saved:
        live = {str(attempt.key) for attempt in saved.after.live}
        made = [str(key) for key in saved.requested if saved.before is None or not is_live(saved.before, key)]
        posted = {row.attempt for row in saved.rows if row.kind in {RowKind.REQUEST, RowKind.ROUTE}}
        for key in dict.fromkeys(made):
            if key in live and key not in posted:
                yield f"attempt {key} of workflow {saved.after.id} was made without its request"


def only_the_current_attempt_counts(tape: Tape) -> Iterator[str]:
    """I5: what moved a workflow on came from the attempt that was current, and was really said by somebody."""
    words = _words_of_workers(tape)
    for place, saved in tape.saved:
        for entry in saved.entries:
            if entry.kind not in {"milestone.completed", "milestone.failed"}:
                continue
            if "attempt" not in entry.details:
                # People and schedules have no attempt.
                continue
            key = str(entry.details["attempt"])
            if saved.before is None or not any(str(a.key) == key for a in saved.before.live):
                yield f"workflow {saved.after.id}: {entry.kind} of attempt {key}, which was not current"
            if entry.details["milestone"] == "scheduled":
                continue
            course = (saved.after.id, *key.split(".")[:2], str(entry.details["milestone"]))
            said = words.get((*course, entry.kind.removeprefix("milestone.")))
            if said is None or said > place:
                yield f"workflow {saved.after.id}: {entry.kind} of attempt {key}, which no worker said"


def _words_of_workers(tape: Tape) -> dict[tuple[str, ...], int]:
    """Results that handlers really had, and where the first of each stands.

    Without the number of the attempt: one that is asked for again answers with what it has.
    """
    words: dict[tuple[str, ...], int] = {}
    milestones = {(began.workflow_id, began.key): began.milestone for _, began in tape.began}
    for place, finished in tape.finished:
        key, told = finished.key, "completed" if finished.how == "done" else "failed"
        milestone = milestones.get((finished.workflow_id, key), "")
        words.setdefault((finished.workflow_id, str(key.generation), str(key.position), milestone, told), place)
    return words


def a_message_is_handled_once(tape: Tape) -> Iterator[str]:
    """I5: what comes again is known by its id, and not applied again."""
    handled = Counter(message_id for _, saved in tape.saved for message_id in saved.message_ids)
    for message_id, count in handled.items():
        if count > 1:
            yield f"message {message_id} was handled in {count} commits"


def one_result_per_milestone(tape: Tape) -> Iterator[str]:
    """I6: a milestone is counted as completed once; an approval once more when it was voided in between."""
    for workflow_id, changes in tape.by_workflow.items():
        counts: Counter[tuple[bool, int, str]] = Counter()
        for _, saved in changes:
            failing = saved.before is not None and saved.before.failure is not None
            for entry in saved.entries:
                # An approval of what has changed since is void, and given again.
                change = {"milestone.completed": 1, "approval.voided": -1}.get(entry.kind, 0)
                if change:
                    position = position_of(saved, entry.details.get("attempt"))
                    place = (failing, position, str(entry.details.get("milestone")))
                    counts[place] = max(0, counts[place] + change)
                    if counts[place] > 1:
                        yield f"workflow {workflow_id}: {place[2]} at {position} was completed again"


def effects_run_again_only_after_a_loss(tape: Tape) -> Iterator[str]:
    """I6: an effect runs again only under a later attempt, after the earlier one was declared over."""
    ended: dict[tuple[str, AttemptKey], tuple[int, str]] = {}
    holds: set[tuple[str, AttemptKey]] = set()
    for place, saved in tape.saved:
        for key, outcome in saved.ended.items():
            ended[saved.after.id, key] = (place, outcome)
        holds |= {(saved.after.id, a.key) for a in saved.after.live if a.on_loss is OnLoss.HOLD}
    runs: dict[tuple[str, int, int, str], list[tuple[int, Began]]] = defaultdict(list)
    for place, began in tape.began:
        runs[began.workflow_id, began.key.generation, began.key.position, began.milestone].append((place, began))
    for (workflow_id, *_), effects in runs.items():
        # A worker that stood still may begin an attempt after its successor: what counts is which was over first.
        for (_, one), (place, two) in pairwise(sorted(effects, key=lambda effect: (effect[1].key, effect[0]))):
            over = ended.get((workflow_id, one.key), (place, "nothing"))
            if problem := _problem_of_a_second_run(one, two, place, over, holds=(workflow_id, one.key) in holds):
                yield f"workflow {workflow_id}: {two.milestone} ran as {two.key} by {two.worker}{problem}"


def _problem_of_a_second_run(one: Began, two: Began, place: int, over: tuple[int, str], *, holds: bool) -> str:
    """Empty when it may be."""
    over_at, outcome = over
    if two.milestone.startswith("old_") and (two.key == one.key or not holds):
        # Workers of the original claim nothing: a request may reach them twice, and a lost one late.
        return ""
    if two.key == one.key:
        return f", and by {one.worker}"
    if outcome == "failed" and two.milestone in RETRIED and over_at < place:
        return ""
    if over_at >= place or outcome not in MAY_RUN_AGAIN:
        return f", while {one.key} had ended with {outcome}"
    return f", though {one.key} by {one.worker} had begun and was called {outcome}" if holds else ""


def one_worker_runs_a_milestone_once(tape: Tape) -> Iterator[str]:
    """I6: within one worker process an effect never runs beside itself, nor again after it was done."""
    at_work: dict[tuple[str, str, AttemptKey, str], str] = {}
    milestones = {(began.workflow_id, began.key): began.milestone for _, began in tape.began}
    steps: list[tuple[int, Began | Finished]] = sorted([*tape.began, *tape.finished], key=lambda step: step[0])
    for _, step in steps:
        milestone = milestones[step.workflow_id, step.key]
        key = (step.worker, step.workflow_id, replace(step.key, number=0), milestone)
        if isinstance(step, Finished):
            at_work[key] = step.how
        else:
            if at_work.get(key) in {"running", "done"} and not step.milestone.startswith("old_"):
                yield f"{step.worker} ran {step.milestone} of workflow {step.workflow_id} again ({at_work[key]})"
            at_work[key] = "running"


def only_the_silent_are_given_up(tape: Tape) -> Iterator[str]:
    """An attempt is called lost for its worker's silence only when nothing of it had come for as long as a lease.

    Judged where one orchestrator works alone: what lies with a peer that stands still cannot be known.
    """
    if tape.clock_jumped or len(tape.orchestrators) > 1:
        return
    heard: dict[tuple[str, str], list[float]] = defaultdict(list)
    seen: set[str | None] = set()
    for _, arrived in tape.arrived:
        if arrived.queue == INTAKE and arrived.message_id not in seen and type_of(arrived.body) == "heartbeat":
            seen.add(arrived.message_id)
            heard[workflow_in(arrived.body), attempt_in(arrived.body)].append(arrived.at)
    for _, saved in tape.saved:
        for entry in saved.entries:
            if entry.kind != "milestone.lost" or "stopped answering" not in entry.text:
                continue
            times = heard[saved.after.id, str(entry.details["attempt"])]
            if any(saved.at - LEASE_SECONDS + 1.0 < at < saved.at - HEARD_SECONDS for at in times):
                yield f"workflow {saved.after.id}: attempt {entry.details['attempt']} was given up while it spoke"


def the_end_is_final(tape: Tape) -> Iterator[str]:
    """I7: what has ended does not change, and its end is written down once."""
    for workflow_id, changes in tape.by_workflow.items():
        ends = [e.kind for _, saved in changes for e in saved.entries if e.kind in _ENDS]
        last = changes[-1][1].after
        if len(ends) != (1 if last.state in TERMINAL else 0):
            yield f"workflow {workflow_id} is {last.state} and has the ends {ends}"
        for _, saved in changes:
            if (
                saved.before is not None
                and saved.before.state in TERMINAL
                and _core(saved.before) != _core(saved.after)
            ):
                yield f"workflow {workflow_id} had ended and changed at version {saved.after.version}"


_ENDS = {"workflow.completed", "workflow.failed", "workflow.cancelled"}


def _core(workflow: Workflow) -> tuple[Any, ...]:
    """What a person sees of an ended workflow, apart from last lines of output."""
    w = workflow
    return (w.state, w.position, w.generation, w.live, w.reason, w.ended_at, dict(w.outputs), w.last_number)


def nothing_is_stranded(tape: Tape, disk: Disk) -> Iterator[str]:
    """I8, at every commit: whatever has not ended is a person's turn, or something will move it."""
    for _, told in tape.told:
        if told.name == "workflow.stranded":
            yield f"workflow {told.details['workflow_id']} was found stranded"
    for _, saved in tape.saved:
        after = saved.after
        moved = after.wake_at is not None or after.state in {State.CREATED, State.HELD, State.PAUSED, *TERMINAL}
        if not moved and not saved.rows:
            yield f"workflow {after.id} is {after.state} at version {after.version} and nothing would move it"
    for key, stored in disk.workflows.items():
        if stored.workflow is None:
            yield f"workflow {key} is stored and cannot be read"


def enough_have_approved(tape: Tape) -> Iterator[str]:
    """An approval is done only when so many different people have said so."""
    for workflow_id, changes in tape.by_workflow.items():
        voters: set[str] = set()
        for _, saved in changes:
            for entry in saved.entries:
                if entry.details.get("milestone") != "sign_off":
                    continue
                if entry.kind == "approval.given":
                    voters.add(str(entry.details["by"]))
                elif entry.kind == "milestone.started":
                    voters = set()
                elif entry.kind == "approval.voided":
                    voters = {vote.by for step in saved.after.steps for vote in step.votes}
                elif entry.kind == "milestone.completed" and len(voters) < APPROVALS:
                    yield f"workflow {workflow_id}: sign_off was done by {sorted(voters)} alone"


def nothing_begins_while_paused(tape: Tape) -> Iterator[str]:
    for workflow_id, changes in tape.by_workflow.items():
        for _, saved in changes:
            paused = saved.before is not None and saved.before.pause is not None and saved.after.pause is not None
            made = [key for key in saved.requested if saved.before and not is_live(saved.before, key)]
            if paused and made and saved.after.wire is Wire.JSON:
                yield f"workflow {workflow_id} is paused, and {made[0]} was asked for"


def recorded_before_asked(tape: Tape) -> Iterator[str]:
    """Where a Manager elsewhere holds the workflows, it knows of a milestone before a worker is asked for it."""
    if not tape.recorded:
        return
    recorded: dict[tuple[str, str], int] = {}
    for place, each in tape.recorded:
        # Of a group all those that have not ended are named.
        for step in each.step.split(", "):
            recorded.setdefault((each.workflow_id, step), place)
    for place, arrived in tape.arrived:
        if arrived.queue not in WORKERS:
            continue
        if arrived.content_type is None:
            workflow_id, step = terms_in(arrived.body).id, terms_in(arrived.body).current_step or ""
        else:
            fields = msgspec.json.decode(arrived.body)
            workflow_id, step = fields["id"], fields["current_step"]
        if recorded.get((workflow_id, step), place) >= place:
            yield f"{step} of workflow {workflow_id} was asked for before the Manager knew of it"


def the_manager_is_told_the_end(tape: Tape) -> Iterator[str]:
    """The last that the Manager holds of a workflow is how it ended."""
    last = {each.workflow_id: each for _, each in tape.recorded}
    for workflow_id, changes in tape.by_workflow.items():
        after = changes[-1][1].after
        known = last.get(workflow_id)
        if after.state not in TERMINAL or known is None:
            continue
        if not known.completed or known.error != (after.state is not State.COMPLETED):
            yield f"workflow {workflow_id} is {after.state}; the Manager holds {known.step}, error {known.error}"


def deliveries_are_conserved(tape: Tape) -> Iterator[str]:
    """I9: the orchestrator's counts add up, and agree with what the broker saw settled."""
    counted: dict[str, Counter[str]] = defaultdict(Counter)
    for _, told in tape.told:
        if told.name != "batch.settled":
            continue
        parts = {name: told.details[name] for name in ("applied", "duplicates", "parked", "requeued")}
        if min(parts.values()) < 0 or sum(parts.values()) != told.details["received"]:
            yield f"{told.by} received {told.details['received']} and accounts for {parts}"
        done = parts["applied"] + parts["duplicates"]
        counted[told.by] += Counter(ack=done, dead_letter=parts["parked"], requeue=parts["requeued"])
    crashed = {each.who for _, each in tape.died if each.where != "its end"}
    crashed |= {told.by for _, told in tape.told if told.name == "process.forced"}
    received = Counter(each.by for _, each in tape.delivered if each.queue == INTAKE)
    settled: dict[str, Counter[str]] = defaultdict(Counter)
    for _, each in tape.settled:
        if each.queue == INTAKE:
            settled[each.by][each.how] += 1
    for name, number in received.items():
        if name in crashed:
            continue
        if settled[name].total() != number:
            yield f"{name} was handed {number} messages and settled {settled[name].total()}"
        if counted[name] != settled[name]:
            yield f"{name} settled {dict(settled[name])} and counted {dict(counted[name])}"


def acked_only_when_safe(tape: Tape) -> Iterator[str]:
    """Ack after commit: a result that was acked had been saved, or had been saved under another delivery."""
    for place, settled in tape.settled:
        if settled.queue != INTAKE or settled.how != "ack" or not settled.message_id:
            continue
        body = tape.bodies.get(settled.serial, b"")
        if type_of(body) not in {"completed", "failed"} or not is_genuine(body):
            continue
        saved_at = tape.handled.get(f"{workflow_in(body)}/{settled.message_id}")
        if saved_at is None or saved_at > place:
            yield f"message {settled.message_id} ({type_of(body)}) was acked before it was saved"


def rows_leave_only_when_done(tape: Tape) -> Iterator[str]:
    """A request leaves the outbox only after it arrived, or when its workflow was told that it cannot."""
    arrived: dict[str, int] = {}
    for place, each in tape.arrived:
        arrived.setdefault(each.message_id or "", place)
    over: dict[tuple[str, str], int] = {}
    for place, saved in tape.saved:
        for key in saved.ended:
            over.setdefault((saved.after.id, str(key)), place)
    kinds = {row.id: row for _, saved in tape.saved for row in saved.rows}
    for place, gone in tape.gone:
        row = kinds.get(gone.row_id)
        if row is None or row.kind is not RowKind.REQUEST or row.content_type is None:
            continue
        if arrived.get(row.id, place) >= place and over.get((row.workflow_id, row.attempt), place) >= place:
            yield f"request {row.id} was deleted by {gone.by} and had not arrived anywhere"


def everything_ends(disk: Disk, server: Server) -> Iterator[str]:
    """I13: without faults everything ends, the outbox is empty and the intake too."""
    for key, stored in disk.under_way.items():
        if stored.row["state"] != State.CREATED:
            yield f"workflow {key} is {stored.row['state']} for ever: {_short(stored.workflow)}"
    for row_id in disk.outbox:
        yield f"outbox row {row_id} is never done"
    if waiting := len(server.queues[INTAKE].messages):
        yield f"{waiting} messages wait in {INTAKE} for ever"


def no_defect_was_met(tape: Tape, loop: SimulationLoop) -> Iterator[str]:
    """What the product itself calls its own fault."""
    for _, told in tape.told:
        if told.name in DEFECTS:
            yield f"{told.by} told {told.name}: {dict(told.details)}"
    for failure in loop.failures:
        yield f"an exception that nobody took: {failure}"


def judge_lost_work(journal: Journal, disk: Disk, living: list[Process]) -> list[str]:
    """With the reaper off and no more faults: what runs is in the hands of a worker, or of one that died with it.

    The reaper would hide a lost request or answer: it asks again.
    """
    alive = {process.name for process in living}
    finished = {(each.workflow_id, each.key): each for _, each in journal.of(Finished)}
    began = {(each.workflow_id, each.key) for _, each in journal.of(Began)}
    posted = {row["workflow_id"] for row in disk.outbox.values()}
    waiting = _waiting_requests(journal)
    old_sent = _sent_to_old_workers(journal)
    found: list[str] = []
    for key, stored in disk.under_way.items():
        workflow = stored.workflow
        if workflow is None or workflow.state is not State.RUNNING or key in posted:
            continue
        for attempt in workflow.live:
            name = f"attempt {attempt.key} of workflow {key}"
            if workflow.wire is Wire.TERMS:
                if (key, attempt.requested_at) not in old_sent:
                    found.append(f"work: {name} was asked for and never sent")
                continue
            if attempt.worker is None and (key, str(attempt.key)) not in waiting:
                found.append(f"work: {name} was asked for and nobody has it")
            elif attempt.worker in alive and (key, attempt.key) in finished:
                found.append(f"work: {name} was done by {attempt.worker}, and that was lost")
            elif attempt.worker in alive and (key, attempt.key) not in began:
                found.append(f"work: {name} was given to {attempt.worker}, which does nothing")
    return found


def _sent_to_old_workers(journal: Journal) -> set[tuple[str, datetime | None]]:
    """Requests as terms that were ever on a queue. The original's workers may lose them unnoticed."""
    bodies = [each.body for _, each in journal.of(Arrived) if each.content_type is None and each.queue in _READERS]
    return {(old.id, old.step_time) for old in map(terms_in, bodies)}


_READERS = {*WORKERS, INTAKE}


def _waiting_requests(journal: Journal) -> set[tuple[str, str]]:
    """Attempts of which a request is on a queue, or with a worker that has not settled it."""
    gone = {each.serial for _, each in journal.of(Settled) if each.counted and each.how != "requeue"}
    copies = [each for _, each in journal.of(Arrived) if each.queue in WORKERS and each.serial not in gone]
    return {attempt_of(each.body) for each in copies if each.content_type is not None}

"""The judge itself is judged: each of these tapes shows one thing that must not be, and its twin nothing."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from openaperture.codecs import terms
from openaperture.domain.attempts import Attempt, AttemptKey
from openaperture.domain.history import Entry
from openaperture.domain.milestones import FailureKind, OnLoss
from openaperture.domain.releases import Release
from openaperture.domain.workflow import Failure, Lineage, Result, State, Step, Wait, Workflow
from tests.simulation.checker import a_message_is_handled_once, enough_have_approved, one_result_per_milestone
from tests.simulation.course_rules import (
    every_wait_is_limited,
    messages_do_not_grow,
    no_secret_leaves,
    nothing_is_skipped,
    the_unknown_is_for_people,
    tries_are_limited,
)
from tests.simulation.journal import Arrived, Began, ClockJumped, Died, Finished, Journal, Record, Saved, Told
from tests.simulation.lock_rules import asked_only_with_its_locks, locked_work_never_overlaps, one_holder_per_lock
from tests.simulation.loop import START_SECONDS
from tests.simulation.old_worker import CLUSTER_SECRET, old_start
from tests.simulation.tape import Tape
from tests.simulation.world import EPOCH, TOKEN_KEY

PROD, DATABASE = "environment:prod", "database"
TOKEN = "0.0.1." + "x" * 43
LOCKED = Release(milestones=("deploy",), locks=(PROD,))


def key(number: int = 1, position: int = 0, generation: int = 0) -> AttemptKey:
    return AttemptKey(generation=generation, position=position, number=number)


def attempt(milestone: str, at: AttemptKey, **fields: Any) -> Attempt:
    defaults: dict[str, Any] = {
        "requested_at": EPOCH,
        "pickup_by": EPOCH + timedelta(seconds=60),
        "on_loss": OnLoss.HOLD,
        "run_seconds": 60.0,
    }
    return Attempt(key=at, milestone=milestone, **defaults | fields)


def step(milestone: str, at: AttemptKey | None = None, **fields: Any) -> Step:
    live = attempt(milestone, at) if at is not None else None
    begun = Step(milestone=milestone, generation=at.generation if at else 0, live=live)
    return replace(begun, **fields)


def entry(kind: str, text: str = "", **details: Any) -> Entry:
    return Entry(kind=kind, text=text, at=EPOCH, details=details)


@dataclass(slots=True)
class Story:
    """A journal that is written by hand."""

    journal: Journal = field(default_factory=Journal)
    states: dict[str, Workflow] = field(default_factory=dict[str, Workflow])

    def __post_init__(self) -> None:
        self.journal.now = lambda: START_SECONDS

    def save(
        self,
        who: str,
        *entries: Entry,
        asks: Sequence[AttemptKey] = (),
        ends: Mapping[AttemptKey, str] | None = None,
        handles: Sequence[str] = (),
        **changes: Any,
    ) -> None:
        before = self.states.get(who)
        fresh = Workflow(id=who, release=Release(milestones=("build",)), state=State.RUNNING)
        known = before or fresh
        after = replace(known, version=known.version + 1, **changes)
        self.states[who] = after
        self.journal.add(Saved("orc0", before, after, known.version, entries, asks, ends or {}, [], handles))

    def ask(self, who: str, milestone: str, at: AttemptKey, **changes: Any) -> None:
        self.save(who, asks=[at], steps=(step(milestone, at),), **changes)

    def add(self, *records: Record) -> None:
        for record in records:
            self.journal.add(record)

    def begin(self, who: str, milestone: str, at: AttemptKey, worker: str = "hand0") -> None:
        self.add(Began(worker, who, at, milestone))

    def finish(self, who: str, at: AttemptKey, how: str = "done", worker: str = "hand0") -> None:
        self.add(Finished(worker, who, at, how))

    def work(self, who: str, milestone: str, at: AttemptKey, how: str = "done") -> None:
        self.ask(who, milestone, at)
        self.begin(who, milestone, at)
        self.finish(who, at, how)
        self.save(who, ends={at: "completed" if how == "done" else "failed"}, steps=())

    @property
    def tape(self) -> Tape:
        return Tape(self.journal)


@pytest.fixture
def story() -> Story:
    return Story()


def found(violations: Iterator[str]) -> str:
    """The only one; empty when there is none."""
    told = list(violations)
    assert len(told) <= 1, told
    return told[0] if told else ""


# ----------------------------------------------------------------------------------------- work under a lock


def _deploys(story: Story, who: str, worker: str) -> None:
    """It has its lock, and its worker begins."""
    story.ask(who, "deploy", key(), release=LOCKED, lock_tokens={PROD: len(story.states) + 1})
    story.begin(who, "deploy", key(), worker)


def _gives_back(story: Story, who: str) -> None:
    story.save(who, lock_tokens={}, state=State.COMPLETED, steps=())


def test_a_long_deploy_that_reaches_over_a_short_one_to_a_third_is_seen(story: Story) -> None:
    """Neighbours alone do not tell: the second ends before the third begins."""
    _deploys(story, "one", "hand1")
    _deploys(story, "one", "hand2")
    story.finish("one", key(), worker="hand2")
    _deploys(story, "three", "hand3")
    story.finish("three", key(), worker="hand3")
    story.finish("one", key(), worker="hand1")
    assert "one and three deployed at once" in found(locked_work_never_overlaps(story.tape))


def test_a_deploy_without_an_end_goes_on_while_its_worker_lives(story: Story) -> None:
    _deploys(story, "one", "hand1")
    story.save("one", lock_tokens={}, state=State.CANCELLED, steps=())
    _deploys(story, "two", "hand2")
    assert "one and two" in found(locked_work_never_overlaps(story.tape))


@pytest.mark.parametrize("end", ["its worker died", "it ended"])
def test_a_deploy_that_is_over_lets_the_next_one_in(story: Story, end: str) -> None:
    _deploys(story, "one", "hand1")
    story.add(Died("hand1", "here") if end == "its worker died" else Finished("hand1", "one", key(), "done"))
    _gives_back(story, "one")
    _deploys(story, "two", "hand2")
    assert not found(locked_work_never_overlaps(story.tape))


def test_what_a_person_said_of_an_earlier_attempt_excuses_no_later_one(story: Story) -> None:
    _deploys(story, "one", "hand1")
    story.save("one", entry("workflow.resolved"), ends={key(): "resolved_again"})
    _deploys(story, "two", "hand2")
    assert not found(locked_work_never_overlaps(story.tape))
    again = key(2, generation=1)
    story.ask("one", "deploy", again)
    story.begin("one", "deploy", again, "hand3")
    assert "two and one" in found(locked_work_never_overlaps(story.tape))


def test_a_lock_that_a_person_took_away_excuses_only_what_was_begun_with_it(story: Story) -> None:
    _deploys(story, "one", "hand1")
    story.save("one", entry("lock.forced"), lock_tokens={})
    _deploys(story, "two", "hand2")
    assert not found(locked_work_never_overlaps(story.tape))
    again = key(2, generation=1)
    story.ask("one", "deploy", again, lock_tokens={PROD: 9})
    story.begin("one", "deploy", again, "hand3")
    assert "two and one" in found(locked_work_never_overlaps(story.tape))


def test_a_lock_that_is_freed_by_nobody_while_its_deploy_goes_on_excuses_nothing(story: Story) -> None:
    _deploys(story, "one", "hand1")
    story.save("one", entry("lock.freed"), lock_tokens={})
    _deploys(story, "two", "hand2")
    assert found(locked_work_never_overlaps(story.tape))


# ------------------------------------------------------------------------------------------ asking with locks

ROLLBACK = replace(LOCKED, on_failure=("config", "deploy_too"))
FAILED = Failure(milestone="deploy", kind=FailureKind.CRASHED, reason="it failed", position=0)


def test_a_rollback_needs_its_locks_and_a_clean_up_does_not(story: Story) -> None:
    story.save("w", release=ROLLBACK, failure=FAILED, generation=1)
    story.ask("w", "config", key(generation=1))
    assert not found(asked_only_with_its_locks(story.tape))
    story.ask("w", "deploy_too", key(position=1, generation=1))
    assert f"1.1.1 was asked for without ['{PROD}']" in found(asked_only_with_its_locks(story.tape))


def test_a_rollback_that_has_its_locks_may_be_asked_for(story: Story) -> None:
    story.save("w", release=ROLLBACK, failure=FAILED, generation=1, lock_tokens={PROD: 1})
    story.ask("w", "deploy_too", key(position=1, generation=1))
    assert not found(asked_only_with_its_locks(story.tape))


def test_one_lock_of_two_is_not_enough(story: Story) -> None:
    both = replace(LOCKED, locks=(PROD, DATABASE))
    story.ask("w", "deploy", key(), release=both, lock_tokens={PROD: 1})
    assert DATABASE in found(asked_only_with_its_locks(story.tape))


@pytest.mark.parametrize(
    ("following", "allowed"),
    [
        (key(2), True),
        (key(2, generation=1), False),
        (key(position=1), False),
    ],
    ids=["asked for once more", "done again for a person", "the next milestone"],
)
def test_without_a_lock_that_was_taken_away_goes_on_only_what_was_begun(
    story: Story, following: AttemptKey, allowed: bool
) -> None:
    twice = replace(LOCKED, milestones=("deploy", "deploy"))
    story.ask("w", "deploy", key(), release=twice, lock_tokens={PROD: 1})
    story.save("w", entry("lock.forced"), lock_tokens={})
    story.ask("w", "deploy", following, position=following.position)
    assert bool(found(asked_only_with_its_locks(story.tape))) is not allowed


def test_a_lock_that_left_its_workflow_without_a_person_is_missed(story: Story) -> None:
    story.ask("w", "deploy", key(), release=LOCKED, lock_tokens={PROD: 1})
    story.save("w", lock_tokens={})
    story.ask("w", "deploy", key(2))
    assert PROD in found(asked_only_with_its_locks(story.tape))


def test_a_lock_that_comes_back_brings_a_new_token(story: Story) -> None:
    story.save("w", release=LOCKED, lock_tokens={PROD: 2})
    story.save("w", lock_tokens={PROD: 1})
    assert "old token 1" in found(one_holder_per_lock(story.tape))


# ----------------------------------------------------------------------------------- every place of the list

LIST = Release(milestones=("build", "deploy", "scan", "deploy"))


def _through(story: Story, who: str, *positions: int, **fields: Any) -> None:
    story.save(who, release=LIST, **fields)
    for position in positions:
        story.work(who, str(LIST.milestones[position]), key(position=position))


def _complete(story: Story, who: str) -> None:
    story.save(who, state=State.COMPLETED, position=4, steps=())


def test_a_list_that_is_done_throughout_is_completed(story: Story) -> None:
    _through(story, "w", 0, 1, 2, 3)
    _complete(story, "w")
    assert not found(nothing_is_skipped(story.tape))


def test_the_same_name_at_another_place_does_not_stand_in(story: Story) -> None:
    _through(story, "w", 0, 1, 2)
    _complete(story, "w")
    assert "nobody did deploy at 3" in found(nothing_is_skipped(story.tape))


def test_a_failed_attempt_does_nothing_and_the_word_of_a_person_does(story: Story) -> None:
    _through(story, "w", 0, 1, 2)
    story.work("w", "deploy", key(position=3), how="failed")
    story.ask("w", "deploy", key(2, position=3))
    story.save("w", entry("workflow.resolved"), ends={key(2, position=3): "resolved_worked"})
    _complete(story, "w")
    assert not found(nothing_is_skipped(story.tape))
    _through(story, "x", 0, 1, 2)
    story.work("x", "deploy", key(position=3), how="failed")
    _complete(story, "x")
    assert "workflow x" in found(nothing_is_skipped(story.tape))


def test_a_retry_takes_over_what_its_parent_has_really_done(story: Story) -> None:
    _through(story, "parent", 0, 1, 2)
    story.work("parent", "deploy", key(position=3), how="failed")
    story.save("parent", state=State.FAILED, position=3, steps=())
    lineage = Lineage(parent_id="parent", verb="retry", by="ann")
    _through(story, "good", 3, lineage=lineage, position=3)
    _complete(story, "good")
    assert not found(nothing_is_skipped(story.tape))
    _through(story, "bad", lineage=lineage, position=3, inherited=("deploy",))
    _complete(story, "bad")
    assert "workflow bad is completed, and nobody did deploy at 3" in found(nothing_is_skipped(story.tape))


@pytest.mark.parametrize("skipped", [1, 3], ids=["where it begins", "after that"])
def test_a_rerun_does_all_from_its_beginning_though_its_parent_has_done_it(story: Story, skipped: int) -> None:
    _through(story, "parent", 0, 1, 2, 3)
    _complete(story, "parent")
    lineage = Lineage(parent_id="parent", verb="rerun", by="ann")
    _through(story, "w", *({1, 2, 3} - {skipped}), lineage=lineage, position=1)
    _complete(story, "w")
    assert f"workflow w is completed, and nobody did deploy at {skipped}" in found(nothing_is_skipped(story.tape))


def test_what_follows_a_failure_stands_in_for_nothing_in_a_retry(story: Story) -> None:
    """The rollback of a failed deploy is called the same, and stands at the same place of another list."""
    release = Release(milestones=("deploy",), on_failure=("deploy",))
    story.save("parent", release=release)
    story.work("parent", "deploy", key(), how="failed")
    story.save("parent", failure=FAILED, generation=1)
    story.work("parent", "deploy", key(generation=1))
    story.save("parent", state=State.FAILED)
    lineage = Lineage(parent_id="parent", verb="retry", by="ann")
    story.save("child", release=release, lineage=lineage, inherited=("deploy",), state=State.COMPLETED)
    assert "child is completed, and nobody did deploy at 0" in found(nothing_is_skipped(story.tape))


def test_a_member_of_a_group_is_not_forgotten(story: Story) -> None:
    story.save("w", release=Release(milestones=(("build", "sign_off"),)))
    story.work("w", "build", key())
    story.save("w", state=State.COMPLETED)
    assert "nobody did sign_off at 0" in found(nothing_is_skipped(story.tape))
    story.save("v", release=Release(milestones=("sign_off",)))
    story.save("v", entry("milestone.completed", milestone="sign_off"), state=State.COMPLETED)
    assert "workflow w" in found(nothing_is_skipped(story.tape))


# --------------------------------------------------------------------------------------------- held attempts


def _held(story: Story) -> None:
    story.ask("w", "deploy", key())
    story.begin("w", "deploy", key())
    story.save("w", steps=(step("deploy", key(), unknown="its worker is silent"),), state=State.HELD)


@pytest.mark.parametrize("outcome", ["cancelled", "failed", "timed_out"])
def test_what_is_held_is_not_cut_off_by_its_group(story: Story, outcome: str) -> None:
    _held(story)
    story.save("w", ends={key(): outcome}, state=State.RUNNING, steps=())
    assert f"ended as {outcome} without anybody's word" in found(the_unknown_is_for_people(story.tape))


@pytest.mark.parametrize("word", ["of its worker", "of a person", "a cancel"])
def test_what_is_held_ends_by_the_word_of_somebody(story: Story, word: str) -> None:
    _held(story)
    if word == "of its worker":
        story.finish("w", key(), "failed")
    outcome = {"of its worker": "failed", "of a person": "resolved_failed", "a cancel": "cancelled"}[word]
    state = State.CANCELLED if word == "a cancel" else State.FAILED
    story.save("w", ends={key(): outcome}, state=state, steps=())
    assert not found(the_unknown_is_for_people(story.tape))


# --------------------------------------------------------------------------------------------------- bounds


@pytest.mark.parametrize(("milestone", "most"), [("build", 5), ("test", 3)])
def test_a_milestone_that_is_tried_too_often_is_seen(story: Story, milestone: str, most: int) -> None:
    for number in range(1, most + 1):
        story.ask("w", milestone, key(number))
        story.save("w", ends={key(number): "lost"})
    story.ask("w", milestone, key(1, generation=1))
    story.save("w", ends={key(1, generation=1): "lost"})
    assert not found(tries_are_limited(story.tape))
    story.ask("w", milestone, key(most + 1))
    story.save("w", ends={key(most + 1): "lost"})
    assert f"{milestone} at 0 was tried {most + 1} times" in found(tries_are_limited(story.tape))


def _waits(seconds: float) -> Wait:
    return Wait(code="backoff", text="tried again", until=EPOCH + timedelta(seconds=seconds))


def test_a_wait_beyond_its_limit_is_seen_unless_a_clock_jumped(story: Story) -> None:
    story.save("w", steps=(step("build", wait=_waits(89)),))
    assert not found(every_wait_is_limited(story.tape))
    story.save("w", steps=(step("build", wait=_waits(91)),))
    assert "waits for build until" in found(every_wait_is_limited(story.tape))
    story.add(ClockJumped(30.0))
    assert not found(every_wait_is_limited(story.tape))


@pytest.mark.parametrize("pickup_by", [None, EPOCH + timedelta(days=1)])
def test_each_member_of_a_group_has_a_deadline_of_its_own(story: Story, pickup_by: datetime | None) -> None:
    endless = attempt("config", key(2), pickup_by=pickup_by)
    story.save("w", steps=(step("build", key()), step("config", live=endless)))
    assert "waits for config until" in found(every_wait_is_limited(story.tape))


def test_what_is_held_or_over_needs_no_deadline(story: Story) -> None:
    endless = attempt("config", key(2), pickup_by=None)
    story.save(
        "w", steps=(step("build", result=Result.COMPLETED), step("config", live=endless, unknown="who knows"))
    )
    assert not found(every_wait_is_limited(story.tape))


def test_a_log_that_grows_in_the_messages_of_the_original_is_seen(story: Story) -> None:
    for serial, lines in enumerate([1_000, 1_001]):
        message = _with_log(lines)
        assert not found(messages_do_not_grow(story.tape))
        story.add(Arrived("orc0", "old_builder", serial, None, message, None))
    assert "carries 1001 lines" in found(messages_do_not_grow(story.tape))


def _with_log(lines: int) -> bytes:
    start = old_start("0b5c1a52-7d0f-4d0e-9d6b-3f6f4c1f2a10", ("old_build",))
    fields = {name: getattr(start, name) for name in start.__struct_fields__}
    return terms.encode_workflow({**fields, "event_log": ["a line"] * lines})


# -------------------------------------------------------------------------------------------------- secrets


@pytest.mark.parametrize("secret", [TOKEN, TOKEN_KEY, CLUSTER_SECRET], ids=["token", "key", "cluster"])
def test_a_secret_in_what_people_see_is_seen(secret: str) -> None:
    for record in (
        Told("orc0", "message.failed", {"error": f"cannot read {secret}"}),
        Arrived("orc0", "notifications_hipchat", 1, "n", secret.encode(), None),
    ):
        story = Story()
        story.add(record)
        assert "secret" in "".join(no_secret_leaves(story.tape))
    for shown in (entry("callback.forged", f"a token {secret}"), entry("callback.forged", token=secret)):
        story = Story()
        story.save("w", shown)
        assert "the entry callback.forged" in found(no_secret_leaves(story.tape))


def test_a_token_travels_to_workers_and_the_key_of_all_tokens_nowhere(story: Story) -> None:
    story.save("w", entry("milestone.requested", "build requested", attempt="0.0.1"))
    story.add(Arrived("orc0", "builder", 1, "r", TOKEN.encode(), "application/json"))
    assert not found(no_secret_leaves(story.tape))
    story.add(Arrived("orc0", "builder", 2, "r", TOKEN_KEY.encode(), "application/json"))
    assert "on builder holds the key" in found(no_secret_leaves(story.tape))


# ------------------------------------------------------------------------------------------------ approvals


def test_a_message_that_comes_again_is_not_handled_again(story: Story) -> None:
    story.save("w", handles=["w/start.w.0"])
    story.save("w", handles=["w/start.w.1"])
    assert not found(a_message_is_handled_once(story.tape))
    story.save("w", handles=["w/start.w.0"])
    assert "message w/start.w.0 was handled in 2 commits" in found(a_message_is_handled_once(story.tape))


def test_an_approval_that_was_void_may_be_given_again_and_no_other(story: Story) -> None:
    done = entry("milestone.completed", milestone="sign_off")
    story.save("w", done)
    story.save("w", entry("approval.voided", milestone="sign_off"))
    story.save("w", done)
    assert not found(one_result_per_milestone(story.tape))
    story.save("w", done)
    assert "sign_off at 0 was completed again" in found(one_result_per_milestone(story.tape))


def test_votes_that_are_void_do_not_count(story: Story) -> None:
    votes = [entry("approval.given", milestone="sign_off", by=who) for who in ("bob", "eve")]
    story.save("w", votes[0])
    story.save("w", entry("approval.voided", milestone="sign_off"))
    story.save("w", votes[1])
    story.save("w", entry("milestone.completed", milestone="sign_off"))
    assert "was done by ['eve'] alone" in found(enough_have_approved(story.tape))

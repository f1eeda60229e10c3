"""Every event, in every order, repeated and late, against the rules that `decide` promises.

The machine keeps its own record of what workers were asked and said, and judges the workflow by that.
"""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from openaperture.domain import events as e
from openaperture.domain.attempts import AttemptKey
from openaperture.domain.commands import Decision, FreeLocks
from openaperture.domain.decide import decide
from openaperture.domain.history import KINDS
from openaperture.domain.milestones import FailureKind, MilestoneKind, MilestoneOptions, OnLoss, table_of
from openaperture.domain.moves import MOVES
from openaperture.domain.releases import Entry, OnGroupFailure, Release
from openaperture.domain.routes import Route
from openaperture.domain.workflow import TERMINAL, State, Wire, Workflow

KIND_TABLE = table_of([MilestoneKind(name="test", queue="tester", max_attempts=2, pickup_limit_seconds=2_000)])
WORKERS = ("ann", "ben")
names = st.sampled_from(["config", "build", "deploy", "test", "scheduled", "approval", "no_such_kind"])
groups = st.lists(names, min_size=2, max_size=3, unique=True).map(tuple)
milestone_lists = st.lists(st.one_of(names, names, groups), max_size=4).map(tuple)
on_failure_lists = st.lists(st.sampled_from(["test", "deploy"]), max_size=2, unique=True).map(tuple)


def unmoved(before: Workflow, after: Workflow) -> bool:
    """Nothing but the output of the attempt that has just ended may still come in."""
    return replace(after, version=before.version, closing=before.closing) == before


class WorkflowMachine(RuleBasedStateMachine):
    @initialize(
        milestones=milestone_lists,
        on_failure=on_failure_lists,
        timed=st.booleans(),
        wire=st.sampled_from([Wire.JSON, Wire.JSON, Wire.TERMS]),
        locks=st.sampled_from([(), (), ("prod",), ("prod", "stage")]),
        on_group_failure=st.sampled_from(list(OnGroupFailure)),
        retry_on=st.sampled_from([None, frozenset(FailureKind)]),
    )
    def begin(
        self,
        milestones: tuple[Entry, ...],
        on_failure: tuple[str, ...],
        timed: bool,
        wire: Wire,
        locks: tuple[str, ...],
        on_group_failure: OnGroupFailure,
        retry_on: frozenset[FailureKind] | None,
    ) -> None:
        self.now = datetime(2026, 1, 1, tzinfo=UTC)
        release = Release(
            milestones=milestones,
            on_failure=on_failure,
            on_group_failure=on_group_failure,
            milestone_options={"build": MilestoneOptions(retry_on=retry_on)},
            locks=locks,
            scheduled_start_time="Thu, 01 Jan 2026 02:00:00 UTC" if timed else None,
            build_messaging_exchange_id=2,
        )
        self.workflow = Workflow(id="w", release=release, wire=wire, created_by="someone")
        self.asked_at: dict[AttemptKey, datetime] = {}
        self.asked: set[AttemptKey] = set()
        self.granted: dict[AttemptKey, str] = {}
        self.results: dict[tuple[int, int, str], int] = {}
        self.forced = False

    def apply(self, event: e.Event) -> None:
        before = self.workflow
        decision = decide(before, event, self.now, KIND_TABLE)
        after = decision.workflow
        assert after.state is before.state or after.state in MOVES[before.state][type(event)]
        if before.state in TERMINAL:
            assert unmoved(before, after)
            assert not decision.dispatches
        self.judge_position(before, after)
        self.judge_locks(before, decision)
        for dispatch in decision.dispatches:
            again = dispatch.attempt.key in self.asked and not isinstance(event, e.Routed)
            assert not again, "the same attempt was requested twice"
            self.asked.add(dispatch.attempt.key)
            self.asked_at[dispatch.attempt.key] = dispatch.attempt.requested_at
        for answer in decision.answers:
            if answer.verdict == "run" and isinstance(event, e.Claimed):
                holder = self.granted.setdefault(answer.key, event.worker)
                assert holder == event.worker, "one attempt was given to two workers"
        for ended in decision.ended if after.state is not State.CANCELLED else ():
            if ended.outcome == "completed":
                key = ended.attempt.key
                result = (key.generation, key.position, ended.attempt.milestone)
                self.results[result] = self.results.get(result, 0) + 1
        if after.state is not before.state:
            assert decision.entries, f"{before.state} became {after.state} and nothing says so"
        assert all(entry.kind in KINDS and entry.text for entry in decision.entries)
        assert decide(before, event, self.now, KIND_TABLE) == decision, "the same question, another answer"
        self.workflow = replace(after, version=before.version + 1)

    def judge_position(self, before: Workflow, after: Workflow) -> None:
        if before.failure is None and after.failure is not None:
            assert after.generation > before.generation, "what follows a failure has keys of its own"
        elif before.failure is not None and after.ended:
            assert after.position == before.failure.position, "it stands where it failed"
        else:
            assert after.position >= before.position

    def judge_locks(self, before: Workflow, decision: Decision) -> None:
        after = decision.workflow
        freed = any(isinstance(command, FreeLocks) for command in decision.locks)
        if before.lock_tokens and not after.lock_tokens:
            assert freed, "it forgot its locks and did not give them back"
        if after.ended and not before.ended and (before.lock_tokens or before.wait):
            assert freed != bool(after.keeps_locks), "at the end, locks are freed or kept for a reason"
        for dispatch in decision.dispatches:
            is_bound = after.release.locks and after.failure is None and after.wire is Wire.JSON
            assert after.lock_tokens or self.forced or not is_bound, f"{dispatch} without the lock"

    def any_key(self, data: st.DataObject) -> AttemptKey:
        known = sorted(self.asked) or [AttemptKey(generation=0, position=0, number=1)]
        foreign = AttemptKey(generation=3, position=0, number=9)
        return data.draw(st.sampled_from([*known, known[-1], known[-1], foreign]))

    @rule(seconds=st.sampled_from([0.0, 1.0, 30.0, 61.0, 601.0, 7_300.0, 90_000.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    @rule()
    def started(self) -> None:
        self.apply(e.StartRequested())

    @rule()
    def created(self) -> None:
        self.apply(e.Created())

    @rule(heard_seconds=st.sampled_from([0.0, 1.0, 600.0]))
    def woken(self, heard_seconds: float) -> None:
        before = self.workflow
        self.apply(e.Woken(heard_seconds=heard_seconds))
        is_silent = all(a.worker is None or a.run_until is None or a.run_until > self.now for a in before.live)
        waits = any(step.wait or (step.live and step.live.stop) for step in before.steps)
        if heard_seconds == 0.0 and before.state is State.RUNNING and is_silent and not waits:
            assert replace(self.workflow, version=before.version) == before, "it judged in vain"

    @rule(data=st.data(), worker=st.sampled_from(WORKERS))
    def claimed(self, data: st.DataObject, worker: str) -> None:
        self.apply(e.Claimed(key=self.any_key(data), worker=worker, reply_to=f"worker.{worker}"))

    @rule(
        data=st.data(),
        worker=st.sampled_from(WORKERS),
        on_loss=st.sampled_from([None, *OnLoss]),
        run_seconds=st.sampled_from([None, 10.0, 9_000.0]),
    )
    def heartbeat(
        self, data: st.DataObject, worker: str, on_loss: OnLoss | None, run_seconds: float | None
    ) -> None:
        self.apply(
            e.HeartbeatSeen(
                key=self.any_key(data),
                worker=worker,
                reply_to=f"worker.{worker}",
                on_loss=on_loss,
                run_seconds=run_seconds,
            )
        )

    @rule(data=st.data(), worker=st.sampled_from(WORKERS))
    def logged(self, data: st.DataObject, worker: str) -> None:
        self.apply(e.Logged(key=self.any_key(data), worker=worker, sequence=1, lines=["x"]))

    @rule(data=st.data(), worker=st.sampled_from([*WORKERS, None]))
    def completed(self, data: st.DataObject, worker: str | None) -> None:
        key = self.any_key(data)
        holder = self.granted.get(key)
        before = self.workflow
        self.apply(e.MilestoneCompleted(key=key, worker=worker, outputs={"out": "1"}))
        if worker is not None and holder not in {None, worker}:
            assert replace(self.workflow, version=before.version) == before, (
                "a worker without the attempt moved it"
            )

    @rule(data=st.data(), worker=st.sampled_from([*WORKERS, None]), interrupted=st.booleans())
    def failed(self, data: st.DataObject, worker: str | None, interrupted: bool) -> None:
        self.apply(e.MilestoneFailed(key=self.any_key(data), worker=worker, message="no", interrupted=interrupted))

    @rule(data=st.data(), worker=st.sampled_from(WORKERS))
    def released(self, data: st.DataObject, worker: str) -> None:
        key = self.any_key(data)
        before = self.workflow
        self.apply(e.Released(key=key, worker=worker))
        if self.granted.get(key) != worker:
            assert replace(self.workflow, version=before.version) == before, "it gave back what it did not hold"

    @rule(data=st.data())
    def undeliverable(self, data: st.DataObject) -> None:
        self.apply(e.Undeliverable(key=self.any_key(data), reason="no queue"))

    @rule(data=st.data(), broker=st.sampled_from("12"))
    def routed(self, data: st.DataObject, broker: str) -> None:
        route = Route(broker_id=broker, exchange_id="1", exchange="root", routing_key="a.builder")
        key = self.any_key(data)
        known = self.workflow.find_attempt(key)
        self.apply(e.Routed(key=key, route=route))
        if known is not None and known.route is not None:
            assert self.workflow.find_attempt(key) == known, "the route of a request changed under way"

    @rule(data=st.data())
    def sent(self, data: st.DataObject) -> None:
        self.apply(e.Sent(key=self.any_key(data)))

    @rule(data=st.data())
    def unsure(self, data: st.DataObject) -> None:
        self.apply(e.Unsure(key=self.any_key(data), reason="no confirm came"))

    @rule(data=st.data(), condition=st.sampled_from(["no_builders", "invalid_etcd_token"]))
    def route_refused(self, data: st.DataObject, condition: str) -> None:
        self.apply(e.RouteRefused(key=self.any_key(data), condition=condition, reason="nobody is there"))

    @rule(often=st.integers(0, 9))
    def unsaved(self, often: int) -> None:
        if often == 0:
            self.apply(e.Unsaved(reason="the Manager does not know it"))

    @rule(
        data=st.data(),
        step=st.sampled_from([None, "", "config", "build", "deploy", "test", "scheduled", "no_such_kind"]),
        failed=st.booleans(),
    )
    def answered(self, data: st.DataObject, step: str | None, failed: bool) -> None:
        asked_at = self.asked_at.get(self.any_key(data), self.now)
        before = self.workflow
        self.apply(
            e.HandedOver(
                step=step, step_time=asked_at, failed=failed, event_log=("a", "b"), carried={"units": [1]}
            )
        )
        current = {attempt.requested_at for attempt in before.live}
        if before.state is State.CREATED and step is None and not failed:
            return  # it asks to begin
        if before.wire is Wire.JSON or (before.version and asked_at not in current):
            assert replace(self.workflow, version=before.version) == before, "a stale answer moved it"

    @rule()
    def forged(self) -> None:
        before = self.workflow
        self.apply(e.Forged(claimed_type="completed"))
        assert replace(self.workflow, version=before.version) == before

    @precondition(lambda self: self.workflow.state is State.HELD)
    @rule(resolution=st.sampled_from(list(e.Resolution)))
    def resolved(self, resolution: e.Resolution) -> None:
        self.apply(e.Resolved(resolution=resolution, by="someone"))

    @rule(often=st.integers(0, 9), force=st.booleans())
    def cancelled(self, often: int, force: bool) -> None:
        if often == 0:
            self.apply(e.CancelRequested(by="someone", force=force))
            assert not force or self.workflow.ended or self.workflow.state is State.CREATED

    @rule(often=st.integers(0, 4))
    def paused(self, often: int) -> None:
        if often == 0:
            self.apply(e.PauseRequested(by="someone"))

    @rule()
    def resumed(self) -> None:
        self.apply(e.ResumeRequested(by="someone"))
        assert self.workflow.state is not State.PAUSED

    @rule(
        approves=st.sampled_from([True, True, False]),
        by=st.sampled_from(["someone", "eve"]),
        member=st.booleans(),
        milestone=st.sampled_from([None, "approval"]),
    )
    def voted(self, approves: bool, by: str, member: bool, milestone: str | None) -> None:
        before = self.workflow
        groups = frozenset({"approver"}) if member else frozenset[str]()
        self.apply(e.Voted(approves=approves, by=by, groups=groups, milestone=milestone))
        if not member:
            assert replace(self.workflow, version=before.version) == before, "somebody without a say had one"

    @precondition(lambda self: self.workflow.state is State.WAITING and self.workflow.wait is not None)
    @rule(how=st.sampled_from(["granted", "granted", "refused", "superseded"]))
    def locks_answered(self, how: str) -> None:
        if how == "granted":
            self.apply(e.LocksGranted(tokens=dict.fromkeys(self.workflow.release.locks, 1)))
        else:
            self.apply(e.LockDenied(name="prod", code=how, by="other"))

    @rule(often=st.integers(0, 9))
    def lock_forced(self, often: int) -> None:
        if often == 0:
            self.forced = self.forced or bool(self.workflow.lock_tokens)
            self.apply(e.LockForced(name="prod", by="someone", force=True))

    @invariant()
    def a_result_counts_once(self) -> None:
        assert all(count == 1 for count in self.results.values())

    @invariant()
    def nothing_is_stranded(self) -> None:
        """Invariant I8: a request, a deadline, a wait, or a person."""
        if self.workflow.state not in TERMINAL | {State.CREATED, State.HELD, State.PAUSED}:
            assert self.workflow.wake_at is not None

    @invariant()
    def what_has_ended_says_when_and_why(self) -> None:
        if self.workflow.state in TERMINAL:
            assert not self.workflow.live
            assert self.workflow.ended_at is not None
            assert self.workflow.reason or self.workflow.state is State.COMPLETED


WorkflowMachine.TestCase.settings = settings(max_examples=300, stateful_step_count=40, deadline=None)
TestDecide = WorkflowMachine.TestCase

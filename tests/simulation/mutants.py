"""Planted defects of the protocol, as data: each a change of one place in the source, and why it must be found.

`scripts/mutants.py` plants them one by one in a copy and lets the simulation look for them. The old text must stand
in its file exactly once; a test sees to that. Lines of source are as long as they are there.
"""
# ruff: noqa: E501

from dataclasses import dataclass

ENGINE = "src/openaperture/engine"
DECIDE = "src/openaperture/domain/decide"
WORKER = "src/openaperture/worker"
LOCKS = "tests/simulation/locks.py"
STORE = "tests/simulation/store.py"
"""For rules that the database itself keeps; that the real ones keep them is shown by tests/contract."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """One defect."""

    name: str
    file: str
    old: str
    new: str
    why: str


MUTANTS = (
    # ------------------------------------------------------------------------------- taking messages
    Mutant(
        name="ack before commit",
        file=f"{ENGINE}/orchestrator.py",
        old="        outcomes = await self._apply(items) if items else []\n",
        new="        await consumer.ack(members)\n        outcomes = await self._apply(items) if items else []\n",
        why="a crash between the two loses what was said",
    ),
    Mutant(
        name="acked away when told to stop",
        file=f"{ENGINE}/orchestrator.py",
        old="            await consumer.requeue(members)\n",
        new="            await consumer.ack(members)\n",
        why="a batch that could not be saved is lost with the process",
    ),
    Mutant(
        name="a refusal of the store taken for done",
        file=f"{ENGINE}/orchestrator.py",
        old="                self._caught_up_at = None\n                if self._draining:\n",
        new="                return [Outcome.APPLIED for _ in items]\n                if self._draining:\n",
        why="an unknown commit is taken for one that worked",
    ),
    Mutant(
        name="what nobody knows is acked away",
        file=f"{ENGINE}/orchestrator.py",
        old="                await self._park(consumer, delivery, _why_parked(item, outcome))\n",
        new="                done.append(delivery)\n",
        why="a message for no workflow leaves no trace",
    ),
    Mutant(
        name="garbage is requeued",
        file=f"{ENGINE}/orchestrator.py",
        old="                await self._park(consumer, delivery, str(exc))\n",
        new="                await consumer.requeue([delivery])\n",
        why="a poison message comes back for ever",
    ),
    Mutant(
        name="forgeries count as repeats of the genuine",
        file=f"{ENGINE}/intake.py",
        old="    if item.message_id is None or isinstance(item.event, e.Forged):\n",
        new="    if item.message_id is None:\n",
        why="whoever guesses a message id can silence a worker",
    ),
    Mutant(
        name="no token check",
        file=f"{ENGINE}/tokens.py",
        old='        if not hmac.compare_digest(self._mac(workflow_id, name).encode(), mac.encode(errors="surrogatepass")):\n',
        new='        if name.count(".") != 2:\n',
        why="anybody who may write to the queue completes milestones",
    ),
    Mutant(
        name="one token for all workflows",
        file=f"{ENGINE}/tokens.py",
        old='f"{workflow_id}\\n{name}".encode(',
        new='f"{name}".encode(',
        why="the token of one workflow works for another",
    ),
    # ------------------------------------------------------------------------------ deciding and saving
    Mutant(
        name="no inbox",
        file=f"{ENGINE}/decider.py",
        old="            message_ids=self.message_ids,\n",
        new="            message_ids=(),\n",
        why="a redelivery is decided again",
    ),
    Mutant(
        name="the inbox is not asked",
        file=f"{ENGINE}/decider.py",
        old="            if item.message_id in handled:\n",
        new="            if item.message_id in ():\n",
        why="a redelivery conflicts with itself for ever",
    ),
    Mutant(
        name="publish before commit",
        file=f"{ENGINE}/decider.py",
        old="        results = await self._store.commit(changes, owner=self._owner) if changes else []\n",
        new=(
            "        self._after_commit(changed)\n"
            "        results = await self._store.commit(changes, owner=self._owner) if changes else []\n"
        ),
        why="a worker is asked for what may never be stored",
    ),
    Mutant(
        name="a conflict taken for saved",
        file=f"{ENGINE}/decider.py",
        old="                    again += fold.members\n",
        new="                    saved.append(fold)\n",
        why="of two orchestrators the slower one's decision is lost",
    ),
    Mutant(
        name="no outbox",
        file=f"{ENGINE}/decider.py",
        old="            outbox=self.outbox,\n",
        new="            outbox=(),\n",
        why="a crash after the commit loses the request",
    ),
    Mutant(
        name="only the last request of a batch",
        file=f"{ENGINE}/decider.py",
        old="        fold.rows += rows\n",
        new="        fold.rows = rows\n",
        why="several events of one workflow in one batch: an earlier request is forgotten",
    ),
    Mutant(
        name="answers to workers are forgotten",
        file=f"{ENGINE}/decider.py",
        old="            if rows or answers:\n",
        new="            if rows:\n",
        why="a worker that asks for its attempt is never told",
    ),
    Mutant(
        name="no version check",
        file=STORE,
        old="        if version != rows.expected_version:\n",
        new="        if version > rows.expected_version + 1_000:\n",
        why="two orchestrators overwrite each other",
    ),
    Mutant(
        name="the inbox is not written",
        file=STORE,
        old='            self.inbox[row["message_id"]] = now\n',
        new='            row["message_id"]\n',
        why="nobody remembers what was handled",
    ),
    Mutant(
        name="outbox rows are written only sometimes",
        file=STORE,
        old="        for row in rows.outbox:\n",
        new="        for row in rows.outbox if self.ids % 7 else []:\n",
        why="state and outbox are not one transaction",
    ),
    Mutant(
        name="a lease for ever",
        file=STORE,
        old="timedelta(seconds=seconds if leased else 0.0)",
        new="timedelta(days=9 if leased else 0)",
        why="nobody takes over the rows of a process that died",
    ),
    # ------------------------------------------------------------------------------------------ sending
    Mutant(
        name="no confirm",
        file=f"{ENGINE}/senders.py",
        old="            if row.content_type is not None:\n                return deferral(row, exc)\n            # A worker",
        new="            if row.content_type is not None:\n                return Handled()\n            # A worker",
        why="published is taken for arrived",
    ),
    Mutant(
        name="no mandatory",
        file=f"{ENGINE}/senders.py",
        old="            event = Undeliverable(key=key_of(row), reason=str(exc))\n",
        new="            return Handled()\n",
        why="what no queue takes counts as sent",
    ),
    Mutant(
        name="an absent broker taken for sent",
        file=f"{ENGINE}/senders.py",
        old="        except (BrokerUnavailable, TryLater) as exc:\n            return deferral(row, exc)\n        if row",
        new="        except (BrokerUnavailable, TryLater):\n            return Handled()\n        if row",
        why="a request is lost while the broker restarts",
    ),
    Mutant(
        name="a new message id for every try",
        file=f"{ENGINE}/senders.py",
        old="message_id=row.id)\n",
        new='message_id=f"{row.id}.{row.tries}")\n',
        why="copies of one request cannot be told apart from two requests",
    ),
    Mutant(
        name="row deleted before the confirm",
        file=f"{ENGINE}/relay.py",
        old="            handled = await self._senders[row.kind](row)\n",
        new=(
            "            await self._store.settle_outbox(sent=[row.id])\n"
            "            handled = await self._senders[row.kind](row)\n"
        ),
        why="a crash before the publish loses the request",
    ),
    Mutant(
        name="deferred rows are deleted",
        file=f"{ENGINE}/relay.py",
        old="for row, outcome in handled if outcome.deferred is None and not outcome.is_settled]\n",
        new="for row, outcome in handled if not outcome.is_settled]\n",
        why="the first try is the last one",
    ),
    Mutant(
        name="rows deleted before their workflows are told",
        file=f"{ENGINE}/relay.py",
        old="        items = [item for _, outcome in handled for item in outcome.items]\n",
        new=(
            "        await self._store.settle_outbox(sent=[row.id for row, outcome in handled if outcome.items])\n"
            "        items = [item for _, outcome in handled for item in outcome.items]\n"
        ),
        why="a crash between: nobody learns that a request found no queue",
    ),
    Mutant(
        name="nobody sweeps",
        file=f"{ENGINE}/relay.py",
        old="            if len(self._at_hand) < self._window:\n                found",
        new="            if len(self._at_hand) < -1:\n                found",
        why="rows that a dead process left are never sent",
    ),
    Mutant(
        name="the relay gives up what it could not settle",
        file=f"{ENGINE}/relay.py",
        old="                self._news.set()\n            else:\n                backoff.reset()\n                self._forget(handled)\n",
        new=(
            "                self._handled.clear()\n            else:\n"
            "                backoff.reset()\n                self._forget(handled)\n"
        ),
        why="rows stay in flight for ever in this process, and are never told",
    ),
    # ------------------------------------------------------------------------------------------- timers
    Mutant(
        name="lost timer",
        file=f"{ENGINE}/timers.py",
        old="        if ids:\n",
        new="        if len(ids) > 1_000:\n",
        why="no wait ever ends",
    ),
    Mutant(
        name="judged without having listened",
        file=f"{ENGINE}/timers.py",
        old="Woken(heard_seconds=min(self._heard_seconds(), awake_seconds))",
        new="Woken()",
        why="after an outage of ours healthy workers are given up",
    ),
    # ------------------------------------------------------------------------------------- the decisions
    Mutant(
        name="any worker may speak for an attempt",
        file=f"{DECIDE}/__init__.py",
        old="    return worker is None or attempt.worker is None or worker == attempt.worker\n",
        new="    return True\n",
        why="two workers get the same attempt",
    ),
    Mutant(
        name="the position does not move",
        file=f"{DECIDE}/advance.py",
        old="    d.change(position=workflow.position + 1, inherited=())\n",
        new="    d.change(inherited=())\n",
        why="a milestone is asked for again and again",
    ),
    Mutant(
        name="attempts are not numbered",
        file=f"{DECIDE}/steps.py",
        old="number=workflow.last_number + 1)",
        new="number=1)",
        why="a late answer to a lost attempt counts for its successor",
    ),
    Mutant(
        name="no deadline for the pickup",
        file=f"{DECIDE}/steps.py",
        old="        pickup_by=d.now + timedelta(seconds=pickup_seconds),\n",
        new="        pickup_by=None,\n",
        why="a request that is lost is never noticed",
    ),
    Mutant(
        name="forgotten retry count",
        file=f"{DECIDE}/steps.py",
        old="    row, failures = d.kind(step.milestone), step.failures + 1\n",
        new="    row, failures = d.kind(step.milestone), 1\n",
        why="a build that kills its workers is tried for ever",
    ),
    Mutant(
        name="a lost deploy is retried",
        file=f"{DECIDE}/steps.py",
        old='    if attempt.on_loss is OnLoss.HOLD:\n        d.warn("milestone.lost"',
        new='    if attempt.on_loss is None:\n        d.warn("milestone.lost"',
        why="a deploy may be done twice without anybody being asked",
    ),
    Mutant(
        name="a cancel waits for ever",
        file=f"{DECIDE}/losses.py",
        old="    if order is not None and order.kind is FailureKind.CANCELLED and order.by <= d.now:\n",
        new="    if order is not None and order.kind is FailureKind.CANCELLED:\n        return\n    if order is None and False:\n",
        why="a silent worker keeps a cancelled workflow",
    ),
    Mutant(
        name="done again under the same key",
        file=f"{DECIDE}/people.py",
        old="    generation = d.workflow.generation + 1\n",
        new="    generation = d.workflow.generation\n",
        why="what a person wants done again is answered from the worker's memory",
    ),
    Mutant(
        name="no lease",
        file=f"{DECIDE}/workers.py",
        old="        alive_until=alive_until,\n        run_until=",
        new="        run_until=",
        why="a worker that died is noticed only by the time limit",
    ),
    Mutant(
        name="a heartbeat renews nothing",
        file=f"{DECIDE}/workers.py",
        old=(
            "        reply_to=event.reply_to or attempt.reply_to,\n"
            "        alive_until=d.now + timedelta(seconds=d.kind(attempt.milestone).heartbeat_seconds),\n"
        ),
        new="        reply_to=event.reply_to or attempt.reply_to,\n",
        why="healthy workers are given up",
    ),
    Mutant(
        name="a completed workflow can be cancelled",
        file="src/openaperture/domain/moves.py",
        old="    State.COMPLETED: {e.LockForced: frozenset({_DONE})},\n",
        new="    State.COMPLETED: {e.LockForced: frozenset({_DONE}), e.CancelRequested: frozenset({_GONE})},\n",
        why="the end is not final",
    ),
    Mutant(
        name="a group goes on when its first member has ended",
        file=f"{DECIDE}/advance.py",
        old="d.workflow.steps and all(step.result for step in d.workflow.steps):\n",
        new="d.workflow.steps and any(step.result for step in d.workflow.steps):\n",
        why="a deploy begins before its tests have ended",
    ),
    Mutant(
        name="a failed member of a group is passed over",
        file=f"{DECIDE}/advance.py",
        old="    if broken and workflow.failure is None:\n",
        new="    if len(broken) == len(workflow.steps) > 1 and workflow.failure is None:\n",
        why="what failed is deployed",
    ),
    Mutant(
        name="one vote is enough",
        file=f"{DECIDE}/approvals.py",
        old="    if len(votes) >= required:\n",
        new="    if votes:\n",
        why="one person alone lets a deploy through",
    ),
    Mutant(
        name="one person votes twice",
        file=f"{DECIDE}/approvals.py",
        old="    if any(old.by == vote.by for old in meant[0].votes) and vote.approves:\n",
        new="    if len(meant[0].votes) > 9 and vote.approves:\n",
        why="one person alone lets a deploy through, by asking twice",
    ),
    Mutant(
        name="a pause is forgotten",
        file=f"{DECIDE}/steps.py",
        old="    if d.workflow.pause is not None:\n",
        new="    if d.workflow.pause is None and d.workflow.version < 0:\n",
        why="a paused workflow goes on asking",
    ),
    # --------------------------------------------------------------------------------------------- locks
    Mutant(
        name="locks are not asked for",
        file=f"{DECIDE}/locks.py",
        old="    if all(name in workflow.lock_tokens for name in workflow.release.locks):\n",
        new="    if workflow.version >= 0:\n",
        why="two workflows deploy to one environment",
    ),
    Mutant(
        name="an unknown deploy gives its lock back",
        file=f"{DECIDE}/steps.py",
        old="attempt.on_loss is OnLoss.HOLD and d.workflow.lock_tokens:\n",
        new="attempt.on_loss is None and d.workflow.lock_tokens:\n",
        why="the next one deploys while a silent worker may still be at it",
    ),
    Mutant(
        name="the grant of a lock is not kept",
        file=f"{DECIDE}/locks.py",
        old="    d.lock(KeepLocks(names=tuple(event.tokens)))\n",
        new="",
        why="its lease ends, and somebody else is given the lock too",
    ),
    Mutant(
        name="a lock with two holders",
        file=LOCKS,
        old="            if not waiting or any(claim.holds for claim in queue):\n",
        new="            if not waiting:\n",
        why="the store gives a lock away twice",
    ),
    Mutant(
        name="locks go back one by one",
        file=LOCKS,
        old='            if claim.state == "granted" and claim.workflow_id not in unready:\n',
        new='            if claim.state == "granted" and claim.lease_until and claim.lease_until <= now and unready is not None:\n',
        why="found by the simulation: two workflows that want two locks wait for each other for ever",
    ),
    # --------------------------------------------------------------------------------- a Manager elsewhere
    Mutant(
        name="a request does not wait for its record",
        file=f"{ENGINE}/outbox.py",
        old="    return row.kind is RowKind.REQUEST or row.queue == EMAIL_QUEUE\n",
        new="    return row.queue == EMAIL_QUEUE\n",
        why="a worker is asked for what the Manager does not know of",
    ),
    Mutant(
        name="a record that failed taken for made",
        file=f"{ENGINE}/recorder.py",
        old="        except UnknownWorkflow as exc:\n",
        new="        except ManagerUnavailable:\n            pass\n        except UnknownWorkflow as exc:\n",
        why="the Manager never learns how a workflow ended",
    ),
    # -------------------------------------------------------------------------------------- the workers
    Mutant(
        name="a worker acks before it has the attempt",
        file=f"{WORKER}/service.py",
        old="        try:\n            verdict = await run.claim()\n",
        new="        try:\n            await intake.consumer.ack([delivery])\n            verdict = await run.claim()\n",
        why="the request is lost with the worker",
    ),
    Mutant(
        name="a worker runs what is void",
        file=f"{WORKER}/service.py",
        old='        elif verdict == "void":\n            await intake.consumer.ack([delivery])\n',
        new='        elif verdict == "void":\n            await self._begin(run, intake, delivery)\n',
        why="an effect runs although its attempt is over",
    ),
    Mutant(
        name="a worker does not wait for the confirm of its result",
        file=f"{WORKER}/run.py",
        old="            await self._post.send(reported, callback)\n",
        new="            await self._post.send_once(reported, callback)\n",
        why="what was done is lost, and done again",
    ),
    Mutant(
        name="a worker forgets what it has done",
        file=f"{WORKER}/service.py",
        old="        if (done := self._done.get(key)) is not None:\n",
        new="        if (done := self._done.get(key)) is not None and not self._done:\n",
        why="a milestone that was done runs again in the same worker",
    ),
    Mutant(
        name="a worker looks for a result before it waits for it",
        file=f"{WORKER}/service.py",
        old="        running = await self._find_running(run, intake, delivery)\n        if (done := self._done.get(key)) is not None:\n",
        new=(
            "        done = self._done.get(key)\n"
            "        running = await self._find_running(run, intake, delivery)\n        if done is not None:\n"
        ),
        why="found by the simulation: an effect ran again although its worker had just reported it done",
    ),
    Mutant(
        name="a worker forgets what it is doing",
        file=f"{WORKER}/service.py",
        old="        elif running is not None:\n            run.close()\n",
        new="        elif running is not None and not self._running:\n            run.close()\n",
        why="a milestone runs twice at once",
    ),
    Mutant(
        name="a worker sends no heartbeats",
        file=f"{WORKER}/service.py",
        old="if run.beat_at <= loop.time()]:\n",
        new="if run.beat_at < 0.0]:\n",
        why="whatever takes long is given up",
    ),
    # ------------------------------------------------------------------------------ where features meet
    Mutant(
        name="a retry takes a milestone for done by its name",
        file="src/openaperture/domain/lineage.py",
        old="    inherited = workflow.finished if repeat is Repeat.RETRY else ()\n",
        new="    inherited = tuple(name for name in members_of(workflow.release.milestones[position]) if name in workflow.outputs)\n",
        why="one of two milestones of a name failed, and its retry completes without doing it",
    ),
    Mutant(
        name="a held member is cut off with its group",
        file=f"{DECIDE}/steps.py",
        old="        for other in [other for other in d.workflow.steps if not other.unknown]:\n",
        new="        for other in d.workflow.steps:\n",
        why="a deploy of unknown outcome ends without the word of a person",
    ),
    Mutant(
        name="what is held is still told to stop",
        file=f"{DECIDE}/steps.py",
        old="    d.put(step, live=step.live and replace(step.live, stop=None), unknown=reason)\n",
        new="    d.put(step, unknown=reason)\n",
        why="a cancel waits for ever for an answer that nobody waits for",
    ),
    Mutant(
        name="done again without the lock that was taken away",
        file=f"{DECIDE}/people.py",
        old="    if are_due(d):\n        # A lock of it",
        new="    if are_due(d) and d.workflow.position < 0:\n        # A lock of it",
        why="two are at one locked environment",
    ),
)

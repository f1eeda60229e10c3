"""Who has which lock, and who is next: rows, changed in the transaction that saves the decisions.

The order in which it is safe, and why:

  1. the rows of all names that a transaction touches are locked, in the order of their names: two transactions
     never wait for each other, and each sees the queues as the one before left them
  2. the commands of the decisions: ask, keep, free
  3. every lock of those names that nobody holds goes to the first in its queue

The order of a queue is that of the ids of its claims, which the database counts up while those rows are locked.
A workflow asks for all its locks in one transaction, so of two workflows that share a queue all claims of one have
lower ids than all claims of the other: they stand in the same order in every queue, and no two can wait for each
other. A clock has no say in that: `asked_at` is only shown.
"""

from collections.abc import Collection, Iterable, Sequence
from typing import Any, assert_never

from sqlalchemy import Connection, and_, delete, exists, insert, or_, select, text, update
from sqlalchemy.dialects import postgresql, sqlite

from openaperture.database.tables import HOLDING, lock_claims, locks, workflows
from openaperture.domain.commands import AskLocks, FreeLocks, KeepLocks, LockCommand
from openaperture.domain.events import LockDenied, LocksGranted
from openaperture.domain.releases import WhenLocked
from openaperture.domain.workflow import TERMINAL
from openaperture.ports import LockNews
from openaperture.stores.moment import Moment

TAKE_UP_SECONDS = 300.0
"""How long a workflow that was given a lock may take to hear of it. After that the next one gets it."""

_claim = lock_claims.c
_earlier = lock_claims.alias("earlier")
_holding = text(HOLDING)
_asking = or_(_holding, _claim.state == "waiting")


class LockQueues:
    """Stateless. Every method runs in the transaction of its connection."""

    def __init__(self, dialect: str, moment: Moment) -> None:
        self._insert = postgresql.insert if dialect == "postgresql" else sqlite.insert
        self._moment = moment

    def lock_rows(self, connection: Connection, names: Iterable[str]) -> None:
        """Step 1."""
        for name in sorted(set(names)):
            row = self._insert(locks).values(name=name, token=0)
            # An update that changes nothing locks the row, also one that somebody else is just inserting.
            connection.execute(row.on_conflict_do_update(index_elements=["name"], set_={"name": name}))

    def may_keep(self, connection: Connection, workflow_id: str, commands: Sequence[LockCommand]) -> bool:
        """Whether what the workflow takes for its own is."""
        kept = {name for command in commands if isinstance(command, KeepLocks) for name in command.names}
        if not kept:
            return True
        mine = select(_claim.name).where(_claim.workflow_id == workflow_id, _holding)
        return kept <= set(connection.scalars(mine))

    def apply(self, connection: Connection, workflow_id: str, commands: Sequence[LockCommand]) -> None:
        """Step 2."""
        for command in commands:
            match command:
                case AskLocks():
                    for name in command.names:
                        self._ask(connection, workflow_id, name, command.when_locked)
                case KeepLocks():
                    kept = update(lock_claims).where(_mine(workflow_id, command.names), _holding)
                    connection.execute(kept.values(state="held", lease_until=None, kept=command.why or None))
                case FreeLocks():
                    connection.execute(delete(lock_claims).where(_mine(workflow_id, command.names)))
                case _:
                    assert_never(command)

    def _ask(self, connection: Connection, workflow_id: str, name: str, when_locked: WhenLocked) -> None:
        others = and_(_claim.name == name, _claim.workflow_id != workflow_id)
        first = select(_claim.workflow_id).where(others, _asking).order_by(_claim.id).limit(1)
        taken_by = connection.scalar(first)
        claim = self._insert(lock_claims).values(
            name=name,
            workflow_id=workflow_id,
            when_locked=when_locked.value,
            state="refused" if taken_by and when_locked is WhenLocked.REFUSE else "waiting",
            by=taken_by if when_locked is WhenLocked.REFUSE else None,
            asked_at=self._moment.now(),
        )
        connection.execute(claim.on_conflict_do_nothing())
        if when_locked is WhenLocked.NEWEST:
            passed = update(lock_claims).where(
                others, _claim.state == "waiting", _claim.when_locked == WhenLocked.NEWEST.value
            )
            connection.execute(passed.values(state="superseded", by=workflow_id))

    def grant(self, connection: Connection, names: Iterable[str]) -> int:
        """Step 3; returns how many were given."""
        given = 0
        for name in sorted(set(names)):
            if connection.scalar(select(exists().where(_claim.name == name, _holding))):
                continue
            queue = select(_claim.id).where(_claim.name == name, _claim.state == "waiting")
            first = connection.scalar(queue.order_by(_claim.id).limit(1))
            if first is not None:
                counted = update(locks).where(locks.c.name == name).values(token=locks.c.token + 1)
                token = connection.scalar(counted.returning(locks.c.token))
                granted = update(lock_claims).where(_claim.id == first)
                connection.execute(
                    granted.values(
                        state="granted",
                        token=token,
                        granted_at=self._moment.now(),
                        lease_until=self._moment.after(TAKE_UP_SECONDS),
                    )
                )
                given += 1
        return given

    def news(self, connection: Connection, limit: int) -> list[LockNews]:
        """Of workflows that wait: all locks granted, or one refused."""
        untold = select(_claim.workflow_id).where(_claim.state.in_(["granted", "refused", "superseded"]))
        waiting = select(_claim.workflow_id).where(_claim.state == "waiting")
        denied = select(_claim.workflow_id).where(_claim.state.in_(["refused", "superseded"]))
        ready = or_(_claim.workflow_id.in_(denied), _claim.workflow_id.not_in(waiting))
        chosen = select(_claim.workflow_id).where(_claim.workflow_id.in_(untold), ready).distinct().limit(limit)
        of_workflow: dict[str, list[Any]] = {}
        rows = select(lock_claims).where(_claim.workflow_id.in_(chosen)).order_by(_claim.id)
        for row in connection.execute(rows):
            of_workflow.setdefault(row.workflow_id, []).append(row)
        return [LockNews(workflow_id=key, event=_event_of(claims)) for key, claims in of_workflow.items()]

    def tend(self, connection: Connection) -> int:
        """See `Store.tend_locks`."""
        queued = connection.scalars(select(_claim.name).distinct()).all()
        if not queued:
            return 0
        self.lock_rows(connection, queued)
        alive = select(workflows.c.id).where(workflows.c.state.not_in([state.value for state in TERMINAL]))
        dead = delete(lock_claims).where(_claim.workflow_id.not_in(alive), _claim.kept.is_(None))
        changed = connection.execute(dead).rowcount
        changed += self._put_back_silent(connection) + self._take_from_overtakers(connection)
        return changed + self.grant(connection, queued)

    def _put_back_silent(self, connection: Connection) -> int:
        """To the end of its queues goes who did not take up what it was given: it asks again, under new ids."""
        late = delete(lock_claims).where(_claim.workflow_id.in_(self._silent()), _claim.state == "granted")
        rows = connection.execute(late.returning(_claim.id, _claim.name, _claim.workflow_id, _claim.when_locked))
        again = [
            {"name": row.name, "workflow_id": row.workflow_id, "when_locked": row.when_locked}
            for row in sorted(rows, key=lambda row: row.id)
        ]
        for claim in again:
            connection.execute(insert(lock_claims).values(**claim, state="waiting", asked_at=self._moment.now()))
        return len(again)

    def _take_from_overtakers(self, connection: Connection) -> int:
        """Whoever was given a lock before its turn, and waits for another one, might do so for ever.

        That cannot come about here. Versions that went by the clock may have left it, and it does no harm: a
        workflow that still waits for a lock does not know of the others.
        """
        waiting = select(_claim.workflow_id).where(_claim.state == "waiting")
        earlier = and_(_earlier.c.name == _claim.name, _earlier.c.id < _claim.id)
        passed_over = exists().where(earlier, _earlier.c.state == "waiting")
        early = update(lock_claims).where(_claim.state == "granted", _claim.workflow_id.in_(waiting), passed_over)
        back = early.values(state="waiting", token=None, granted_at=None, lease_until=None)
        return connection.execute(back).rowcount

    def _silent(self) -> Any:
        """Workflows that have had all their locks for long enough, and did not hear of it.

        One that still waits for another lock could not take up anything: it keeps what it was granted. It goes
        back in all of its queues or in none, for two that are before each other would wait for each other.
        """
        unready = select(_claim.workflow_id).where(
            or_(_claim.state == "waiting", _claim.lease_until > self._moment.now())
        )
        granted = select(_claim.workflow_id).where(_claim.state == "granted")
        return granted.where(_claim.workflow_id.not_in(unready))


def _mine(workflow_id: str, names: Collection[str]) -> Any:
    return and_(_claim.workflow_id == workflow_id, _claim.name.in_(list(names)))


def _event_of(claims: Sequence[Any]) -> LocksGranted | LockDenied:
    for claim in claims:
        if claim.state in {"refused", "superseded"}:
            return LockDenied(name=claim.name, code=claim.state, by=claim.by or "")
    return LocksGranted(tokens={claim.name: claim.token for claim in claims})

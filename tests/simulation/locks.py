"""The queues of locks in memory, as `stores/locks.py` keeps them in tables; one contract suite tests both.

A workflow asks for all its locks at once, so of two workflows one is before the other in every queue.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import assert_never

from openaperture.domain.commands import AskLocks, FreeLocks, KeepLocks, LockCommand
from openaperture.domain.events import LockDenied, LocksGranted
from openaperture.domain.releases import WhenLocked
from openaperture.ports import LockClaim, LockNews
from openaperture.stores.locks import TAKE_UP_SECONDS

DENIED = {"refused", "superseded"}


@dataclass(slots=True, eq=False)
class Claim:
    """A place in one queue."""

    number: int
    """The order of its queue."""
    name: str
    workflow_id: str
    when_locked: WhenLocked
    asked_at: datetime
    state: str = "waiting"
    by: str = ""
    token: int | None = None
    granted_at: datetime | None = None
    lease_until: datetime | None = None
    kept: str | None = None

    @property
    def holds(self) -> bool:
        return self.state in {"granted", "held"}

    def is_unready(self, now: datetime) -> bool:
        """Whether its workflow may still hear in time that it has all its locks."""
        return self.state == "waiting" or (self.lease_until is not None and self.lease_until > now)

    def wait(self) -> None:
        """It has it no more, and nobody told it that it had."""
        self.state, self.token, self.granted_at, self.lease_until = "waiting", None, None, None

    def shown(self) -> LockClaim:
        return LockClaim(
            name=self.name,
            workflow_id=self.workflow_id,
            state=self.state,
            token=self.token,
            asked_at=self.asked_at,
            granted_at=self.granted_at,
            kept=self.kept,
        )


@dataclass(slots=True)
class Locks:
    """All queues of one disk."""

    claims: list[Claim] = field(default_factory=list[Claim])
    tokens: dict[str, int] = field(default_factory=dict[str, int])
    _number: int = 0

    def may_keep(self, workflow_id: str, commands: Sequence[LockCommand]) -> bool:
        kept = {name for command in commands if isinstance(command, KeepLocks) for name in command.names}
        return kept <= {claim.name for claim in self.claims if claim.workflow_id == workflow_id and claim.holds}

    def apply(self, workflow_id: str, commands: Sequence[LockCommand], now: datetime) -> None:
        for command in commands:
            match command:
                case AskLocks():
                    for name in command.names:
                        self._ask(workflow_id, name, command.when_locked, now)
                case KeepLocks():
                    for claim in self._mine(workflow_id, command.names):
                        if claim.holds:
                            claim.state, claim.lease_until, claim.kept = "held", None, command.why or None
                case FreeLocks():
                    gone = self._mine(workflow_id, command.names)
                    self.claims = [claim for claim in self.claims if claim not in gone]
                case _:
                    assert_never(command)

    def _mine(self, workflow_id: str, names: Collection[str]) -> list[Claim]:
        return [claim for claim in self.claims if claim.workflow_id == workflow_id and claim.name in names]

    def _ask(self, workflow_id: str, name: str, when_locked: WhenLocked, now: datetime) -> None:
        if self._mine(workflow_id, [name]):
            return
        others = [claim for claim in self.claims if claim.name == name and claim.workflow_id != workflow_id]
        asking = sorted((claim for claim in others if claim.state not in DENIED), key=lambda claim: claim.number)
        self._number += 1
        claim = Claim(self._number, name, workflow_id, when_locked, now)
        if asking and when_locked is WhenLocked.REFUSE:
            claim.state, claim.by = "refused", asking[0].workflow_id
        if when_locked is WhenLocked.NEWEST:
            for other in others:
                if other.state == "waiting" and other.when_locked is WhenLocked.NEWEST:
                    other.state, other.by = "superseded", workflow_id
        self.claims.append(claim)

    def grant(self, names: Iterable[str], now: datetime) -> int:
        given = 0
        for name in sorted(set(names)):
            queue = [claim for claim in self.claims if claim.name == name]
            waiting = sorted(
                (claim for claim in queue if claim.state == "waiting"), key=lambda claim: claim.number
            )
            if not waiting or any(claim.holds for claim in queue):
                continue
            first = waiting[0]
            self.tokens[name] = self.tokens.get(name, 0) + 1
            first.state, first.token, first.granted_at = "granted", self.tokens[name], now
            first.lease_until = now + timedelta(seconds=TAKE_UP_SECONDS)
            given += 1
        return given

    def news(self, limit: int) -> list[LockNews]:
        of_workflow: dict[str, list[Claim]] = {}
        for claim in sorted(self.claims, key=lambda claim: claim.number):
            of_workflow.setdefault(claim.workflow_id, []).append(claim)
        news = [
            LockNews(workflow_id=key, event=event)
            for key, claims in of_workflow.items()
            if (event := _event_of(claims)) is not None
        ]
        return news[:limit]

    def tend(self, is_alive: Callable[[str], bool], now: datetime) -> int:
        names = {claim.name for claim in self.claims}
        kept = [claim for claim in self.claims if claim.kept is not None or is_alive(claim.workflow_id)]
        changed = len(self.claims) - len(kept)
        self.claims = kept
        unready = {claim.workflow_id for claim in self.claims if claim.is_unready(now)}
        for claim in list(self.claims):
            if claim.state == "granted" and claim.workflow_id not in unready:
                claim.wait()
                self._number += 1
                claim.number, claim.asked_at = self._number, now
                changed += 1
        return changed + self._take_from_overtakers() + self.grant(names, now)

    def _take_from_overtakers(self) -> int:
        """What was given before its turn to one that waits for another lock: see `stores/locks.py`."""
        waiting = [claim for claim in self.claims if claim.state == "waiting"]
        unready = {claim.workflow_id for claim in waiting}
        early = [
            claim
            for claim in self.claims
            if claim.state == "granted" and claim.workflow_id in unready
            if any(other.name == claim.name and other.number < claim.number for other in waiting)
        ]
        for claim in early:
            claim.wait()
        return len(early)

    def shown(self, names: Collection[str] | None) -> list[LockClaim]:
        """The holder first, and then who is next."""
        wanted = [claim for claim in self.claims if names is None or claim.name in names]
        wanted.sort(key=lambda claim: (claim.name, not claim.holds, claim.number))
        return [claim.shown() for claim in wanted]


def _event_of(claims: Sequence[Claim]) -> LocksGranted | LockDenied | None:
    """What this workflow does not know yet; None while there is nothing to tell."""
    for claim in claims:
        if claim.state in DENIED:
            return LockDenied(name=claim.name, code=claim.state, by=claim.by)
    states = {claim.state for claim in claims}
    if "waiting" in states or "granted" not in states:
        return None
    return LocksGranted(tokens={claim.name: claim.token or 0 for claim in claims})

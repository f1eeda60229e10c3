"""The journal of a run, sorted by what it tells of, and what the bodies of messages say: what judges read."""

from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime
from functools import lru_cache

import msgspec

from openaperture.codecs import terms
from openaperture.domain.attempts import AttemptKey
from openaperture.domain.messages import OriginalMessage
from openaperture.domain.workflow import Workflow
from openaperture.engine.tokens import TokenMint
from tests.simulation.journal import (
    Arrived,
    Asked,
    Began,
    ClockJumped,
    Delivered,
    Died,
    Finished,
    Journal,
    OldBegan,
    OldFinished,
    Recorded,
    RowGone,
    Saved,
    Settled,
    Told,
)

INTAKE = "workflow_orchestration"
_MINT = TokenMint("the key of the simulated world")


class Tape:
    """The journal, sorted by what it tells of."""

    def __init__(self, journal: Journal) -> None:
        self.saved: list[tuple[int, Saved]] = list(journal.of(Saved))
        self.by_workflow: dict[str, list[tuple[int, Saved]]] = defaultdict(list)
        for place, saved in self.saved:
            self.by_workflow[saved.after.id].append((place, saved))
        self.arrived = list(journal.of(Arrived))
        self.delivered = list(journal.of(Delivered))
        self.bodies = {each.serial: each.body for _, each in self.delivered}
        self.settled = list(journal.of(Settled))
        self.asked_at: dict[tuple[str, str, datetime | None], tuple[int, AttemptKey]] = {}
        """The attempts of each workflow by the time of their request: all that the original's workers know."""
        for place, saved in self.saved:
            for attempt in saved.after.live:
                asked = (saved.after.id, attempt.milestone, attempt.requested_at)
                self.asked_at.setdefault(asked, (place, attempt.key))
        self.began = sorted([*journal.of(Began), *self._old_began(journal)], key=lambda step: step[0])
        self.finished = sorted([*journal.of(Finished), *self._old_finished(journal)], key=lambda step: step[0])
        self.recorded = list(journal.of(Recorded))
        self.gone = list(journal.of(RowGone))
        self.asked = list(journal.of(Asked))
        self.died = list(journal.of(Died))
        self.told = list(journal.of(Told))
        self.clock_jumped = any(True for _ in journal.of(ClockJumped))
        self.orchestrators = {each.by.split(".")[0] for _, each in self.delivered if each.queue == INTAKE}
        self.milestones: dict[tuple[str, AttemptKey], str] = {
            (saved.after.id, attempt.key): attempt.milestone
            for _, saved in self.saved
            for attempt in saved.after.live
        } | {(began.workflow_id, began.key): began.milestone for _, began in self.began}
        self._failing: dict[str, int] = {}
        for _, saved in self.saved:
            if saved.after.failure is not None:
                self._failing.setdefault(saved.after.id, saved.after.generation)
        self.rows_saved: dict[str, int] = {}
        self.handled: dict[str, int] = {}
        """Inbox ids, and where they were saved."""
        for place, saved in self.saved:
            for row in saved.rows:
                self.rows_saved.setdefault(row.id, place)
            for message_id in saved.message_ids:
                self.handled.setdefault(message_id, place)

    def _old_began(self, journal: Journal) -> Iterator[tuple[int, Began]]:
        for place, old in journal.of(OldBegan):
            if (key := self.key_at(old)) is not None:
                yield place, Began(old.worker, old.workflow_id, key, old.milestone)

    def _old_finished(self, journal: Journal) -> Iterator[tuple[int, Finished]]:
        for place, old in journal.of(OldFinished):
            if (key := self.key_at(old)) is not None:
                yield place, Finished(old.worker, old.workflow_id, key, old.how)

    def follows_failure(self, workflow_id: str, key: AttemptKey) -> bool:
        """Whether this attempt belongs to what is run once its workflow has failed."""
        since = self._failing.get(workflow_id)
        return since is not None and key.generation >= since

    def key_at(self, old: OldBegan | OldFinished) -> AttemptKey | None:
        found = self.asked_at.get((old.workflow_id, old.milestone, old.step_time))
        return found[1] if found else None


# ------------------------------------------------------------------------------------------- reading bodies


def attempt_of(body: bytes) -> tuple[str, str]:
    """The workflow and the attempt that a request asks for."""
    fields = msgspec.json.decode(body)
    attempt = fields["attempt"]
    return fields["id"], f"{attempt['generation']}.{attempt['position']}.{attempt['number']}"


@lru_cache(maxsize=4_096)
def terms_in(body: bytes) -> OriginalMessage:
    return terms.decode(body)


def is_live(workflow: Workflow, key: AttemptKey) -> bool:
    return workflow.find_attempt(key) is not None


def type_of(body: bytes) -> str:
    if not body.startswith(b'{"type":"'):
        return ""
    return body[9 : body.index(b'"', 9)].decode()


def is_genuine(body: bytes) -> bool:
    """Whether its token was made for its workflow."""
    return _MINT.find_key(workflow_in(body), token_in(body)) is not None


def attempt_in(body: bytes) -> str:
    """The attempt that the token of a callback names."""
    return token_in(body).rpartition(".")[0]


def token_in(body: bytes) -> str:
    mark = b'"attempt_token":"'
    place = body.find(mark)
    return body[place + len(mark) : body.index(b'"', place + len(mark))].decode() if place >= 0 else ""


def workflow_in(body: bytes) -> str:
    mark = b'"workflow_id":"'
    place = body.find(mark)
    return body[place + len(mark) : body.index(b'"', place + len(mark))].decode() if place >= 0 else ""

"""Judges a run by what it left: rows of the database, the workers' files, the queues. Nothing else counts.

It shares no code with the product, whose opinion of itself is not asked.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pika
import psycopg

from tests.chaos.ledger import QUEUES, Effect, read_ledger
from tests.chaos.load import INTAKE, MILESTONES

SHOWN = 5
REPEATABLE = {"build"}
"""Kinds whose loss means that they are done again without asking anybody."""


@dataclass(slots=True)
class Verdict:
    """What was found. A run without problems has an empty list."""

    accepted: int = 0
    completed: int = 0
    milestones: int = 0
    effects: int = 0
    repeats: int = 0
    """Effects that happened again, each after its attempt was declared lost."""
    late_effects: int = 0
    """Effects of a deploy that a person had already asked for once more."""
    problems: list[str] = field(default_factory=list[str])

    def report(self, what: str, found: Iterable[object]) -> None:
        """A problem, if there is any."""
        cases = list(found)
        if cases:
            self.problems.append(f"{len(cases)} {what}: {', '.join(map(str, cases[:SHOWN]))}")


Rows = Sequence[tuple[Any, ...]]


def judge(database: str, broker: str, accepted: Path, ledgers: Sequence[Path]) -> Verdict:
    """Everything that must hold when all is over and nothing runs any more."""
    effects = [effect for ledger in ledgers for effect in read_ledger(ledger)]
    verdict = judge_rows(database, accepted.read_text().split(), effects)
    _judge_queues(verdict, broker)
    return verdict


def judge_rows(database: str, ids: Sequence[str], effects: Sequence[Effect]) -> Verdict:
    """What the database holds, against the ids of the accepted starts and what the workers did."""
    verdict = Verdict(accepted=len(ids), effects=len(effects))
    with psycopg.connect(database) as connection:
        _judge_ends(verdict, connection, ids)
        _judge_counts(verdict, connection, ids)
        _judge_effects(verdict, connection, effects)
        _judge_leftovers(verdict, connection)
    return verdict


def _judge_ends(verdict: Verdict, connection: psycopg.Connection[Any], ids: Sequence[str]) -> None:
    """I1, I13: what was accepted is there, and has come to the end that it should."""
    rows: Rows = connection.execute("select id, state from workflows").fetchall()
    states: dict[str, str] = dict(rows)
    verdict.completed = sum(state == "completed" for state in states.values())
    verdict.report("accepted starts are lost", [key for key in ids if key not in states])
    verdict.report(
        "releases did not complete", [f"{key} ({state})" for key, state in states.items() if state != "completed"]
    )
    verdict.report("releases were never asked for", set(states) - set(ids))


def _judge_counts(verdict: Verdict, connection: psycopg.Connection[Any], ids: Sequence[str]) -> None:
    """I6, I7: one start, one end, one result for each milestone."""
    query = (
        "select workflow_id, kind, coalesce(details::json->>'milestone', ''), count(*) from events"
        " where kind in ('workflow.started', 'workflow.completed', 'milestone.completed') group by 1, 2, 3"
    )
    counts = {(key, kind, name): number for key, kind, name, number in connection.execute(query).fetchall()}
    verdict.report("entries count twice", [entry for entry, number in counts.items() if number != 1])
    verdict.milestones = sum(number for (_, kind, _), number in counts.items() if kind == "milestone.completed")
    missing = [
        (key, name) for key in ids for name in MILESTONES if (key, "milestone.completed", name) not in counts
    ]
    verdict.report("milestones have no result", missing)
    query = (
        "select workflow_id, position, count(*) from attempts where outcome = 'completed'"
        " group by 1, 2 having count(*) > 1"
    )
    verdict.report("milestones have two completed attempts", connection.execute(query).fetchall())


def _judge_effects(verdict: Verdict, connection: psycopg.Connection[Any], effects: Sequence[Effect]) -> None:
    """I6: what happened again had been declared lost before, and may be repeated."""
    rows = connection.execute("select workflow_id, milestone, generation, outcome from attempts").fetchall()
    lost = Counter(
        (key, name, generation) for key, name, generation, outcome in rows if outcome not in {"completed", None}
    )
    by_key: dict[str, list[Effect]] = {}
    for effect in effects:
        by_key.setdefault(effect.key, []).append(effect)
    doubled: list[str] = []
    for key, same in by_key.items():
        again = len(same) - 1
        first = same[0]
        allowed = lost[(first.workflow_id, first.milestone, first.generation)]
        if again and (first.milestone not in REPEATABLE or again > allowed):
            doubled.append(f"{key} ({len(same)} times, {allowed} lost)")
        else:
            verdict.repeats += again
    verdict.report("effects are doubled", doubled)
    done = Counter((e.workflow_id, e.milestone) for e in {e.key: e for e in effects}.values())
    verdict.late_effects = sum(number - 1 for number in done.values())
    claimed = {(key, name) for key, name, _, outcome in rows if outcome == "completed"}
    verdict.report("results have no effect", claimed - set(done))


def _judge_leftovers(verdict: Verdict, connection: psycopg.Connection[Any]) -> None:
    """I8, and that nothing waits to be sent."""
    verdict.report("requests were never sent", connection.execute("select id from outbox").fetchall())
    stranded = (
        "select id, state from workflows w where state not in ('completed', 'failed', 'cancelled', 'held')"
        " and wake_at is null and not exists (select 1 from outbox o where o.workflow_id = w.id)"
    )
    verdict.report("releases are stranded", connection.execute(stranded).fetchall())


def _judge_queues(verdict: Verdict, broker: str) -> None:
    """Nothing is left, and nothing was put aside."""
    with pika.BlockingConnection(pika.URLParameters(broker)) as connection:
        channel = connection.channel()
        for queue in (INTAKE, *QUEUES):
            for name in (queue, f"{queue}_error"):
                count = channel.queue_declare(name, passive=True).method.message_count
                verdict.report(f"messages are left in {name}", [_first_of(channel, name)] * count if count else [])


def _first_of(channel: "pika.adapters.blocking_connection.BlockingChannel", queue: str) -> str:
    _, properties, body = channel.basic_get(queue)
    headers = properties.headers if properties is not None else None
    return f"{(headers or {}).get('x-reason', '')} {body!r:.200}"

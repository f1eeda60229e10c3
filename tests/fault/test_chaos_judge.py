"""The judge of `make chaos` finds what must not be, in records that are otherwise in order."""

from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field

import psycopg
import pytest

from openaperture.database import Database
from tests.chaos.check import judge_rows
from tests.chaos.ledger import Effect
from tests.contract.stores import fresh_schema

RELEASES = ("one", "two")
MILESTONES = ("build", "deploy")


@dataclass
class Records:
    """What a run left: rows, and what was accepted and done."""

    database: str
    accepted: list[str] = field(default_factory=lambda: list(RELEASES))
    effects: list[Effect] = field(default_factory=list[Effect])

    def run(self, statement: str) -> None:
        with psycopg.connect(self.database, autocommit=True) as connection:
            connection.execute(statement)

    def add_attempt(self, release: str, milestone: str, *, number: int = 1, outcome: str = "completed") -> None:
        position = MILESTONES.index(milestone)
        self.run(
            "insert into attempts"
            " (workflow_id, attempt, generation, position, number, milestone, requested_at, outcome) values"
            f" ('{release}', '0.{position}.{number}', 0, {position}, {number}, '{milestone}', now(), '{outcome}')"
        )

    def problems(self) -> list[str]:
        return judge_rows(self.database, self.accepted, self.effects).problems


def _effect(release: str, milestone: str, number: int = 1) -> Effect:
    key = f"{release}.{milestone}"
    return Effect(key=key, workflow_id=release, milestone=milestone, generation=0, number=number)


@pytest.fixture
async def records(postgresql_url: str) -> AsyncGenerator[Records]:
    """Two releases that went as they should."""
    with fresh_schema(postgresql_url) as url:
        database = await Database.open(url)
        await database.close()
        made = Records(url)
        for release in RELEASES:
            made.run(
                "insert into workflows (id, version, state, position, created_at, updated_at, document)"
                f" values ('{release}', 9, 'completed', 2, now(), now(), '{{}}')"
            )
            kinds = [("workflow.started", "{}"), ("workflow.completed", "{}")]
            for milestone in MILESTONES:
                kinds.append(("milestone.completed", f'{{"milestone": "{milestone}"}}'))
                made.add_attempt(release, milestone)
                made.effects.append(_effect(release, milestone))
            for kind, details in kinds:
                made.run(
                    "insert into events (workflow_id, kind, text, success, details, at)"
                    f" values ('{release}', '{kind}', '', true, '{details}', now())"
                )
        yield made


def _lose_a_release(records: Records) -> None:
    records.run("delete from workflows where id = 'one'")


def _leave_a_release_running(records: Records) -> None:
    records.run("update workflows set state = 'running', wake_at = now() where id = 'one'")


def _strand_a_release(records: Records) -> None:
    records.run("update workflows set state = 'running' where id = 'one'")


def _count_a_result_twice(records: Records) -> None:
    records.run(
        "insert into events (workflow_id, kind, text, success, details, at) select workflow_id, kind, text,"
        " success, details, at from events where workflow_id = 'one' and kind = 'milestone.completed'"
    )


def _lose_a_result(records: Records) -> None:
    records.run("delete from events where workflow_id = 'one' and details like '%deploy%'")


def _complete_two_attempts(records: Records) -> None:
    records.add_attempt("one", "build", number=2)


def _build_twice(records: Records) -> None:
    records.effects.append(_effect("one", "build"))


def _deploy_twice_after_a_loss(records: Records) -> None:
    records.add_attempt("one", "deploy", number=2, outcome="lost")
    records.effects.append(_effect("one", "deploy", 2))


def _claim_an_effect(records: Records) -> None:
    records.effects.remove(_effect("two", "deploy"))


def _start_unasked(records: Records) -> None:
    records.accepted.remove("two")


def _leave_a_request(records: Records) -> None:
    records.run(
        "insert into outbox"
        " (id, workflow_id, kind, attempt, queue, body, version, tries, inserted_at, held, due_at)"
        " values ('r', 'one', 'request', '0.0.1', 'builder', '', 1, 0, now(), false, now())"
    )


async def test_records_in_order_have_no_problems(records: Records) -> None:
    verdict = judge_rows(records.database, records.accepted, records.effects)
    assert verdict.problems == []
    assert (verdict.accepted, verdict.completed, verdict.milestones, verdict.effects) == (2, 2, 4, 4)


async def test_a_build_that_ran_again_after_a_loss_is_counted_and_no_problem(records: Records) -> None:
    records.add_attempt("one", "build", number=2, outcome="lost")
    records.effects.append(_effect("one", "build", 2))
    verdict = judge_rows(records.database, records.accepted, records.effects)
    assert (verdict.problems, verdict.repeats) == ([], 1)


@pytest.mark.parametrize(
    ("harm", "problem"),
    [
        (_lose_a_release, "accepted starts are lost"),
        (_leave_a_release_running, "releases did not complete"),
        (_strand_a_release, "releases are stranded"),
        (_count_a_result_twice, "entries count twice"),
        (_lose_a_result, "milestones have no result"),
        (_complete_two_attempts, "milestones have two completed attempts"),
        (_build_twice, "effects are doubled"),
        (_deploy_twice_after_a_loss, "effects are doubled"),
        (_claim_an_effect, "results have no effect"),
        (_start_unasked, "releases were never asked for"),
        (_leave_a_request, "requests were never sent"),
    ],
    ids=lambda each: each.__name__.strip("_") if callable(each) else "",
)
async def test_what_must_not_be_is_found(records: Records, harm: Callable[[Records], None], problem: str) -> None:
    harm(records)
    assert any(problem in found for found in records.problems()), records.problems()

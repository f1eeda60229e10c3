"""The cases of the original system, against the real orchestrator: RabbitMQ and HTTP are all that it can see."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing

import pytest

from tests.compat.cases import STANDARD_GROUP, Case, read_cases
from tests.compat.manager import serving
from tests.compat.quirks import judged
from tests.compat.rabbit import Post
from tests.compat.stages import World, orchestrator, play_group, queue_name_of, tables_of
from tests.compat.trial import Trial
from tests.compat.verdict import fate_faults

GROUPS_AT_ONCE = 4
REFUSED_SECONDS = 15.0
Run = dict[str, Future[list[Trial]]]


@pytest.fixture(scope="session")
def run(world: World, request: pytest.FixtureRequest) -> Iterator[Run]:
    """All groups that have a selected case, some of them at once; the longest first."""
    wanted = {case.id for case in map(_case_of, request.session.items) if case}
    groups: dict[str, list[Case]] = {STANDARD_GROUP: []}
    for case in read_cases():
        if case.id in wanted:
            groups.setdefault(case.group, []).append(case)
    with ThreadPoolExecutor(GROUPS_AT_ONCE) as pool:
        yield {name: pool.submit(play_group, world, name, cases) for name, cases in groups.items() if cases}


def _case_of(item: pytest.Item) -> Case | None:
    callspec = getattr(item, "callspec", None)
    case = callspec.params.get("case") if callspec else None
    return case if isinstance(case, Case) else None


@pytest.mark.parametrize("case", read_cases(), ids=lambda case: case.id)
def test_case(case: Case, run: Run) -> None:
    trial = next(trial for trial in run[case.group].result() if trial.case is case)
    if found := [*judged(trial), *fate_faults(trial)]:
        pytest.fail(f"{case.id}: {'; '.join(found)}", pytrace=False)


def test_a_registration_that_is_refused_is_tried_again_and_no_work_is_taken_before(world: World) -> None:
    group = "refused"
    tables = tables_of(world, [])
    tables.forced["POST /messaging/exchanges/1/modules"] = 500
    with closing(Post(world.hosts["1"], queue_name_of(group))) as post:
        post.deliver(b"work")
        with serving(tables, world.journal, group) as url, orchestrator(world, group, url) as process:
            world.journal.wait("", lambda: len(_registrations(world, group)) >= 2, REFUSED_SECONDS)
            registrations = _registrations(world, group)
            assert len(registrations) >= 2, f"seen {registrations}; it said {process.last_words()!r}"
            assert len(set(registrations)) == 1
            assert post.waiting() == 1


def _registrations(world: World, group: str) -> list[bytes]:
    calls = world.journal.calls_of_group(group)
    return [call.body for call in calls if call.method == "POST" and call.path.endswith("/modules")]

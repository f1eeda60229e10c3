"""Groups, failures, approvals, locks and people's verbs, through the real engine in both shapes."""

import asyncio
from collections import Counter

import pytest

from openaperture.domain import events as e
from openaperture.domain import messages as m
from openaperture.domain.errors import NotAllowed, WrongState
from openaperture.domain.lineage import Repeat
from openaperture.domain.milestones import FailureKind
from openaperture.domain.workflow import State, Workflow
from openaperture.worker import Context
from tests.functional.engine_site import Site

PROD = "environment:prod"


class Work:
    """A handler that notes what it does, and fails where a test says so."""

    def __init__(self, *failing: str) -> None:
        self.failing = set(failing)
        self.done: list[str] = []
        self.at_once: Counter[str] = Counter()
        self.most_at_once = 0
        self.requests: dict[str, m.Request] = {}

    async def __call__(self, context: Context) -> dict[str, str]:
        self.requests[context.milestone] = context.request
        self.at_once[context.milestone] += 1
        self.most_at_once = max(self.most_at_once, self.at_once["deploy"])
        await asyncio.sleep(0.02)  # long enough for others to come in between
        self.at_once[context.milestone] -= 1
        self.done.append(context.milestone)
        if context.milestone in self.failing:
            raise RuntimeError(f"{context.milestone} is broken")
        return {"by": context.milestone}


async def test_a_group_runs_side_by_side_and_its_outputs_go_on(site: Site) -> None:
    work = Work()
    async with site.engine(), site.worker(work):
        workflow_id = await site.start("build", ["config", "deploy_oa"], "deploy")
        await site.until_state(workflow_id, State.COMPLETED)
    assert (work.done[0], sorted(work.done[1:3]), work.done[3]) == ("build", ["config", "deploy_oa"], "deploy")
    assert set(work.requests["deploy"].inputs) == {"build", "config", "deploy_oa"}
    assert work.requests["config"].milestones == ["build", "config", "deploy_oa", "deploy"]


async def test_what_follows_a_failure_knows_why(site: Site) -> None:
    work = Work("deploy")
    async with site.engine(), site.worker(work):
        workflow_id = await site.start("build", "deploy", on_failure=["config"])
        failed = await site.until_state(workflow_id, State.FAILED)
    assert work.done == ["build", "deploy", "config"]
    assert work.requests["config"].inputs["failure"] == {
        "milestone": "deploy",
        "kind": "crashed",
        "reason": "milestone deploy failed: RuntimeError: deploy is broken",
    }
    assert failed.reason == "milestone deploy failed: RuntimeError: deploy is broken"


async def test_a_failure_is_tried_again_where_the_workflow_says_so(site: Site) -> None:
    work = Work("build")
    async with site.engine(), site.worker(work):
        options = {"build": m.Limits(retry_on=[FailureKind.CRASHED], max_attempts=2)}
        workflow_id = await site.start("build", milestone_options=options)
        await site.until_state(workflow_id, State.FAILED)
    assert work.done == ["build", "build"]


async def test_two_workflows_are_never_at_one_locked_environment_at_once(site: Site) -> None:
    work = Work()
    async with site.engine("one"), site.engine("two"), site.worker(work):
        ids = [await site.start("build", "deploy", locks=[PROD], locks_from="deploy") for _ in range(6)]
        for workflow_id in ids:
            await site.until_state(workflow_id, State.COMPLETED)
    assert work.most_at_once == 1
    assert Counter(work.done) == {"build": 6, "deploy": 6}
    taken = [entry for key in ids for entry in await site.history(key) if entry.kind == "lock.taken"]
    tokens = [entry.details["locks"][PROD] for entry in taken]
    assert sorted(tokens) == [1, 2, 3, 4, 5, 6]
    assert await site.core.store.list_locks() == []


async def test_a_held_deploy_keeps_its_lock_until_a_person_has_looked(site: Site) -> None:
    async with site.engine("now"), site.hand() as hand:
        first = await site.start("deploy", locks=[PROD])
        request = await hand.take()
        await hand.claim(request)
        assert request.locks == {PROD: 1}
        await site.say(m.Failed, request, message="the machine stops", interrupted=True)
        await site.until_state(first, State.HELD)
        second = await site.start("deploy", locks=[PROD])
        await site.until_entry(second, "lock.asked")
        assert [claim.workflow_id for claim in await site.core.store.list_locks()] == [first, second]
        await site.verbs.resolve(first, e.Resolved(resolution=e.Resolution.WORKED, by="eve"))
        await hand.complete(await hand.take())
        await site.until_state(second, State.COMPLETED)


async def test_a_lock_that_was_taken_away_goes_to_the_next(site: Site) -> None:
    async with site.engine(), site.hand() as hand:
        first = await site.start("deploy", locks=[PROD])
        request = await hand.take()
        second = await site.start("build", locks=[PROD])
        await site.until_entry(second, "lock.asked")
        with pytest.raises(WrongState, match=f"deploy of workflow {first} is asked for"):
            await site.verbs.release_lock(PROD, "eve", "it hangs")
        assert await site.verbs.release_lock(PROD, "eve", "it hangs", force=True) == first
        other = await hand.take()
        assert (other.id, other.locks) == (second, {PROD: 2})
        for answer in (other, request):
            await hand.complete(answer)
        for workflow_id in (first, second):
            await site.until_state(workflow_id, State.COMPLETED)
    with pytest.raises(WrongState, match="nobody has the lock"):
        await site.verbs.release_lock(PROD, "eve")


async def test_an_approval_lets_the_workflow_go_on(site: Site) -> None:
    work = Work()
    async with site.engine(), site.worker(work):
        workflow_id = await site.start("build", "approval", "deploy")
        await site.until_state(workflow_id, State.WAITING)
        with pytest.raises(NotAllowed, match="not of the group"):
            await site.verbs.vote(workflow_id, e.Voted(approves=True, by="kim"))
        await site.verbs.vote(workflow_id, e.Voted(approves=True, by="eve", groups=frozenset({"approver"})))
        await site.until_state(workflow_id, State.COMPLETED)
    assert work.done == ["build", "deploy"]


async def test_a_paused_workflow_waits_for_a_person_across_restarts(site: Site) -> None:
    async with site.engine("one"), site.hand() as hand:
        workflow_id = await site.start("build", "deploy")
        request = await hand.take()
        await hand.claim(request)
        await site.verbs.pause(workflow_id, "eve", "freeze")
        await hand.complete(request)
        await site.until_state(workflow_id, State.PAUSED)
    async with site.engine("two"), site.hand() as hand:
        await site.verbs.resume(workflow_id, "eve")
        await hand.complete(await hand.take())
        await site.until_state(workflow_id, State.COMPLETED)
    with pytest.raises(WrongState, match="completed"):
        await site.verbs.resume(workflow_id, "eve")


async def test_a_forced_cancel_ends_it_while_its_worker_is_at_it(site: Site) -> None:
    async with site.engine(), site.hand() as hand:
        workflow_id = await site.start("build")
        request = await hand.take()
        await hand.claim(request)
        cancelled = await site.verbs.cancel(workflow_id, "eve", force=True)
        assert cancelled.state is State.CANCELLED
        await hand.complete(request)
        await site.until_entry(workflow_id, "callback.late")
    assert (await site.get(workflow_id)).state is State.CANCELLED


async def test_a_retry_is_a_workflow_of_its_own_with_the_inputs_of_the_first(site: Site) -> None:
    work = Work("deploy")
    async with site.engine(), site.worker(work):
        first = await site.start("build", "deploy")
        failed = await site.until_state(first, State.FAILED)
        work.failing.clear()
        again: Workflow = await site.verbs.repeat(first, Repeat.RETRY, "eve")
        await site.until_state(again.id, State.COMPLETED)
    assert work.done == ["build", "deploy", "deploy"]
    assert work.requests["deploy"].inputs == {"build": {"by": "build"}}
    assert await site.get(first) == failed, "what has ended never changes"
    assert [child.id for child in await site.core.store.list_children(first)] == [again.id]

"""Where requests go, and each way of having nowhere to go."""

import asyncio
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from random import Random

import httpx
import msgspec
import pytest

from openaperture.domain.errors import ManagerUnavailable, RouteRefused
from openaperture.domain.routes import ExchangeBy, Need, Route, Way
from openaperture.routing import Directory, Router
from tests.contract.brokers import Events
from tests.unit.client.login import Login, StepClock
from tests.unit.routing.tables import APP, BUILD, Tables, exchange, manager_of, module

NOW = datetime(2026, 3, 4, 12, tzinfo=UTC)

BUILD_NEED = Need(milestone="build", queue="builder", module_type="builder", exchange_by=ExchangeBy.BUILD_CLUSTER)
DEPLOY_NEED = Need(
    milestone="deploy",
    queue="deployer",
    module_type="deployer",
    exchange_by=ExchangeBy.DEPLOY_CLUSTER,
    etcd_token="app-tok-2",
)
ECS_NEED = Need(milestone="deploy_ecs", queue="deployer", module_type="deployer", exchange_by=ExchangeBy.OWN)
OWN_NEED = Need(
    milestone="scan",
    queue="scanner",
    module_type="scanner",
    exchange_by=ExchangeBy.FIXED,
    fixed_exchange_id="3",
)


class Place:
    """A router of exchange 1 and broker 1 over tables that a test may change."""

    def __init__(self, seed: int = 1) -> None:
        self.tables, self.clock, self.login = Tables(), StepClock(), Login()
        self.events = Events()
        self.router = Router(
            Directory(manager_of(self.tables, self.clock, self.login), self.clock),
            self.events,
            own_exchange_id="1",
            own_broker_id="1",
            chance=Random(seed),
            now=lambda: NOW,
        )

    async def refused(self, need: Need, condition: str, *parts: str) -> None:
        """Check that it is refused with this key and a sentence that holds these parts."""
        with pytest.raises(RouteRefused) as caught:
            await self.router.route(need)
        assert caught.value.condition == condition
        for part in (f'milestone "{need.milestone}"', *parts):
            assert part in str(caught.value)


def renewed(minutes_ago: float) -> str:
    return format_datetime(NOW - timedelta(minutes=minutes_ago), usegmt=True).replace("GMT", "UTC")


# -------------------------------------------------------------------------------------------- build


async def test_a_build_goes_to_the_exchange_of_a_local_build_cluster() -> None:
    assert await Place().router.route(BUILD_NEED) == Route(
        broker_id="1",
        exchange_id="1",
        exchange="AWS",
        routing_key="aws.us-east-1.builder",
        cluster_token="build-tok-1",
        docker_build_etcd_token="build-tok-1",
    )


@pytest.mark.parametrize("status", [401, 403, 404])
async def test_without_a_local_list_any_cluster_that_builds_will_do(status: int) -> None:
    place = Place()
    place.tables.clusters = [{**BUILD, "etcd_token": "build-tok-west", "messaging_exchange_id": 2}]
    place.tables.forced["/messaging/exchanges/1/clusters"] = status
    route = await place.router.route(BUILD_NEED)
    assert (route.routing_key, route.docker_build_etcd_token) == ("aws.us-west-1.builder", "build-tok-west")


async def test_without_local_clusters_any_cluster_that_builds_will_do() -> None:
    place = Place()
    place.tables.clusters = [APP, {**BUILD, "messaging_exchange_id": 2}]
    assert (await place.router.route(BUILD_NEED)).exchange_id == "2"


async def test_no_cluster_that_builds_is_refused() -> None:
    place = Place()
    place.tables.clusters = [APP]
    await place.refused(BUILD_NEED, "no_build_clusters", "allows docker builds")
    await place.refused(replace(BUILD_NEED, override_exchange_id=2), "no_build_clusters", "exchange 2")


async def test_lists_that_we_may_not_see_are_as_good_as_none() -> None:
    place = Place()
    place.tables.forced |= {"/messaging/exchanges/1/clusters": 401, "/clusters": 401}
    await place.refused(BUILD_NEED, "no_build_clusters")
    assert place.events.count("route.clusters_refused") > 0


async def test_a_cluster_added_after_a_refusal_serves_at_once() -> None:
    place = Place()
    place.tables.clusters = []
    await place.refused(BUILD_NEED, "no_build_clusters")
    place.tables.clusters = [BUILD]
    assert (await place.router.route(BUILD_NEED)).cluster_token == "build-tok-1"


async def test_an_exchange_without_builders_is_refused() -> None:
    place = Place()
    place.tables.modules["1"] = [module("deployer")]
    await place.refused(BUILD_NEED, "no_builders", "builder", "exchange 1")


async def test_clusters_are_chosen_evenly() -> None:
    place = Place()
    place.tables.clusters = [{**BUILD, "etcd_token": f"t{number}"} for number in range(4)]
    chosen = Counter([(await place.router.route(BUILD_NEED)).cluster_token for _ in range(400)])
    assert len(chosen) == 4
    assert min(chosen.values()) > 60


async def test_the_same_chance_makes_the_same_choice() -> None:
    async def choices(seed: int) -> list[str | None]:
        place = Place(seed)
        place.tables.clusters = [{**BUILD, "etcd_token": f"t{number}"} for number in range(9)]
        return [(await place.router.route(BUILD_NEED)).cluster_token for _ in range(9)]

    assert await choices(1) == await choices(1) != await choices(2)


async def test_a_cluster_whose_exchange_has_no_builders_is_passed_by() -> None:
    for seed in range(8):
        place = Place(seed)
        place.tables.clusters = [
            {**BUILD, "messaging_exchange_id": None, "etcd_token": "none"},
            {**BUILD, "messaging_exchange_id": 99, "etcd_token": "unknown"},
            {**BUILD, "messaging_exchange_id": 3, "etcd_token": "idle"},
            {**BUILD, "messaging_exchange_id": 2, "etcd_token": "good"},
        ]
        assert (await place.router.route(BUILD_NEED)).cluster_token == "good"


async def test_build_clusters_without_any_exchange_are_refused() -> None:
    place = Place()
    place.tables.clusters = [{**BUILD, "messaging_exchange_id": None}]
    await place.refused(BUILD_NEED, "cluster_without_exchange", "messaging_exchange_id")


async def test_an_override_takes_a_cluster_of_its_own_exchange() -> None:
    place = Place()
    place.tables.clusters = [BUILD, {**BUILD, "etcd_token": "west", "messaging_exchange_id": 2}]
    route = await place.router.route(replace(BUILD_NEED, override_exchange_id=2))
    assert (route.exchange_id, route.docker_build_etcd_token, route.overridden) == ("2", "west", True)


async def test_an_override_without_a_cluster_there_takes_any_and_stands() -> None:
    place = Place()
    place.tables.modules["3"] = [module("builder")]
    route = await place.router.route(replace(BUILD_NEED, override_exchange_id="3"))
    assert route == Route(
        broker_id="2",
        exchange_id="3",
        exchange="lab",
        routing_key="lab.builder",
        cluster_token="build-tok-1",
        docker_build_etcd_token="build-tok-1",
        overridden=True,
    )


async def test_an_override_to_an_exchange_without_builders_is_refused() -> None:
    await Place().refused(replace(BUILD_NEED, override_exchange_id=3), "no_builders", "exchange 3")


@pytest.mark.parametrize("need", [BUILD_NEED, DEPLOY_NEED])
async def test_an_override_to_no_exchange_is_refused(need: Need) -> None:
    await Place().refused(
        replace(need, override_exchange_id=999),
        "unknown_exchange",
        "exchange 999",
        f"{'build' if need is BUILD_NEED else 'deploy'}_messaging_exchange_id",
    )


@pytest.mark.parametrize("need", [BUILD_NEED, DEPLOY_NEED])
@pytest.mark.parametrize("override", ["", "..", "../clusters", "1/modules", "x" * 2_000, "ü"])
async def test_an_override_that_is_no_id_harms_nobody(need: Need, override: str) -> None:
    place = Place()
    if override:
        await place.refused(replace(need, override_exchange_id=override), "unknown_exchange")
    else:
        assert not (await place.router.route(replace(need, override_exchange_id=override))).overridden


# ------------------------------------------------------------------------------------------- deploy


async def test_a_deploy_goes_to_the_exchange_of_its_cluster() -> None:
    assert await Place().router.route(DEPLOY_NEED) == Route(
        broker_id="1",
        exchange_id="2",
        exchange="AWS",
        routing_key="aws.us-west-1.deployer",
        cluster_token="app-tok-2",
    )


@pytest.mark.parametrize("token", [None, "", "  "])
@pytest.mark.parametrize("override", [None, 2])
async def test_a_deploy_without_a_token_is_refused_before_anything_is_asked(
    token: str | None, override: int | None
) -> None:
    place = Place()
    need = replace(DEPLOY_NEED, etcd_token=token, override_exchange_id=override)
    await place.refused(need, "invalid_etcd_token", "etcd.json")
    assert place.tables.asked == []


async def test_a_deploy_to_an_unknown_cluster_or_one_without_exchange_is_refused() -> None:
    place = Place()
    place.tables.clusters.append({"etcd_token": "orphan-tok", "messaging_exchange_id": None})
    for token in ("orphan-tok", "nowhere", "..", "y" * 5_000):
        need = replace(DEPLOY_NEED, etcd_token=token)
        await place.refused(need, "cluster_without_exchange", token[:40])


async def test_workers_of_ours_need_no_cluster_and_no_token() -> None:
    """They register nowhere, so nobody looks for modules."""
    place = Place()
    place.tables.clusters = []
    build = replace(BUILD_NEED, module_type=None, own_by_default=True)
    deploy = replace(DEPLOY_NEED, module_type=None, own_by_default=True, etcd_token=None)
    for need in (build, deploy):
        route = await place.router.route(need)
        assert (route.exchange_id, route.cluster_token) == ("1", None)
        assert (await place.router.route(replace(need, override_exchange_id=2))).exchange_id == "2"
    await place.refused(replace(deploy, etcd_token="none"), "cluster_without_exchange")


async def test_a_deploy_with_an_override_asks_for_no_cluster() -> None:
    place = Place()
    need = replace(DEPLOY_NEED, milestone="deploy_oa", queue="deploy_oa", override_exchange_id=1, etcd_token="any")
    route = await place.router.route(need)
    assert (route.routing_key, route.cluster_token, route.overridden) == ("aws.us-east-1.deploy_oa", "any", True)
    assert [path for path in place.tables.asked if "clusters" in path] == []


async def test_an_exchange_without_deployers_is_refused() -> None:
    place = Place()
    place.tables.modules["2"] = [module("builder")]
    await place.refused(DEPLOY_NEED, "no_deployers", "exchange 2")


async def test_ecs_stays_in_the_own_exchange_whatever_the_workflow_says() -> None:
    place = Place()
    route = await place.router.route(replace(ECS_NEED, override_exchange_id=2, etcd_token="app-tok-2"))
    assert (route.exchange_id, route.routing_key, route.overridden) == ("1", "aws.us-east-1.deployer", False)
    place.tables.modules["1"] = []
    await place.refused(ECS_NEED, "no_ecs_deployers", "exchange 1")


# ----------------------------------------------------------------------------- kinds of one's own


async def test_a_kind_of_ones_own_takes_the_same_path() -> None:
    place = Place()
    await place.refused(OWN_NEED, "no_workers", "scanner", "exchange 3")
    place.tables.modules["3"] = [module("scanner")]
    route = await place.router.route(OWN_NEED)
    assert (route.broker_id, route.exchange, route.routing_key) == ("2", "lab", "lab.scanner")
    await place.refused(replace(OWN_NEED, fixed_exchange_id="9"), "unknown_exchange", "configuration")


async def test_a_kind_whose_workers_do_not_register_is_sent_unseen() -> None:
    place = Place()
    assert (await place.router.route(replace(OWN_NEED, module_type=None))).exchange_id == "3"
    assert place.tables.count("/messaging/exchanges/3/modules") == 0
    await place.refused(
        replace(OWN_NEED, module_type=None, fixed_exchange_id="9"), "unknown_exchange", "exchange 9"
    )


# ------------------------------------------------------------------------------------------ workers


@pytest.mark.parametrize("status", ["inactive", None, ""])
async def test_a_worker_that_is_not_active_does_not_count(status: str | None) -> None:
    place = Place()
    place.tables.modules["1"] = [module("builder", status=status)]
    await place.refused(BUILD_NEED, "no_builders")


@pytest.mark.parametrize("at", [renewed(19), renewed(21), renewed(60 * 24 * 900), None, "", "yesterday", "0"])
async def test_the_age_of_workers_refuses_nothing_by_itself(at: str | None) -> None:
    """Where no Overseer runs, all entries are old."""
    place = Place()
    place.tables.modules["1"] = [module("builder", updated_at=at)]
    assert (await place.router.route(BUILD_NEED)).exchange_id == "1"
    assert place.events.count("route.workers_stale") == int(at in {renewed(21), renewed(60 * 24 * 900)})


async def test_workers_that_were_heard_of_lately_are_preferred() -> None:
    for seed in range(6):
        place = Place(seed)
        place.tables.clusters = [
            {**BUILD, "messaging_exchange_id": 2, "etcd_token": "fresh"},
            {**BUILD, "messaging_exchange_id": 3, "etcd_token": "stale"},
        ]
        place.tables.modules["2"] = [
            module("builder", updated_at=renewed(21)),
            module("builder", updated_at=renewed(1)),
        ]
        place.tables.modules["3"] = [module("builder", updated_at=renewed(21))]
        assert (await place.router.route(BUILD_NEED)).cluster_token == "fresh"


# ------------------------------------------------------------------------------ brokers, failover


async def test_restrictions_name_the_broker_and_not_their_own_row() -> None:
    place = Place()
    place.tables.restrictions = {"1": [{"id": 70, "messaging_exchange_id": 1, "messaging_broker_id": 2}]}
    assert (await place.router.route(BUILD_NEED)).broker_id == "2"
    assert place.events.count("route.source_restriction") == 0


async def test_the_targets_restrictions_win_over_ours() -> None:
    place = Place()
    place.tables.restrictions["1"] = [{"id": 70, "messaging_exchange_id": 1, "messaging_broker_id": 1}]
    place.tables.modules["3"] = [module("builder")]
    assert (await place.router.route(replace(BUILD_NEED, override_exchange_id=3))).broker_id == "2"


async def test_our_own_restrictions_are_used_with_a_warning() -> None:
    place = Place()
    place.tables.restrictions["1"] = [{"id": 70, "messaging_exchange_id": 1, "messaging_broker_id": 2}]
    assert (await place.router.route(DEPLOY_NEED)).broker_id == "2"
    assert await place.events.wait_for("route.source_restriction") == {"exchange_id": "2", "broker_id": "2"}


async def test_one_of_several_restrictions_is_chosen_at_random() -> None:
    place = Place()
    place.tables.restrictions["2"] = [{"id": 9, "messaging_broker_id": number} for number in (1, 2)]
    chosen = Counter([(await place.router.route(DEPLOY_NEED)).broker_id for _ in range(100)])
    assert min(chosen["1"], chosen["2"]) > 25


async def test_a_failover_broker_takes_the_same_queue_on_the_failover_exchange() -> None:
    place = Place()
    place.tables.brokers["1"]["failover_broker_id"] = 2
    same = Way(broker_id="2", exchange_id="2", exchange="AWS", routing_key="aws.us-west-1.deployer")
    assert (await place.router.route(DEPLOY_NEED)).failover == same
    place = Place()
    place.tables.brokers["1"]["failover_broker_id"] = 2
    place.tables.exchanges["2"] = exchange(2, "aws.us-west-1", "AWS", failover=3)
    other = Way(broker_id="2", exchange_id="3", exchange="lab", routing_key="lab.deployer")
    assert (await place.router.route(DEPLOY_NEED)).failover == other


async def test_a_failover_exchange_without_a_failover_broker_is_none() -> None:
    place = Place()
    place.tables.exchanges["2"] = exchange(2, "aws.us-west-1", "AWS", failover=3)
    assert (await place.router.route(DEPLOY_NEED)).failover is None


async def test_our_own_broker_need_not_be_in_the_directory() -> None:
    place = Place()
    place.tables.brokers.clear()
    assert (await place.router.route(BUILD_NEED)).failover is None


async def test_a_message_can_go_where_somebody_named_in_full() -> None:
    place = Place()
    place.tables.restrictions["2"] = [{"id": 9, "messaging_broker_id": 2}]
    route = await place.router.route_directly(2, 1, "notifications_hipchat")
    assert (route.broker_id, route.routing_key) == ("1", "aws.us-west-1.notifications_hipchat")
    with pytest.raises(RouteRefused, match="exchange 9") as caught:
        await place.router.route_directly("9", "1", "notifications_hipchat")
    assert caught.value.condition == "unknown_exchange"


async def test_a_route_can_be_kept_as_json() -> None:
    place = Place()
    place.tables.brokers["1"]["failover_broker_id"] = 2
    route = await place.router.route(BUILD_NEED)
    assert msgspec.json.decode(msgspec.json.encode(route), type=Route) == route


# ----------------------------------------------------------------------------------- the Manager


@pytest.mark.parametrize(
    ("need", "path"),
    [
        (BUILD_NEED, "/messaging/exchanges/1/clusters"),
        (BUILD_NEED, "/messaging/exchanges/1/modules"),
        (BUILD_NEED, "/messaging/exchanges/1"),
        (BUILD_NEED, "/messaging/exchanges/1/brokers"),
        (BUILD_NEED, "/messaging/brokers/1"),
        (DEPLOY_NEED, "/clusters/app-tok-2"),
    ],
)
@pytest.mark.parametrize("trouble", [500, 503, httpx.ConnectError("refused"), httpx.ReadTimeout("slow")])
async def test_a_manager_that_is_ill_fails_no_workflow(need: Need, path: str, trouble: int | Exception) -> None:
    place = Place()
    place.tables.forced[path] = trouble
    with pytest.raises(ManagerUnavailable):
        await place.router.route(need)
    del place.tables.forced[path]
    assert (await place.router.route(need)).broker_id == "1"


@pytest.mark.parametrize("status", [401, 403, 418, 302, 400])
async def test_what_an_operator_has_to_repair_is_waited_for(status: int) -> None:
    place = Place()
    place.tables.forced["/messaging/exchanges/1/modules"] = status
    with pytest.raises(ManagerUnavailable, match="until this is repaired"):
        await place.router.route(BUILD_NEED)


@pytest.mark.parametrize("status", [401, 404, 500])
async def test_without_a_token_nothing_is_refused(status: int) -> None:
    """The original took this for an empty list of clusters, and failed the workflow."""
    place = Place()
    place.login.answer = httpx.Response(status)
    with pytest.raises(ManagerUnavailable):
        await place.router.route(BUILD_NEED)
    assert place.tables.asked == []


async def test_no_refusal_is_given_on_what_was_only_remembered() -> None:
    """Exchange 1 lost its builders, and its cluster has moved to exchange 2."""
    place = Place()
    await place.router.route(BUILD_NEED)
    place.tables.modules["1"] = []
    place.tables.clusters = [{**BUILD, "messaging_exchange_id": 2}]
    assert (await place.router.route(BUILD_NEED)).exchange_id == "2"


async def test_no_refusal_is_given_while_the_manager_cannot_confirm_it() -> None:
    place = Place()
    await place.router.route(BUILD_NEED)
    place.tables.modules["1"] = []
    place.tables.forced["/messaging/exchanges/1/clusters"] = 500
    with pytest.raises(ManagerUnavailable):
        await place.router.route(BUILD_NEED)


async def test_many_routes_at_once_ask_little() -> None:
    place = Place()
    await asyncio.gather(*(place.router.route(BUILD_NEED) for _ in range(100)))
    assert len(place.tables.asked) <= 10

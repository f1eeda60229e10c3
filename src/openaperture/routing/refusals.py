"""The sentences of refused routes. Each says what is missing, where, and what to do about it.

The keys of the first eight are the original's conditions by which a milestone fails.
"""

from openaperture.domain.errors import RouteRefused
from openaperture.domain.routes import ExchangeBy, Need

_AGAIN = "then run the workflow again"


def no_build_clusters(need: Need, exchange_id: str) -> RouteRefused:
    return RouteRefused(
        "no_build_clusters",
        f'milestone "{need.milestone}" has no cluster to build in, in exchange {exchange_id:.64} or elsewhere; '
        f"register one that allows docker builds in the Manager, {_AGAIN}",
    )


def build_clusters_without_exchange(need: Need) -> RouteRefused:
    return RouteRefused(
        "cluster_without_exchange",
        f'milestone "{need.milestone}" has only clusters to build in that belong to no exchange; '
        f"set messaging_exchange_id of one in the Manager, {_AGAIN}",
    )


def invalid_etcd_token(need: Need) -> RouteRefused:
    return RouteRefused(
        "invalid_etcd_token",
        f'milestone "{need.milestone}" has no etcd_token, which says what cluster to deploy to; a build reads it '
        'from "token" in etcd.json of the deployment repository: add it there, and let "build" run before',
    )


def cluster_without_exchange(need: Need) -> RouteRefused:
    return RouteRefused(
        "cluster_without_exchange",
        f'milestone "{need.milestone}" deploys to the cluster of etcd_token {need.etcd_token!r:.80}, which is '
        f"unknown or belongs to no exchange; register it in the Manager with its exchange, {_AGAIN}",
    )


def unknown_exchange(need: Need, exchange_id: str) -> RouteRefused:
    where = {
        ExchangeBy.OWN: "correct exchange_id in the configuration",
        ExchangeBy.FIXED: "correct the exchange of this milestone in the configuration",
        ExchangeBy.BUILD_CLUSTER: "correct build_messaging_exchange_id or the cluster's exchange",
        ExchangeBy.DEPLOY_CLUSTER: "correct deploy_messaging_exchange_id or the cluster's exchange",
    }
    return RouteRefused(
        "unknown_exchange",
        f'milestone "{need.milestone}" goes to exchange {exchange_id:.64}, which the Manager does not know; '
        f"{where[need.exchange_by]}, {_AGAIN}",
    )


def no_workers(need: Need, exchange_id: str) -> RouteRefused:
    return RouteRefused(
        _no_workers_key(need),
        f'milestone "{need.milestone}" needs a worker of the type {need.module_type}, and none is registered as '
        f"active in exchange {exchange_id:.64}; start one there, {_AGAIN}",
    )


def unknown_address(exchange_id: str, queue: str) -> RouteRefused:
    return RouteRefused(
        "unknown_exchange",
        f'a message for the queue "{queue}" goes to exchange {exchange_id:.64}, which the Manager does not know; '
        "register it there, or correct the id",
    )


def _no_workers_key(need: Need) -> str:
    match need.exchange_by, need.module_type:
        case ExchangeBy.OWN, "deployer":
            return "no_ecs_deployers"
        case _, "builder":
            return "no_builders"
        case _, "deployer":
            return "no_deployers"
        case _:
            return "no_workers"

"""Which route is for whom. A route without a row here is for nobody, and no application starts with one.

The decision is made on the route that the router will take, never on how a path begins or ends.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from fastapi.routing import APIRoute
from starlette.routing import BaseRoute, Match
from starlette.types import Scope

from openaperture.domain.access import LADDER, Identity, Role


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Who may use a route."""

    minimum: Role | None
    """Viewer, operator or admin; None opens it to everybody."""
    worker: bool = False
    """Workers and orchestrators may too."""
    audited: bool = False
    """Recorded though it is a GET: it shows secrets, or lets somebody in. What is no GET always is."""

    def allows(self, identity: Identity | None) -> bool:
        if self.minimum is None:
            return True
        if identity is None:
            return False
        if identity.role not in LADDER:
            return self.worker
        return identity.role.covers(self.minimum)


_PUBLIC = Policy(minimum=None)
_VIEW = Policy(minimum=Role.VIEWER)
_VIEW_OR_WORK = Policy(minimum=Role.VIEWER, worker=True)
_OPERATE = Policy(minimum=Role.OPERATOR)
_OPERATE_OR_WORK = Policy(minimum=Role.OPERATOR, worker=True)
_ADMINISTER = Policy(minimum=Role.ADMIN)

POLICIES: Mapping[tuple[str, str], Policy] = {
    ("GET", "/status"): _PUBLIC,
    ("GET", "/ready"): _PUBLIC,
    ("POST", "/oauth/token"): _PUBLIC,
    ("GET", "/login"): _PUBLIC,
    ("GET", "/login/callback"): Policy(minimum=None, audited=True),
    ("POST", "/login/token"): _PUBLIC,
    ("POST", "/logout"): _VIEW,
    ("GET", "/me"): _VIEW_OR_WORK,
    ("GET", "/openapi.json"): _VIEW,
    ("GET", "/workflows"): _VIEW,
    ("POST", "/workflows"): _OPERATE,
    ("GET", "/workflows/{workflow_id}"): _VIEW_OR_WORK,
    # What of it a worker or an orchestrator may change is judged by who runs the workflow: `updates.py`.
    ("PUT", "/workflows/{workflow_id}"): _OPERATE_OR_WORK,
    ("DELETE", "/workflows/{workflow_id}"): _ADMINISTER,
    ("POST", "/workflows/{workflow_id}/execute"): _OPERATE,
    ("POST", "/workflows/{workflow_id}/cancel"): _OPERATE,
    ("POST", "/workflows/{workflow_id}/resolve"): _OPERATE,
    ("POST", "/workflows/{workflow_id}/pause"): _OPERATE,
    ("POST", "/workflows/{workflow_id}/resume"): _OPERATE,
    # Whether somebody has a say in an approval is up to the groups that it asks for, not to the role.
    ("POST", "/workflows/{workflow_id}/approve"): _VIEW,
    ("POST", "/workflows/{workflow_id}/reject"): _VIEW,
    ("POST", "/workflows/{workflow_id}/retry"): _OPERATE,
    ("POST", "/workflows/{workflow_id}/rerun"): _OPERATE,
    ("POST", "/workflows/{workflow_id}/again"): _OPERATE,
    ("GET", "/workflows/{workflow_id}/explain"): _VIEW,
    ("GET", "/events"): _VIEW,
    ("GET", "/locks"): _VIEW,
    ("POST", "/locks/{lock_name:path}/release"): _OPERATE,
    ("GET", "/workflows/{workflow_id}/events"): _VIEW,
    ("GET", "/workflows/{workflow_id}/logs"): _VIEW,
    ("GET", "/workflows/{workflow_id}/attempts"): _VIEW,
    ("GET", "/tokens"): _VIEW,
    ("POST", "/tokens"): _VIEW,
    ("DELETE", "/tokens/{token_id}"): _VIEW,
    ("GET", "/clients"): _ADMINISTER,
    ("POST", "/clients"): _ADMINISTER,
    ("DELETE", "/clients/{client_id}"): _ADMINISTER,
    ("GET", "/audit"): _ADMINISTER,
    ("GET", "/messaging/exchanges"): _VIEW_OR_WORK,
    ("POST", "/messaging/exchanges"): _ADMINISTER,
    ("GET", "/messaging/exchanges/{exchange_id}"): _VIEW_OR_WORK,
    ("PUT", "/messaging/exchanges/{exchange_id}"): _ADMINISTER,
    ("DELETE", "/messaging/exchanges/{exchange_id}"): _ADMINISTER,
    ("GET", "/messaging/exchanges/{exchange_id}/brokers"): _VIEW_OR_WORK,
    ("POST", "/messaging/exchanges/{exchange_id}/brokers"): _ADMINISTER,
    ("DELETE", "/messaging/exchanges/{exchange_id}/brokers"): _ADMINISTER,
    ("GET", "/messaging/exchanges/{exchange_id}/clusters"): _VIEW_OR_WORK,
    ("GET", "/messaging/exchanges/{exchange_id}/modules"): _VIEW_OR_WORK,
    ("POST", "/messaging/exchanges/{exchange_id}/modules"): _OPERATE_OR_WORK,
    ("GET", "/messaging/exchanges/{exchange_id}/modules/{hostname}"): _VIEW_OR_WORK,
    ("DELETE", "/messaging/exchanges/{exchange_id}/modules/{hostname}"): _OPERATE_OR_WORK,
    ("GET", "/messaging/brokers"): _VIEW_OR_WORK,
    ("POST", "/messaging/brokers"): _ADMINISTER,
    ("GET", "/messaging/brokers/{broker_id}"): _VIEW_OR_WORK,
    ("PUT", "/messaging/brokers/{broker_id}"): _ADMINISTER,
    ("DELETE", "/messaging/brokers/{broker_id}"): _ADMINISTER,
    ("GET", "/messaging/brokers/{broker_id}/connections"): Policy(minimum=Role.VIEWER, worker=True, audited=True),
    ("POST", "/messaging/brokers/{broker_id}/connections"): _ADMINISTER,
    ("DELETE", "/messaging/brokers/{broker_id}/connections"): _ADMINISTER,
    ("GET", "/clusters"): _VIEW_OR_WORK,
    ("POST", "/clusters"): _ADMINISTER,
    ("GET", "/clusters/{etcd_token}"): _VIEW_OR_WORK,
    ("PUT", "/clusters/{etcd_token}"): _ADMINISTER,
    ("DELETE", "/clusters/{etcd_token}"): _ADMINISTER,
    ("GET", "/system_components"): _VIEW_OR_WORK,
    ("GET", "/system_events"): _VIEW_OR_WORK,
    ("POST", "/system_events"): _OPERATE_OR_WORK,
    ("GET", "/system_events/{event_id}"): _VIEW_OR_WORK,
}


class Policies:
    """The table, asked by request."""

    def __init__(self, table: Mapping[tuple[str, str], Policy]) -> None:
        self._table = table

    def check(self, routes: Iterable[BaseRoute]) -> None:
        """Raise when a route has no row, or is of a kind that could not be judged."""
        for route in routes:
            if not isinstance(route, APIRoute):
                raise TypeError(f"{route!r} is no plain route: it could not be judged by its method and path")
            if not route.methods:
                raise TypeError(f"{route.path} takes every method; name those that it is meant for")
            for method in route.methods:
                if (method, route.path) not in self._table:
                    raise LookupError(f"{method} {route.path} has no policy; add a row for it to POLICIES")

    def of(self, route: APIRoute, method: str) -> Policy | None:
        return self._table.get((method, route.path))


def find_route(routes: Iterable[BaseRoute], scope: Scope) -> tuple[APIRoute, Mapping[str, str]] | None:
    """The route that the router will take and what its path holds; None where it will answer 404 or 405."""
    for route in routes:
        match, found = route.matches(scope)
        if match is Match.FULL and isinstance(route, APIRoute):
            return route, found["path_params"]
    return None

"""The API described as OpenAPI 3.1: what FastAPI knows of requests, and what we know of answers and errors.

A route without a row in `ANSWERS` and in `summaries` is none that a document could be made of: a test finds it.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
from fastapi import FastAPI, Response
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute

from openaperture.client import access_models as access
from openaperture.client import models
from openaperture.manager.answers import answer
from openaperture.manager.policy import POLICIES, Policy
from openaperture.manager.summaries import SUMMARIES

PATH = "/openapi.json"
_REFERENCE = "#/components/schemas/{name}"
_ROW = dict[str, Any]

Answer = tuple[int, Any]
"""Status, and the type of the body; None is no body."""

ANSWERS: Mapping[str, Answer] = {
    "GET /status": (200, _ROW),
    "GET /ready": (200, _ROW),
    "GET /openapi.json": (200, _ROW),
    "GET /system_components": (200, list[Any]),
    "POST /oauth/token": (200, _ROW),
    "GET /login": (302, None),
    "GET /login/callback": (302, None),
    "POST /login/token": (200, access.TokenMade),
    "POST /logout": (204, None),
    "GET /me": (200, access.Me),
    "GET /tokens": (200, list[access.TokenShown]),
    "POST /tokens": (201, access.TokenMade),
    "DELETE /tokens/{token_id}": (204, None),
    "GET /clients": (200, list[access.ClientShown]),
    "POST /clients": (201, access.ClientMade),
    "DELETE /clients/{client_id}": (204, None),
    "GET /audit": (200, list[access.AuditShown]),
    "GET /workflows": (200, list[models.WorkflowSummary]),
    "POST /workflows": (201, None),
    "GET /workflows/{workflow_id}": (200, models.Workflow),
    "PUT /workflows/{workflow_id}": (204, None),
    "DELETE /workflows/{workflow_id}": (204, None),
    "POST /workflows/{workflow_id}/execute": (202, None),
    **{
        f"POST /workflows/{{workflow_id}}/{verb}": (200, models.Workflow)
        for verb in ("cancel", "pause", "resume", "resolve", "approve", "reject")
    },
    **{f"POST /workflows/{{workflow_id}}/{verb}": (201, models.Workflow) for verb in ("retry", "rerun", "again")},
    "GET /workflows/{workflow_id}/explain": (200, models.Explanation),
    "GET /workflows/{workflow_id}/events": (200, models.EventPage),
    "GET /workflows/{workflow_id}/logs": (200, models.LogPage),
    "GET /workflows/{workflow_id}/attempts": (200, list[models.Attempt]),
    "GET /events": (200, models.FeedEvent),
    "GET /locks": (200, list[models.Lock]),
    "POST /locks/{lock_name}/release": (200, models.Lock),
    "GET /messaging/exchanges": (200, list[_ROW]),
    "POST /messaging/exchanges": (201, None),
    "GET /messaging/exchanges/{exchange_id}": (200, _ROW),
    "PUT /messaging/exchanges/{exchange_id}": (204, None),
    "DELETE /messaging/exchanges/{exchange_id}": (204, None),
    "GET /messaging/exchanges/{exchange_id}/brokers": (200, list[_ROW]),
    "POST /messaging/exchanges/{exchange_id}/brokers": (201, None),
    "DELETE /messaging/exchanges/{exchange_id}/brokers": (204, None),
    "GET /messaging/exchanges/{exchange_id}/clusters": (200, list[_ROW]),
    "GET /messaging/exchanges/{exchange_id}/modules": (200, list[_ROW]),
    "POST /messaging/exchanges/{exchange_id}/modules": (201, None),
    "GET /messaging/exchanges/{exchange_id}/modules/{hostname}": (200, _ROW),
    "DELETE /messaging/exchanges/{exchange_id}/modules/{hostname}": (204, None),
    "GET /messaging/brokers": (200, list[_ROW]),
    "POST /messaging/brokers": (201, None),
    "GET /messaging/brokers/{broker_id}": (200, _ROW),
    "PUT /messaging/brokers/{broker_id}": (204, None),
    "DELETE /messaging/brokers/{broker_id}": (204, None),
    "GET /messaging/brokers/{broker_id}/connections": (200, list[_ROW]),
    "POST /messaging/brokers/{broker_id}/connections": (201, None),
    "DELETE /messaging/brokers/{broker_id}/connections": (204, None),
    "GET /clusters": (200, list[_ROW]),
    "POST /clusters": (201, str),
    "GET /clusters/{etcd_token}": (200, _ROW),
    "PUT /clusters/{etcd_token}": (204, None),
    "DELETE /clusters/{etcd_token}": (204, None),
    "GET /system_events": (200, list[_ROW]),
    "POST /system_events": (201, None),
    "GET /system_events/{event_id}": (200, _ROW),
}

_ERRORS = {
    400: "A field, a filter or the body cannot be used: `bad_request` lists every problem.",
    401: "No valid token.",
    403: "The role, or the groups, of the token are not enough.",
    404: "There is no such thing.",
    408: "The body did not arrive in time.",
    409: "It does not fit the state, or the Idempotency-Key came with another request; the message says more.",
    413: "The body is too large.",
    415: "The body is not JSON.",
    429: "Too many at once, or too many failures; Retry-After says when to try again.",
    500: "A defect of the Manager.",
    503: "The database does not answer; Retry-After says when to try again.",
}
_OF_BODIES = (408, 409, 413, 415)
_EXAMPLES: Mapping[str, Any] = {
    "CreateBody": {
        "source_repo": "https://github.com/acme/shop",
        "source_repo_git_ref": "v1.4.0",
        "milestones": ["build", ["deploy", "deploy_ecs"]],
        "locks": ["environment:prod"],
    },
    "ForceBody": {"reason": "wrong branch", "force": False},
    "ReasonBody": {"reason": "the database is being moved"},
    "ResolveBody": {"resolution": "worked", "reason": "the new version answers"},
    "VoteBody": {"reason": "tested on staging"},
    "RerunBody": {"milestone": "build"},
    "AgainBody": {"newest": True},
    "ExchangeBody": {"name": "aws"},
    "BrokerBody": {"name": "main"},
    "ConnectionBody": {"host": "rabbit.example.org", "username": "openaperture"},
    "ClusterBody": {"etcd_token": "tok", "name": "production"},
    "ModuleBody": {"hostname": "build-1", "type": "builder", "status": "active", "workload": []},
}


def add_document(app: FastAPI) -> None:
    """Serve the document, made once when it is first asked for."""
    made: list[dict[str, Any]] = []

    async def show_document() -> Response:
        """This document."""
        if not made:
            made.append(document_of(app))
        return answer(made[0])

    app.add_api_route(PATH, show_document, methods=["GET"], response_model=None)


def document_of(app: FastAPI) -> dict[str, Any]:
    routes = [route for route in app.routes if isinstance(route, APIRoute)]
    document = get_openapi(title=app.title, version=app.version, routes=routes)
    schemas: dict[str, Any] = document.setdefault("components", {}).setdefault("schemas", {})
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    for name, example in _EXAMPLES.items():
        if name in schemas:
            schemas[name]["examples"] = [example]
    types = [kind for _, kind in ANSWERS.values() if kind is not None]
    answers, components = msgspec.json.schema_components([*types, models.ErrorAnswer], ref_template=_REFERENCE)
    schemas.update(components)
    shown = dict(zip(map(str, types), answers, strict=False))
    document["components"]["securitySchemes"] = {"bearer": {"type": "http", "scheme": "bearer"}}
    for route, method in _operations(routes):
        operation = document["paths"][route.path_format][method.lower()]
        _complete(operation, route, method, shown)
    return document


def _operations(routes: list[APIRoute]) -> Iterator[tuple[APIRoute, str]]:
    for route in routes:
        for method in sorted(route.methods or ()):
            yield route, method


def _complete(operation: dict[str, Any], route: APIRoute, method: str, shown: Mapping[str, Any]) -> None:
    policy = POLICIES[method, route.path]
    name = f"{method} {route.path_format}"
    status, kind = ANSWERS[name]
    operation["summary"] = SUMMARIES[name]
    if policy.minimum is not None:
        operation["security"] = [{"bearer": []}]
    done: dict[str, Any] = {"description": "Done."}
    if kind is not None:
        media = "text/event-stream" if route.path == "/events" else "application/json"
        schema = {"type": "string"} if route.path == "/events" else shown[str(kind)]
        done["content"] = {media: {"schema": schema}}
    operation["responses"] = {str(status): done, **_errors_of(method, route.path, policy)}
    if method == "POST":
        operation.setdefault("parameters", []).append(_KEY)
    if route.path.endswith("/events"):
        operation.setdefault("parameters", []).append(_LAST_SEEN)
        operation["responses"]["204"] = {"description": "It has ended, and nothing is left to stream."}
        if kind is models.EventPage:
            done["content"]["text/event-stream"] = {"schema": {"type": "string"}}


_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "The same again with the same key is not done again.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
}
_LAST_SEEN = {
    "name": "Last-Event-ID",
    "in": "header",
    "required": False,
    "description": "Of a stream: the last id that was received.",
    "schema": {"type": "string", "pattern": "^[0-9]{1,18}$"},
}


def _errors_of(method: str, path: str, policy: Policy) -> dict[str, Any]:
    statuses = {400, 500, 503}
    if policy.minimum is not None or path.startswith(("/login", "/oauth")):
        statuses |= {401, 403}
    if "{" in path or path.startswith("/login"):
        statuses.add(404)
    if method != "GET":
        # Also where no body is needed: one may be sent.
        statuses |= {403, *_OF_BODIES}
    if policy.minimum is not None or path in {"/oauth/token", "/login/token"}:
        statuses.add(429)
    schema = {"$ref": _REFERENCE.format(name="ErrorAnswer")}
    if path.startswith("/oauth"):
        # RFC 6749, 5.2.
        schema = {"type": "object"}
    return {
        str(status): {"description": _ERRORS[status], "content": {"application/json": {"schema": schema}}}
        for status in sorted(statuses)
    }

"""Every answer that is an error, in its one shape, and which error of ours becomes which."""

import math
from collections.abc import Mapping, Sequence

import msgspec
from fastapi import Request, Response
from starlette.exceptions import HTTPException
from starlette.routing import Match

from openaperture.client.models import ErrorAnswer, ErrorDetails, Problem
from openaperture.domain.errors import (
    BadInput,
    Contested,
    LoginUnavailable,
    NotAllowed,
    OpenApertureError,
    Overloaded,
    StoreFull,
    StoreUnavailable,
    Taken,
    UnknownEntry,
    UnknownWorkflow,
    WrongState,
)
from openaperture.manager.answers import HEADERS
from openaperture.manager.plans import BadPlan

RETRY_SECONDS = 2
"""What we tell clients to wait when the database is away."""
OVERLOAD_SECONDS = 15
"""The same when nothing new begins because too much is under way."""


def refuse(
    status: int,
    code: str,
    message: str,
    *,
    problems: Sequence[Problem] = (),
    headers: Mapping[str, str] | None = None,
) -> Response:
    details = ErrorDetails(code=code, message=message, problems=list(problems))
    return Response(
        msgspec.json.encode(ErrorAnswer(error=details)),
        status_code=status,
        media_type="application/json",
        headers={**HEADERS, **(headers or {})},
    )


def refuse_for(error: OpenApertureError) -> Response:
    """What an error of ours is to a client. What the database says stays with us."""
    if isinstance(error, BadInput):
        return _refuse_input(error)
    retry = {"retry-after": str(RETRY_SECONDS)}
    match error:
        case Overloaded():
            return refuse(503, "overloaded", str(error), headers={"retry-after": str(OVERLOAD_SECONDS)})
        case Contested():
            return refuse(503, "contested", str(error), headers=retry)
        case StoreFull():
            return refuse(503, "unavailable", "the Manager's database has no room left; free some", headers=retry)
        case StoreUnavailable():
            text = "the Manager's database does not answer right now; try again"
            return refuse(503, "unavailable", text, headers=retry)
        case LoginUnavailable():
            return refuse(503, "unavailable", str(error), headers=retry)
        case _:
            # None that a request should cause: for the boundary, which answers 500.
            raise error


def _refuse_input(error: BadInput) -> Response:
    """What is the sender's fault."""
    text = str(error)
    match error:
        case UnknownWorkflow():
            return refuse(404, "unknown_workflow", text)
        case UnknownEntry():
            return refuse(404, "unknown_entry", text)
        case Taken():
            return refuse(409, "taken", text)
        case NotAllowed():
            return refuse(403, "not_allowed", text)
        case WrongState():
            return refuse(409, "wrong_state", text)
        case BadPlan():
            return refuse(400, "bad_request", text, problems=error.problems)
        case _:
            return refuse(400, "bad_request", text)


def refuse_problems(problems: Sequence[Problem]) -> Response:
    """400 with everything that is wrong."""
    text = "; ".join(f"{problem.field}: {problem.message}" for problem in problems)
    return refuse(400, "bad_request", f"the request cannot be used: {text}", problems=problems)


def refuse_route(request: Request, error: HTTPException) -> Response:
    """404 and 405 of the router."""
    path = request.url.path[:200]
    if error.status_code == 405:
        allowed = ", ".join(_methods_of(request))
        text = f"{request.method} is not possible on {path}; possible: {allowed}"
        return refuse(405, "method_not_allowed", text, headers={"allow": allowed})
    return refuse(404, "not_found", f"there is nothing at {path}; docs/reference/api.md lists what there is")


def _methods_of(request: Request) -> list[str]:
    """All that the path has; the router knows those of the first route that fits."""
    fitting = (route for route in request.app.routes if route.matches(request.scope)[0] is not Match.NONE)
    return sorted({method for route in fitting for method in getattr(route, "methods", None) or ()})


def slow_down(wait_seconds: float) -> Response:
    """For who has failed to show something good too often."""
    text = "too many bad tokens or codes came from this address; wait, and check what is sent"
    return refuse(429, "slow_down", text, headers={"retry-after": str(math.ceil(wait_seconds))})


def shown_once(what: str) -> Response:
    """For a request that was done before, with an answer that cannot be given again."""
    text = f"this was done before, and the secret of {what} is shown once; take it back and make another"
    return refuse(409, "shown_once", text)


def refuse_failure() -> Response:
    return refuse(500, "failed", "the Manager failed to handle this request; its log says why")

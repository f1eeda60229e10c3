"""What is wrong with a request, field by field, in our words.

Of what was sent, only names, ids and times are repeated: any other value may be a secret.
"""

from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute

from openaperture.client.models import Problem, WorkflowSummary
from openaperture.manager.requests import LOCK_PATTERN

_OURS = frozenset(WorkflowSummary.__struct_fields__)
"""Fields of a workflow; those that no request has are set by the orchestrator."""

_FORMS = {
    LOCK_PATTERN: (
        "is no name of a lock: begin it with a letter or a digit, and write only letters, digits and . _ : / @ -"
    )
}
_WORDS: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "string_too_short": lambda limits: (
        f"has to have at least {limits['min_length']} characters"
        if limits["min_length"] > 1
        else "is empty; write at least 1 character"
    ),
    "string_too_long": lambda limits: f"has more than {limits['max_length']} characters; shorten it",
    "string_pattern_mismatch": lambda limits: _FORMS.get(
        limits["pattern"], f"has another form than {limits['pattern']}"
    ),
    "string_type": lambda _: "has to be a text (a JSON string)",
    "int_parsing": lambda _: "has to be a whole number",
    "int_type": lambda _: "has to be a whole number",
}
"""What is said of a value, by the kind of problem; of others the words of the validator."""


def problems_of(request: Request, error: RequestValidationError) -> list[Problem]:
    return [Problem(field=_field(found), message=_message(found, request)) for found in error.errors()]


def _field(found: Mapping[str, Any]) -> str:
    # In brackets stand the branches of a union, which nobody sent.
    parts = [str(part)[:64] for part in found["loc"][1:]]
    return ".".join(part for part in parts if not part.startswith("(")) or "body"


def _message(found: Mapping[str, Any], request: Request) -> str:
    match found["type"]:
        case "extra_forbidden":
            return _unknown(str(found["loc"][-1]), request)
        case "missing":
            return "is missing"
        case "value_error":
            return str(found["ctx"]["error"])
        case kind if kind in _WORDS:
            return _WORDS[kind](found.get("ctx", {}))
        case _:
            text = str(found["msg"])
            return text[:1].lower() + text[1:]


def _unknown(name: str, request: Request) -> str:
    known = _known_fields(request)
    if near := get_close_matches(name, known, n=1):
        return f'is not known; did you mean "{near[0]}"?'
    if name in _OURS:
        return "is set by the orchestrator; leave it out"
    return f"is not known; known are {', '.join(known)}" if known else "is not known; leave it out"


def _known_fields(request: Request) -> list[str]:
    route = request.scope.get("route")
    body = route.body_field if isinstance(route, APIRoute) else None
    return sorted(getattr(body.field_info.annotation, "model_fields", {})) if body else []

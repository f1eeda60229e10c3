"""Says what is wrong with the settings: which key, who set it, to what, and what to write instead."""

import json
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from typing import Any, cast

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from openaperture.config.settings import Clash, MilestoneSection, Settings
from openaperture.config.sources import Key, Sources, variable_of
from openaperture.config.values import MASK, MILESTONE_NAME
from openaperture.domain.milestones import OnLoss

ENVIRONMENT: Key = ("worker", "environment")
SECRETS: frozenset[Key] = frozenset(
    {
        ("token_key",),
        ("oauth_client_secret",),
        ("manager", "token"),
        ("manager", "oidc", "client_secret"),
        ENVIRONMENT,
    }
)
_LONGEST_VALUE = 80
_MILESTONES = "milestones"

_WRITE = {
    "string_type": "write a text in quotes",
    "dict_type": "write a table",
    "model_type": "write a table",
    "enum": f"write {' or '.join(json.dumps(kind.value) for kind in OnLoss)}",
}


def known_keys(model: type[BaseModel] = Settings, above: Key = ()) -> Iterator[Key]:
    """Every key that can be set; NAME stands for the name of a milestone."""
    for name, field in model.model_fields.items():
        key = (*above, field.alias or name)
        if key == (_MILESTONES,):
            yield from known_keys(MilestoneSection, (_MILESTONES, "NAME"))
        elif isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from known_keys(field.annotation, key)
        else:
            yield key


def sections() -> set[Key]:
    """The keys that hold tables."""
    return {key[:length] for key in known_keys() for length in range(1, len(key))} | {ENVIRONMENT}


def key_of(error: ErrorDetails) -> Key:
    return tuple(str(part) for part in error["loc"])


def describe_error(error: ErrorDetails, sources: Sources) -> str:
    """One problem that pydantic found, as a sentence."""
    key = key_of(error)
    if error["type"] == "extra_forbidden":
        return _unknown(key, sources)
    context = error.get("ctx", {})
    if error["type"] == "too_short":
        write = f"write at least {context['min_length']} characters that nobody can guess"
    elif error["type"] == "value_error":
        write = str(context["error"])
    else:
        write = _WRITE.get(error["type"], error["msg"])
    return f"{_named(key, sources)}: {write}"


def describe_clash(clash: Clash, sources: Sources) -> str:
    """One combination that cannot be used, as a sentence."""
    return f"{_named(clash.keys[0], sources)}: {clash.text}"


def bad_names(sources: Sources) -> Iterator[str]:
    """Milestones whose names no message could carry."""
    tables = sources.value_of((_MILESTONES,))
    for name in cast("dict[str, Any]", tables) if isinstance(tables, dict) else ():
        if not MILESTONE_NAME.fullmatch(name):
            rule = "a name has at most 64 lower-case letters, digits, - and _, and begins with a letter"
            yield f"{_named((_MILESTONES, name), sources)}: {rule}"


def _named(key: Key, sources: Sources) -> str:
    origin = sources.origin_of(key)
    place = f" ({origin})" if origin else ""
    return f"{'.'.join(key)}{_shown(key, sources)}{place}"


def _shown(key: Key, sources: Sources) -> str:
    value = sources.value_of(key)
    if value is None or isinstance(value, dict):
        return ""
    text = json.dumps(value, default=str, ensure_ascii=False)
    # A url that was refused may be broken anywhere, and so cannot be masked in part.
    if any(key[: len(secret)] == secret for secret in SECRETS) or "@" in text or "?" in text:
        return f" = {MASK}"
    return f" = {text if len(text) <= _LONGEST_VALUE else text[:_LONGEST_VALUE] + '…'}"


def _unknown(key: Key, sources: Sources) -> str:
    """The value is left out: a mistyped key may be that of a secret."""
    # pydantic stops at an unknown section; the variable that brought it in names the whole key.
    key, variable = next(
        ((whole, name) for whole, name in sources.variables.items() if whole[: len(key)] == key), (key, None)
    )
    known = [_like(candidate, key) for candidate in known_keys()]
    near = _nearest(key, known)
    if variable:
        hint = f"did you mean {variable_of(near)}?" if near else "unset it, or see `openaperture config show`"
        return f"{variable} (environment variable) is not a setting; {hint}"
    hint = f'did you mean "{".".join(near)}"?' if near else _siblings(key, known)
    return f"{'.'.join(key)} ({sources.origin_of(key)}) is not a setting; {hint}"


def _like(candidate: Key, key: Key) -> Key:
    """A candidate below the milestone that the key is about."""
    own = key[1] if key[0] == _MILESTONES and len(key) > 1 else "NAME"
    return tuple(own if part == "NAME" else part for part in candidate)


def _nearest(key: Key, known: Sequence[Key]) -> Key | None:
    """The setting that was probably meant: a neighbour, one of that very name elsewhere, or a similar one."""
    for candidate in known:
        if candidate[-1] == key[-1] or "_".join(candidate) == "_".join(key):
            return candidate
    depth = len(key)
    neighbours = {it[depth - 1]: it[:depth] for it in known if it[: depth - 1] == key[:-1] and len(it) >= depth}
    if close := get_close_matches(key[-1], neighbours, n=1):
        return neighbours[close[0]]
    if neighbours and depth > 1:
        return None  # In the right section: what resembles it elsewhere would mislead.
    dotted = {".".join(candidate): candidate for candidate in known}
    close = get_close_matches(".".join(key), dotted, n=1)
    return dotted[close[0]] if close else None


def _siblings(key: Key, known: Sequence[Key]) -> str:
    depth = len(key)
    names = sorted({it[depth - 1] for it in known if it[: depth - 1] == key[:-1] and len(it) >= depth})
    return f"known here are {', '.join(names)}"

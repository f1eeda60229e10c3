"""From a signed token of the login service to an identity. The only module that knows JWT.

Every rule of OpenID Connect Core 3.1.3.7 that applies to a confidential client with signed tokens, and no
algorithm in which a public key could pass for a secret.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from openaperture.domain.access import CLIENT_PREFIX, LADDER, LOCAL_NAME, Identity, Role

ALGORITHMS = ("RS256", "PS256", "ES256", "EdDSA")
LEEWAY_SECONDS = 30
MAX_TOKEN = 16_384
MAX_GROUPS = 200
_REQUIRED = ("exp", "iat", "iss", "aud", "sub")


class BadLogin(Exception):
    """The token, or who it speaks for, is not accepted. The text is for the person and holds no token."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimRules:
    """Which claims say what."""

    client_id: str
    name_claim: str
    role_claim: str
    group_claim: str
    roles: Mapping[Role, Collection[str]]
    """Role -> values of the role claim."""


def key_id_of(text: str) -> tuple[str, str | None]:
    """Algorithm and key id, unproven. Raises BadLogin."""
    import jwt  # noqa: PLC0415 - a tenth of a second, which a Manager without a login service need not wait for

    if len(text) > MAX_TOKEN:
        raise BadLogin("the token is too long")
    try:
        header = jwt.get_unverified_header(text)
    except jwt.PyJWTError as exc:
        raise BadLogin("this is no signed token") from exc
    algorithm, key_id = header.get("alg"), header.get("kid")
    if algorithm not in ALGORITHMS:
        raise BadLogin(f"the token is not signed in one of the ways that we accept, {', '.join(ALGORITHMS)}")
    return algorithm, key_id if isinstance(key_id, str) else None


def verified(
    text: str, algorithm: str, keys: Sequence[Mapping[str, Any]], *, issuer: str, client_id: str
) -> Mapping[str, Any]:
    """The claims, once one of the keys fits the signature. Raises BadLogin."""
    import jwt  # noqa: PLC0415 - as above

    for key in keys:
        try:
            fitting = jwt.PyJWK(dict(key), algorithm)
            claims = jwt.decode(
                text,
                fitting,
                algorithms=[algorithm],
                audience=client_id,
                issuer=issuer,
                leeway=LEEWAY_SECONDS,
                options={"require": list(_REQUIRED)},
            )
        except (jwt.InvalidKeyError, jwt.PyJWKError, jwt.InvalidSignatureError):
            continue
        except jwt.PyJWTError as exc:
            raise BadLogin(f"the token of the login service is not accepted ({exc})") from exc
        if claims.get("azp", client_id) != client_id:
            raise BadLogin("the token was given to another program")
        return claims
    raise BadLogin("no key of the login service fits the signature of the token")


def identity_of(claims: Mapping[str, Any], rules: ClaimRules) -> Identity:
    """Raises BadLogin for who has no name or no role."""
    name = _at(claims, rules.name_claim)
    if not isinstance(name, str) or not _is_name(name):
        raise BadLogin(
            f"the login service tells no usable name in {rules.name_claim}; an admin has to see to that"
        )
    values = _texts(_at(claims, rules.role_claim))
    role = next((role for role in reversed(LADDER) if values & set(rules.roles.get(role, ()))), None)
    if role is None:
        raise BadLogin(f'"{name}" has no role here; ask an admin, who maps values of {rules.role_claim} to roles')
    return Identity(name=name, role=role, groups=frozenset(_texts(_at(claims, rules.group_claim))))


def _is_name(text: str) -> bool:
    return (
        0 < len(text) <= 128 and text.isprintable() and text != LOCAL_NAME and not text.startswith(CLIENT_PREFIX)
    )


def _at(claims: Mapping[str, Any], path: str) -> object:
    """A claim; dots step into objects, unless a claim has that very name, as `https://…` ones do."""
    if path in claims:
        return claims[path]
    place: object = claims
    for part in path.split("."):
        place = cast("Mapping[str, object]", place).get(part) if isinstance(place, Mapping) else None
    return place


def _texts(value: object) -> set[str]:
    values = cast("list[object]", value) if isinstance(value, list) else [value]
    return {text for text in values[:MAX_GROUPS] if isinstance(text, str)}

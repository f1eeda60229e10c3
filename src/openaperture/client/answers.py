"""What comes back over HTTP from a server that need not be the one we took it for: bounded, then strict.

Knows nothing of Managers or tokens. Used where an answer decides about releases or holds a credential.
"""

import json
from typing import Any, TypeVar

import httpx
import msgspec

T = TypeVar("T")

_LARGEST_INTEGER = 2**63


class NotAnAnswer(Exception):
    """A body that cannot be used; the text completes "… was answered with something unusable: "."""


async def read_body(response: httpx.Response, *, limit_bytes: int) -> bytes:
    """The body of a streamed response, read no further than the limit. Raises NotAnAnswer, httpx.HTTPError.

    A compressed body is refused: we never ask for one, and a small one can unfold to gigabytes.
    """
    if response.headers.get("content-encoding", "identity").lower() != "identity":
        raise NotAnAnswer("it is compressed, and that was not asked for")
    body = bytearray()
    async for chunk in response.aiter_raw():
        body += chunk
        if len(body) > limit_bytes:
            raise NotAnAnswer(f"it has more than {limit_bytes} bytes")
    return bytes(body)


def parse(body: bytes, kind: type[T]) -> T:
    """Strict JSON as a `kind`: no NaN, no key twice, no half characters, 64-bit integers. Raises NotAnAnswer.

    Fields that `kind` does not have are passed over. The text of the error quotes no value of the body.
    """
    try:
        value = msgspec.json.decode(body, type=kind)
        # msgspec keeps the last of two equal keys and takes integers of any length, so it is read once more.
        json.loads(body, object_pairs_hook=_refuse_twins, parse_int=_bounded)
    except msgspec.ValidationError as exc:
        raise NotAnAnswer(f"it lacks what is needed ({exc})") from None
    except (msgspec.DecodeError, UnicodeError, ValueError, RecursionError):
        # Without the cause: it may quote the body, which may hold a credential.
        raise NotAnAnswer("it is not proper JSON") from None
    return value


def _refuse_twins(pairs: list[tuple[str, Any]]) -> None:
    if len({key for key, _ in pairs}) != len(pairs):
        raise ValueError("a key twice")


def _bounded(digits: str) -> int:
    if len(digits) > 20 or not -_LARGEST_INTEGER <= int(digits) < _LARGEST_INTEGER:
        raise ValueError("an integer beyond 64 bits")
    return 0

"""What the engine is given to speak on the wire."""

from collections.abc import Callable
from dataclasses import dataclass

from msgspec import Struct

from openaperture.domain.messages import AnyCallback, StartMessage
from openaperture.engine.tokens import TokenMint
from openaperture.ports import Address

Encode = Callable[[Struct], bytes]
Decode = Callable[[bytes], StartMessage | AnyCallback]
"""Raises BadMessage, and nothing else."""
Route = Callable[[str], Address]
"""From a logical queue to where its messages are published. Raises Unroutable."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wire:
    """How messages are written, read, proven and addressed."""

    mint: TokenMint
    encode: Encode
    decode: Decode
    route: Route

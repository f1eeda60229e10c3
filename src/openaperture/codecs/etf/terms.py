"""What Erlang terms are in Python, how large they may be, and how to get text out of them."""

from typing import Final, TypeAlias

import msgspec

from openaperture.domain.errors import CodecError

MAX_BYTES: Final = 1_048_576
MAX_INFLATED_BYTES: Final = 8_388_608
"""Of a compressed term. Deflate shrinks up to 1,030 times: 1 MiB could claim a gigabyte."""
MAX_DEPTH: Final = 64
MAX_TERMS: Final = 100_000
"""All elements of all containers together. A term of one byte takes up to 100 bytes of memory."""
MAX_KEYS: Final = 1_000
"""Of one map."""
MAX_ATOM_CHARACTERS: Final = 255
MIN_INTEGER: Final = -(2**63)
MAX_INTEGER: Final = 2**63 - 1


class Atom(msgspec.Struct, frozen=True, gc=False):
    """An Erlang atom. Never equal to text or bytes of the same letters."""

    name: str


Key: TypeAlias = "Atom | bytes | str"
Term: TypeAlias = (
    "bool | int | float | Atom | bytes | str | list[Term] | tuple[Term, ...] | dict[Key, Term] | None"
)
"""None, True and False are the atoms nil, true and false. `decode` gives binaries as bytes, never as str."""


def text_of(value: Term, key: str) -> str:
    """The text in a binary. Raises CodecError, naming `key`, for anything else and for bytes that are no text."""
    if not isinstance(value, bytes):
        raise CodecError(f"{key} is {_name_of(value)}; send a binary with text")
    try:
        text = value.decode("utf-8")
    except UnicodeDecodeError as exc:
        raise CodecError(f"{key} is not UTF-8 text (byte {exc.start}); send text in UTF-8") from exc
    return _storable(text, key)


def name_of(value: Term, key: str) -> str:
    """The text in a binary or the name of an atom, where the original takes either. Raises CodecError."""
    return _storable(value.name, key) if isinstance(value, Atom) else text_of(value, key)


def _storable(text: str, key: str) -> str:
    if "\x00" in text:
        raise CodecError(f"{key} contains a NUL character, which no database can store")
    return text


def _name_of(value: Term) -> str:
    if value is None:
        return "nil"
    names = {"Atom": "an atom", "bool": "true or false", "dict": "a map", "int": "an integer"}
    return names.get(value.__class__.__name__, f"a {value.__class__.__name__}")

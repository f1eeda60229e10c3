"""Terms to bytes, the same ones that Erlang/OTP 17 to 25 writes."""

import struct
from math import isfinite
from typing import Final, assert_never

from openaperture.codecs.etf import tags
from openaperture.codecs.etf.terms import (
    MAX_ATOM_CHARACTERS,
    MAX_DEPTH,
    MAX_INTEGER,
    MIN_INTEGER,
    Atom,
    Key,
    Term,
)
from openaperture.domain.errors import CodecError

_DOUBLE: Final = struct.Struct(">d")
_NAMES: Final = {None: "nil", True: "true", False: "false"}


def encode(term: Term) -> bytes:
    """The bytes that term_to_binary of Erlang/OTP 17 to 25 gives for `term`, readable by every release since.

    Text becomes a binary. Keys are sorted, so equal terms give equal bytes; Erlang orders maps of more than 32
    keys otherwise. Raises CodecError for a value, key or depth that `decode` would refuse; how many bytes, keys
    and elements there are is the caller's care.
    """
    out = bytearray([tags.VERSION])
    _write(out, term, 0)
    return bytes(out)


def _write(out: bytearray, term: Term, depth: int) -> None:
    match term:
        case None | bool():  # before int, which a bool is too
            _write_atom(out, _NAMES[term])
        case int():
            _write_integer(out, term)
        case float():
            _write_float(out, term)
        case Atom():
            _write_atom(out, term.name)
        case bytes():
            _write_binary(out, term)
        case str():
            _write_binary(out, _utf8(term))
        case list():
            _write_list(out, term, depth)
        case tuple():
            _write_tuple(out, term, depth)
        case dict():
            _write_map(out, term, depth)
        case _:
            assert_never(term)


def _write_integer(out: bytearray, value: int) -> None:
    if 0 <= value < 2**8:
        out += bytes((tags.SMALL_INTEGER, value))
    elif -(2**31) <= value < 2**31:
        out.append(tags.INTEGER)
        out += value.to_bytes(4, "big", signed=True)
    elif MIN_INTEGER <= value <= MAX_INTEGER:
        size = abs(value)
        length = (size.bit_length() + 7) // 8
        out += bytes((tags.SMALL_BIG, length, value < 0))
        out += size.to_bytes(length, "little")
    else:
        raise CodecError("an integer beyond 64 bits cannot be sent as an Erlang term")


def _write_float(out: bytearray, value: float) -> None:
    if not isfinite(value):
        raise CodecError("a float that is not finite cannot be sent as an Erlang term")
    out.append(tags.NEW_FLOAT)
    out += _DOUBLE.pack(value)


def _write_atom(out: bytearray, name: str) -> None:
    """As term_to_binary does: tag 100 for all that fits latin-1, UTF-8 (since R16) for the others."""
    if len(name) > MAX_ATOM_CHARACTERS:
        raise CodecError(f"an atom of more than {MAX_ATOM_CHARACTERS} characters cannot be sent as an Erlang term")
    try:
        letters = name.encode("latin-1")
        tag, length_size = tags.ATOM, 2
    except UnicodeEncodeError:
        letters = _utf8(name)
        tag, length_size = (tags.SMALL_ATOM_UTF8, 1) if len(letters) < 2**8 else (tags.ATOM_UTF8, 2)
    out.append(tag)
    out += len(letters).to_bytes(length_size, "big")
    out += letters


def _write_binary(out: bytearray, value: bytes) -> None:
    _write_head(out, tags.BINARY, len(value))
    out += value


def _write_list(out: bytearray, items: list[Term], depth: int) -> None:
    numbers = _small_numbers(items)
    if numbers and len(numbers) < 2**16:
        out.append(tags.STRING)
        out += len(numbers).to_bytes(2, "big")
        out += numbers
        return
    if items:
        depth = _enter(depth)
        _write_head(out, tags.LIST, len(items))
        for item in items:
            _write(out, item, depth)
    out.append(tags.NIL)


def _small_numbers(items: list[Term]) -> bytes:
    """The items, when all of them are numbers of one byte; otherwise nothing."""
    numbers = bytearray()
    for item in items:
        if not isinstance(item, int) or isinstance(item, bool) or not 0 <= item < 2**8:
            return b""
        numbers.append(item)
    return bytes(numbers)


def _write_tuple(out: bytearray, items: tuple[Term, ...], depth: int) -> None:
    depth = _enter(depth)
    if len(items) < 2**8:
        out += bytes((tags.SMALL_TUPLE, len(items)))
    else:
        _write_head(out, tags.LARGE_TUPLE, len(items))
    for item in items:
        _write(out, item, depth)


def _write_map(out: bytearray, fields: dict[Key, Term], depth: int) -> None:
    depth = _enter(depth)
    atoms = {key.name: value for key, value in fields.items() if isinstance(key, Atom)}
    binaries = {
        _utf8(key) if isinstance(key, str) else key: value
        for key, value in fields.items()
        if not isinstance(key, Atom)
    }
    if len(atoms) + len(binaries) != len(fields):
        raise CodecError("a map that has a key both as text and as bytes cannot be sent as an Erlang term")
    _write_head(out, tags.MAP, len(fields))
    for name in sorted(atoms):  # before the binaries, as in Erlang's order of terms
        _write_atom(out, name)
        _write(out, atoms[name], depth)
    for key in sorted(binaries):
        _write_binary(out, key)
        _write(out, binaries[key], depth)


def _write_head(out: bytearray, tag: int, length: int) -> None:
    out.append(tag)
    out += length.to_bytes(4, "big")


def _enter(depth: int) -> int:
    if depth >= MAX_DEPTH:
        raise CodecError(f"a term nested deeper than {MAX_DEPTH} levels cannot be sent")
    return depth + 1


def _utf8(text: str) -> bytes:
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as exc:
        raise CodecError("text with half a surrogate pair cannot be sent as an Erlang term") from exc

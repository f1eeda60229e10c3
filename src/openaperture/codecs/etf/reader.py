"""Bytes to terms. What arrives is untrusted: every length is checked before anything of it is built.

All that is wrong raises CodecError with a sentence; nothing else escapes.
"""

import re
import struct
import zlib
from collections.abc import Callable
from math import isfinite
from typing import Final, NoReturn

from openaperture.codecs.etf import tags
from openaperture.codecs.etf.terms import (
    MAX_ATOM_CHARACTERS,
    MAX_BYTES,
    MAX_DEPTH,
    MAX_INFLATED_BYTES,
    MAX_INTEGER,
    MAX_KEYS,
    MAX_TERMS,
    MIN_INTEGER,
    Atom,
    Key,
    Term,
)
from openaperture.domain.errors import CodecError

_CONSTANTS: Final[dict[str, bool | None]] = {"nil": None, "true": True, "false": False}

_ATOM_FORMS: Final = {
    tags.ATOM: (2, "latin-1"),
    tags.SMALL_ATOM: (1, "latin-1"),
    tags.ATOM_UTF8: (2, "utf-8"),
    tags.SMALL_ATOM_UTF8: (1, "utf-8"),
}
"""Tag to the size of the length that follows, in bytes, and the encoding of the name."""

_OLD_FLOAT_TEXT: Final = re.compile(rb"[+-]?[0-9]+\.[0-9]+(?:e[+-]?[0-9]+)?")
_DOUBLE: Final = struct.Struct(">d")


def decode(body: bytes) -> Term:
    """The term in `body`, within the limits above. Raises CodecError.

    Map keys are Atom or bytes. A list of small integers, which Erlang sends as a string, is a list of int.
    """
    if len(body) > MAX_BYTES:
        raise CodecError(f"the message has {len(body)} bytes; at most {MAX_BYTES} are accepted")
    if body[:1] != bytes([tags.VERSION]):
        raise CodecError("the message is not an Erlang term: its first byte is not 131")
    reader = _Reader(_inflate(body) if body[1:2] == bytes([tags.COMPRESSED]) else body[1:])
    term = reader.read_term(0)
    reader.finish()
    return term


def _inflate(body: bytes) -> bytes:
    """What is inside a compressed term: version, tag, size of 4 bytes, zlib stream."""
    declared = int.from_bytes(body[2:6], "big")
    if declared > MAX_INFLATED_BYTES:
        raise CodecError(f"the compressed term claims {declared} bytes; at most {MAX_INFLATED_BYTES} are accepted")
    stream = zlib.decompressobj()
    try:
        # One byte more than promised: enough to see that there is more, or else to reach the checksum.
        term = stream.decompress(body[6:], declared + 1)
    except zlib.error as exc:
        raise CodecError("the compressed term is damaged: it cannot be inflated") from exc
    if len(term) != declared or not stream.eof or stream.unused_data:
        raise CodecError(f"the compressed term is not the {declared} bytes that it claims to be")
    return term


class _Reader:
    """Reads terms from the front. Each method that takes a `depth` is told how many containers it is inside."""

    __slots__ = ("_at", "_body", "_terms_left")

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._at = 0
        self._terms_left = MAX_TERMS

    def read_term(self, depth: int) -> Term:
        tag = self._number(1)
        if tag in _ATOM_FORMS:
            name = self._atom_name(tag)
            return _CONSTANTS[name] if name in _CONSTANTS else Atom(name)
        read = _READERS.get(tag)
        if read is None:
            self._refuse(f"the tag {tag}, which is none that carries data")
        return read(self, depth)

    def finish(self) -> None:
        if self._at != len(self._body):
            self._refuse("more bytes after the end of the term")

    def read_small_integer(self, _depth: int) -> int:
        return self._number(1)

    def read_integer(self, _depth: int) -> int:
        return int.from_bytes(self._take(4), "big", signed=True)

    def read_small_big(self, _depth: int) -> int:
        return self._big(self._number(1))

    def read_large_big(self, _depth: int) -> int:
        return self._big(self._number(4))

    def read_new_float(self, _depth: int) -> float:
        value: float = _DOUBLE.unpack(self._take(8))[0]
        return self._finite(value)

    def read_old_float(self, _depth: int) -> float:
        text = self._take(31).rstrip(b"\x00")
        if not _OLD_FLOAT_TEXT.fullmatch(text):
            self._refuse("a float that is no number")
        return self._finite(float(text))

    def read_binary(self, _depth: int) -> bytes:
        return self._take(self._number(4))

    def read_nil(self, _depth: int) -> list[Term]:
        return []

    def read_string(self, _depth: int) -> list[Term]:
        length = self._number(2)
        self._reserve(length)
        return list(self._take(length))

    def read_list(self, depth: int) -> list[Term]:
        length = self._number(4)
        depth = self._enter(depth, length)
        items = [self.read_term(depth) for _ in range(length)]
        if self._number(1) != tags.NIL:
            self._refuse("a list that does not end in the empty list")
        return items

    def read_small_tuple(self, depth: int) -> tuple[Term, ...]:
        return self._tuple(self._number(1), depth)

    def read_large_tuple(self, depth: int) -> tuple[Term, ...]:
        return self._tuple(self._number(4), depth)

    def read_map(self, depth: int) -> dict[Key, Term]:
        length = self._number(4)
        if length > MAX_KEYS:
            self._refuse(f"a map of {length} keys; at most {MAX_KEYS} are accepted")
        depth = self._enter(depth, 2 * length)
        fields: dict[Key, Term] = {}
        for _ in range(length):
            key = self._key()
            if key in fields:
                self._refuse("a map that has a key twice")
            fields[key] = self.read_term(depth)
        return fields

    def _key(self) -> Key:
        """Atoms and binaries alone: their hashes are salted, so that no sender can choose keys that collide."""
        tag = self._number(1)
        if tag in _ATOM_FORMS:
            return Atom(self._atom_name(tag))
        if tag != tags.BINARY:
            self._refuse("a map key that is neither an atom nor a binary")
        return self._take(self._number(4))

    def _tuple(self, length: int, depth: int) -> tuple[Term, ...]:
        depth = self._enter(depth, length)
        return tuple([self.read_term(depth) for _ in range(length)])

    def _atom_name(self, tag: int) -> str:
        length_size, encoding = _ATOM_FORMS[tag]
        try:
            name = self._take(self._number(length_size)).decode(encoding)
        except UnicodeDecodeError:
            self._refuse("an atom that is not UTF-8")
        if len(name) > MAX_ATOM_CHARACTERS:
            self._refuse(f"an atom of more than {MAX_ATOM_CHARACTERS} characters")
        return name

    def _big(self, length: int) -> int:
        if length > 8:
            self._refuse("an integer beyond 64 bits")
        sign = self._number(1)
        size = int.from_bytes(self._take(length), "little")
        value = -size if sign else size
        if not MIN_INTEGER <= value <= MAX_INTEGER:
            self._refuse("an integer beyond 64 bits")
        return value

    def _finite(self, value: float) -> float:
        if not isfinite(value):
            self._refuse("a float that is not finite")
        return value

    def _enter(self, depth: int, length: int) -> int:
        """The depth inside a container of `length` elements that starts here."""
        if depth >= MAX_DEPTH:
            self._refuse(f"terms nested deeper than {MAX_DEPTH} levels")
        self._reserve(length)
        return depth + 1

    def _reserve(self, length: int) -> None:
        """Before any element is built: each takes at least one byte, and all of them are counted."""
        if length > len(self._body) - self._at:
            self._refuse("fewer bytes than it announces")
        self._terms_left -= length
        if self._terms_left < 0:
            self._refuse(f"more than {MAX_TERMS} elements")

    def _number(self, size: int) -> int:
        return int.from_bytes(self._take(size), "big")

    def _take(self, size: int) -> bytes:
        start = self._at
        end = start + size
        if end > len(self._body):
            self._refuse("fewer bytes than it announces")
        self._at = end
        return self._body[start:end]

    def _refuse(self, what: str) -> NoReturn:
        raise CodecError(f"the Erlang term has {what} (before byte {self._at + 1})")


_READERS: Final[dict[int, Callable[[_Reader, int], Term]]] = {
    tags.NEW_FLOAT: _Reader.read_new_float,
    tags.SMALL_INTEGER: _Reader.read_small_integer,
    tags.INTEGER: _Reader.read_integer,
    tags.FLOAT: _Reader.read_old_float,
    tags.SMALL_TUPLE: _Reader.read_small_tuple,
    tags.LARGE_TUPLE: _Reader.read_large_tuple,
    tags.NIL: _Reader.read_nil,
    tags.STRING: _Reader.read_string,
    tags.LIST: _Reader.read_list,
    tags.BINARY: _Reader.read_binary,
    tags.SMALL_BIG: _Reader.read_small_big,
    tags.LARGE_BIG: _Reader.read_large_big,
    tags.MAP: _Reader.read_map,
}

"""Erlang terms are read and written byte for byte as Erlang does, and what is no data is refused."""

import zlib

import pytest

from openaperture.codecs.etf import Atom, Term, decode, encode, name_of, text_of
from openaperture.codecs.etf.terms import MAX_BYTES, MAX_DEPTH, MAX_INFLATED_BYTES, MAX_KEYS, MAX_TERMS
from openaperture.domain.errors import BadMessage, CodecError

# What Erlang/OTP 25 gave for these terms.
VECTORS: list[tuple[str, Term]] = [
    ("836400036e696c", None),
    ("8364000474727565", True),
    ("8364000566616c7365", False),
    ("83640005756e646566", Atom("undef")),
    ("836803620000059f62000dbba0620001e240", (1439, 900000, 123456)),
    ("83740000000164000269646d00000003616263", {Atom("id"): b"abc"}),
    ("83740000000164000c63757272656e745f737465706400056275696c64", {Atom("current_step"): Atom("build")}),
    (
        "83740000000164000a6d696c6573746f6e65736c000000026d000000056275696c646d000000066465706c6f796a",
        {Atom("milestones"): [b"build", b"deploy"]},
    ),
    ("8374000000016400096576656e745f6c6f676a", {Atom("event_log"): []}),
    (
        "8374000000016d000000076869706368617474000000016d0000000a726f6f6d5f6e616d65736c000000016d00000001726a",
        {b"hipchat": {b"room_names": [b"r"]}},
    ),
    ("836b0003010203", [1, 2, 3]),
    ("836b000200ff", [0, 255]),
    ("836c0000000162000001006a", [256]),
    ("836c000000026101640004747275656a", [1, True]),
    ("836a", []),
    ("836800", ()),
    ("837400000000", {}),
    ("836d00000000", b""),
    ("836100", 0),
    ("8361ff", 255),
    ("836200000100", 256),
    ("8362ffffffff", -1),
    ("83627fffffff", 2**31 - 1),
    ("836280000000", -(2**31)),
    ("836e040000000080", 2**31),
    ("836e040101000080", -(2**31) - 1),
    ("836e0800ffffffffffffff7f", 2**63 - 1),
    ("836e08010000000000000080", -(2**63)),
    ("83463ff8000000000000", 1.5),
    ("8364000368e9e9", Atom("héé")),
    ("837703e282ac", Atom("€")),
    ("8377ff" + "e282ac" * 85, Atom("€" * 85)),
    ("83760102" + "e282ac" * 86, Atom("€" * 86)),
    ("8374000000026d00000001616a6d00000001626161", {b"b": 97, b"a": []}),
    (
        "8374000000036400016161026400016261016d000000017a6103",
        {b"z": 3, Atom("b"): 1, Atom("a"): 2},
    ),
]

# What decodes but is written otherwise: other releases, other choices.
READ_ONLY: list[tuple[str, Term]] = [
    ("837400000001770c63757272656e745f7374657077056275696c64", {Atom("current_step"): Atom("build")}),
    ("8373056275696c64", Atom("build")),
    ("8373036e696c", None),
    ("83770474727565", True),
    ("83760003e282ac", Atom("€")),
    ("836c000000006a", []),
    ("836b0000", []),
    ("8369000000016101", (1,)),
    ("836e0000", 0),
    ("836e010105", -5),
    ("836f000000010007", 7),
    ("8374000000016400036e696c6101", {Atom("nil"): 1}),
    ("8363" + b"1.50000000000000000000e+00".ljust(31, b"\0").hex(), 1.5),
    ("8363" + b"-2.5e-3".ljust(31, b"\0").hex(), -0.0025),
]


@pytest.mark.parametrize(("text", "term"), VECTORS)
def test_a_term_is_written_and_read_as_erlang_does(text: str, term: Term) -> None:
    body = bytes.fromhex(text)
    assert encode(term) == body
    assert same(decode(body), term)


@pytest.mark.parametrize(("text", "term"), READ_ONLY)
def test_a_term_of_another_release_is_read(text: str, term: Term) -> None:
    assert same(decode(bytes.fromhex(text)), term)


def test_text_is_written_as_a_binary() -> None:
    assert encode({"räume": "Zürich €"}) == encode({"räume".encode(): "Zürich €".encode()})


def test_an_atom_is_never_text() -> None:
    names: dict[object, str] = {Atom("id"): "atom", "id": "text", b"id": "binary"}
    assert len(names) == 3
    assert decode(encode({Atom("id"): 1, b"id": 2})) == {Atom("id"): 1, b"id": 2}


@pytest.mark.parametrize("name", ["é" * 255, "€" * 255, "\U0001f600" * 255, ""])
def test_an_atom_may_have_255_characters(name: str) -> None:
    assert decode(encode(Atom(name))) == Atom(name)


def test_many_elements_are_read_in_every_container() -> None:
    small: list[Term] = [7] * 65_535
    terms: list[Term] = [small, [*small, 7], tuple(small), (b"x",) * 256, [[]] * 1000]
    for term in terms:
        assert same(decode(encode(term)), term)
    assert encode(small)[:4] == bytes.fromhex("836bffff")
    assert encode([*small, 7])[:6] == bytes.fromhex("836c00010000")
    keys: Term = {b"%d" % number: number for number in range(MAX_KEYS)}
    assert decode(encode(keys)) == keys


def test_a_compressed_term_is_read() -> None:
    assert decode(compressed(encode([b"line"] * 1000))) == [b"line"] * 1000


def test_lists_may_be_nested_up_to_the_limit() -> None:
    assert encode(decode(encode(nested(MAX_DEPTH)))) == encode(nested(MAX_DEPTH))


def compressed(body: bytes, *, claim: int | None = None) -> bytes:
    size = len(body) - 1 if claim is None else claim
    return b"\x83\x50" + size.to_bytes(4, "big") + zlib.compress(body[1:])


def nested(levels: int) -> Term:
    term: Term = 1000
    for _ in range(levels):
        term = [term]
    return term


def same(term: Term, other: Term) -> bool:
    """Whether both are the same term. For Python, 1, 1.0 and True are equal; they differ on the wire."""
    return encode(term) == encode(other)


def of_arity(tag: str, size: int) -> bytes:
    return bytes.fromhex("83" + tag) + size.to_bytes(4, "big")


def integer_keys(count: int) -> bytes:
    """Keys that would all have the same hash in Python: multiples of 2^61 - 1."""
    pairs = (
        b"\x6e\x08\x00" + (number * (2**61 - 1) % 2**63).to_bytes(8, "little") + b"\x6a" for number in range(count)
    )
    return of_arity("74", count) + b"".join(pairs)


def bomb(*, claim: int) -> bytes:
    """About a mebibyte that inflates to a gibibyte of zeros. Its checksum lies behind that, and is wrong."""
    deflate = zlib.compressobj(9)
    head = deflate.compress(b"") + deflate.flush(zlib.Z_FULL_FLUSH)
    block = deflate.compress(bytes(2**20)) + deflate.flush(zlib.Z_FULL_FLUSH)
    stream = head + block * 1024
    return b"\x83\x50" + claim.to_bytes(4, "big") + stream[: MAX_BYTES - 6]


TOO_MUCH = 2**32 - 1
ATTACKS: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "first byte"),
    "JSON": (b'{"id": "w"}', "first byte"),
    "a version alone": (b"\x83", "fewer bytes"),
    "another version": (bytes.fromhex("826a"), "first byte"),
    "bytes after the term": (bytes.fromhex("836a00"), "after the end"),
    "two terms": (bytes.fromhex("836a6a"), "after the end"),
    "a body over the limit": (b"\x83\x6d" + (MAX_BYTES).to_bytes(4, "big") + bytes(MAX_BYTES), "bytes"),
    "half an atom": (bytes.fromhex("8364000561"), "fewer bytes"),
    "half an integer": (bytes.fromhex("83620000"), "fewer bytes"),
    "half a float": (bytes.fromhex("83463ff8"), "fewer bytes"),
    "a list without its end": (bytes.fromhex("836c000000016101"), "fewer bytes"),
    "an improper list": (bytes.fromhex("836c0000000161016102"), "empty list"),
    "a list that ends in a string": (bytes.fromhex("836c0000000161016b000102"), "empty list"),
    "a map with half a pair": (bytes.fromhex("8374000000016d00000000"), "fewer bytes"),
    "a list of 2^32 - 1": (of_arity("6c", TOO_MUCH), "fewer bytes"),
    "a tuple of 2^32 - 1": (of_arity("69", TOO_MUCH), "fewer bytes"),
    "a map of 2^32 - 1": (of_arity("74", TOO_MUCH), "keys"),
    "a binary of 2^32 - 1": (of_arity("6d", TOO_MUCH), "fewer bytes"),
    "an integer of 2^32 - 1 bytes": (of_arity("6f", TOO_MUCH), "64 bits"),
    "a string of 65,535": (bytes.fromhex("836bffff00"), "fewer bytes"),
    "a list of half a million": (of_arity("6c", 500_000) + b"\x6a" * 500_001, "elements"),
    "lists of many small numbers": (
        of_arity("6c", 15) + (b"\x6b\xff\xff" + bytes(65_535)) * 15 + b"\x6a",
        "elements",
    ),
    "maps of many keys": (
        of_arity("6c", 50) + encode({b"%d" % number: [] for number in range(MAX_KEYS)})[1:] * 50 + b"\x6a",
        "elements",
    ),
    "deep lists": (b"\x83" + b"\x6c\x00\x00\x00\x01" * 200_000, "nested"),
    "deep tuples": (b"\x83" + b"\x68\x01" * 500_000, "nested"),
    "deep maps": (b"\x83" + b"\x74\x00\x00\x00\x01\x77\x00" * 100_000, "nested"),
    "lists one level too deep": (
        b"\x83" + b"\x6c\x00\x00\x00\x01" * (MAX_DEPTH + 1) + b"\x6a" * (MAX_DEPTH + 2),
        "nested",
    ),
    "a large integer": (of_arity("6f", 1_000_000) + bytes(1) + b"\xff" * 1_000_000, "64 bits"),
    "2^63": (bytes.fromhex("836e08000000000000000080"), "64 bits"),
    "-2^63 - 1": (bytes.fromhex("836e08010100000000000080"), "64 bits"),
    "2^64": (bytes.fromhex("836e0900000000000000000001"), "64 bits"),
    "integer keys": (integer_keys(1), "key"),
    "20,000 integer keys of one hash": (integer_keys(20_000), "keys"),
    "a list as a key": (bytes.fromhex("8374000000016a6a"), "key"),
    "a string as a key": (bytes.fromhex("8374000000016b0001616a"), "key"),
    "1,001 keys": (encode({b"%d" % number: 0 for number in range(MAX_KEYS + 1)}), "keys"),
    "an atom as key twice": (bytes.fromhex("837400000002640001616101640001616102"), "twice"),
    "an atom as key twice, in two encodings": (bytes.fromhex("8374000000026400016161017701616102"), "twice"),
    "a binary as key twice": (bytes.fromhex("8374000000026d00000001616a6d00000001616a"), "twice"),
    "NaN": (bytes.fromhex("83467ff8000000000000"), "finite"),
    "infinity": (bytes.fromhex("83467ff0000000000000"), "finite"),
    "an old float beyond a double": (b"\x83\x63" + b"1.0e999".ljust(31, b"\0"), "finite"),
    "an old float that is a word": (b"\x83\x63" + b"nan".ljust(31, b"\0"), "no number"),
    "an old float with an underscore": (b"\x83\x63" + b"1_0.0".ljust(31, b"\0"), "no number"),
    "an atom of 256 letters": (bytes.fromhex("83640100") + b"a" * 256, "255"),
    "an atom of 256 wide letters": (bytes.fromhex("83760300") + "€".encode() * 256, "255"),
    "an atom that is not UTF-8": (bytes.fromhex("837702c328"), "UTF-8"),
    "a bomb that says so": (bomb(claim=2**30), "claims 1073741824 bytes"),
    "a bomb that lies": (bomb(claim=1000), "compressed"),
    "a bomb that claims all it may": (bomb(claim=MAX_INFLATED_BYTES), "compressed"),
    "a compressed term that is too long": (compressed(encode([b"x" * 99]), claim=50), "compressed"),
    "a compressed term that is too short": (compressed(encode([b"x" * 99]), claim=500), "compressed"),
    "a compressed term of nothing": (compressed(b"\x83"), "fewer bytes"),
    "a compressed term cut short": (compressed(encode(b"x" * 999))[:-1], "compressed"),
    "a compressed term and more": (compressed(encode(b"x" * 999)) + b"\0", "compressed"),
    "a compressed term that is damaged": (bytes.fromhex("8350000000016a6a6a6a"), "damaged"),
    "a compressed term without a size": (bytes.fromhex("835000"), "compressed"),
    "a compressed term in a compressed term": (compressed(compressed(encode(1))), "80"),
    "a compressed term with a version": (compressed(b"\x83" + encode(1)), "131"),
    "a compressed element": (bytes.fromhex("836c00000001") + compressed(encode(1))[1:] + b"\x6a", "80"),
    "a port": (bytes.fromhex("8366640001610000000001"), "102"),
    "a pid": (bytes.fromhex("836764000161000000010000000000"), "103"),
    "a reference": (bytes.fromhex("83720001640001610000000001"), "114"),
    "a newer reference": (bytes.fromhex("835a0001640001610000000000000001"), "90"),
    "a fun": (bytes.fromhex("837000000000"), "112"),
    "an old fun": (bytes.fromhex("837500000000"), "117"),
    "an export": (bytes.fromhex("837164000161640001616100"), "113"),
    "a bit string": (bytes.fromhex("834d000000010180"), "77"),
    "a local term": (bytes.fromhex("837900"), "121"),
    "a cached atom": (bytes.fromhex("835200"), "82"),
}


@pytest.mark.parametrize(("body", "why"), ATTACKS.values(), ids=ATTACKS)
def test_what_is_no_data_or_too_much_is_refused_with_its_reason(body: bytes, why: str) -> None:
    with pytest.raises(CodecError, match=why):
        decode(body)


def test_every_tag_that_carries_no_data_is_refused() -> None:
    taken = {70, 97, 98, 99, 100, 104, 105, 106, 107, 108, 109, 110, 111, 115, 116, 118, 119}
    for tag in set(range(256)) - taken - {80}:
        with pytest.raises(CodecError, match=f"the tag {tag},"):
            decode(bytes([131, tag]) + bytes(40))


def test_every_term_cut_short_is_refused() -> None:
    whole = encode({Atom("log"): [b"line", (1, 2.5, -3), [1, 2], 2**40], b"at": None})
    for end in range(len(whole)):
        with pytest.raises(CodecError):
            decode(whole[:end])


def test_a_list_may_have_as_many_elements_as_the_limit_and_no_more() -> None:
    assert len(decode(of_arity("6c", MAX_TERMS) + b"\x6a" * (MAX_TERMS + 1))) == MAX_TERMS  # type: ignore[arg-type]
    with pytest.raises(CodecError, match="elements"):
        decode(of_arity("6c", MAX_TERMS + 1) + b"\x6a" * (MAX_TERMS + 2))


def test_a_refusal_is_a_bad_message_and_says_where() -> None:
    with pytest.raises(BadMessage, match="before byte 7"):
        decode(bytes.fromhex("836c0000000167"))


@pytest.mark.parametrize(
    ("term", "why"),
    [
        (2**63, "64 bits"),
        (-(2**63) - 1, "64 bits"),
        (float("nan"), "finite"),
        (float("-inf"), "finite"),
        (Atom("a" * 256), "255"),
        ("\ud800", "surrogate"),
        ({"\ud800": 1}, "surrogate"),
        (Atom("\ud800"), "surrogate"),
        ({"id": 1, b"id": 2}, "both"),
        (nested(MAX_DEPTH + 1), "nested"),
    ],
)
def test_what_no_peer_could_read_is_not_written(term: Term, why: str) -> None:
    with pytest.raises(CodecError, match=why):
        encode(term)


def test_text_and_names_come_out_of_binaries_and_atoms() -> None:
    assert text_of("Zürich".encode(), "id") == "Zürich"
    assert name_of(b"build", "current_step") == name_of(Atom("build"), "current_step") == "build"


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (b"\xff", "^source_repo is not UTF-8 text"),
        (b"a\x00", "^source_repo contains a NUL"),
        (Atom("build"), "^source_repo is an atom"),
        (None, "^source_repo is nil"),
        (True, "^source_repo is true or false"),
        (1, "^source_repo is an integer"),
        (1.5, "^source_repo is a float"),
        ([97, 98], "^source_repo is a list"),
        ((1,), "^source_repo is a tuple"),
        ({}, "^source_repo is a map"),
    ],
)
def test_what_is_no_text_is_refused_by_its_key(value: Term, why: str) -> None:
    with pytest.raises(CodecError, match=why):
        text_of(value, "source_repo")


def test_a_name_that_cannot_be_stored_is_refused_by_its_key() -> None:
    for value in (Atom("a\x00"), b"a\x00", 7):
        with pytest.raises(CodecError, match=r"^current_step "):
            name_of(value, "current_step")

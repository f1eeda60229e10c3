"""Any term survives the wire; any bytes give a term or CodecError, within bounds of time and memory.

Run as a program, it attacks the decoder until its seconds are over and says how much memory that took.
"""

import random
import resource
import subprocess
import sys
import tracemalloc
from collections import Counter
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from openaperture.codecs.etf import Atom, Term, decode, encode
from openaperture.codecs.etf.terms import MAX_BYTES, MAX_DEPTH, MAX_INFLATED_BYTES, MAX_TERMS
from openaperture.domain.errors import CodecError
from tests.unit.test_etf import ATTACKS, compressed, same
from tests.unit.test_etf import VECTORS as KNOWN

MEBIBYTE = 2**20
PROCESS_BYTES = 512 * MEBIBYTE
PROCESS_SECONDS = 30
"""Of processor time: the kernel ends the attacked process then."""
INPUTS = 100_000

bounded = settings(
    deadline=None, max_examples=300, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
characters = st.characters(exclude_categories=["Cs"])
atoms = st.text(characters, max_size=12).map(Atom) | st.sampled_from(
    [Atom("id"), Atom("é" * 255), Atom("€" * 255)]
)
keys = atoms | st.binary(max_size=12)
edges = st.sampled_from([-(2**63), -(2**31) - 1, -(2**31), -1, 0, 255, 256, 2**31 - 1, 2**31, 2**63 - 1])
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.integers(0, 255),
    edges,
    st.floats(allow_nan=False, allow_infinity=False),
    st.binary(max_size=20),
    atoms,
)
terms: st.SearchStrategy[Term] = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=5),
        st.lists(st.integers(0, 255), max_size=5),
        st.lists(inner, max_size=5).map(tuple),
        st.dictionaries(keys, inner, max_size=5),
    ),
    max_leaves=25,
)
tag_bytes = st.sampled_from([70, 80, *range(97, 120), 131, 0, 1, 2, 3, 255])


@bounded
@given(terms)
def test_a_term_survives_the_wire(term: Term) -> None:
    assert same(decode(encode(term)), term)
    assert same(decode(compressed(encode(term))), term)


@bounded
@given(terms)
def test_equal_terms_give_equal_bytes(term: Term) -> None:
    assert encode(backwards(term)) == encode(term)


def backwards(term: Term) -> Term:
    """The same term, the keys of its maps inserted in the opposite order."""
    match term:
        case list():
            return [backwards(item) for item in term]
        case tuple():
            return tuple(backwards(item) for item in term)
        case dict():
            return {key: backwards(value) for key, value in reversed(term.items())}
        case _:
            return term


@bounded
@given(st.binary(max_size=200))
def test_garbage_gives_codec_error_and_nothing_else(body: bytes) -> None:
    with pytest.raises(CodecError):
        decode(b"\x84" + body)
    accept(b"\x83" + body)
    accept(compressed(b"\x83" + body))


@bounded
@given(st.lists(tag_bytes, max_size=60).map(bytes))
@example(bytes.fromhex("6c000000016c000000006a6a"))
def test_a_heap_of_tags_gives_a_term_or_codec_error(body: bytes) -> None:
    accept(b"\x83" + body)


@bounded
@given(terms, st.integers(0, 2**32), st.integers(1, 4))
def test_a_damaged_term_is_another_term_or_codec_error(term: Term, seed: int, blows: int) -> None:
    chance = random.Random(seed)
    body = encode(term)
    for _ in range(blows):
        body = damaged(body, chance)
    accept(body)


def accept(body: bytes) -> bool:
    """Decode it. What is taken has to be a term that can be sent on."""
    with suppress(CodecError):
        term = decode(body)
        assert same(decode(encode(term)), term)
        return True
    return False


def damaged(body: bytes, chance: random.Random) -> bytes:
    """`body` with one place changed: another byte, a piece less, a piece twice, or a piece of a known term."""
    start = chance.randrange(1, len(body) + 1)
    end = min(len(body), start + chance.choice([1, 1, 1, 4, 16]))
    piece = chance.choice(
        [
            b"",
            body[start:end] * 2,
            bytes([chance.randrange(256)]),
            chance.choice([b"\xff" * 4, b"\x7f" * 8, bytes(4)]),
            bytes.fromhex(chance.choice(KNOWN)[0])[1:],
        ]
    )
    return body[:start] + piece + body[end:]


def list_of(count: int, element: bytes) -> bytes:
    return b"\x83\x6c" + count.to_bytes(4, "big") + element * count + b"\x6a"


def shells(opening: bytes, closing: bytes) -> bytes:
    """An element that is as deep as may be, in a list of as many of them as may be."""
    levels = MAX_DEPTH - 1
    element = opening * levels + b"\x6a" + closing * levels
    count = min(MAX_TERMS // (2 * levels + 1), (MAX_BYTES - 8) // len(element))
    return list_of(count, element)


WIDE_ATOM = b"\x76" + (254 + 4).to_bytes(2, "big") + "\U0001f600".encode() + b"a" * 254
"""One wide letter makes Python keep all 255 in four bytes each."""
GREEDY: dict[str, bytes] = {
    "empty lists": list_of(MAX_TERMS, b"\x6a"),
    "empty maps": list_of(MAX_TERMS, b"\x74" + bytes(4)),
    "lists of one": list_of(MAX_TERMS // 2, b"\x6c\0\0\0\1\x77\1a\x6a"),
    "maps of one": list_of(MAX_TERMS // 3, b"\x74\0\0\0\1\x77\1a\x6a"),
    "short binaries": list_of(MAX_TERMS, b"\x6d\0\0\0\2ab"),
    "large integers": list_of(MAX_TERMS, b"\x6e\x08\0" + b"\x7f" * 8),
    "wide atoms": list_of((MAX_INFLATED_BYTES - 7) // len(WIDE_ATOM), WIDE_ATOM),
    "deep lists": shells(b"\x6c\0\0\0\1", b"\x6a"),
    "deep tuples": shells(b"\x68\1", b""),
    "deep maps": shells(b"\x74\0\0\0\1\x77\1a", b""),
    "one binary": b"\x83\x6d" + (MAX_INFLATED_BYTES - 5).to_bytes(4, "big") + bytes(MAX_INFLATED_BYTES - 5),
}


@pytest.mark.parametrize("name", GREEDY)
def test_the_greediest_terms_that_are_taken_need_less_than_64_mebibytes(name: str) -> None:
    body = GREEDY[name] if len(GREEDY[name]) <= MAX_BYTES else compressed(GREEDY[name])
    tracemalloc.start()
    try:
        term = decode(body)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert term
    assert peak < 64 * MEBIBYTE


def test_attacks_end_within_the_processor_time_and_memory_of_their_process() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.property.test_etf"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert f"{len(ATTACKS)} attacks refused" in done.stdout
    assert f"{INPUTS} damaged terms" in done.stdout


def main() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (PROCESS_BYTES, PROCESS_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (PROCESS_SECONDS, PROCESS_SECONDS))
    for name, (body, _) in ATTACKS.items():
        if accept(body):
            sys.exit(f"{name}: was taken for a term")
    print(f"{len(ATTACKS)} attacks refused")
    chance = random.Random(131)
    whole = [bytes.fromhex(text) for text, _ in KNOWN] + [
        body for body, _ in ATTACKS.values() if 1 < len(body) < 2**12
    ]
    outcomes: Counter[bool] = Counter()
    for _ in range(INPUTS):
        body = chance.choice(whole)
        for _ in range(chance.choice([1, 1, 1, 2, 4])):
            body = damaged(body, chance)
        outcomes[accept(body)] += 1
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(
        f"{outcomes.total()} damaged terms: {outcomes[True]} taken, {outcomes[False]} refused; {peak} MiB in all"
    )


if __name__ == "__main__":
    main()

"""The real Erlang reads what we write as what we meant, and we read what it writes, in all its ways of writing.

One long-lived escript answers over a loopback connection. What a term means is told to it twice: as our bytes,
and as Erlang source text, which owes nothing to the codec.
"""

import os
import shutil
import socket
import struct
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import BinaryIO, assert_never

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from openaperture.codecs.etf import Atom, Term, decode, encode
from openaperture.domain.errors import CodecError
from tests.property.test_etf import damaged, terms
from tests.servers import LOOPBACK, ServerMissing, shared_servers
from tests.unit.test_etf import READ_ONLY, VECTORS, compressed, same

ANSWER_SECONDS = 60.0
LARGEST_SORTED_MAP = 32
"""Erlang writes larger maps in the order of their hashes."""

ESCRIPT = r"""#!/usr/bin/env escript
-mode(compile).

main([Port]) ->
    Options = [binary, {packet, 4}, {active, false}],
    {ok, Socket} = gen_tcp:connect({127, 0, 0, 1}, list_to_integer(Port), Options),
    serve(Socket).

serve(Socket) ->
    case gen_tcp:recv(Socket, 0) of
        {ok, Request} -> ok = gen_tcp:send(Socket, answers(Request)), serve(Socket);
        {error, closed} -> ok
    end.

answers(<<>>) -> [];
answers(<<SourceSize:32, Source:SourceSize/binary, Size:32, Body:Size/binary, Rest/binary>>) ->
    [answer(Source, Body) | answers(Rest)].

%% Our bytes mean another term than the source text: 0; they are no term at all: 1; the same term: 2.
answer(Source, Body) ->
    try binary_to_term(Body) of
        Term ->
            case Source =:= <<>> orelse Term =:= meaning(Source) of
                true -> [2 | [sized(term_to_binary(Term, Way)) || Way <- ways()]];
                false -> [0]
            end
    catch
        error:badarg -> [1]
    end.

ways() -> [[], [{minor_version, 2}], [{minor_version, 0}], [compressed], [{compressed, 9}, {minor_version, 2}]].

sized(Bytes) -> [<<(byte_size(Bytes)):32>>, Bytes].

meaning(Source) ->
    {ok, Tokens, _} = erl_scan:string(unicode:characters_to_list(Source) ++ "."),
    {ok, Term} = erl_parse:parse_term(Tokens),
    Term.
"""
WAYS = 5
DEFAULT_WAY = 0
OTHER_TERM, NO_TERM, SAME_TERM = range(3)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What Erlang made of one body, and its own ways to write that term."""

    verdict: int
    written: Sequence[bytes]


class Erlang:
    """A running escript."""

    def __init__(self, connection: socket.socket, replies: BinaryIO) -> None:
        self._connection = connection
        self._replies = replies

    def ask(self, cases: Sequence[tuple[str, bytes]]) -> list[Reply]:
        """Each case is Erlang source text, or "" for any meaning, and a body."""
        frame = b"".join(sized(source.encode()) + sized(body) for source, body in cases)
        self._connection.sendall(sized(frame))
        answer = self._replies.read(struct.unpack(">I", self._replies.read(4))[0])
        replies: list[Reply] = []
        while answer:
            verdict, answer = answer[0], answer[1:]
            written: list[bytes] = []
            for _ in range(WAYS if verdict == SAME_TERM else 0):
                size = struct.unpack_from(">I", answer)[0]
                written.append(answer[4 : 4 + size])
                answer = answer[4 + size :]
            replies.append(Reply(verdict=verdict, written=written))
        assert len(replies) == len(cases)
        return replies


@pytest.fixture(scope="module")
def erlang() -> Iterator[Erlang]:
    program = escript()
    with tempfile.TemporaryDirectory() as folder, socket.create_server((LOOPBACK, 0)) as server:
        script = Path(folder) / "terms.escript"
        script.write_text(ESCRIPT)
        with subprocess.Popen([program, str(script), str(server.getsockname()[1])]) as process:
            try:
                server.settimeout(ANSWER_SECONDS)
                connection, _ = server.accept()
                connection.settimeout(ANSWER_SECONDS)
                with connection, connection.makefile("rb") as replies:
                    yield Erlang(connection, replies)
                assert process.wait(ANSWER_SECONDS) == 0
            finally:
                process.kill()


def escript() -> str:
    """The interpreter of Debian's erlang-base, which RabbitMQ brings along. Skips on a laptop without it."""
    why = "escript is not on the PATH; install erlang-base"
    if shutil.which("escript") is None:
        try:
            shared_servers()[0].install()
        except ServerMissing as exc:
            why = f"{exc}"
    if found := shutil.which("escript"):
        return found
    if os.environ.get("CI") == "true":
        pytest.fail(why)
    pytest.skip(why)


@settings(deadline=None, max_examples=150, suppress_health_check=list(HealthCheck))
@given(st.lists(terms, min_size=10, max_size=30))
def test_erlang_and_we_mean_the_same_by_the_same_bytes(erlang: Erlang, batch: list[Term]) -> None:
    check(erlang, batch)


def test_erlang_and_we_agree_on_every_known_vector(erlang: Erlang) -> None:
    check(erlang, [term for _, term in VECTORS])
    bodies = [bytes.fromhex(text) for text, _ in VECTORS + READ_ONLY]
    cases = [(source_of(term), body) for (_, term), body in zip(VECTORS + READ_ONLY, bodies, strict=True)]
    assert [reply.verdict for reply in erlang.ask(cases)] == [SAME_TERM] * len(cases)


def test_erlang_and_we_agree_on_large_terms(erlang: Erlang) -> None:
    small: list[Term] = [7] * 65_535
    check(
        erlang,
        [
            small,
            [*small, 7],
            tuple(small),
            b"\xff" * 70_000,
            [b"a line of the log"] * 20_000,
            {Atom(f"key{number}"): number for number in range(32)},
            {Atom(f"key{number}"): number for number in range(1000)},
            {b"%d" % number: {} for number in range(1000)},
        ],
    )


def test_erlang_takes_what_we_take_and_means_the_same(erlang: Erlang) -> None:
    """Damaged terms: whatever passes our checks is a term for Erlang too, and the same one."""
    chance = Random(1987)
    whole = [bytes.fromhex(text) for text, _ in VECTORS + READ_ONLY]
    taken: list[tuple[Term, bytes]] = []
    while len(taken) < 2_000:
        body = damaged(chance.choice(whole), chance)
        with suppress(CodecError):
            taken.append((decode(body), body))
    replies = erlang.ask([(source_of(term), body) for term, body in taken])
    for (_, body), reply in zip(taken, replies, strict=True):
        assert reply.verdict == SAME_TERM, body.hex()


def test_erlang_inflates_what_python_deflates(erlang: Erlang) -> None:
    term: Term = [b"line"] * 10_000
    assert erlang.ask([(source_of(term), compressed(encode(term)))])[0].verdict == SAME_TERM


def check(erlang: Erlang, batch: Sequence[Term]) -> None:
    """Erlang reads each term as meant; we read all its ways to write it; our way is its way."""
    replies = erlang.ask([(source_of(term), encode(term)) for term in batch])
    for term, reply in zip(batch, replies, strict=True):
        assert reply.verdict == SAME_TERM, source_of(term)
        for written in reply.written:
            assert same(decode(written), term), written.hex()
        if is_sorted_by_erlang(term):
            assert encode(term) == reply.written[DEFAULT_WAY]


def is_sorted_by_erlang(term: Term) -> bool:
    match term:
        case list() | tuple():
            return all(is_sorted_by_erlang(item) for item in term)
        case dict():
            return len(term) <= LARGEST_SORTED_MAP and all(is_sorted_by_erlang(item) for item in term.values())
        case _:
            return True


def source_of(term: Term) -> str:
    """The term as Erlang source text."""
    match term:
        case None | bool():
            return {None: "nil", True: "true", False: "false"}[term]
        case int():
            return str(term)
        case float():
            return f"{term:.17e}"
        case Atom():
            return "'" + "".join(f"\\x{{{ord(letter):x}}}" for letter in term.name) + "'"
        case bytes():
            return "<<" + ",".join(map(str, term)) + ">>"
        case str():
            return source_of(term.encode())
        case list():
            return "[" + ",".join(map(source_of, term)) + "]"
        case tuple():
            return "{" + ",".join(map(source_of, term)) + "}"
        case dict():
            return "#{" + ",".join(f"{source_of(key)}=>{source_of(value)}" for key, value in term.items()) + "}"
        case _:
            assert_never(term)


def sized(part: bytes) -> bytes:
    return struct.pack(">I", len(part)) + part

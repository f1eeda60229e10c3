"""Output that was stored in another order than it was sent."""

from hypothesis import given
from hypothesis import strategies as st

from openaperture.cli.sequence import MOST_WAITING, OutputOrder, timed
from openaperture.client.models import LogChunk
from tests.unit.cli.told import at, chunk


def texts(chunks: list[LogChunk]) -> list[str]:
    return [line for one in chunks for line in one.lines]


def numbered(*numbers: int, attempt: str = "0.0.1") -> list[LogChunk]:
    return [chunk(number, f"line {number}", attempt=attempt) for number in numbers]


def test_a_chunk_waits_for_the_one_before_it() -> None:
    order = OutputOrder()
    assert texts(order.admit(numbered(1, 3))) == ["line 1"]
    assert texts(order.admit(numbered(2))) == ["line 2", "line 3"]


def test_attempts_do_not_wait_for_each_other() -> None:
    order = OutputOrder()
    assert texts(order.admit([*numbered(2), *numbered(1, attempt="0.0.2")])) == ["line 1"]


def test_what_waits_is_released_when_something_has_happened_and_what_was_missing_may_still_come() -> None:
    order = OutputOrder()
    assert order.admit(numbered(5, 3)) == []
    assert texts(order.release()) == ["line 3", "line 5"]
    assert texts(order.admit(numbered(4, 6))) == ["line 4", "line 6"]


def test_a_crowd_does_not_wait_for_one_that_is_lost() -> None:
    order = OutputOrder()
    late = numbered(*range(2, MOST_WAITING + 3))
    assert order.admit(late[:-1]) == []
    assert texts(order.admit(late[-1:])) == [f"line {number}" for number in range(2, MOST_WAITING + 3)]


@given(st.permutations(range(1, 30)), st.lists(st.integers(1, 8), max_size=10))
def test_in_whatever_order_it_is_stored_it_is_told_whole_and_as_it_was_sent(
    stored: list[int], sizes: list[int]
) -> None:
    order, told, rest = OutputOrder(), list[LogChunk](), numbered(*stored)
    for size in [*sizes, len(rest)]:
        told += order.admit(rest[:size])
        rest = rest[size:]
    assert texts(told) == [f"line {number}" for number in range(1, 30)]


def test_times_of_one_attempt_never_go_back() -> None:
    chunks = [chunk(1, "one", seconds=5), chunk(2, "two", seconds=4), chunk(3, "three", seconds=6)]
    assert [time for time, _ in timed(chunks)] == [at(5), at(5), at(6)]

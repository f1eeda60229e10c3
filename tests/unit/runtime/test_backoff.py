"""Pauses between tries: they grow, stay bounded, differ, and begin anew."""

from openaperture.runtime.backoff import Backoff


def test_each_pause_is_about_twice_the_one_before_up_to_the_longest() -> None:
    backoff = Backoff(first_seconds=1, longest_seconds=10)
    for whole in (1, 2, 4, 8, 10, 10, 10):
        assert whole / 2 <= backoff.next_seconds() <= whole


def test_a_success_begins_anew() -> None:
    backoff = Backoff(first_seconds=1, longest_seconds=10)
    for _ in range(5):
        backoff.next_seconds()
    backoff.reset()
    assert backoff.next_seconds() <= 1


def test_a_fleet_does_not_come_back_in_step() -> None:
    assert len({Backoff().next_seconds() for _ in range(100)}) > 90

"""Durations and start times as the original writes them."""

from datetime import UTC, datetime, timedelta

import pytest

from openaperture.domain.errors import BadInput
from openaperture.domain.times import elapsed_text, start_time_of

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 second(s)"),
        (0.5, "1 second(s)"),
        (59.4, "59 second(s)"),
        (59.6, "60 second(s)"),
        (60, "1 minute(s)"),
        (90, "2 minute(s)"),
        (150, "3 minute(s)"),
        (3_600, "1 hour(s)"),
        (86_399, "24 hour(s)"),
        (86_400, "1 day(s)"),
        (7 * 86_400, "1 week(s)"),
        (-90, "2 minute(s)"),
    ],
)
def test_the_unit_is_chosen_before_the_rounding_half_up(seconds: float, text: str) -> None:
    assert elapsed_text(NOW - timedelta(seconds=seconds), NOW) == text


def test_an_unknown_start_is_said_to_be_unknown() -> None:
    assert elapsed_text(None, NOW) == "<unknown>"


@pytest.mark.parametrize("zone", ["UTC", "GMT"])
def test_a_start_time_in_utc_is_read(zone: str) -> None:
    assert start_time_of(f"Tue, 05 Mar 2013 23:25:19 {zone}") == datetime(2013, 3, 5, 23, 25, 19, tzinfo=UTC)


@pytest.mark.parametrize("text", ["Tue, 05 Mar 2013 23:25:19 EST", "2013-03-05", "", "UTC"])
def test_another_zone_or_form_is_refused_with_its_text(text: str) -> None:
    with pytest.raises(BadInput) as refused:
        start_time_of(text)
    assert text in str(refused.value)

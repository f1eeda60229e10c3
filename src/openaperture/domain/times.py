"""Texts for durations and start times, in the original's forms. Pure: the instants are arguments."""

from datetime import UTC, datetime
from email.utils import format_datetime
from math import floor

from openaperture.domain.errors import BadInput

_UNITS = (("second", 60.0), ("minute", 60.0), ("hour", 24.0), ("day", 7.0))


def elapsed_text(since: datetime | None, now: datetime) -> str:
    """Such as `2 minute(s)`: the largest unit that the time reaches, rounded half up; `<unknown>` for None.

    Source: OpenAperture timex_extensions; the unit is chosen before the rounding, so `60 second(s)` exists.
    """
    if since is None:
        return "<unknown>"
    amount = abs((now - since).total_seconds())
    for unit, next_unit in _UNITS:
        if amount < next_unit:
            return f"{floor(amount + 0.5)} {unit}(s)"
        amount /= next_unit
    return f"{floor(amount + 0.5)} week(s)"


def start_time_of(text: str) -> datetime:
    """The instant of an RFC 1123 text such as `Tue, 05 Mar 2013 23:25:19 UTC`. Raises BadInput.

    The original ignored the zone word and so started hours early or late; other zones are refused.
    """
    try:
        clock, zone = text.strip().rsplit(" ", 1)
        instant = datetime.strptime(clock, "%a, %d %b %Y %H:%M:%S").replace(tzinfo=UTC)
    except ValueError as exc:
        raise BadInput(
            f'scheduled_start_time "{text}" is not of the form "Tue, 05 Mar 2013 23:25:19 UTC"; write it so'
        ) from exc
    if zone not in {"UTC", "GMT"}:
        raise BadInput(f'scheduled_start_time "{text}" names the zone {zone}; give the time in UTC')
    return instant


def rfc1123_text(instant: datetime) -> str:
    """Such as `Tue, 05 Mar 2013 23:25:19 UTC`: the original writes "UTC" where the standard has "GMT"."""
    return format_datetime(instant.astimezone(UTC), usegmt=True).removesuffix("GMT") + "UTC"

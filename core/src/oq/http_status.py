"""What the answer of an HTTP server means for another attempt: whether one is worth it, and not before when."""

from __future__ import annotations

import math
import re
from collections.abc import Container
from datetime import UTC, datetime

_PASSING = frozenset({408, 429})
"""The statuses below 500 by which a server says that the same request may succeed later."""

_SECONDS = re.compile(r"[0-9]+(\.[0-9]+)?")

_DAY = r"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)"
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_MONTH = rf"(?P<month>{'|'.join(_MONTHS)})"
_CLOCK = r"(?P<hour>[0-9]{2}):(?P<minute>[0-9]{2}):(?P<second>[0-9]{2})"
_DATES = (
    re.compile(rf"{_DAY}, (?P<day>[0-9]{{2}}) {_MONTH} (?P<year>[0-9]{{4}}) {_CLOCK} GMT"),
    re.compile(rf"{_DAY}[a-z]*, (?P<day>[0-9]{{2}})-{_MONTH}-(?P<year>[0-9]{{2}}) {_CLOCK} GMT"),
    re.compile(rf"{_DAY} {_MONTH} (?P<day>[ 0-9][0-9]) {_CLOCK} (?P<year>[0-9]{{4}})"),
)
"""The three ways to write a date in HTTP: today's, and two that are not used any more but must be understood."""


def retryable_status(status: int, also: Container[int] = ()) -> bool:
    """Whether a request that was answered so is worth another attempt: 408, 429, every 5xx, and those in `also`."""
    return status in _PASSING or 500 <= status <= 599 or status in also


def retry_after(value: str | None, now: datetime) -> float | None:
    """The seconds to wait at least, as a `Retry-After` header says: in seconds, or by a date (RFC 9110, 10.2.3).

    `now` is aware. A date that has passed means 0. None where there is no header, or it makes no sense.
    """
    text = "" if value is None else value.strip()
    if _SECONDS.fullmatch(text):
        seconds = float(text)
        return seconds if seconds < math.inf else None
    if (moment := _moment(text, now)) is None:
        return None
    return max(0.0, (moment - now).total_seconds())


def _moment(text: str, now: datetime) -> datetime | None:
    for pattern in _DATES:
        if found := pattern.fullmatch(text):
            break
    else:
        return None
    year, day, hour, minute, second = (int(found[name]) for name in ("year", "day", "hour", "minute", "second"))
    month = _MONTHS.index(found["month"]) + 1
    if len(found["year"]) == 2:  # the year that is at most 50 ahead (RFC 9110, 5.6.7)
        earliest = now.year - 49
        year = earliest + (year - earliest) % 100
    try:
        return datetime(year, month, day, hour, minute, min(second, 59), tzinfo=UTC)  # 60 is a leap second
    except ValueError:
        return None

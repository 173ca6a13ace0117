"""What a schedule's text means: five fields, a nickname such as `@daily`, or `@every 5m`."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, timedelta, tzinfo
from difflib import get_close_matches
from functools import lru_cache
from types import MappingProxyType
from zoneinfo import ZoneInfo, available_timezones

from attrs import frozen

from oq.durations import parse_duration, show_duration
from oq.errors import InvalidSchedule, Problem

SHORTEST_PERIOD = timedelta(seconds=1)
LONGEST_PERIOD = timedelta(days=36525)
"""What `@every` may say."""

NICKNAMES: Mapping[str, str] = MappingProxyType(
    {
        "@yearly": "0 0 1 1 *",
        "@annually": "0 0 1 1 *",
        "@monthly": "0 0 1 * *",
        "@weekly": "0 0 * * 0",
        "@daily": "0 0 * * *",
        "@midnight": "0 0 * * *",
        "@hourly": "0 * * * *",
    }
)

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_FULL_DAYS = ("Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")
_LONGEST = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_ITEM = re.compile(r"(?:(?P<all>\*)|(?P<first>[0-9a-z]+)(?:-(?P<last>[0-9a-z]+))?)(?:/(?P<step>[0-9]+))?")
_QUARTZ = re.compile(r".*[?#].*|\d*l|\d+w|w\d+|lw|l-\d+")
"""What other schedulers know besides."""


@frozen
class Field:
    """One of the five fields."""

    name: str
    low: int
    high: int
    names: tuple[str, ...] = ()
    """Names of the values, from `low` on."""
    unit: str = ""
    """What `@every` calls its values, where it can say them."""

    @property
    def known(self) -> str:
        """The values there are, for people."""
        named = f" or {self.names[0]}-{self.names[-1]}" if self.names else ""
        return f"{self.low}-{self.high}{named}"


FIELDS = (
    Field("minute", 0, 59, unit="m"),
    Field("hour", 0, 23, unit="h"),
    Field("day of month", 1, 31),
    Field("month", 1, 12, _MONTHS),
    Field("day of week", 0, 7, _DAYS),
)
_MINUTE, _HOUR, _DAY, _MONTH, _WEEKDAY = FIELDS


@frozen(kw_only=True)
class Schedule:
    """A rule that says at which moments something is due; made by `parse_schedule`."""

    text: str
    """As it was written, with single spaces."""
    every: timedelta | None = None
    """The period, for `@every`."""
    fields: tuple[str, ...] = ()
    """Otherwise the five fields, each `*` or a list of numbers in order."""
    either_day: bool = False
    """Whether a day need fit only one of the two day fields: so it is where neither begins with `*`."""
    by_real_time: bool = False
    """Whether it goes on by real time where the clocks are changed: minute or hour begin with `*`."""

    def __str__(self) -> str:
        return self.text


@lru_cache(maxsize=1024)
def parse_schedule(text: str) -> Schedule:
    """The schedule that `text` says. Raises InvalidSchedule, which names each wrong field and what would be right."""
    words = text.lower().split()
    shown = " ".join(text.split())
    if not words:
        raise _refusal("is empty; write five fields such as '0 9 * * 1-5', or @daily, or @every 5m")
    if words[0].startswith("@"):
        return _nicknamed(words, shown)
    if words[0].startswith(("tz=", "cron_tz=")):
        raise _refusal("has the time zone inside; give it as the entry's zone")
    if len(words) != len(FIELDS):
        raise _refusal(_wrong_number(words, shown))
    return _five_fields(words, shown)


def parse_zone(name: str) -> tzinfo:
    """The time zone of this name, such as `Europe/Berlin`. Raises InvalidSchedule with the nearest names there are."""
    if name == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # what there is none of, what is no name, and what is a directory
        raise InvalidSchedule(_unknown_zone(name), "zone") from None


def describe(schedule: Schedule) -> str:
    """The schedule as a phrase for people; its text where there is no short phrase."""
    if schedule.every is not None:
        return f"every {show_duration(schedule.every.total_seconds())}"
    minute, hour, day, month, weekday = schedule.fields
    step = re.fullmatch(r"\*/(\d+) \* \* \* \*", schedule.text)
    if step:
        return f"every {step[1]} minutes"
    if (day, month) == ("*", "*") and minute.isdecimal() and (hour == "*" or hour.isdecimal()):
        on = "" if weekday == "*" else f" on {_days(weekday)}"
        when = f"at minute {minute} of every hour" if hour == "*" else f"at {int(hour):02}:{int(minute):02}"
        return f"{when}{on}" if on or hour == "*" else f"every day {when}"
    return schedule.text


def _refusal(message: str) -> InvalidSchedule:
    return InvalidSchedule(message, "schedule")


def _nicknamed(words: Sequence[str], shown: str) -> Schedule:
    if words[0] == "@every":
        return Schedule(text=shown, every=_period(words[1:]))
    if len(words) == 1 and words[0] in NICKNAMES:
        return _five_fields(NICKNAMES[words[0]].split(), shown)
    if words[0] == "@reboot":
        raise _refusal("@reboot means nothing to oq, which has no boot; submit the task when your program starts")
    near = get_close_matches(words[0], [*NICKNAMES, "@every"], n=1)
    hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(NICKNAMES)} and @every 5m"
    raise _refusal(f"{shown!r} is no nickname; {hint}")


def _period(words: Sequence[str]) -> timedelta:
    try:
        period = timedelta(seconds=parse_duration("".join(words)))
    except (ValueError, OverflowError):
        period = timedelta(0)
    if not SHORTEST_PERIOD <= period <= LONGEST_PERIOD:
        raise _refusal("@every needs a duration from 1 s to 100 years, such as @every 5m or @every 1h30m")
    return period


def _wrong_number(words: Sequence[str], shown: str) -> str:
    wanted = f"a schedule has five: {', '.join(field.name for field in FIELDS)}"
    if len(words) in {6, 7}:
        return (
            f"{shown!r} has {len(words)} fields; {wanted}. Seconds and years are not supported: "
            "leave them out, or write @every 30s"
        )
    return f"{shown!r} has {len(words)} field{'s' if len(words) > 1 else ''}; {wanted}"


def _five_fields(words: Sequence[str], shown: str) -> Schedule:
    values: list[list[int]] = []
    problems: list[Problem] = []
    for field, word in zip(FIELDS, words, strict=True):
        try:
            values.append(sorted({value for item in word.split(",") for value in _values(field, item)}))
        except ValueError as error:
            problems.append(Problem("schedule", f"{field.name} {word!r}: {error}"))
    if problems:
        raise InvalidSchedule(problems)
    minute, hour, day, _, weekday = (word.startswith("*") for word in words)
    either_day = not (day or weekday)
    if not either_day:
        _check_possible(values[2], values[3])
    return Schedule(
        text=shown,
        fields=tuple(
            "*" if word == "*" else ",".join(map(str, chosen)) for word, chosen in zip(words, values, strict=True)
        ),
        either_day=either_day,
        by_real_time=minute or hour,
    )


def _values(field: Field, item: str) -> range | list[int]:
    """The values that one item of a field's list stands for; raises ValueError with a sentence."""
    parts = _ITEM.fullmatch(item)
    if _QUARTZ.fullmatch(item):
        raise ValueError("? L W and # are not supported; write * for any day, or the days")
    if parts is None:
        if not item:
            raise ValueError("a value is missing at a comma")
        raise ValueError("write a number, a range such as 1-5, * or a step such as */5, or a list of these")
    step = int(parts["step"] or 1)
    most = field.high - field.low if field is not _WEEKDAY else 6
    if not 1 <= step <= most:
        longer = f"; for longer ones write @every {step}{field.unit}" if step and field.unit else ""
        raise ValueError(f"a step is from 1 to {most}{longer}")
    if parts["all"]:
        first, last = field.low, 6 if field is _WEEKDAY else field.high
    else:
        first = last = _value(field, parts["first"])
        if parts["last"]:
            last = _value(field, parts["last"])
            if field is _WEEKDAY and parts["last"] == "sun" and first > 0:
                last = 7
        elif parts["step"]:
            last = 6 if field is _WEEKDAY and first < 7 else field.high
    if first > last:
        raise ValueError(
            f"a range goes upwards; write {parts['first']}-{field.high},{field.low}-{parts['last']} to go over the end"
        )
    chosen = range(first, last + 1, step)
    return [value % 7 for value in chosen] if field is _WEEKDAY else chosen


def _value(field: Field, word: str) -> int:
    if word in field.names:
        return field.names.index(word) + field.low
    if not word.isdecimal():
        near = get_close_matches(word, field.names, n=1, cutoff=0.5)
        hint = f"; did you mean {near[0]}?" if near else f"; use {field.known}"
        raise ValueError(f"{word!r} is not a value{hint}")
    if not field.low <= int(word) <= field.high:
        raise ValueError(f"{word} is not in {field.known}")
    return int(word)


def _check_possible(days: Collection[int], months: Collection[int]) -> None:
    longest = max(_LONGEST[month - 1] for month in months)
    if min(days) > longest:
        named = ", ".join(_MONTHS[month - 1] for month in months)
        raise _refusal(
            f"it would never be due: day of month {min(days)} does not exist in the month{'s' * (len(months) > 1)} "
            f"{named}; choose a day up to {longest}, or other months"
        )


def _days(weekdays: str) -> str:
    chosen = [int(day) for day in weekdays.split(",")]
    if len(chosen) > 2 and chosen == list(range(chosen[0], chosen[-1] + 1)):
        return f"{_FULL_DAYS[chosen[0]]} to {_FULL_DAYS[chosen[-1]]}"
    return ", ".join(_FULL_DAYS[day] for day in chosen)


def _unknown_zone(name: str) -> str:
    known = {zone.lower(): zone for zone in available_timezones()}
    if not known:
        return f"{name!r} is not known: no time zones are installed; install the package tzdata"
    wanted = name.lower().replace(" ", "_")
    cities = {zone.rpartition("/")[2]: zone for zone in known}
    near = [known[zone] for zone in get_close_matches(wanted, known, n=3)]
    near += [known[cities[city]] for city in get_close_matches(wanted, cities, n=1)]
    hint = f"did you mean {' or '.join(dict.fromkeys(near))}?" if near else "write it like Europe/Berlin or UTC"
    return f"{name!r} is no time zone; {hint}"

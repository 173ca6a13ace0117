"""At which moments a schedule is due: strictly after a moment, the next few, the last few.

Where the clocks of a zone are changed, the rules are those of Vixie cron:

- A schedule whose minute or hour field begins with `*` goes by real time. It is due whenever the clock on the wall
  shows a time that fits: not at times that are left out, and again at times that come twice.
- Any other is due once for each local time that fits: at the first occurrence of one that comes twice, and at the first
  moment after the gap for one that is left out. Several that fall on the same moment are due once.

`@every` knows no zone: it is due at its anchor and at every whole period after it.
"""

from __future__ import annotations

from copy import copy
from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache
from typing import Any

from oq.cron.schedule import Schedule

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
"""The anchor of `@every` where there is no other."""

_SECOND = timedelta(seconds=1)
_STRIDE = timedelta(days=1)
"""No zone changes its clocks twice within so long."""
_FIRST_LOOK_BACK = timedelta(minutes=1)


def next_after(schedule: Schedule, after: datetime, zone: tzinfo = UTC, anchor: datetime = EPOCH) -> datetime | None:
    """The first moment strictly after `after`, in UTC; None where there is none before the calendar ends."""
    after = after.astimezone(UTC)
    try:
        if schedule.every is not None:
            return _next_period(schedule.every, after, anchor.astimezone(UTC))
        return (_next_by_real_time if schedule.by_real_time else _next_local_time)(schedule, after, zone)
    except OverflowError:
        return None


def upcoming(
    schedule: Schedule, after: datetime, count: int, zone: tzinfo = UTC, anchor: datetime = EPOCH
) -> list[datetime]:
    """The first `count` moments strictly after `after`, in order; fewer where the calendar ends."""
    found: list[datetime] = []
    moment = next_after(schedule, after, zone, anchor) if count > 0 else None
    while moment is not None:
        found.append(moment)
        moment = next_after(schedule, moment, zone, anchor) if len(found) < count else None
    return found


def missed(
    schedule: Schedule, last: datetime, now: datetime, limit: int, zone: tzinfo = UTC, anchor: datetime = EPOCH
) -> list[datetime]:
    """The newest moments after `last`, up to and including `now`: at most `limit`, in order.

    Takes a time that grows with `limit`, not with how long ago `last` is.
    """
    if limit < 1:
        return []
    back = _FIRST_LOOK_BACK
    while True:
        start = max(last, now - back) if now - last > back else last
        found: list[datetime] = []
        moment = next_after(schedule, start, zone, anchor)
        while moment is not None and moment <= now:
            found.append(moment)
            moment = next_after(schedule, moment, zone, anchor)
        if start == last or len(found) >= limit:
            return found[-limit:]
        back *= 2


def _next_period(period: timedelta, after: datetime, anchor: datetime) -> datetime:
    return anchor + max(0, (after - anchor) // period + 1) * period


def _next_local_time(schedule: Schedule, after: datetime, zone: tzinfo) -> datetime | None:
    """For a schedule that is due once for each local time."""
    local = _wall(after, zone)
    while (found := _next_fit(schedule, local)) is not None:
        local = found
        moment = _first_moment_of(local, zone)
        if moment > after:  # it is not where `after` is in the second pass over a time that comes twice
            return moment
    return None


def _next_by_real_time(schedule: Schedule, after: datetime, zone: tzinfo) -> datetime | None:
    at, local = after, _wall(after, zone)
    while (found := _next_fit(schedule, local)) is not None:
        moment = at + (found - _wall(at, zone))  # true if the offset stays until then
        changed = _first_change(at, moment, zone)
        if changed is None:
            return moment
        at, local = changed, _wall(changed, zone) - _SECOND
    return None


def _wall(moment: datetime, zone: tzinfo) -> datetime:
    """What the clock on the wall shows at a moment, without a zone."""
    return moment.astimezone(zone).replace(tzinfo=None)


def _first_moment_of(local: datetime, zone: tzinfo) -> datetime:
    """When the clock shows `local` for the first time, or for the first time more than that where it is left out."""
    early = local.replace(tzinfo=zone, fold=0).astimezone(UTC)
    if _wall(early, zone) == local:
        return early
    before_gap = local.replace(tzinfo=zone, fold=1).astimezone(UTC)  # with the later offset it comes out earlier
    return _change_between(before_gap, early, zone)


def _first_change(start: datetime, end: datetime, zone: tzinfo) -> datetime | None:
    """The first moment after `start`, and not after `end`, that has another offset than `start`."""
    start = start.replace(microsecond=0)
    while start < end:
        step = min(end, start + _STRIDE)
        if _offset(step, zone) != _offset(start, zone):
            return _change_between(start, step, zone)
        start = step
    return None


def _change_between(start: datetime, end: datetime, zone: tzinfo) -> datetime:
    """The first moment with another offset than `start`, where `end` has one. Offsets change at whole seconds."""
    offset = _offset(start, zone)
    seconds = int((end - start).total_seconds())
    low, high = 0, seconds
    while high - low > 1:
        middle = (low + high) // 2
        if _offset(start + middle * _SECOND, zone) == offset:
            low = middle
        else:
            high = middle
    return start + high * _SECOND


def _offset(moment: datetime, zone: tzinfo) -> timedelta | None:
    return moment.astimezone(zone).utcoffset()


def _next_fit(schedule: Schedule, local: datetime) -> datetime | None:
    """The first minute strictly after `local` that fits the fields, by a calendar without zones."""
    walker = copy(_walker(" ".join(schedule.fields), schedule.either_day))  # where it stands is its own
    try:
        found: datetime = walker.get_next(datetime, start_time=local)
    except (ValueError, OverflowError):  # croniter's word for "none", and the end of the calendar
        return None
    return found


@lru_cache(maxsize=1024)
def _walker(expression: str, either_day: bool) -> Any:
    from croniter import croniter  # takes 50 ms

    return croniter(expression, datetime(2000, 1, 1), day_or=either_day)  # noqa: DTZ001  # a calendar without zones

"""Which moments of a cron entry are submitted now: entry + state + now -> ticks and the new state.

What holds, whatever the order of calls and however the clock steps: a moment is submitted once at most, and in order;
one that is not submitted is left out for a reason that is told.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from enum import StrEnum

from attrs import frozen
from msgspec.structs import replace

from oq.cron.entry import HISTORY, CronEntry, CronState, Fired, Tick
from oq.cron.moments import missed, next_after

ON_TIME = timedelta(seconds=60)
"""A moment so long ago counts as just come; an older one was missed."""

MOST_COUNTED = 100
"""So many moments that were left out are counted one by one."""

_JUST_BEFORE = timedelta(microseconds=1)


class Reason(StrEnum):
    """Why moments were left out."""

    MISSED = "missed"
    """Nobody was there, and `catch_up` does not make up for them."""
    OVERLAP = "overlap"
    """Tasks of earlier moments were not final."""
    DISABLED = "disabled"
    """It waited for its turn when the entry was disabled."""


@frozen(kw_only=True)
class Skipped:
    """Moments in a row that were left out."""

    reason: Reason
    first_at: datetime
    """The first of them."""
    count: int
    """How many there are; `MOST_COUNTED` also stands for more."""


@frozen(kw_only=True)
class Firing:
    """What is to be done for an entry, and how it stands afterwards."""

    state: CronState
    """The very state that was given where nothing has changed."""
    ticks: tuple[Tick, ...] = ()
    """What is to be submitted, in order."""
    skipped: tuple[Skipped, ...] = ()


def plan(entry: CronEntry, state: CronState, now: datetime) -> CronState:
    """The state of an entry that was just made, enabled or given another schedule: nothing before `now` counts.

    A moment that was submitted or left out already is not planned again, even if the clock was set back since.
    """
    after = max([now, *_if_any(state.decided_until)])
    return replace(state, next_at=_first(entry, after) if entry.enabled else None, waiting_at=None)


def fire(entry: CronEntry, state: CronState, now: datetime, running: int) -> Firing:
    """What is due at `now`, where `running` tasks of this entry's earlier firings are not final.

    To be called when `state.next_at` has come, when the last of an entry's tasks is final while a moment waits, and
    at the start of a process. Called at any other time it gives no ticks and the same state.
    """
    if not entry.enabled:
        return _rest(state)
    if state.next_at is None and state.waiting_at is None:
        planned = plan(entry, state, now)
        return Firing(state=state if planned == state else planned)
    due, skipped = _due(entry, state, now)
    next_at, decided_until = state.next_at, state.decided_until
    if next_at is not None and next_at <= now:
        next_at, decided_until = _first(entry, now), now
    submit, waiting, left = _without_overlap(entry, [*_if_any(state.waiting_at), *due], running)
    skipped += left
    ticks = _ticks(state, submit, now)
    changed = replace(
        state,
        next_at=next_at,
        waiting_at=waiting,
        last_at=max([*_if_any(state.last_at), *submit], default=None),
        run_count=state.run_count + len(ticks),
        skip_count=state.skip_count + sum(skip.count for skip in skipped),
        history=_remembered(state, ticks),
        decided_until=decided_until,
    )
    return Firing(state=state if changed == state else changed, ticks=ticks, skipped=tuple(skipped))


def run_now(state: CronState, now: datetime) -> Firing:
    """A firing that somebody asks for, whatever the entry says about enabled, end and overlap; its schedule goes on."""
    tick = Tick(scheduled_at=now, fired_at=now, run_count=state.run_count + 1, last_at=state.last_at, manual=True)
    changed = replace(state, run_count=tick.run_count, history=_remembered(state, [tick]))
    return Firing(state=changed, ticks=(tick,))


def linked(state: CronState, task_ids: Mapping[int, Sequence[str]]) -> CronState:
    """The state whose history names the tasks of firings, by the firings' numbers."""
    return replace(
        state,
        history=tuple(
            replace(fired, task_ids=tuple(task_ids[fired.run_count])) if fired.run_count in task_ids else fired
            for fired in state.history
        ),
    )


def _rest(state: CronState) -> Firing:
    """A disabled entry keeps no moment, so that enabling it makes up for nothing."""
    if state.next_at is None and state.waiting_at is None:
        return Firing(state=state)
    waited = tuple(Skipped(reason=Reason.DISABLED, first_at=at, count=1) for at in _if_any(state.waiting_at))
    changed = replace(state, next_at=None, waiting_at=None, skip_count=state.skip_count + len(waited))
    return Firing(state=changed, skipped=waited)


def _first(entry: CronEntry, after: datetime) -> datetime | None:
    """The entry's first moment after `after`, between its start and its end."""
    if entry.start_at is not None:
        after = max(after, entry.start_at - _JUST_BEFORE)
    moment = next_after(entry.parsed, after, entry.clocks, entry.anchor)
    return None if moment is None or (entry.end_at is not None and moment > entry.end_at) else moment


def _due(entry: CronEntry, state: CronState, now: datetime) -> tuple[list[datetime], list[Skipped]]:
    """The moments that have come, as far as `catch_up` wants them, and the others."""
    if state.next_at is None or now < state.next_at:
        return [], []
    start = state.next_at - _JUST_BEFORE
    until = now if entry.end_at is None else min(now, entry.end_at)
    limit = entry.catch_up_limit if entry.catch_up == "all" else 1
    wanted = missed(entry.parsed, start, until, limit, entry.clocks, entry.anchor)
    if entry.catch_up == "none" and wanted and now - wanted[-1] > ON_TIME:
        wanted = []
    before = wanted[0] - _JUST_BEFORE if wanted else until
    return wanted, _missed_before(entry, start, before)


def _missed_before(entry: CronEntry, start: datetime, until: datetime) -> list[Skipped]:
    """The moments after `start` up to `until`, as missed."""
    count, moment = 0, _first(entry, start)
    first = moment
    while moment is not None and moment <= until and count < MOST_COUNTED:
        count += 1
        moment = _first(entry, moment)
    return [Skipped(reason=Reason.MISSED, first_at=first, count=count)] if first and count else []


def _without_overlap(
    entry: CronEntry, moments: Sequence[datetime], running: int
) -> tuple[list[datetime], datetime | None, list[Skipped]]:
    """What to submit, what waits, and what is left out.

    As if the moments came one after the other, and the tasks of each still ran at the next.
    """
    if entry.overlap == "allow":
        return list(moments), None, []
    free = running == 0
    submit, rest = (list(moments[:1]), moments[1:]) if free else ([], moments)
    waiting = None
    if entry.overlap == "queue_one" and rest:
        waiting, rest = rest[0], rest[1:]
    left = [Skipped(reason=Reason.OVERLAP, first_at=rest[0], count=len(rest))] if rest else []
    return submit, waiting, left


def _ticks(state: CronState, submit: Sequence[datetime], now: datetime) -> tuple[Tick, ...]:
    last = [state.last_at, *submit]
    return tuple(
        Tick(scheduled_at=moment, fired_at=now, run_count=state.run_count + number, last_at=before)
        for number, (moment, before) in enumerate(zip(submit, last, strict=False), start=1)
    )


def _remembered(state: CronState, ticks: Sequence[Tick]) -> tuple[Fired, ...]:
    fired = [
        Fired(scheduled_at=tick.scheduled_at, fired_at=tick.fired_at, run_count=tick.run_count, manual=tick.manual)
        for tick in ticks
    ]
    return (*state.history, *fired)[-HISTORY:]


def _if_any(moment: datetime | None) -> list[datetime]:
    return [] if moment is None else [moment]

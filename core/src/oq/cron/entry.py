"""A cron entry as somebody wrote it, and how it stands."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, tzinfo
from typing import Any, Literal

from attrs import evolve, field, frozen
from msgspec import Struct

from oq import templates
from oq.codec import decode, encode, make_converter, structure
from oq.cron.schedule import Schedule, parse_schedule, parse_zone
from oq.errors import InvalidSchedule, Problem
from oq.task import TaskSpec

Overlap = Literal["skip", "allow", "queue_one"]
"""What becomes of a moment while tasks of earlier ones are not final: it is left out, it is submitted all the same, or
one waits, the first, and those after it are left out."""

CatchUp = Literal["none", "latest", "all"]
"""What is submitted for moments that nobody was there for: nothing, the newest, or the newest `catch_up_limit`."""

MOST_CAUGHT_UP = 1000
"""The largest `catch_up_limit`."""

HISTORY = 20
"""How many firings a state remembers."""

FIELDS: Mapping[str, type] = {
    "scheduled_at": datetime,
    "fired_at": datetime,
    "last_at": datetime,
    "run_count": int,
    "name": str,
    "id": str,
}
"""What templates may show, each with its type. Moments are shown in the entry's zone."""

_DIFFERS = frozenset({"scheduled_at", "fired_at", "run_count"})
"""Those that are different at each firing."""

_RENDERED = ("id", "payload", "tags", "metadata", "unique_key", "group", "after")
"""The fields of a spec whose strings are templates."""


def _specs(value: object) -> tuple[TaskSpec, ...]:
    """The template as a tuple of specs; takes one or several, as specs or as mappings that fit them."""
    many: Sequence[object] = value if isinstance(value, Sequence) and not isinstance(value, str) else [value]
    found: list[TaskSpec] = []
    wrong: list[Problem] = []
    for index, item in enumerate(many):
        spec, problems = structure(make_converter(), item, TaskSpec) if not isinstance(item, TaskSpec) else (item, [])
        wrong += [problem.under(f"tasks[{index}]") for problem in problems]
        if spec is None:
            continue
        try:
            found.append(evolve(spec, payload=decode(encode(spec.payload))))
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            wrong.append(Problem(f"tasks[{index}].payload", f"cannot be stored: {error}"))
    if wrong:
        raise InvalidSchedule(wrong)
    return tuple(found)


@frozen(kw_only=True)
class CronEntry:
    """A stored rule that submits tasks at the moments of a schedule.

    Raises InvalidSchedule, which names everything that is wrong with it, when it is made.
    """

    id: str
    """Unique for ever: an entry that is made anew under an old name has another one."""
    name: str
    """What people call it."""
    schedule: str
    """When: see `oq.cron.parse_schedule`."""
    tasks: tuple[TaskSpec, ...] = field(converter=_specs)
    """What is submitted, at once: a task, or the tasks of a workflow. Their strings may hold the fields of `FIELDS`."""
    created_at: datetime
    zone: str = "UTC"
    """The time zone whose clocks the schedule means."""
    enabled: bool = True
    overlap: Overlap = "skip"
    catch_up: CatchUp = "latest"
    catch_up_limit: int = 100
    """How many moments `catch_up="all"` makes up for, the newest ones."""
    start_at: datetime | None = None
    """No moment before this one counts. `@every` is due at it and at every whole period after it."""
    end_at: datetime | None = None
    """No moment after this one counts."""
    metadata: Mapping[str, Any] = field(factory=dict)
    """Anything of the user's; kept and shown, never read."""

    def __attrs_post_init__(self) -> None:
        """Refuse what could never work."""
        if wrong := list(_problems(self)):
            raise InvalidSchedule(wrong)

    @property
    def anchor(self) -> datetime:
        """From when `@every` counts: `start_at`, or else when the entry was made. Restarts do not move it."""
        return self.start_at or self.created_at

    @property
    def parsed(self) -> Schedule:
        return parse_schedule(self.schedule)

    @property
    def clocks(self) -> tzinfo:
        """The zone itself."""
        return parse_zone(self.zone)


class Fired(Struct, frozen=True, gc=False, array_like=True, kw_only=True):
    """A firing that happened. Stored as an array: append fields, never reorder them."""

    scheduled_at: datetime
    """The moment that it was for."""
    fired_at: datetime
    run_count: int
    """Its number, from 1."""
    manual: bool = False
    """Whether somebody asked for it, rather than the schedule."""
    task_ids: tuple[str, ...] = ()


class CronState(Struct, frozen=True, gc=False, array_like=True, kw_only=True):
    """How an entry stands. Stored as an array: append fields, never reorder them."""

    next_at: datetime | None = None
    """The next moment; None before it is planned, while the entry is disabled, and once it has ended."""
    waiting_at: datetime | None = None
    """The moment that waits for earlier tasks to be final (`overlap="queue_one"`)."""
    last_at: datetime | None = None
    """The newest moment that was submitted."""
    run_count: int = 0
    """How many firings there were."""
    skip_count: int = 0
    """How many moments were left out, as far as they were counted."""
    history: tuple[Fired, ...] = ()
    """The newest firings, oldest first."""
    decided_until: datetime | None = None
    """What was due until then is decided; a clock that is set back brings none of it again."""


class Tick(Struct, frozen=True, gc=False, kw_only=True):
    """One firing of an entry: everything that its tasks are made from."""

    scheduled_at: datetime
    fired_at: datetime
    run_count: int
    """Its number, from 1."""
    last_at: datetime | None
    """The moment of the firing before; None for the first."""
    manual: bool = False
    """Whether somebody asked for it, rather than the schedule."""


def tick_key(entry_id: str, tick: Tick) -> str:
    """The idempotency key under which a tick's tasks are submitted: the same for the same moment, whoever fires it."""
    kind = "run" if tick.manual else "at"
    return f"cron:{entry_id}:{kind}:{tick.scheduled_at.astimezone(UTC).isoformat()}"


def tasks_of(entry: CronEntry, tick: Tick) -> tuple[TaskSpec, ...]:
    """The tasks that a tick submits: the entry's, filled in."""
    zone = entry.clocks
    values: dict[str, templates.Value] = {
        "scheduled_at": tick.scheduled_at.astimezone(zone),
        "fired_at": tick.fired_at.astimezone(zone),
        "last_at": tick.last_at and tick.last_at.astimezone(zone),
        "run_count": tick.run_count,
        "name": entry.name,
        "id": entry.id,
    }
    return tuple(
        evolve(spec, **{part: templates.render(getattr(spec, part), values) for part in _RENDERED})
        for spec in entry.tasks
    )


def _problems(entry: CronEntry) -> Iterator[Problem]:
    for name in ("id", "name"):
        value = getattr(entry, name)
        if not (isinstance(value, str) and value.strip()):
            yield Problem(name, "must be a text that is not empty")
    yield from _schedule_problems(entry)
    moments = {name: getattr(entry, name) for name in ("created_at", "start_at", "end_at")}
    naive = [name for name, moment in moments.items() if moment is not None and moment.tzinfo is None]
    for name in naive:
        yield Problem(name, f"{moments[name].isoformat()} has no time zone; add Z or an offset such as +01:00")
    if not naive and entry.start_at and entry.end_at and entry.end_at < entry.start_at:
        yield Problem("end_at", "is before start_at, so that no moment would count")
    if entry.overlap not in {"skip", "allow", "queue_one"}:
        yield Problem("overlap", f"{entry.overlap!r} is none of skip, allow, queue_one")
    if entry.catch_up not in {"none", "latest", "all"}:
        yield Problem("catch_up", f"{entry.catch_up!r} is none of none, latest, all")
    limit = entry.catch_up_limit
    if not isinstance(limit, int) or isinstance(limit, bool) or not 1 <= limit <= MOST_CAUGHT_UP:
        yield Problem("catch_up_limit", f"must be a whole number from 1 to {MOST_CAUGHT_UP}, not {limit!r}")
    if not entry.tasks:
        yield Problem("tasks", "is empty; give at least one task")
    for index, spec in enumerate(entry.tasks):
        yield from (problem.under(f"tasks[{index}]") for problem in _template_problems(spec))


def _schedule_problems(entry: CronEntry) -> Iterator[Problem]:
    for name, parse in (("schedule", parse_schedule), ("zone", parse_zone)):
        value = getattr(entry, name)
        if not isinstance(value, str):
            yield Problem(name, f"must be a text, not {value!r}")
            continue
        try:
            parse(value)
        except InvalidSchedule as error:
            yield from error.problems


def _template_problems(spec: TaskSpec) -> Iterator[Problem]:
    for part in _RENDERED:
        yield from (problem.under(part) for problem in templates.problems(getattr(spec, part), FIELDS))
    if spec.id is not None and not templates.fields_in(spec.id) & _DIFFERS:
        yield Problem("id", "would be the same at each firing; put {{scheduled_at}} or {{run_count}} into it")
    for part in ("run_at", "expires_at"):
        if getattr(spec, part) is not None:
            yield Problem(part, "would be the same moment at each firing; leave it out")

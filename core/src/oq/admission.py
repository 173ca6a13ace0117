"""The way in: checks a spec in every field and turns it into what a store takes."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import compress
from operator import attrgetter, is_not
from typing import Any, get_args

import attrs
import msgspec

from oq.codec import decode_as, encode
from oq.errors import InvalidTask, Problem, UnknownAction, UnknownExecutor
from oq.registry import Registry
from oq.retry import RetryPolicy
from oq.store.base import EVERY_QUEUE, NewTask
from oq.task import OnParentFailure, TaskHead, TaskSpec

MAX_NAME = 100
"""Characters of an id, a queue, a lane, a key or a tag; with four bytes each they still fit into an index key."""
MAX_TAGS = 32
MAX_SECONDS = 100 * 365 * 86400
"""The longest delay and the longest life of a result: a hundred years, so that every moment is one of the calendar."""
_NAME_RULE = f"must be a text of 1 to {MAX_NAME} printable characters"
_PLAIN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@/+-]*")


def admit(
    spec: TaskSpec, registry: Registry, make_id: Callable[[datetime], str], most_bytes: int, now: datetime
) -> NewTask:
    """The spec as a new task, checked in every field; `most_bytes` is what its payload may take.

    Raises InvalidTask with all that is wrong, UnknownExecutor or UnknownAction.
    """
    return _admit(spec, _problems(spec, _values_of(spec), _DEFAULTS), registry, make_id, most_bytes, now)


def _admit(
    spec: TaskSpec,
    problems: list[Problem],
    registry: Registry,
    make_id: Callable[[datetime], str],
    most_bytes: int,
    now: datetime,
) -> NewTask:
    if not (isinstance(spec.executor, str) and isinstance(spec.action, str)):
        raise InvalidTask(problems)
    try:
        checked = registry.check(spec)
    except InvalidTask as error:
        raise InvalidTask([*problems, *error.problems]) from None
    except (UnknownExecutor, UnknownAction) as error:
        if problems:
            raise InvalidTask([Problem(_field_of(error), str(error)), *problems]) from None
        raise
    if not _is_name(checked.lane) and spec.lane is None:
        problems.append(Problem("lane", f"{_NAME_RULE}; {spec.executor!r} would make it {checked.lane!r:.60}"))
    if len(checked.data) > most_bytes:
        problems.append(Problem("payload", f"takes {len(checked.data):,} bytes; at most {most_bytes:,} are allowed"))
    if problems:
        raise InvalidTask(problems)
    head = TaskHead(  # by position, since twenty names take six times as long
        spec.id or make_id(now),
        spec.executor,
        spec.action,
        spec.queue,
        checked.lane,
        now,
        tuple(spec.tags),
        dict(spec.metadata),
        checked.summary,
        checked.model,
        _run_at(spec, now),
        spec.timeout,
        _utc(spec.expires_at),
        spec.retry,
        spec.result_ttl,
        spec.unique_key,
        tuple(spec.after),
        spec.on_parent_failure,
        spec.group,
        len(checked.data),
    )
    try:
        encode(head)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise InvalidTask(f"cannot be stored: {error}") from None
    return NewTask(head=head, priority=spec.priority, payload=checked.data)


def admit_all(
    specs: Sequence[TaskSpec],
    registry: Registry,
    make_id: Callable[[datetime], str],
    most_bytes: int,
    now: datetime,
) -> tuple[NewTask, ...]:
    """All of the specs as new tasks; raises InvalidTask with the problems of every one, under `tasks[index]`."""
    admitted: list[NewTask] = []
    problems: list[Problem] = []
    sound = _DEFAULTS
    for index, spec in enumerate(specs):
        try:
            values = _values_of(spec)
            admitted.append(_admit(spec, _problems(spec, values, sound), registry, make_id, most_bytes, now))
            sound = values
        except InvalidTask as error:
            problems += [problem.under(f"tasks[{index}]") for problem in error.problems]
        except (UnknownExecutor, UnknownAction) as error:
            problems.append(Problem(f"tasks[{index}].{_field_of(error)}", str(error)))
    if problems:
        raise InvalidTask(problems)
    return tuple(admitted)


def _problems(spec: TaskSpec, values: tuple[Any, ...], sound: tuple[Any, ...]) -> list[Problem]:
    """What is wrong with the `values` of the checked fields; defaults are right, and the very values in `sound`.

    The latter are those of the task before: in a list of tasks, most fields have the same value throughout.
    """
    wrong: list[Problem] = []
    for place in compress(_PLACES, map(is_not, values, sound)):
        field, check = _CHECKS[place]
        value = values[place]
        if value is not _DEFAULTS[place]:
            wrong += check(field, value)
    if spec.delay is not None and spec.run_at is not None:
        wrong.append(Problem("delay", "cannot be given together with run_at"))
    return wrong


def _check_text(field: str, value: Any) -> list[Problem]:
    return [] if isinstance(value, str) else [Problem(field, "must be a text")]


def _check_name(field: str, value: Any) -> list[Problem]:
    return [] if _is_name(value) else [Problem(field, _NAME_RULE)]


def _check_queue(field: str, value: Any) -> list[Problem]:
    if value == EVERY_QUEUE:
        return [Problem(field, f"{EVERY_QUEUE!r} stands for all queues")]
    return _check_name(field, value)


def _check_id(field: str, value: Any) -> list[Problem]:
    if _is_name(value) and not _PLAIN_ID.fullmatch(value):
        return [Problem(field, "may have only letters, digits and . _ : @ / + -")]
    return _check_name(field, value)


def _check_names(field: str, value: Any) -> list[Problem]:
    if isinstance(value, str) or not isinstance(value, Sequence):
        return [Problem(field, "must be a list of texts")]
    return [Problem(f"{field}[{index}]", _NAME_RULE) for index, name in enumerate(value) if not _is_name(name)]


def _check_tags(field: str, value: Any) -> list[Problem]:
    wrong = _check_names(field, value)
    if isinstance(value, Sequence) and len(value) > MAX_TAGS:
        wrong.append(Problem(field, f"there may be at most {MAX_TAGS}"))
    return wrong


def _check_metadata(field: str, value: Any) -> list[Problem]:
    """What would not come back from the store as an object."""
    if not isinstance(value, dict | Mapping):
        return [Problem(field, "must be an object")]
    if not value:
        return []
    try:
        decode_as(encode(dict(value)), dict[str, Any])
    except msgspec.ValidationError:
        return [Problem(field, "may have only texts as names")]
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        return [Problem(field, f"cannot be stored: {error}")]
    return []


def _check_seconds(field: str, value: Any) -> list[Problem]:
    if not (_is_number(value) and value >= 0):
        return [Problem(field, "must be a number of seconds, 0 or more")]
    if value > MAX_SECONDS:
        return [Problem(field, f"must be at most {MAX_SECONDS:,} seconds, which is a hundred years")]
    return []


def _check_timeout(field: str, value: Any) -> list[Problem]:
    if not (_is_number(value) and value >= 0):
        return [Problem(field, "must be a number of seconds, 0 or more")]
    return [] if value > 0 else [Problem(field, "must be more than 0 seconds")]


def _check_moment(field: str, value: Any) -> list[Problem]:
    if _is_moment(value):
        return []
    return [Problem(field, "must be a moment with a time zone, such as 2026-01-31T09:00:00Z")]


def _check_retry(field: str, value: Any) -> list[Problem]:
    return [] if isinstance(value, RetryPolicy) else [Problem(field, "must be a RetryPolicy")]


def _check_on_parent_failure(field: str, value: Any) -> list[Problem]:
    return [] if value in get_args(OnParentFailure) else [Problem(field, "must be 'fail' or 'continue'")]


_CHECKS: Sequence[tuple[str, Callable[[str, Any], list[Problem]]]] = (
    ("executor", _check_text),
    ("action", _check_text),
    ("queue", _check_queue),
    ("lane", _check_name),
    ("unique_key", _check_name),
    ("group", _check_name),
    ("id", _check_id),
    ("tags", _check_tags),
    ("after", _check_names),
    ("metadata", _check_metadata),
    ("delay", _check_seconds),
    ("result_ttl", _check_seconds),
    ("timeout", _check_timeout),
    ("run_at", _check_moment),
    ("expires_at", _check_moment),
    ("retry", _check_retry),
    ("on_parent_failure", _check_on_parent_failure),
)
_PLACES = range(len(_CHECKS))
_values_of: Callable[[TaskSpec], tuple[Any, ...]] = attrgetter(*(field for field, _ in _CHECKS))
_DEFAULTS = tuple(getattr(attrs.fields(TaskSpec), field).default for field, _ in _CHECKS)
"""A factory is no default that a value could be, so such a field is always checked."""


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= MAX_NAME and value.isprintable()


def _is_moment(value: Any) -> bool:
    """Whether it is one in UTC too: the first and last hours of the calendar may not be."""
    if not isinstance(value, datetime) or value.tzinfo is None:
        return False
    try:
        value.astimezone(UTC)
    except OverflowError:
        return False
    return True


def _is_number(value: Any) -> bool:
    if isinstance(value, float):
        return not math.isnan(value)
    return isinstance(value, int) and not isinstance(value, bool)


def _run_at(spec: TaskSpec, now: datetime) -> datetime | None:
    if spec.delay is not None:
        return now + timedelta(seconds=spec.delay)
    return _utc(spec.run_at)


def _utc(moment: datetime | None) -> datetime | None:
    return None if moment is None else moment.astimezone(UTC)


def _field_of(error: UnknownExecutor | UnknownAction) -> str:
    return "executor" if isinstance(error, UnknownExecutor) else "action"

"""The way in: checks a spec in every field and turns it into what a store takes."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, get_args

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
_ON_PARENT_FAILURE = get_args(OnParentFailure)
_PLAIN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@/+-]*")


def admit(
    spec: TaskSpec, registry: Registry, make_id: Callable[[datetime], str], most_bytes: int, now: datetime
) -> NewTask:
    """The spec as a new task, checked in every field; `most_bytes` is what its payload may take.

    Raises InvalidTask with all that is wrong, UnknownExecutor or UnknownAction.
    """
    problems = _problems(spec)
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
    head = TaskHead(
        id=spec.id or make_id(now),
        executor=spec.executor,
        action=spec.action,
        queue=spec.queue,
        lane=checked.lane,
        submitted_at=now,
        tags=tuple(spec.tags),
        metadata=dict(spec.metadata),
        summary=checked.summary,
        model=checked.model,
        run_at=_run_at(spec, now),
        timeout=spec.timeout,
        expires_at=_utc(spec.expires_at),
        retry=spec.retry,
        result_ttl=spec.result_ttl,
        unique_key=spec.unique_key,
        after=tuple(spec.after),
        on_parent_failure=spec.on_parent_failure,
        group=spec.group,
        size=len(checked.data),
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
    for index, spec in enumerate(specs):
        try:
            admitted.append(admit(spec, registry, make_id, most_bytes, now))
        except InvalidTask as error:
            problems += [problem.under(f"tasks[{index}]") for problem in error.problems]
        except (UnknownExecutor, UnknownAction) as error:
            problems.append(Problem(f"tasks[{index}].{_field_of(error)}", str(error)))
    if problems:
        raise InvalidTask(problems)
    return tuple(admitted)


def _problems(spec: TaskSpec) -> list[Problem]:
    wrong: list[Problem] = []

    def check(field: str, ok: bool, message: str) -> None:  # reads as a sentence at every call
        if not ok:
            wrong.append(Problem(field, message))

    for field in ("executor", "action"):
        check(field, isinstance(getattr(spec, field), str), "must be a text")
    for field in ("queue", "lane", "unique_key", "group", "id"):
        value = getattr(spec, field)
        if value is not None or field == "queue":
            check(field, _is_name(value), _NAME_RULE)
    if isinstance(spec.id, str) and _is_name(spec.id):
        check("id", _PLAIN_ID.fullmatch(spec.id) is not None, "may have only letters, digits and . _ : @ / + -")
    check("queue", spec.queue != EVERY_QUEUE, f"{EVERY_QUEUE!r} stands for all queues")
    for field in ("tags", "after"):
        wrong += _problems_of_names(field, getattr(spec, field))
    if isinstance(spec.tags, Sequence):
        check("tags", len(spec.tags) <= MAX_TAGS, f"there may be at most {MAX_TAGS}")
    if spec.metadata:
        wrong += _problems_of_metadata(spec.metadata)
    else:
        check("metadata", isinstance(spec.metadata, Mapping), "must be an object")
    for field in ("delay", "timeout", "result_ttl"):
        value = getattr(spec, field)
        if value is not None:
            wrong += _problems_of_seconds(field, value)
    check("delay", spec.delay is None or spec.run_at is None, "cannot be given together with run_at")
    for field in ("run_at", "expires_at"):
        value = getattr(spec, field)
        if value is not None:
            check(field, _is_moment(value), "must be a moment with a time zone, such as 2026-01-31T09:00:00Z")
    check("retry", spec.retry is None or isinstance(spec.retry, RetryPolicy), "must be a RetryPolicy")
    check("on_parent_failure", spec.on_parent_failure in _ON_PARENT_FAILURE, "must be 'fail' or 'continue'")
    return wrong


def _problems_of_names(field: str, names: Any) -> list[Problem]:
    if isinstance(names, str) or not isinstance(names, Sequence):
        return [Problem(field, "must be a list of texts")]
    return [Problem(f"{field}[{index}]", _NAME_RULE) for index, name in enumerate(names) if not _is_name(name)]


def _problems_of_metadata(metadata: Any) -> list[Problem]:
    """What would not come back from the store as an object."""
    if not isinstance(metadata, Mapping):
        return [Problem("metadata", "must be an object")]
    try:
        decode_as(encode(dict(metadata)), dict[str, Any])
    except msgspec.ValidationError:
        return [Problem("metadata", "may have only texts as names")]
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        return [Problem("metadata", f"cannot be stored: {error}")]
    return []


def _problems_of_seconds(field: str, value: Any) -> list[Problem]:
    if not (_is_number(value) and value >= 0):
        return [Problem(field, "must be a number of seconds, 0 or more")]
    if field == "timeout":
        return [] if value > 0 else [Problem(field, "must be more than 0 seconds")]
    if value > MAX_SECONDS:
        return [Problem(field, f"must be at most {MAX_SECONDS:,} seconds, which is a hundred years")]
    return []


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

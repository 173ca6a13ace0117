"""The way in: checks a spec in every field and turns it into what a store takes."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from oq.codec import encode
from oq.errors import InvalidTask, Problem, UnknownAction, UnknownExecutor
from oq.registry import Registry
from oq.retry import RetryPolicy
from oq.store.base import EVERY_QUEUE, NewTask
from oq.task import TaskHead, TaskSpec

MAX_NAME = 100
"""Characters of an id, a queue, a lane, a key or a tag; with four bytes each they still fit into an index key."""
MAX_TAGS = 32
_PLAIN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@/+-]*")


def admit(
    spec: TaskSpec, registry: Registry, make_id: Callable[[datetime], str], default_retry: RetryPolicy, now: datetime
) -> NewTask:
    """The spec as a new task, checked in every field.

    Raises InvalidTask with all that is wrong, UnknownExecutor or UnknownAction.
    """
    problems = list(_problems(spec))
    try:
        checked = registry.check(spec)
    except InvalidTask as error:
        raise InvalidTask([*problems, *error.problems]) from None
    except (UnknownExecutor, UnknownAction):
        if problems:
            raise InvalidTask(problems) from None
        raise
    if problems:
        raise InvalidTask(problems)
    head = TaskHead(
        id=spec.id or make_id(now),
        executor=spec.executor,
        action=spec.action,
        queue=spec.queue,
        lane=checked.lane,
        submitted_at=now,
        tags=spec.tags,
        metadata=dict(spec.metadata),
        summary=checked.summary,
        model=checked.model,
        run_at=_run_at(spec, now),
        timeout=spec.timeout,
        expires_at=_utc(spec.expires_at),
        retry=spec.retry or default_retry,
        result_ttl=spec.result_ttl,
        unique_key=spec.unique_key,
        after=spec.after,
        on_parent_failure=spec.on_parent_failure,
        group=spec.group,
    )
    try:
        encode(head)
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidTask(f"cannot be stored: {error}", "metadata") from None
    return NewTask(head=head, priority=spec.priority, payload=checked.data)


def admit_all(
    specs: Sequence[TaskSpec],
    registry: Registry,
    make_id: Callable[[datetime], str],
    default_retry: RetryPolicy,
    now: datetime,
) -> tuple[NewTask, ...]:
    """All of the specs as new tasks; raises InvalidTask with the problems of every one, under `tasks[index]`."""
    admitted: list[NewTask] = []
    problems: list[Problem] = []
    for index, spec in enumerate(specs):
        try:
            admitted.append(admit(spec, registry, make_id, default_retry, now))
        except InvalidTask as error:
            problems += [problem.under(f"tasks[{index}]") for problem in error.problems]
        except (UnknownExecutor, UnknownAction) as error:
            problems.append(Problem(f"tasks[{index}]", str(error)))
    if problems:
        raise InvalidTask(problems)
    return tuple(admitted)


def _problems(spec: TaskSpec) -> list[Problem]:
    wrong: list[Problem] = []

    def check(field: str, ok: bool, message: str) -> None:  # noqa: FBT001  # reads as a sentence at every call
        if not ok:
            wrong.append(Problem(field, message))

    for field in ("queue", "lane", "unique_key", "group", "id"):
        value = getattr(spec, field)
        if value is not None:
            check(field, _is_name(value), f"must be a text of 1 to {MAX_NAME} printable characters")
    if isinstance(spec.id, str) and _is_name(spec.id):
        check("id", _PLAIN_ID.fullmatch(spec.id) is not None, "may have only letters, digits and . _ : @ / + -")
    check("queue", spec.queue != EVERY_QUEUE, f"{EVERY_QUEUE!r} stands for all queues")
    check("tags", isinstance(spec.tags, Sequence) and not isinstance(spec.tags, str), "must be a list of texts")
    check("tags", len(spec.tags) <= MAX_TAGS, f"there may be at most {MAX_TAGS}")
    for index, tag in enumerate(spec.tags):
        check(f"tags[{index}]", _is_name(tag), f"must be a text of 1 to {MAX_NAME} printable characters")
    check("metadata", isinstance(spec.metadata, Mapping), "must be an object")
    check("delay", spec.delay is None or spec.run_at is None, "cannot be given together with run_at")
    for field in ("delay", "timeout", "result_ttl"):
        value = getattr(spec, field)
        if value is not None:
            check(field, _is_number(value) and value >= 0, "must be a number of seconds, 0 or more")
    check("delay", spec.delay is None or math.isfinite(spec.delay), "must be finite")
    check("result_ttl", spec.result_ttl is None or math.isfinite(spec.result_ttl), "must be finite")
    check("timeout", spec.timeout != 0, "must be more than 0 seconds")
    for field in ("run_at", "expires_at"):
        value = getattr(spec, field)
        if value is not None:
            aware = isinstance(value, datetime) and value.tzinfo is not None
            check(field, aware, "must be a moment with a time zone, such as 2026-01-31T09:00:00Z")
    return wrong


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= MAX_NAME and value.isprintable()


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and not math.isnan(value)


def _run_at(spec: TaskSpec, now: datetime) -> datetime | None:
    if spec.delay is not None:
        return now + timedelta(seconds=spec.delay)
    return _utc(spec.run_at)


def _utc(moment: datetime | None) -> datetime | None:
    return None if moment is None else moment.astimezone(UTC)

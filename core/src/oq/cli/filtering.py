"""The options that say which tasks are meant, for every command that can take many."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, date, datetime, time, timedelta
from functools import update_wrapper
from typing import Any, TypeVar

import attrs
import click

from oq.cli.submitting import DURATION, MOMENT, PRIORITY
from oq.clock import wall_clock
from oq.errors import InvalidQuery
from oq.query import TaskFilter
from oq.task import Phase, Status

F = TypeVar("F", bound=Callable[..., Any])

_OPTIONS = (
    click.option("--status", type=click.Choice([status.value for status in Status]), help="In this status."),
    click.option("--phase", type=click.Choice([phase.value for phase in Phase]), help="Pending, and waiting for this."),
    click.option("--in-queue", metavar="NAME", help="Of this named queue."),
    click.option("--executor", metavar="NAME", help="Of this executor."),
    click.option("--action", metavar="NAME", help="Of this action."),
    click.option("--lane", metavar="NAME", help="Of this lane."),
    click.option("--model", metavar="NAME", help="For this model."),
    click.option("--tag", metavar="TAG", help="With this tag."),
    click.option("--priority", type=PRIORITY, help="Of this priority."),
    click.option("--type", "failure_type", metavar="NAME", help="Whose last failure was of this type."),
    click.option("--text", metavar="TEXT", help="With this text in the summary."),
    click.option("--since", metavar="WHEN", help="Submitted since then: a moment, or an age such as 2h."),
    click.option("--until", metavar="WHEN", help="Submitted before then."),
)
_FAILED = click.option("--failed", is_flag=True, help="The same as --status failed.")


def filter_options(command: F) -> F:
    """Let a command take the options that choose tasks, as one argument `wanted`, a TaskFilter."""

    def wrapper(*args: Any, failed: bool, **kwargs: Any) -> Any:
        fields = {name: kwargs.pop("in_queue" if name == "queue" else name) for name in _NAMES}
        if failed:
            if fields["status"] not in (None, Status.FAILED):
                raise click.UsageError("--failed is --status failed; give one of the two")
            fields["status"] = Status.FAILED
        for name, enum in (("status", Status), ("phase", Phase)):
            fields[name] = None if fields[name] is None else enum(fields[name])
        for name in ("since", "until"):
            fields[name] = None if fields[name] is None else _moment(name, fields[name])
        return command(*args, wanted=TaskFilter(**fields), **kwargs)

    wrapped: Any = update_wrapper(wrapper, command)
    for option in (_FAILED, *reversed(_OPTIONS)):
        wrapped = option(wrapped)
    return wrapped  # type: ignore[no-any-return]  # click's decorators keep the callable but not its type


_NAMES = [field.name for field in attrs.fields(TaskFilter) if field.name not in ("group", "id_prefix")]


def _moment(option: str, text: str) -> datetime:
    """A moment, the beginning of a day here, or that so long ago."""
    with suppress(click.BadParameter):
        return MOMENT.convert(text, None, None)  # type: ignore[no-any-return]
    with suppress(ValueError, OverflowError):
        return datetime.combine(date.fromisoformat(text), time.min).astimezone(UTC)
    with suppress(click.BadParameter, OverflowError):
        return wall_clock() - timedelta(seconds=DURATION.convert(text, None, None))
    raise InvalidQuery(
        f"--{option}: {text!r} is neither a moment such as 2026-01-31T09:00:00Z, a day such as 2026-01-31, nor an age "
        "such as 2h"
    )

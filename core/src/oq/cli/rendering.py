"""How tasks look in a terminal."""

from __future__ import annotations

import math
import os
import re
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from oq.clock import wall_clock
from oq.codec import to_json
from oq.durations import show_duration
from oq.events import Event
from oq.task import Failure, Phase, Status, Task

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

_PIPED_WIDTH = 240
"""Columns of a table that no terminal limits."""

_COLOURS = {
    Status.PENDING: "default",
    Status.RUNNING: "cyan",
    Status.COMPLETED: "green",
    Status.FAILED: "red",
    Status.CANCELLED: "yellow",
}


_CONTROLS = [*range(0x20), *range(0x7F, 0xA0)]
"""What a terminal obeys instead of showing it."""
_DIRECTIONS = [0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A)]
"""What turns the direction of writing, so that a text can look like another one."""
_LINES = [0x2028, 0x2029]

_HARMLESS = {code: f"\\x{code:02x}" for code in _CONTROLS if chr(code) not in "\t\n"} | {
    code: f"\\u{code:04x}" for code in (*_DIRECTIONS, *_LINES)
}
_HARMLESS_JSON = {code: f"\\u{code:04x}" for code in (*_CONTROLS[0x20:], *_DIRECTIONS, *_LINES)}


def harmless(text: str) -> str:
    """The text with everything that a terminal would obey shown as an escape; line ends and tabs stay."""
    return text.translate(_HARMLESS)


def harmless_json(text: str) -> str:
    """The same JSON, with everything that a terminal would obey escaped, as JSON allows."""
    return text.translate(_HARMLESS_JSON)


def summary_of(task: Task) -> str:
    """What the task is about, in a line."""
    about = task.summary or f"{task.executor}/{task.action}"
    return f"{task.executor}: {about}" if task.summary else about


def standing(task: Task) -> str:
    """Status, and what a pending task waits for."""
    if task.phase is None or task.phase is Phase.READY:
        return str(task.status)
    return f"{task.status}, {task.phase}"


def finished_line(task: Task) -> str:
    """A line for a task that has become final."""
    mark = {Status.COMPLETED: "✓", Status.FAILED: "✗", Status.CANCELLED: "-"}.get(task.status, " ")
    took = "" if task.duration is None else f"  ({show_duration(task.duration)})"
    why = f"  {task.failure.type}: {first_line(task.failure.message)}" if task.failure else ""
    return f"{mark} {task.id}  {task.priority.name.lower():8}  {summary_of(task)}{took}{why}"


def retry_line(event: Event, failure: Failure, now: datetime) -> str:
    """A line for an attempt that failed and will be repeated."""
    soon = "" if event.due_at is None else f" in {show_duration(max(0.0, (event.due_at - now).total_seconds()))}"
    return f"↻ {event.task_id}  {failure.type}: {first_line(failure.message)}; tries again{soon}"


def first_line(text: str) -> str:
    return text.strip().partition("\n")[0]


def number_of(count: int, noun: str) -> str:
    """`1 task`, `2 tasks`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def when(moment: datetime | None, now: datetime | None = None) -> str:
    """A moment relative to now, for people."""
    if moment is None:
        return ""
    seconds = ((now or wall_clock()) - moment).total_seconds()
    if -1 < seconds < 1:
        return "now"
    return f"{show_duration(seconds)} ago" if seconds >= 0 else f"in {show_duration(-seconds)}"


def roughly(moment: datetime) -> str:
    """A moment relative to now in its largest unit, for tables."""
    text = when(moment)
    unit = re.match(r"(in )?\S+ \S+", text)
    return text if unit is None else unit[0] + (" ago" if text.endswith("ago") else "")


def task_table(tasks: Iterable[Task]) -> Table:
    """Tasks as a table that fits the terminal."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold", expand=False)
    table.add_column("ID", no_wrap=True, min_width=16)
    table.add_column("STATUS", no_wrap=True, min_width=9)
    table.add_column("PRIORITY", no_wrap=True, min_width=8)
    table.add_column("WHEN", no_wrap=True, min_width=10)
    table.add_column("WHAT")  # the one that gives way; `no_wrap` is the text's, as a column's would let it be cut bare
    for task in tasks:
        moment = task.finished_at or task.started_at or task.due_at or task.submitted_at
        about = summary_of(task)
        if task.failure is not None and task.status is Status.FAILED:
            about = f"{task.failure.type}: {first_line(task.failure.message)} — {about}"
        table.add_row(
            Text(task.id),
            Text(standing(task), style=_COLOURS[task.status]),
            Text(task.priority.name.lower()),
            Text(roughly(moment)),
            Text(" ".join(harmless(about).split()), no_wrap=True, overflow="ellipsis"),
        )
    return table


def details(task: Task) -> list[tuple[str, str]]:
    """A task, field by field, without what is empty."""
    rows: list[tuple[str, str]] = [
        ("id", task.id),
        ("status", standing(task)),
        ("priority", task.priority.name.lower()),
        ("executor", f"{task.executor}/{task.action}"),
        ("queue", task.queue),
        ("lane", task.lane if task.lane != task.executor else ""),
        ("tags", ", ".join(task.tags)),
        ("metadata", to_json(task.metadata) if task.metadata else ""),
        ("group", task.head.group or ""),
        ("after", ", ".join(task.head.after)),
        ("submitted", _moment(task.submitted_at)),
        ("run at", _moment(task.head.run_at) if task.due_at is None and not task.started_at else ""),
        ("due", _moment(task.due_at)),
        ("expires", _moment(task.head.expires_at) if task.status is Status.PENDING else ""),
        ("started", _moment(task.started_at)),
        ("finished", _moment(task.finished_at)),
        ("took", "" if task.duration is None else show_duration(task.duration)),
        ("attempts", str(task.attempt) if task.attempt else ""),
        ("timeout", _limit(task.head.timeout)),
        ("unique key", task.head.unique_key or ""),
        ("executed on", task.executed_on or ""),
        ("payload", to_json(task.payload, pretty=True)),
        ("result", "" if task.result is None else to_json(task.result, pretty=True)),
    ]
    rows += [
        (f"attempt {attempt.number}", f"{attempt.failure.type}: {attempt.failure.message}")
        for attempt in task.attempts
        if attempt.failure is not None
    ]
    if task.failure is not None and not any(attempt.failure == task.failure for attempt in task.attempts):
        rows.append(("failure", f"{task.failure.type}: {task.failure.message}"))
    return [(name, value) for name, value in rows if value]


def columns(rows: Sequence[tuple[str, str]]) -> str:
    """Names and values below each other, aligned."""
    width = max((len(name) for name, _ in rows), default=0)
    indent = "\n" + " " * (width + 2)
    return "\n".join(f"{name:{width}}  {value.replace(chr(10), indent)}" for name, value in rows)


def _limit(seconds: float | None) -> str:
    if seconds is None:
        return ""
    return "none" if seconds == math.inf else show_duration(seconds)


def _moment(moment: datetime | None) -> str:
    if moment is None:
        return ""
    local = moment.astimezone(UTC).astimezone()
    return f"{local:%Y-%m-%d %H:%M:%S} ({when(moment)})"


def console() -> Console:
    """Standard output for tables; without colours when it is no terminal."""
    from rich.console import Console

    piped = not sys.stdout.isatty() and "COLUMNS" not in os.environ
    return Console(highlight=False, width=_PIPED_WIDTH if piped else None)

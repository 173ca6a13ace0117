"""`oq export`: tasks with payloads and results, for other programs."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

from oq.cli.filtering import filter_options
from oq.cli.rendering import number_of
from oq.cli.session import Session, session_options
from oq.codec import task_as_dict, to_json
from oq.errors import InvalidQuery
from oq.query import TaskFilter
from oq.task import Task

if TYPE_CHECKING:
    from oq.queue import Queue

_COLUMNS = (
    *("id", "status", "phase", "priority", "executor", "action", "queue", "lane", "model", "summary", "tags"),
    *("submitted_at", "started_at", "finished_at", "duration", "attempt", "executed_on"),
)
_PAGE = 200


@click.command("export")
@filter_options
@click.option("--format", "form", type=click.Choice(["jsonl", "csv"]), default="jsonl", show_default=True)
@click.option("--file", "file", metavar="FILE", help="Where to; standard output when not given.")
@session_options
def export(session: Session, wanted: TaskFilter, form: str, file: str | None) -> None:
    """Write tasks with payload, result and all attempts, newest first: a line of JSON each, or a row of CSV."""
    make = {"jsonl": _json_line, "csv": _csv_row}[form]
    head = _row([*_COLUMNS, "failure_type", "failure_message", "payload", "result"]) if form == "csv" else ""
    if file is None:
        session.look(lambda queue: _write_all(queue, wanted, head, make, sys.stdout))
        return
    session.require_queue()
    unfinished = Path(f"{file}.part")  # so that an older export is not lost before this one is whole
    try:
        with unfinished.open("w", encoding="utf-8", newline="") as out:
            number = session.look(lambda queue: _write_all(queue, wanted, head, make, out))
        unfinished.replace(file)
    except OSError as error:
        raise InvalidQuery(f"--file: {file} cannot be written: {error.strerror}") from None
    finally:
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)
    session.note(f"{number_of(number, 'task')} written to {file}")


async def _write_all(queue: Queue, wanted: TaskFilter, head: str, make: Callable[[Task], str], out: IO[str]) -> int:
    """Write the tasks; gives how many there were."""
    out.write(head)
    number = 0
    cursor: int | None = None
    while True:
        page = await queue.list(wanted, cursor=cursor, limit=_PAGE)
        for task in page.items:
            out.write(make(await queue.get(task.id)))
        number += len(page.items)
        cursor = page.cursor
        if cursor is None:
            return number


def _json_line(task: Task) -> str:
    return to_json(task_as_dict(task)) + "\n"


def _csv_row(task: Task) -> str:
    shown = task_as_dict(task)
    failure = task.failure
    return _row(
        [
            *(_cell(shown[name]) for name in _COLUMNS),
            _cell(None if failure is None else failure.type),
            _cell(None if failure is None else failure.message),
            _cell(shown["payload"]),
            _cell(shown["result"]),
        ]
    )


def _cell(value: Any) -> str:
    """Text as it is, but for what a spreadsheet would take for a formula; the rest as JSON, nothing as nothing."""
    if value is None:
        return ""
    if not isinstance(value, str):
        return to_json(value).strip('"')
    return f"'{value}" if value[:1] in ("=", "+", "-", "@", "\t", "\r") else value


def _row(cells: list[str]) -> str:
    line = io.StringIO()
    csv.writer(line).writerow(cells)
    return line.getvalue()

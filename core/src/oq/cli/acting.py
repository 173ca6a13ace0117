"""`oq cancel`, `oq priority` and `oq retry`: what can be done to tasks."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

import click

from oq.cli.session import BAD_INPUT, Session, session_options
from oq.cli.submitting import PRIORITY
from oq.codec import task_as_dict
from oq.errors import CallerError
from oq.task import Priority, Task

if TYPE_CHECKING:
    from oq.queue import Queue

_IDS = click.argument("task_ids", metavar="ID...", nargs=-1, required=True)


@click.command("cancel")
@_IDS
@session_options
def cancel(session: Session, task_ids: tuple[str, ...]) -> None:
    """Cancel tasks that are not final; a running one is stopped at once, wherever it runs."""
    _act(session, task_ids, "cancelled", lambda queue, task_id: queue.cancel(task_id))


@click.command("priority")
@_IDS
@click.argument("level", metavar="LEVEL", type=PRIORITY)
@session_options
def priority(session: Session, task_ids: tuple[str, ...], level: Priority) -> None:
    """Give tasks that are not final another priority: low, normal, high or critical.

    Among tasks of the same priority they keep the place that they got when they were submitted.
    """
    _act(session, task_ids, level.name.lower(), lambda queue, task_id: queue.set_priority(task_id, level))


@click.command("retry")
@_IDS
@session_options
def retry(session: Session, task_ids: tuple[str, ...]) -> None:
    """Run failed or cancelled tasks again, with a fresh count of attempts."""
    _act(session, task_ids, "requeued", lambda queue, task_id: queue.requeue(task_id))


def _act(
    session: Session, task_ids: Sequence[str], done_word: str, act: Callable[[Queue, str], Awaitable[Task]]
) -> None:
    """Do it to each of the tasks, whatever becomes of the others, and report it."""

    async def body(queue: Queue) -> tuple[list[Task], list[str]]:
        done: list[Task] = []
        refused: list[str] = []
        for prefix in task_ids:
            try:
                done.append(await act(queue, await queue.resolve(prefix)))
            except CallerError as error:
                refused.append(str(error))
        return done, refused

    done, refused = session.look(body)
    if session.as_json:
        session.emit({done_word: [task_as_dict(task) for task in done], "refused": refused})
    for task in done:
        session.say(f"{done_word} {task.id}")
    for reason in refused:
        session.note(f"oq: {reason}")
    if refused:
        raise click.exceptions.Exit(BAD_INPUT)

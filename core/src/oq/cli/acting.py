"""`oq cancel`, `oq retry`, `oq delete` and `oq priority`: done to tasks, by name or by what they have in common."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

import click
from attrs import frozen

from oq.cli.filtering import filter_options
from oq.cli.rendering import number_of
from oq.cli.session import BAD_INPUT, Session, session_options
from oq.cli.submitting import PRIORITY
from oq.codec import task_as_dict
from oq.errors import CallerError
from oq.query import TaskFilter
from oq.task import Priority, Task

if TYPE_CHECKING:
    from oq.queue import Queue

_IDS = click.argument("task_ids", metavar="[ID]...", nargs=-1)
_ALL = click.option("--all", "everything", is_flag=True, help="All tasks to which this can be done.")


@click.command("cancel")
@_IDS
@filter_options
@_ALL
@session_options
def cancel(session: Session, task_ids: tuple[str, ...], wanted: TaskFilter, *, everything: bool) -> None:
    """Cancel tasks that are not final; a running one is stopped at once, wherever it runs."""
    _act(
        session,
        _Verb("cancelled", lambda queue, task_id: queue.cancel(task_id), lambda queue: queue.cancel_all(wanted)),
        task_ids,
        wanted,
        everything=everything,
    )


@click.command("retry")
@_IDS
@filter_options
@_ALL
@session_options
def retry(session: Session, task_ids: tuple[str, ...], wanted: TaskFilter, *, everything: bool) -> None:
    """Run failed or cancelled tasks again, with a fresh count of attempts.

    `oq retry --failed --type ConnectError` requeues all that failed in this way.
    """
    _act(
        session,
        _Verb("requeued", lambda queue, task_id: queue.requeue(task_id), lambda queue: queue.requeue_all(wanted)),
        task_ids,
        wanted,
        everything=everything,
    )


@click.command("delete")
@_IDS
@filter_options
@_ALL
@session_options
def delete(session: Session, task_ids: tuple[str, ...], wanted: TaskFilter, *, everything: bool) -> None:
    """Remove final tasks with payload, result and output, for good.

    A task stays while another one that comes after it is not final. `oq delete --status completed` removes all that
    completed; the settings of the table [retention] do so by age.
    """
    _act(
        session,
        _Verb("deleted", lambda queue, task_id: queue.delete(task_id), lambda queue: queue.delete_all(wanted)),
        task_ids,
        wanted,
        everything=everything,
    )


@click.command("priority")
@_IDS
@click.argument("level", metavar="LEVEL", type=PRIORITY)
@filter_options
@_ALL
@session_options
def priority(
    session: Session, task_ids: tuple[str, ...], level: Priority, wanted: TaskFilter, *, everything: bool
) -> None:
    """Give tasks that are not final another priority: low, normal, high or critical.

    Among tasks of the same priority they keep the place that they got when they were submitted.
    """
    _act(
        session,
        _Verb(
            level.name.lower(),
            lambda queue, task_id: queue.set_priority(task_id, level),
            lambda queue: queue.set_priority_all(wanted, level),
        ),
        task_ids,
        wanted,
        everything=everything,
    )


@frozen
class _Verb:
    """Something that can be done to tasks."""

    done: str
    """What is said of a task to which it was done."""
    one: Callable[[Queue, str], Awaitable[Task]]
    many: Callable[[Queue], Awaitable[int]]


def _act(session: Session, verb: _Verb, task_ids: Sequence[str], wanted: TaskFilter, *, everything: bool) -> None:
    chosen = wanted != TaskFilter()
    if bool(task_ids) + chosen + everything != 1:
        raise click.UsageError("name tasks, or say what they have in common (such as --failed or --tag), or --all")
    if task_ids:
        _to_each(session, verb, task_ids)
        return
    number = session.look(verb.many)
    if session.as_json:
        session.emit({"number": number})
    session.say(f"{verb.done} {number_of(number, 'task')}")


def _to_each(session: Session, verb: _Verb, task_ids: Sequence[str]) -> None:
    """Do it to each of the tasks, whatever becomes of the others, and report it."""

    async def body(queue: Queue) -> tuple[list[Task], list[str]]:
        done: list[Task] = []
        refused: list[str] = []
        for prefix in task_ids:
            try:
                done.append(await verb.one(queue, await queue.resolve(prefix)))
            except CallerError as error:
                refused.append(str(error))
        return done, refused

    done, refused = session.look(body)
    if session.as_json:
        session.emit({"number": len(done), "tasks": [task_as_dict(task) for task in done], "refused": refused})
    for task in done:
        session.say(f"{verb.done} {task.id}")
    for reason in refused:
        session.note(f"oq: {reason}")
    if refused:
        raise click.exceptions.Exit(BAD_INPUT)

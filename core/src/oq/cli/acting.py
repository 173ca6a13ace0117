"""`oq cancel`: what can be done to tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from oq.cli.session import BAD_INPUT, Session, session_options
from oq.codec import task_as_dict
from oq.errors import CallerError
from oq.task import Task

if TYPE_CHECKING:
    from oq.queue import Queue


@click.command("cancel")
@click.argument("task_ids", metavar="ID...", nargs=-1, required=True)
@session_options
def cancel(session: Session, task_ids: tuple[str, ...]) -> None:
    """Cancel tasks that are not final; a running one is stopped at once, wherever it runs."""

    async def body(queue: Queue) -> tuple[list[Task], list[str]]:
        done: list[Task] = []
        refused: list[str] = []
        for prefix in task_ids:
            try:
                done.append(await queue.cancel(await queue.resolve(prefix)))
            except CallerError as error:
                refused.append(str(error))
        return done, refused

    done, refused = session.look(body)
    if session.as_json:
        session.emit({"cancelled": [task_as_dict(task) for task in done], "refused": refused})
    for task in done:
        session.say(f"cancelled {task.id}")
    for reason in refused:
        session.note(f"oq: {reason}")
    if refused:
        raise click.exceptions.Exit(BAD_INPUT)

"""`oq wait` and `oq logs`: tasks that were handed in before."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import click

from oq.cli.session import TASK_UNSUCCESSFUL, Session, session_options
from oq.task import Status

if TYPE_CHECKING:
    from oq.queue import Queue


@click.command("wait")
@click.argument("task_ids", metavar="ID...", nargs=-1, required=True)
@click.option("--stream", is_flag=True, help="Print the output as it comes.")
@session_options
def wait(session: Session, task_ids: tuple[str, ...], *, stream: bool) -> None:
    """Wait until tasks are final, and show their results; the queue is run here if nobody else does."""
    from oq.cli.waiting import wait_for

    if stream and len(task_ids) > 1:
        raise click.UsageError("--stream goes with one ID; the output of several cannot be told apart")
    tasks = wait_for(session, session.look(_resolved(task_ids)), stream=stream)
    if any(task.status is not Status.COMPLETED for task in tasks):
        raise click.exceptions.Exit(TASK_UNSUCCESSFUL)


@click.command("logs")
@click.argument("task_id", metavar="ID")
@click.option("--follow", "-f", is_flag=True, help="Go on with what comes, until the task is final.")
@session_options
def logs(session: Session, task_id: str, *, follow: bool) -> None:
    """Print what a task has put out in its present or last run."""
    from oq.cli.waiting import print_output

    [found] = session.look(_resolved((task_id,)))
    print_output(session, found, follow=follow)


def _resolved(prefixes: tuple[str, ...]) -> Callable[[Queue], Awaitable[list[str]]]:
    async def body(queue: Queue) -> list[str]:
        return [await queue.resolve(prefix) for prefix in prefixes]

    return body

"""`oq run`: run the queue in the foreground, until a signal says stop."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
import trio

from oq.cli.rendering import first_line, harmless, number_of, when
from oq.cli.session import INTERRUPTED, Session, session_options
from oq.cli.stopping import StopRequests, stop_requests
from oq.durations import show_duration
from oq.events import Event, EventKind
from oq.task import Priority
from oq.tuning import tune_process

if TYPE_CHECKING:
    from oq.queue import Queue

_LAST_LINES = 1.0
"""Seconds to print what happened last, where the terminal is slow."""

_SHOWN = frozenset(EventKind) - {EventKind.READY, EventKind.SPARED, EventKind.DROPPED, EventKind.DELETED}


@click.command("run")
@click.option(
    "--workers", type=click.IntRange(1), help="How many tasks run at once.  [default: from the settings, or 4]"
)
@click.option("--until-idle", is_flag=True, help="Stop when nothing is left that could run.")
@click.option("--quiet", is_flag=True, help="Do not print what happens.")
@session_options
def run(session: Session, workers: int | None, *, until_idle: bool, quiet: bool) -> None:
    """Run tasks, until Ctrl-C or SIGTERM.

    The first signal lets running tasks finish for a while (`grace` in the settings) and gives back what is left; the
    second gives everything back at once. What is given back runs again next time and does not count as an attempt.
    """
    tune_process()
    count = workers or session.settings.scheduler.workers
    if trio.run(_run, session, count, until_idle, quiet):
        raise click.exceptions.Exit(INTERRUPTED)


async def _run(session: Session, workers: int, until_idle: bool, quiet: bool) -> bool:
    """Run the queue; gives whether it was told twice to stop."""
    async with stop_requests() as stop, trio.open_nursery() as printing:
        async with session.open(workers) as queue:
            session.note(f"running {session.location} with {number_of(workers, 'worker')}; Ctrl-C stops")
            if not quiet:
                await printing.start(_print_events, session, queue)
            with stop.until(1):
                if until_idle:
                    await queue.wait_idle()
                else:
                    await trio.sleep_forever()
            if stop.count:
                await stop_gently(session, queue, stop, "finishing {}; once more to give back at once")
        printing.cancel_scope.deadline = trio.current_time() + _LAST_LINES
    return stop.count > 1


async def stop_gently(session: Session, queue: Queue, stop: StopRequests, notice: str) -> None:
    """Start nothing more; let what runs finish, within the grace or until the next signal; give back what is left."""
    running = (await queue.stats()).busy
    if running:
        session.note(notice.format(number_of(running, "task")))
        with stop.until(stop.count + 1), trio.move_on_after(session.settings.scheduler.grace):
            await queue.drain()
    left = (await queue.stats()).busy
    await queue.stop(grace=0)
    if left:
        session.note(f"gave back {number_of(left, 'task')}; what was begun does not count as an attempt")


async def _print_events(
    session: Session, queue: Queue, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """Print what happens, a line each, until the queue is closed."""
    with queue.subscribe() as events:
        task_status.started()
        missed = 0
        async for first in events:
            happened = [event for event in (first, *events.receive_nowait()) if event.kind in _SHOWN]
            if session.as_json:
                await session.write("".join(session.line(event) for event in happened))
            else:
                await session.write("".join(f"{harmless(_line(event))}\n" for event in happened))
            if events.missed > missed:
                session.note(f"({events.missed - missed} events were not shown: too many at once)")
                missed = events.missed


def _line(event: Event) -> str:
    local = event.at.astimezone()
    more = ""
    if event.failure is not None and event.kind in (EventKind.FAILED, EventKind.RETRYING, EventKind.LOST):
        more = f"  {event.failure.type}: {first_line(event.failure.message)}"
    if event.kind is EventKind.RETRYING and event.due_at is not None:
        more += f"  (again in {show_duration(max(0.0, (event.due_at - event.at).total_seconds()))})"
    if event.kind is EventKind.SUBMITTED and event.due_at is not None:
        more = f"  (due {when(event.due_at, event.at)})"
    name = Priority(event.priority).name.lower()
    return f"{local:%H:%M:%S}  {event.kind:16}  {event.task_id}  {name:8}  {event.executor}/{event.action}{more}"

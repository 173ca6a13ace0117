"""`oq run`: run the queue in the foreground, until a signal says stop."""

from __future__ import annotations

import signal
import sys
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import click
import trio

from oq.cli.rendering import first_line, when
from oq.cli.session import INTERRUPTED, Session, session_options
from oq.durations import show_duration
from oq.events import Event, EventKind
from oq.task import Priority

if TYPE_CHECKING:
    from oq.queue import Queue

_SWITCH_INTERVAL = 0.0005
"""Seconds; lets the committer's thread have the interpreter soon while tasks keep it busy."""

_SHOWN = frozenset(EventKind) - {EventKind.READY, EventKind.DROPPED}


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
    sys.setswitchinterval(_SWITCH_INTERVAL)
    count = workers or session.settings.scheduler.workers
    if trio.run(_run, session, count, until_idle, quiet):
        raise click.exceptions.Exit(INTERRUPTED)


async def _run(session: Session, workers: int, until_idle: bool, quiet: bool) -> bool:
    """Run the queue; gives whether it was told twice to stop."""
    told_twice = False
    async with session.open(workers) as queue, trio.open_nursery() as nursery:
        session.note(f"running {session.location} with {workers} workers; Ctrl-C stops")
        if not quiet:
            await nursery.start(_print_events, session, queue)
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            with trio.CancelScope() as working:
                if until_idle:
                    nursery.start_soon(_cancel_when_idle, queue, working)
                await anext(signals)
            if not working.cancelled_caught:
                session.note("finishing what runs; once more to give it back at once")
                with trio.CancelScope() as patience:
                    nursery.start_soon(_cancel_at_signal, signals, patience)
                    await queue.stop()
                told_twice = patience.cancelled_caught
                await queue.stop(grace=0)
        nursery.cancel_scope.cancel()
    return told_twice


async def _cancel_when_idle(queue: Queue, scope: trio.CancelScope) -> None:
    await queue.wait_idle()
    scope.cancel()


async def _cancel_at_signal(signals: AsyncIterator[int], scope: trio.CancelScope) -> None:
    await anext(signals)
    scope.cancel()


async def _print_events(
    session: Session, queue: Queue, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """Print what happens, a line each, until cancelled."""
    with queue.subscribe() as events:
        task_status.started()
        missed = 0
        async for event in events:
            if event.kind not in _SHOWN:
                continue
            if session.as_json:
                session.emit_line(event)
            else:
                session.say(_line(event))
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

"""Waits for tasks: hands them in, runs the queue where nobody else does, and gives back what runs when told to stop."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import click
import trio
from attrs import Factory, define, field

from oq.cli.printing import Printer
from oq.cli.rendering import finished_line, harmless, number_of, retry_line
from oq.cli.running import stop_gently
from oq.cli.session import INTERRUPTED, Session, cause_of
from oq.cli.stopping import StopRequests, stop_requests
from oq.clock import wall_clock
from oq.codec import task_as_dict, to_json
from oq.events import EventKind
from oq.hub import EventFilter, Subscription
from oq.task import Status, Task, TaskSpec

if TYPE_CHECKING:
    from oq.queue import Queue

_FOLLOWERS = 50
"""How many tasks are watched at once, since each change by another process is looked into for every one of them."""

_RETRIES = EventFilter(kinds=frozenset({EventKind.RETRYING}))

_LOOK_EVERY = 0.5
"""Seconds between two looks at whether the process that runs the queue still does."""


def submit_and_wait(session: Session, specs: Sequence[TaskSpec], *, stream: bool) -> list[Task]:
    """Store the tasks, wait until they are final, and show their results; gives them in the order of `specs`.

    Ends the command when a signal comes before that.
    """
    return _wait(_Waiting(session, specs, stream))


def wait_for(session: Session, ids: Sequence[str], *, stream: bool) -> list[Task]:
    """The same for tasks that are in the store already."""
    return _wait(_Waiting(session, (), stream, list(ids)))


def print_output(session: Session, task_id: str, *, follow: bool) -> None:
    """Print what the task has put out, and with `follow` what comes, until it is final or a signal comes."""
    printer = Printer(session)

    async def main() -> bool:
        async with stop_requests() as stop, session.open(workers=0) as queue:
            with stop.until(1):
                await printer.follow(queue, task_id, follow=follow)
            return bool(stop.count)

    interrupted = trio.run(main)
    printer.end_line()
    if interrupted:
        raise click.exceptions.Exit(INTERRUPTED)


def _wait(waiting: _Waiting) -> list[Task]:
    try:
        trio.run(waiting.run)
    except BaseExceptionGroup as group:
        raise cause_of(group) from None
    if waiting.unread:
        raise click.exceptions.Exit(0)
    if not waiting.over:
        raise click.exceptions.Exit(INTERRUPTED)
    return waiting.tasks


@define
class _Waiting:
    """One wait, which may outlive the process that runs the queue."""

    session: Session
    specs: Sequence[TaskSpec]
    stream: bool
    ids: list[str] | None = None
    """None as long as nothing is stored."""
    finals: dict[str, Task] = field(factory=dict)
    unread: bool = False
    """Whether whoever read the output has gone."""
    _printer: Printer = field(default=Factory(lambda self: Printer(self.session), takes_self=True))

    @property
    def over(self) -> bool:
        return self.ids is not None and all(task_id in self.finals for task_id in self.ids)

    @property
    def tasks(self) -> list[Task]:
        return [self.finals[task_id] for task_id in self.ids or ()]

    async def run(self) -> None:
        """Wait until all is over or a signal comes."""
        async with stop_requests() as stop:
            while True:  # once for each process that runs the queue meanwhile
                async with self.session.open_or_watch() as queue:
                    with stop.until(1):
                        await self._follow_all(queue, stop)
                    self._printer.end_line()
                    if self.over:
                        self._show_results(queue)
                        await stop_gently(self.session, queue, stop, "finishing {} besides; Ctrl-C gives back at once")
                        return
                    if stop.count:
                        runs_here = queue.is_running
                        await queue.stop(grace=0)
                        await self._say_how_to_go_on(queue, runs_here=runs_here)
                        return

    async def _follow_all(self, queue: Queue, stop: StopRequests) -> None:
        """Return when all tasks are final, or when nobody runs the queue any more."""
        with queue.subscribe(_RETRIES) as retries:
            if self.ids is None:
                self.ids = [handle.id for handle in await queue.submit_many(self.specs)]
            left = iter([task_id for task_id in dict.fromkeys(self.ids) if task_id not in self.finals])
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._tell, retries)
                if not queue.is_running:
                    self.session.note(f"{queue.run_by() or 'another process'} runs this queue; waiting for it")
                    nursery.start_soon(_cancel_when_nobody_runs, queue, nursery.cancel_scope)
                async with trio.open_nursery() as followers:
                    for _ in range(_FOLLOWERS):
                        followers.start_soon(self._follow, queue, stop, left)
                nursery.cancel_scope.cancel()

    async def _follow(self, queue: Queue, stop: StopRequests, left: Iterator[str]) -> None:
        """Wait for one after the other of the tasks that are left."""
        for task_id in left:
            try:
                if self.stream:
                    await self._printer.follow(queue, task_id)
                self.finals[task_id] = task = await queue.wait(task_id)
                if not self.stream:
                    self.session.say(finished_line(task))
            except BrokenPipeError:
                self.unread = True
                stop.ask()

    async def _tell(self, retries: Subscription) -> None:
        """Say what went wrong with attempts that will be repeated; whoever waits wants to know why it takes so long."""
        wanted = frozenset(self.ids or ())
        async for event in retries:
            if event.failure is not None and event.task_id in wanted:
                self._printer.end_line()
                self.session.note(retry_line(event, event.failure, wall_clock()))

    def _show_results(self, queue: Queue) -> None:
        tasks = self.tasks
        if self.session.as_json:
            if self.stream:
                click.echo(self.session.line(task_as_dict(tasks[0])), nl=False)
            else:
                self._emit(tasks)
        elif len(tasks) == 1:
            [task] = tasks
            if self.stream:
                self.session.note(finished_line(task))
            elif task.result is not None:
                _print_result(_shown(queue, task))
        elif tasks:
            counts = ", ".join(
                f"{number} {status}" for status in Status if (number := sum(t.status is status for t in tasks))
            )
            self.session.say(f"{len(tasks)} tasks: {counts}")

    def _emit(self, tasks: Sequence[Task]) -> None:
        shown = [task_as_dict(task) for task in tasks]
        self.session.emit(shown[0] if len(shown) == 1 else shown)

    async def _say_how_to_go_on(self, queue: Queue, *, runs_here: bool) -> None:
        """Tell what becomes of the tasks, after a signal."""
        if self.unread and not runs_here:
            return
        if self.ids is None:
            self.session.note("interrupted; nothing was stored")
            return
        tasks = [await queue.get(task_id) for task_id in self.ids]
        if self.session.as_json and not self.stream:
            self._emit(tasks)
        command = self.session.command
        left = [task.id for task in tasks if not task.final]
        if not left:
            return
        if len(left) == 1:
            what, look, end = left[0], command("status", left[0]), command("cancel", left[0])
        else:
            what, look, end = number_of(len(left), "task"), command("list"), command("cancel", left[0])
        if runs_here:
            self.session.note(f"interrupted; given back to the queue: {what}")
            self.session.note(f"{command('run')} goes on, {look} shows how it stands")
        else:
            self.session.note(f"interrupted; left to {queue.run_by() or 'whoever runs the queue next'}: {what}")
            self.session.note(f"{look} shows how it stands, {end} ends it")


async def _cancel_when_nobody_runs(queue: Queue, scope: trio.CancelScope) -> None:
    """Whoever ran the queue may be killed at any moment, and leaves no message then."""
    while queue.run_by() is not None:  # noqa: ASYNC110  # it is the kernel that knows
        await trio.sleep(_LOOK_EVERY)
    scope.cancel()


def _shown(queue: Queue, task: Task) -> object:
    """What of the result is for people; the result itself where nobody says or can say."""
    try:
        show = queue.executors.action(task.executor, task.action).show
        return task.result if show is None else show(task.result)
    except Exception:  # noqa: BLE001  # the executor is gone, or it is an older form of its result
        return task.result


def _print_result(result: object) -> None:
    """A text as it is where a program reads it; all else, and all that goes to a terminal, so that it does no harm."""
    if not isinstance(result, str):
        click.echo(harmless(to_json(result, pretty=True)))
    else:
        click.echo(harmless(result) if sys.stdout.isatty() else result)

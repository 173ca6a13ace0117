"""What the `submit` commands share: the options of every task, and what happens after it is stored."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import update_wrapper
from typing import TYPE_CHECKING, Any, TypeVar

import attrs
import click
from attrs import frozen

from oq.cli.rendering import finished_line, summary_of
from oq.cli.session import TASK_UNSUCCESSFUL, Session, session_options
from oq.codec import parse_moment, task_as_dict, to_json
from oq.durations import parse_duration
from oq.task import Priority, Status, Task, TaskSpec

if TYPE_CHECKING:
    from oq.handle import TaskHandle
    from oq.queue import Queue

F = TypeVar("F", bound=Callable[..., Any])


class Parsed(click.ParamType[Any]):
    """A value that a function reads, raising ValueError with a sentence."""

    def __init__(self, name: str, parse: Callable[[str], object]) -> None:
        self.name = name
        self._parse = parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        try:
            return self._parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


PRIORITY = Parsed("priority", Priority.parse)
MOMENT = Parsed("moment", parse_moment)
DURATION = Parsed("duration", parse_duration)


@frozen(kw_only=True)
class SubmitOptions:
    """The options that every `submit` command takes."""

    session: Session
    priority: Priority
    in_queue: str | None
    lane: str | None
    tag: tuple[str, ...]
    id: str | None
    delay: float | None
    run_at: datetime | None
    expires_at: datetime | None
    timeout: float | None
    attempts: int | None
    unique_key: str | None
    after: tuple[str, ...]
    wait: bool
    stream: bool

    def submit(self, spec: TaskSpec) -> None:
        """Hand the task in with these options, report it, and wait for it if that was asked for."""
        changes: dict[str, Any] = {
            "priority": self.priority,
            "lane": self.lane,
            "tags": self.tag,
            "id": self.id,
            "delay": self.delay,
            "run_at": self.run_at,
            "expires_at": self.expires_at,
            "timeout": self.timeout,
            "unique_key": self.unique_key,
            "after": self.after,
        }
        if self.in_queue is not None:
            changes["queue"] = self.in_queue
        if self.attempts is not None:
            changes["retry"] = attrs.evolve(self.session.settings.retry, max_attempts=self.attempts)
        submit_all(self.session, [attrs.evolve(spec, **changes)], wait=self.wait or self.stream, stream=self.stream)


_TASK_OPTIONS = (
    click.option("--priority", type=PRIORITY, default="normal", show_default=True, help="low, normal, high, critical."),
    click.option("--in-queue", metavar="NAME", help="The named queue that the task belongs to."),
    click.option("--lane", metavar="NAME", help="The lane within executor and queue."),
    click.option("--tag", multiple=True, help="May be given several times."),
    click.option("--id", metavar="ID", help="An id of your choosing."),
    click.option("--delay", type=DURATION, help="Start no sooner than this from now, such as 90, 5m or 2h."),
    click.option("--run-at", "--scheduled-at", type=MOMENT, help="Start no sooner than 2026-01-31T09:00:00Z."),
    click.option("--expires-at", type=MOMENT, help="Fail if it has not started by then."),
    click.option("--timeout", type=DURATION, help="How long one attempt may take."),
    click.option("--attempts", type=click.IntRange(1), help="How many attempts in all."),
    click.option("--unique-key", metavar="KEY", help="Do nothing while another task with this key is not final."),
    click.option("--after", metavar="ID", multiple=True, help="Start when this task has completed; repeatable."),
    click.option("--wait", is_flag=True, help="Wait for the result, and run the queue if nobody else does."),
    click.option("--stream", is_flag=True, help="Print the output as it comes, and wait."),
)


def submit_options(command: F) -> F:
    """Let a `submit` command take the options of every task, as one argument `options`."""

    def wrapper(session: Session, /, **kwargs: Any) -> Any:
        own = {field.name for field in attrs.fields(SubmitOptions)} - {"session"}
        options = SubmitOptions(session=session, **{name: kwargs.pop(name) for name in own})
        return command(options=options, **kwargs)

    wrapped: Any = session_options(update_wrapper(wrapper, command))
    for option in reversed(_TASK_OPTIONS):
        wrapped = option(wrapped)
    return wrapped  # type: ignore[no-any-return]  # click's decorators keep the callable but not its type


def submit_all(session: Session, specs: Sequence[TaskSpec], *, wait: bool, stream: bool = False) -> None:
    """Store the tasks, all or none; then report them, or wait and show their results."""
    import trio

    if not wait:
        _report(session, session.client(lambda queue: _store(queue, specs)))
        return
    tasks = trio.run(_store_and_wait, session, specs, stream)
    if any(task.status is not Status.COMPLETED for task in tasks):
        raise click.exceptions.Exit(TASK_UNSUCCESSFUL)


async def _store(queue: Queue, specs: Sequence[TaskSpec]) -> tuple[list[tuple[Task, bool]], str | None]:
    handles = await queue.submit_many(specs)
    return [(await handle.refresh(), handle.duplicate) for handle in handles], queue.run_by()


def _report(session: Session, stored: tuple[list[tuple[Task, bool]], str | None]) -> None:
    """Say what was stored, and who will run it."""
    tasks, runner = stored
    if session.as_json:
        shown = [task_as_dict(task) | {"duplicate": duplicate} for task, duplicate in tasks]
        session.emit(shown[0] if len(shown) == 1 else shown)
        return
    for task, duplicate in tasks:
        known = "already there: " if duplicate else ""
        session.say(f"{known}{task.id}  {summary_of(task)}")
    if runner is None:
        where = f" --queue {session.queue}" if session.queue else ""
        session.note(f"stored; nobody runs this queue now, so start `oq{where} run`")


async def _store_and_wait(session: Session, specs: Sequence[TaskSpec], stream: bool) -> list[Task]:
    """Store the tasks and wait until they are final, running the queue here unless another process does."""
    import trio

    finals: dict[str, Task] = {}

    async def follow(handle: TaskHandle) -> None:
        if stream:
            await _print_stream(session, handle)
        finals[handle.id] = task = await handle.wait()
        if not stream:
            session.say(finished_line(task))

    async with session.open_to_wait() as queue:
        handles = await queue.submit_many(specs)
        async with trio.open_nursery() as nursery:
            for handle in handles:
                nursery.start_soon(follow, handle)
        await queue.stop(grace=0)
    tasks = [finals[handle.id] for handle in handles]
    _show_results(session, tasks, streamed=stream)
    return tasks


async def _print_stream(session: Session, handle: TaskHandle) -> None:
    async with handle.stream() as chunks:
        async for chunk in chunks:
            if session.as_json:
                session.emit_line(chunk)
            else:
                click.echo(chunk.text, nl=False, err=getattr(chunk, "kind", "") == "stderr")
                sys.stdout.flush()


def _show_results(session: Session, tasks: Sequence[Task], *, streamed: bool) -> None:
    if session.as_json:
        shown = [task_as_dict(task) for task in tasks]
        if streamed:
            session.emit_line(shown[0])
        else:
            session.emit(shown[0] if len(shown) == 1 else shown)
    elif len(tasks) == 1:
        [task] = tasks
        if streamed:
            session.note(finished_line(task))
        elif task.result is not None:
            session.say(task.result if isinstance(task.result, str) else to_json(task.result, pretty=True))
    else:
        counts = ", ".join(
            f"{number} {status}" for status in Status if (number := sum(t.status is status for t in tasks))
        )
        session.say(f"{len(tasks)} tasks: {counts}")

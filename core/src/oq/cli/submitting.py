"""What the `submit` commands share: the options of every task, and what happens after it is stored."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import update_wrapper
from typing import TYPE_CHECKING, Any, TypeVar

import attrs
import click
from attrs import frozen

from oq.cli.rendering import summary_of
from oq.cli.session import TASK_UNSUCCESSFUL, Session, session_options
from oq.codec import parse_moment, task_as_dict
from oq.durations import parse_duration
from oq.errors import InvalidTask, Problem
from oq.task import Priority, Status, Task, TaskSpec

if TYPE_CHECKING:
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
        except (ValueError, OverflowError) as error:
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
        specs = [attrs.evolve(spec, **changes)]
        try:
            submit_all(self.session, specs, wait=self.wait or self.stream, stream=self.stream)
        except InvalidTask as error:
            command = click.get_current_context().command
            raise InvalidTask([_in_options(problem, command) for problem in error.problems]) from None


_OPTION_OF = {"queue": "in_queue", "tags": "tag"}
"""The parameters of fields that have another name than their option."""

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


def read_standard_input() -> str:
    """All that is piped in; raises ValueError with a sentence when it is not UTF-8."""
    try:
        return sys.stdin.buffer.read().decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"standard input is not UTF-8: {error.reason} at byte {error.start}") from None


def submit_all(session: Session, specs: Sequence[TaskSpec], *, wait: bool, stream: bool = False) -> None:
    """Store the tasks, all or none; then report them, or wait and show their results."""
    if not wait:
        _report(session, *session.client(lambda queue: _store(queue, specs)))
        return
    from oq.cli.waiting import submit_and_wait

    tasks = submit_and_wait(session, specs, stream=stream)
    if any(task.status is not Status.COMPLETED for task in tasks):
        raise click.exceptions.Exit(TASK_UNSUCCESSFUL)


async def _store(queue: Queue, specs: Sequence[TaskSpec]) -> tuple[list[tuple[Task, bool]], str | None]:
    handles = await queue.submit_many(specs)
    return [(await handle.refresh(), handle.duplicate) for handle in handles], queue.run_by()


def _report(session: Session, tasks: Sequence[tuple[Task, bool]], runner: str | None) -> None:
    """Say what was stored, and who will run it."""
    if session.as_json:
        shown = [task_as_dict(task) | {"duplicate": duplicate} for task, duplicate in tasks]
        session.emit(shown[0] if len(shown) == 1 else shown)
        return
    for task, duplicate in tasks:
        known = "already there: " if duplicate else ""
        session.say(f"{known}{task.id}  {summary_of(task)}")
    if runner is None:
        session.note(f"stored; nobody runs this queue now, so start {session.command('run')}")


def _in_options(problem: Problem, command: click.Command) -> Problem:
    """The same problem, with the path as the option that was given."""
    field = problem.path.removeprefix("tasks[0].").removeprefix("payload.")
    name, rest = re.fullmatch(r"(\w*)(.*)", field, re.DOTALL).groups()  # type: ignore[union-attr]  # it fits every text
    for parameter in command.params:
        if parameter.name in (name, _OPTION_OF.get(name)) and isinstance(parameter, click.Option):
            return Problem(max(parameter.opts, key=len) + rest.replace(".", " ", 1), problem.message)
    return Problem(field, problem.message)

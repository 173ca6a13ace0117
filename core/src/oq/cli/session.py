"""What every command shares: which queue is meant, how to print, and how errors end a command."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import update_wrapper
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from attrs import define

from oq.codec import to_json
from oq.config import Settings, load_settings
from oq.errors import StoreFormat
from oq.plugins import Plugins, load_plugins

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from oq.queue import Queue

T = TypeVar("T")

TASK_UNSUCCESSFUL = 1
"""Exit code: a task that was waited for did not complete, or a check found something."""
BAD_INPUT = 2
"""Exit code: the command's arguments, or a task in them, are wrong. click uses the same."""
BROKEN = 3
"""Exit code: the store, a plugin or a setting stands in the way."""
INTERRUPTED = 130
"""Exit code: Ctrl-C."""


@define
class Session:
    """One run of the command line."""

    queue: str | None = None
    config: str | None = None
    output: str = "table"
    debug: bool = False
    _settings: Settings | None = None
    _plugins: Plugins | None = None

    @property
    def as_json(self) -> bool:
        return self.output == "json"

    @property
    def settings(self) -> Settings:
        """The settings; raises InvalidSettings."""
        if self._settings is None:
            self._settings = load_settings(self.config)
        return self._settings

    @property
    def plugins(self) -> Plugins:
        """The plugins; raises PluginError."""
        if self._plugins is None:
            self._plugins = load_plugins(self.settings.plugins.disabled)
        return self._plugins

    @property
    def location(self) -> str:
        """Which queue is meant."""
        return self.queue or self.settings.queue.path

    def open(self, workers: int) -> AbstractAsyncContextManager[Queue]:
        """Open the queue that is meant."""
        from oq.opening import open_queue

        return open_queue(self.location, workers=workers, settings=self.settings, plugins=self.plugins)

    @asynccontextmanager
    async def open_to_wait(self) -> AsyncIterator[Queue]:
        """Open the queue and run it here, or, when another process runs it, just watch."""
        from oq.opening import open_queue

        async with open_queue(
            self.location, settings=self.settings, plugins=self.plugins, if_run_elsewhere="watch"
        ) as queue:
            if not queue.is_running:
                self.note(f"{queue.run_by()} runs this queue; waiting for it")
            yield queue

    def look(self, body: Callable[[Queue], Awaitable[T]]) -> T:
        """Run `body` with a queue that must be there already."""
        self.require_queue()
        return self.client(body)

    def require_queue(self) -> None:
        """Raise StoreFormat when the directory that is meant holds no queue, rather than make one."""
        if "://" not in self.location and not Path(self.location).is_dir():
            raise StoreFormat(self.location, "there is no queue; `oq submit` makes one, --queue names another")

    def client(self, body: Callable[[Queue], Awaitable[T]]) -> T:
        """Run `body` with the queue opened only to look and to submit."""
        import trio

        async def main() -> T:
            async with self.open(workers=0) as queue:
                return await body(queue)

        return trio.run(main)

    def say(self, text: str) -> None:
        """A line for people; programs that asked for JSON do not get it."""
        if not self.as_json:
            click.echo(text)

    def note(self, text: str) -> None:
        """A line beside the output."""
        click.echo(text, err=True)

    def emit(self, value: object) -> None:
        """A value for programs."""
        click.echo(to_json(value, pretty=True))

    def emit_line(self, value: object) -> None:
        """One of several values for programs, as a line of its own."""
        click.echo(to_json(value))
        sys.stdout.flush()


F = TypeVar("F", bound=Callable[..., Any])

_OPTIONS: tuple[tuple[str, Callable[[F], F]], ...] = (
    (
        "queue",
        click.option("--queue", "--data-dir", metavar="WHERE", help="A directory or store URL.  [env: OQ_QUEUE]"),
    ),
    ("config", click.option("--config", metavar="FILE", help="The settings file.  [default: oq.toml, if it is there]")),
    ("output", click.option("--output", type=click.Choice(["table", "json"]), help="For people or for programs.")),
    ("debug", click.option("--debug", is_flag=True, default=None, help="Show tracebacks.")),
)


def session_options(command: F) -> F:
    """Let a command take the options that every command has, and hand it the session as its first argument."""

    @click.pass_obj
    def wrapper(session: Session, /, *args: Any, **kwargs: Any) -> Any:
        for name, _ in _OPTIONS:
            value = kwargs.pop(name)
            if value is not None:
                setattr(session, name, value)
        return command(session, *args, **kwargs)

    wrapped: Any = update_wrapper(wrapper, command)
    for _, option in reversed(_OPTIONS):
        wrapped = option(wrapped)
    return wrapped  # type: ignore[no-any-return]  # click's decorators keep the callable but not its type

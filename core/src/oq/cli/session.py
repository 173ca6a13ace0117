"""What every command shares: which queue is meant, how to print, and how errors end a command."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Awaitable, Callable
from functools import update_wrapper
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from attrs import define, field

from oq.cli.rendering import harmless, harmless_json
from oq.codec import to_json
from oq.config import Settings, load_settings
from oq.errors import OqError, StoreFormat
from oq.plugins import GROUP, Plugins, load_plugins

if TYPE_CHECKING:
    import logging
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
"""Exit code: a signal ended the command before it was done."""


@define
class Session:
    """One run of the command line."""

    queue: str | None = None
    config: str | None = None
    output: str = "table"
    debug: bool = False
    _settings: Settings | None = None
    _plugins: Plugins | None = None
    _noted: set[str] = field(factory=set)
    _log: logging.Handler | None = None

    def choose(self, option: str, value: Any) -> None:
        """Take note of an option that every command has."""
        setattr(self, option, value)
        if option in ("config", "queue"):
            self._settings = None
        if option == "config":
            self._plugins = None

    @property
    def as_json(self) -> bool:
        return self.output == "json"

    @property
    def settings(self) -> Settings:
        """The settings; raises InvalidSettings."""
        if self._settings is None:
            arguments = {} if self.queue is None else {"queue.path": self.queue}
            self._settings = load_settings(self.config, arguments=arguments)
            for note in self._settings.notes:
                if note not in self._noted:
                    self._noted.add(note)
                    self.note(f"oq: {note}")
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
        return self.queue or str(self.settings.queue.path)

    def command(self, *words: str) -> str:
        """Another command for the same queue, as a person would type it."""
        options = [("--config", self.config), ("--queue", self.queue)]
        chosen = [part for option, value in options if value is not None for part in (option, value)]
        return f"`{shlex.join(['oq', *words[:1], *chosen, *words[1:]])}`"

    def open(self, workers: int) -> AbstractAsyncContextManager[Queue]:
        """Open the queue that is meant."""
        from oq.opening import open_queue

        self._refuse_file()
        self._start_logging()
        return open_queue(self.location, workers=workers, settings=self.settings, plugins=self.plugins)

    def open_or_watch(self) -> AbstractAsyncContextManager[Queue]:
        """Open the queue and run it here, or, when another process runs it, just watch."""
        from oq.opening import open_queue

        self._refuse_file()
        self._start_logging()
        return open_queue(self.location, settings=self.settings, plugins=self.plugins, if_run_elsewhere="watch")

    def look(self, body: Callable[[Queue], Awaitable[T]]) -> T:
        """Run `body` with a queue that must be there already."""
        self.require_queue()
        return self.client(body)

    def require_queue(self) -> None:
        """Raise StoreFormat when the directory that is meant holds no queue, rather than make one."""
        from oq.store.lmdb.environment import DATA_FILE

        self._refuse_file()
        directory = self._directory()
        if directory is None:
            return
        try:
            (directory / DATA_FILE).stat()
        except PermissionError as error:
            raise StoreFormat(self.location, f"{error.strerror}: {error.filename}") from None
        except OSError:
            raise StoreFormat(
                self.location, "there is no queue; `oq submit` makes one, --queue names another"
            ) from None

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
            click.echo(harmless(text))

    def note(self, text: str) -> None:
        """A line beside the output."""
        click.echo(harmless(text), err=True)

    def emit(self, value: object) -> None:
        """A value for programs."""
        click.echo(harmless_json(to_json(value, pretty=True)))

    def line(self, value: object) -> str:
        """One of several values for programs, as a line of its own."""
        return harmless_json(to_json(value)) + "\n"

    async def write(self, text: str, *, err: bool = False) -> None:
        """Print `text` as it is, and let the queue go on meanwhile: a terminal takes nothing while Ctrl-S holds it."""
        import trio

        await trio.to_thread.run_sync(_write, text, err, abandon_on_cancel=True)

    def close(self) -> None:
        """Log no more."""
        if self._log is not None:
            from oq.cli.logs import stop_logging

            stop_logging(self._log)
            self._log = None

    def _start_logging(self) -> None:
        """Log what oq and its plugins say, as the settings say."""
        if self._log is None:
            from oq.cli.logs import start_logging

            packages = {"oq", *(entry.module.partition(".")[0] for entry in entry_points(group=GROUP))}
            try:
                self._log = start_logging(self.settings.logging, packages)
            except OSError as error:
                file = self.settings.logging.file
                raise self.settings.error("logging.file", f"cannot write to {file}: {error.strerror}") from None

    def _directory(self) -> Path | None:
        """The directory that is meant, if it is one."""
        scheme, separator, rest = self.location.rpartition("://")
        return Path(rest) if not separator or scheme == "lmdb" else None

    def _refuse_file(self) -> None:
        directory = self._directory()
        if directory is not None and os.path.exists(directory) and not os.path.isdir(directory):  # noqa: PTH110, PTH112  # pathlib's raise where nobody may look
            raise StoreFormat(self.location, "it is a file, and a queue is a directory; --queue names another")


def _write(text: str, err: bool) -> None:
    """Write past Python's buffers, whose locks would keep the program from ending while the terminal takes nothing."""
    stream = sys.stderr if err else sys.stdout
    try:
        descriptor = stream.fileno()
    except (OSError, ValueError):  # no file, as in tests
        click.echo(text, nl=False, err=err)
        return
    data = memoryview(text.encode(stream.encoding or "utf-8", "backslashreplace"))
    while data:
        data = data[os.write(descriptor, data) :]


def cause_of(error: BaseException) -> BaseException:
    """The error, or of those that came together in a group the one that says most; trio wraps each in groups."""
    if not isinstance(error, BaseExceptionGroup):
        return error
    causes = [cause_of(inner) for inner in error.exceptions]
    return min(causes, key=lambda cause: (not isinstance(cause, KeyboardInterrupt), not isinstance(cause, OqError)))


F = TypeVar("F", bound=Callable[..., Any])


def _choose(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    """Tell the session at once, so that commands are looked up with the settings that are meant."""
    if value is None:
        return
    if value == "":
        raise click.BadParameter("it is empty; leave it out for the default", context, parameter)
    assert parameter.name is not None
    context.ensure_object(Session).choose(parameter.name, value)


_OPTIONS: tuple[Callable[[F], F], ...] = tuple(
    click.option(*names, expose_value=False, callback=_choose, **how)
    for names, how in (
        (("--queue", "--data-dir"), {"metavar": "WHERE", "help": "A directory or store URL.  [env: OQ_QUEUE]"}),
        (("--config",), {"metavar": "FILE", "help": "The settings file.  [default: the first that is found]"}),
        (("--output",), {"type": click.Choice(["table", "json"]), "help": "For people or for programs."}),
        (("--debug",), {"is_flag": True, "default": None, "help": "Show tracebacks."}),
    )
)


def session_options(command: F) -> F:
    """Let a command take the options that every command has, and hand it the session as its first argument."""

    @click.pass_context
    def wrapper(context: click.Context, /, *args: Any, **kwargs: Any) -> Any:
        return command(context.ensure_object(Session), *args, **kwargs)

    wrapped: Any = update_wrapper(wrapper, command)
    for option in reversed(_OPTIONS):
        wrapped = option(wrapped)
    return wrapped  # type: ignore[no-any-return]  # click's decorators keep the callable but not its type

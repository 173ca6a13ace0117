"""The entry point of `oq`: finds the command, runs it, and turns errors into one line and an exit code."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, cast

import click

from oq._version import __version__
from oq.cli.rendering import harmless
from oq.cli.session import BAD_INPUT, BROKEN, INTERRUPTED, Session, cause_of, session_options
from oq.errors import CallerError, InvalidSettings, OqError, PluginError
from oq.hookspecs import CliCommand

if TYPE_CHECKING:
    from oq.errors import _WithProblems

BUILT_IN = (
    CliCommand(path=("submit",), summary="Hand in tasks.", load=""),
    CliCommand(path=("submit", "batch"), summary="Hand in all tasks of a file.", load="oq.cli.batches:batch"),
    CliCommand(path=("submit", "chat"), summary="Let a model answer a conversation.", load="oq.cli.prompting:chat"),
    CliCommand(path=("submit", "generate"), summary="Let a model continue a text.", load="oq.cli.prompting:generate"),
    CliCommand(path=("submit", "embed"), summary="Turn texts into vectors.", load="oq.cli.prompting:embed"),
    CliCommand(path=("submit", "generic"), summary="Hand in a task of any executor.", load="oq.cli.generic:generic"),
    CliCommand(path=("run",), summary="Run tasks, until told to stop.", load="oq.cli.running:run"),
    CliCommand(path=("list",), summary="List tasks, newest first.", load="oq.cli.looking:list_tasks"),
    CliCommand(path=("status",), summary="Show the queue, or one task.", load="oq.cli.looking:status"),
    CliCommand(path=("wait",), summary="Wait for tasks, and show their results.", load="oq.cli.following:wait"),
    CliCommand(path=("logs",), summary="Print what a task puts out.", load="oq.cli.following:logs"),
    CliCommand(path=("cancel",), summary="Cancel tasks.", load="oq.cli.acting:cancel"),
    CliCommand(path=("priority",), summary="Change how urgent tasks are.", load="oq.cli.acting:priority"),
    CliCommand(path=("retry",), summary="Run failed or cancelled tasks again.", load="oq.cli.acting:retry"),
    CliCommand(path=("delete",), summary="Remove final tasks.", load="oq.cli.acting:delete"),
    CliCommand(path=("export",), summary="Write tasks and results to a file.", load="oq.cli.exporting:export"),
    CliCommand(path=("pause",), summary="Start no more tasks.", load="oq.cli.controlling:pause"),
    CliCommand(path=("resume",), summary="Start tasks again.", load="oq.cli.controlling:resume"),
    CliCommand(path=("stats",), summary="Show the queue in numbers.", load="oq.cli.looking:stats"),
    CliCommand(path=("completion",), summary="Print a shell's completion script.", load="oq.cli.completing:completion"),
    CliCommand(path=("plugins",), summary="Show what is installed.", load="oq.cli.looking:plugins"),
    CliCommand(
        path=("config",), summary="Show every setting and where it comes from.", load="oq.cli.configuring:config"
    ),
    CliCommand(path=("check",), summary="Look for damage in the store.", load="oq.cli.checking:check"),
)

_OWN = {command.path: command for command in BUILT_IN}

_PACKAGES = {
    "script": "oq-script",
    "http": "oq-http",
}
"""Which of oq's own packages brings a kind of task; a name that is not here may be anybody's, so none is advised."""


class LazyGroup(click.Group):
    """A group whose commands are imported when they are used."""

    def __init__(self, path: tuple[str, ...] = (), **options: Any) -> None:
        super().__init__(**options)
        self._path = path

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self._commands(ctx))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        path = (*self._path, cmd_name)
        command = _OWN.get(path) or self._commands(ctx).get(cmd_name)  # our own work whatever is wrong with plugins
        if command is None:
            return None
        if not command.load:
            return _group(command, path)
        module, _, attribute = command.load.partition(":")
        try:
            return cast("click.Command", getattr(import_module(module), attribute))
        except (ImportError, AttributeError) as error:
            raise PluginError(f"the command 'oq {' '.join(path)}' cannot be loaded: {error}") from error

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the summaries without importing the commands."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, command.summary) for name, command in self._commands(ctx).items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError:
            if self._path == ("submit",) and args and not args[0].startswith("-"):
                self._fail_to_submit(ctx, args[0])
            raise

    def _commands(self, ctx: click.Context) -> Mapping[str, CliCommand]:
        brought = ctx.ensure_object(Session).plugins.cli_commands()
        for path in _OWN.keys() & brought.keys():
            raise PluginError(f"{brought[path].load} wants to be the command 'oq {' '.join(path)}', which is oq's own")
        depth = len(self._path)
        return {
            path[depth]: command
            for path, command in sorted((_OWN | brought).items())
            if len(path) == depth + 1 and path[:depth] == self._path
        }

    def _fail_to_submit(self, ctx: click.Context, kind: str) -> None:
        """End with what to do to submit tasks of this kind."""
        known = ", ".join(self._commands(ctx))
        package = _PACKAGES.get(kind)
        if package is None:
            ctx.fail(f"no installed package brings 'submit {kind}' (there are: {known})")
        infos = ctx.ensure_object(Session).plugins.infos()
        if any(info.distribution == package and not info.enabled for info in infos):
            ctx.fail(f"'submit {kind}' comes from {package}, which is disabled by OQ_DISABLED_PLUGINS or the settings")
        ctx.fail(f"'submit {kind}' comes from {package}, which is not installed; try pip install {package}")


def _group(command: CliCommand, path: tuple[str, ...]) -> click.Command:
    """The group that holds the commands below `path`; it takes the options that every command has."""

    @session_options
    def nothing(session: Session) -> None: ...

    return click.command(name=path[-1], cls=LazyGroup, path=path, help=command.summary)(nothing)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="oq")
@session_options
def main(session: Session) -> None:
    """A durable, priority-ordered queue for models, scripts, HTTP calls and functions."""


def run(arguments: list[str] | None = None) -> None:
    """Run the command line and exit."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal that has no ✓ is no reason to fail
    session = Session()
    try:
        code = main.main(arguments, prog_name="oq", obj=session, standalone_mode=False) or 0
    except BaseException as error:  # noqa: BLE001  # the last stop: no traceback reaches a user who did not ask for it
        code = _end(cause_of(error), session)
    finally:
        session.close()
    sys.exit(code)


def _end(error: BaseException, session: Session) -> int:
    """Say what went wrong; gives the exit code."""
    match error:
        case click.ClickException():
            error.show()
            return error.exit_code
        case click.Abort() | KeyboardInterrupt():
            click.echo("interrupted", err=True)
            return INTERRUPTED
        case OqError():
            _show(error, session)
            return BAD_INPUT if isinstance(error, CallerError) and not isinstance(error, InvalidSettings) else BROKEN
        case BrokenPipeError():  # whoever read our output has enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or Python would complain when it writes what is left
            return 0
        case OSError() if not session.debug:
            click.echo(f"oq: {harmless(str(error))}", err=True)
            return BROKEN
        case Exception() if not session.debug:
            click.echo(f"oq: {type(error).__name__}: {error} (this is a defect; --debug shows where)", err=True)
            return BROKEN
        case _:
            raise error


def _show(error: OqError, session: Session) -> None:
    if session.debug:
        import traceback

        traceback.print_exception(error)
    problems = cast("_WithProblems", error).problems if hasattr(error, "problems") else [error]
    for problem in problems:
        click.echo(f"oq: {harmless(str(problem))}", err=True)

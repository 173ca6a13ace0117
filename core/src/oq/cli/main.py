"""The entry point of `oq`: finds the command, runs it, and turns errors into one line and an exit code."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, cast

import click

from oq._version import __version__
from oq.cli.session import BAD_INPUT, BROKEN, INTERRUPTED, Session, session_options
from oq.errors import CallerError, InvalidSettings, OqError
from oq.hookspecs import CliCommand

if TYPE_CHECKING:
    from oq.errors import _WithProblems

BUILT_IN = (
    CliCommand(path=("submit",), summary="Hand in tasks.", load=""),
    CliCommand(path=("submit", "batch"), summary="Hand in all tasks of a file.", load="oq.cli.batches:batch"),
    CliCommand(path=("run",), summary="Run tasks, until told to stop.", load="oq.cli.running:run"),
    CliCommand(path=("list",), summary="List tasks, newest first.", load="oq.cli.looking:list_tasks"),
    CliCommand(path=("status",), summary="Show the queue, or one task.", load="oq.cli.looking:status"),
    CliCommand(path=("cancel",), summary="Cancel tasks.", load="oq.cli.acting:cancel"),
    CliCommand(path=("plugins",), summary="Show what is installed.", load="oq.cli.looking:plugins"),
    CliCommand(path=("check",), summary="Look for damage in the store.", load="oq.cli.checking:check"),
)


class LazyGroup(click.Group):
    """A group whose commands are imported when they are used."""

    def __init__(self, path: tuple[str, ...] = (), **options: object) -> None:
        super().__init__(**options)  # type: ignore[arg-type]  # click's own options, passed on
        self._path = path

    def _commands(self, ctx: click.Context) -> Mapping[str, CliCommand]:
        session = cast("Session", ctx.obj or Session())
        known = {command.path: command for command in BUILT_IN} | session.plugins.cli_commands()
        depth = len(self._path)
        return {
            path[depth]: command
            for path, command in sorted(known.items())
            if len(path) == depth + 1 and path[:depth] == self._path
        }

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self._commands(ctx))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        command = self._commands(ctx).get(cmd_name)
        if command is None:
            return None
        if not command.load:
            return LazyGroup(command.path, name=cmd_name, help=command.summary)
        module, _, attribute = command.load.partition(":")
        return cast("click.Command", getattr(import_module(module), attribute))

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
                known = ", ".join(self._commands(ctx))
                ctx.fail(
                    f"no installed package brings 'submit {args[0]}' (there are: {known}); try pip install oq-{args[0]}"
                )
            raise


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="oq")
@session_options
def main(session: Session) -> None:
    """A durable, priority-ordered queue for models, scripts, HTTP calls and functions."""


def run(arguments: list[str] | None = None) -> None:
    """Run the command line and exit."""
    session = Session()
    try:
        code = main.main(arguments, prog_name="oq", obj=session, standalone_mode=False) or 0
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        code = INTERRUPTED
    except OqError as error:
        code = BAD_INPUT if isinstance(error, CallerError) and not isinstance(error, InvalidSettings) else BROKEN
        _show(error, session)
    except BrokenPipeError:
        sys.stderr.close()  # whoever read our output has enough; Python would complain at exit
        code = 0
    except Exception as error:  # the last stop: no traceback reaches a user who did not ask for it
        if session.debug:
            raise
        click.echo(f"oq: {type(error).__name__}: {error} (this is a defect; --debug shows where)", err=True)
        code = BROKEN
    sys.exit(code)


def _show(error: OqError, session: Session) -> None:
    if session.debug:
        import traceback

        traceback.print_exception(error)
    problems = cast("_WithProblems", error).problems if hasattr(error, "problems") else [error]
    for problem in problems:
        click.echo(f"oq: {problem}", err=True)

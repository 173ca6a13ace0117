"""`oq submit script`."""

from __future__ import annotations

import sys

import click

from oq.cli.submitting import SubmitOptions, submit_options
from oq_script import specs

_EXAMPLES = """\b
Examples:
  oq submit script --command "echo hi" --wait
  oq submit script --script report.py --arg 2026 --env LEVEL=2
"""


def _variables(_context: click.Context, _parameter: click.Parameter, given: tuple[str, ...]) -> dict[str, str]:
    variables = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not (name and equals):
            raise click.BadParameter(f"{text!r} is not NAME=VALUE")
        variables[name] = value
    return variables


def _input(_context: click.Context, _parameter: click.Parameter, given: str | None) -> str | None:
    if given != "-":
        return given
    try:
        return sys.stdin.buffer.read().decode()
    except UnicodeDecodeError as error:
        raise click.BadParameter(f"the input is not UTF-8: {error.reason} at byte {error.start}") from None


@click.command("script", epilog=_EXAMPLES)
@click.option("--command", metavar="TEXT", help="A program and its arguments, split as a shell would, but run without.")
@click.option("--script", metavar="FILE", help="A file of the script directory; the other way to say what to run.")
@click.option("--arg", "args", metavar="TEXT", multiple=True, help="A further argument, taken as it is. Repeatable.")
@click.option(
    "--env", metavar="NAME=VALUE", multiple=True, callback=_variables, help="A variable for the process. Repeatable."
)
@click.option("--cwd", metavar="DIR", help="Where to run it, inside the script directory.")
@click.option("--stdin", metavar="TEXT", callback=_input, help="Its input; - reads what is piped into this command.")
@click.option("--shell", is_flag=True, help="Let /bin/sh interpret the command; the settings must allow it.")
@submit_options
def script(
    *,
    options: SubmitOptions,
    command: str | None,
    script: str | None,
    args: tuple[str, ...],
    env: dict[str, str],
    cwd: str | None,
    stdin: str | None,
    shell: bool,
) -> None:
    """Run a command, or a script file of the configured directory."""
    match command, script:
        case (str(), None):
            spec = specs.command(command, args=args, env=env, cwd=cwd, stdin=stdin, shell=shell)
        case (None, str()):
            if shell:
                raise click.UsageError("--shell goes with --command; a script names its own interpreter")
            spec = specs.script(script, args=args, env=env, cwd=cwd, stdin=stdin)
        case _:
            raise click.UsageError("give either --command or --script")
    options.submit(spec)

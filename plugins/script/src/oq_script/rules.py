"""What a script task must fulfil under the present settings; asked at submit, and again when it runs.

A rule is a function that raises InvalidTask. Whether a file or program exists is no rule: it may be there by the time
the task runs, or only on the machine that runs it.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path

from oq import InvalidTask, Problem
from oq_script import environment
from oq_script.directory import Directory, OutOfBounds
from oq_script.payload import ScriptPayload
from oq_script.settings import ScriptSettings


def check(payload: ScriptPayload, settings: ScriptSettings, directory: Directory) -> None:
    """Raise InvalidTask with everything that is wrong."""
    problems: list[Problem] = []
    for rule in _RULES:
        try:
            rule(payload, settings, directory)
        except InvalidTask as error:
            problems += error.problems
    if problems:
        raise InvalidTask(problems)


def words(command: str) -> list[str]:
    """The words of a command; raises InvalidTask when a shell could not split it either."""
    try:
        return shlex.split(command)
    except ValueError as error:
        raise InvalidTask(f"cannot be split into words: {error}", "payload.command") from None


def script_file(name: str, settings: ScriptSettings, directory: Directory) -> Path:
    """The real path of a script, which need not exist; raises InvalidTask when it must not be run."""
    real = _locate(directory, name, "payload.script")
    if real.suffix not in settings.extensions:  # the real file's: a link must not make a script of a data file
        known = ", ".join(extension or "none" for extension in settings.extensions)
        raise InvalidTask(
            f"a file with the extension {real.suffix or 'none'} is not run here (allowed: {known})", "payload.script"
        )
    return real


def working_directory(name: str | None, directory: Directory) -> Path:
    """The real path of a working directory, which need not exist; raises InvalidTask when it is outside."""
    return _locate(directory, "." if name is None else name, "payload.cwd")


def _one_thing_to_run(payload: ScriptPayload, _settings: ScriptSettings, _directory: Directory) -> None:
    if payload.command is None and payload.script is None:
        raise InvalidTask("give a command or a script", "payload")
    if payload.command is not None and payload.script is not None:
        raise InvalidTask("give a command or a script, not both", "payload")


def _command_is_allowed(payload: ScriptPayload, settings: ScriptSettings, _directory: Directory) -> None:
    if payload.command is not None and not settings.allow_commands:
        raise InvalidTask(
            "commands are not allowed here; give a script, or set allow_commands = true in the table [script]",
            "payload.command",
        )


def _command_has_words(payload: ScriptPayload, _settings: ScriptSettings, _directory: Directory) -> None:
    if payload.command is None:
        return
    if "\0" in payload.command:
        raise InvalidTask("must not contain a NUL character", "payload.command")
    if not (payload.command.strip() if payload.shell else words(payload.command)):
        raise InvalidTask("is empty", "payload.command")


def _shell_is_allowed(payload: ScriptPayload, settings: ScriptSettings, _directory: Directory) -> None:
    if not payload.shell:
        return
    if payload.command is None:
        raise InvalidTask("is for commands; a script names its own interpreter", "payload.shell")
    if not settings.allow_shell:
        raise InvalidTask(
            "the shell is not allowed here; leave it out, or set allow_shell = true in the table [script]",
            "payload.shell",
        )


def _args_are_words(payload: ScriptPayload, _settings: ScriptSettings, _directory: Directory) -> None:
    if payload.shell and payload.args:
        raise InvalidTask("a shell reads its command only; write the arguments there, quoted", "payload.args")
    problems = [
        Problem(f"payload.args[{index}]", "must not contain a NUL character")
        for index, arg in enumerate(payload.args)
        if "\0" in arg
    ]
    if problems:
        raise InvalidTask(problems)


def _script_may_run(payload: ScriptPayload, settings: ScriptSettings, directory: Directory) -> None:
    if payload.script is not None:
        script_file(payload.script, settings, directory)


def _cwd_is_inside(payload: ScriptPayload, _settings: ScriptSettings, directory: Directory) -> None:
    working_directory(payload.cwd, directory)


def _variables_are_harmless(payload: ScriptPayload, settings: ScriptSettings, _directory: Directory) -> None:
    problems = [
        Problem(f"payload.env.{name}", objection)
        for name, value in payload.env.items()
        if (objection := environment.objection(name, value, settings.denied_env))
    ]
    if problems:
        raise InvalidTask(problems)


def _locate(directory: Directory, name: str, path: str) -> Path:
    try:
        return directory.locate(name)
    except OutOfBounds as error:
        raise InvalidTask(str(error), path) from None


_RULES: tuple[Callable[[ScriptPayload, ScriptSettings, Directory], None], ...] = (
    _one_thing_to_run,
    _command_is_allowed,
    _command_has_words,
    _shell_is_allowed,
    _args_are_words,
    _script_may_run,
    _cwd_is_inside,
    _variables_are_harmless,
)

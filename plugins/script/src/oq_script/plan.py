"""From a payload to what is handed to the operating system."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path

from attrs import frozen

from oq import InvalidTask, PermanentError
from oq_script import rules
from oq_script.directory import Directory
from oq_script.environment import inherited
from oq_script.payload import ScriptPayload
from oq_script.settings import ScriptSettings

SHELL = ("/bin/sh", "-c")


@frozen(kw_only=True)
class Plan:
    """Everything needed to start a process."""

    title: str
    """What to call it in messages."""
    argv: tuple[str, ...]
    cwd: Path
    env: Mapping[str, str]
    stdin: bytes | None


def make_plan(
    payload: ScriptPayload, settings: ScriptSettings, directory: Directory, environ: Mapping[str, str]
) -> Plan:
    """The plan for a payload whose rules are checked here once more: settings and links may have changed since submit.

    `environ` is the environment that the allowed variables are taken from. Raises PermanentError when a rule is broken,
    or when the script or the working directory does not exist.
    """
    try:
        rules.check(payload, settings, directory)
        cwd = rules.working_directory(payload.cwd, directory)
        argv = _argv(payload, settings, directory)
    except InvalidTask as error:
        raise PermanentError(str(error), type="InvalidTask") from None
    if not cwd.is_dir():
        raise PermanentError(_no_directory(payload.cwd, cwd), type="NotFound")
    return Plan(
        title=payload.script or (shlex.quote(argv[0]) if not payload.shell else "the shell command"),
        argv=argv,
        cwd=cwd,
        env={**inherited(environ, settings.inherit_env), **payload.env},
        stdin=None if payload.stdin is None else payload.stdin.encode(),
    )


def _argv(payload: ScriptPayload, settings: ScriptSettings, directory: Directory) -> tuple[str, ...]:
    if payload.script is not None:
        file = rules.script_file(payload.script, settings, directory)
        if not file.is_file():
            raise PermanentError(
                f"there is no script {payload.script!r} in {directory.path}; "
                "put it there, or set directory in the table [script]",
                type="NotFound",
            )
        return (*settings.interpreters.get(file.suffix, ()), str(file), *payload.args)
    command = payload.command or ""
    if payload.shell:
        return (*SHELL, command)
    return (*rules.words(command), *payload.args)


def _no_directory(name: str | None, path: Path) -> str:
    if name is None:
        return f"the script directory {path} does not exist; make it, or set directory in the table [script]"
    return f"there is no directory {name!r} to work in ({path}); make it, or give another cwd"

"""Tasks of this executor, made in one call."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from oq import TaskSpec
from oq_script.executor import ACTION_NAME, EXECUTOR_NAME
from oq_script.payload import ScriptPayload


def command(
    command: str,
    *,
    args: Iterable[str] = (),
    env: Mapping[str, str] | None = None,
    cwd: str | None = None,
    stdin: str | None = None,
    shell: bool = False,
    **options: Any,
) -> TaskSpec:
    """The task of running a command: `command("convert in.png", args=["my picture.jpg"], priority="high")`.

    `args` are added to the words of `command` as they are. `options` are those of `oq.TaskSpec`. Whether the settings
    allow it is checked at submit.
    """
    payload = ScriptPayload(command=command, args=tuple(args), env=dict(env or {}), cwd=cwd, stdin=stdin, shell=shell)
    return _spec(payload, options)


def script(
    script: str,
    *,
    args: Iterable[str] = (),
    env: Mapping[str, str] | None = None,
    cwd: str | None = None,
    stdin: str | None = None,
    **options: Any,
) -> TaskSpec:
    """The task of running a file of the script directory: `script("job.py", args=["--fast"], timeout=60.0)`.

    `options` are those of `oq.TaskSpec`. Whether the settings allow it is checked at submit.
    """
    payload = ScriptPayload(script=script, args=tuple(args), env=dict(env or {}), cwd=cwd, stdin=stdin)
    return _spec(payload, options)


def _spec(payload: ScriptPayload, options: Mapping[str, Any]) -> TaskSpec:
    return TaskSpec(executor=EXECUTOR_NAME, action=ACTION_NAME, payload=payload, **options)

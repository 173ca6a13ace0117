"""The executor `script`: what it can do, what it refuses, and how an exit becomes a result or a failure."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

import attrs

from oq import Action, Context, PermanentError, RetryableError, Task
from oq_script import rules
from oq_script._version import __version__
from oq_script.directory import Directory
from oq_script.payload import ScriptPayload, ScriptResult, describe
from oq_script.plan import Plan, make_plan
from oq_script.settings import ScriptSettings

if TYPE_CHECKING:
    from oq_script.process import Exited

EXECUTOR_NAME: Final = "script"
ACTION_NAME: Final = "run"

_LAST_WORDS = 200
"""Characters of the last line of stderr that a failure's message repeats."""


class ScriptExecutor:
    """Runs commands and script files as processes."""

    name = EXECUTOR_NAME
    version = __version__
    description = "Commands and script files of this machine"
    actions: Mapping[str, Action] = MappingProxyType(
        {
            ACTION_NAME: Action(
                payload=ScriptPayload,
                summary="Run a command, or a script of the configured directory",
                streams=True,
                result=ScriptResult,
                describe=describe,
                show=lambda result: result.stdout.removesuffix("\n"),
            )
        }
    )

    def __init__(self, settings: ScriptSettings | None = None) -> None:
        """A relative `settings.directory` is taken from the working directory of this moment."""
        self._settings = settings or ScriptSettings()
        self._directory = Directory(Path(self._settings.directory).expanduser().absolute())

    def check(self, action: str, payload: ScriptPayload) -> None:  # noqa: ARG002 - the protocol has it; there is one action
        """Raise InvalidTask when the settings or the directory do not allow what the payload asks for."""
        rules.check(payload, self._settings, self._directory)

    async def execute(self, task: Task, ctx: Context) -> ScriptResult:
        """Run the process, which finds the task's id and attempt in `OQ_TASK_ID` and `OQ_ATTEMPT`.

        Raises RetryableError when the exit code is not 0, and PermanentError when the settings say that no retry mends
        that code, when a rule is broken by now, or when there is nothing to run.
        """
        import trio  # here, as it takes a while and commands such as `oq list` have no use for it

        from oq_script.process import run

        make = partial(make_plan, task.payload, self._settings, self._directory, dict(os.environ))
        plan = await trio.to_thread.run_sync(make, abandon_on_cancel=True)  # it looks at files, maybe on a dead disk
        plan = attrs.evolve(plan, env={**plan.env, "OQ_TASK_ID": task.id, "OQ_ATTEMPT": str(ctx.attempt)})
        exited = await run(plan, self._settings, ctx.emit)
        if exited.exit_code == 0:
            return _result(exited, self._settings.max_output)
        raise self._failure(plan, exited)

    def _failure(self, plan: Plan, exited: Exited) -> PermanentError | RetryableError:
        result = _result(exited, self._settings.max_failure_output)
        kind = PermanentError if exited.exit_code in self._settings.permanent_exit_codes else RetryableError
        return kind(_message(plan.title, result), type="ExitCode", details=attrs.asdict(result))


def _result(exited: Exited, limit: int) -> ScriptResult:
    stdout, stdout_truncated = exited.stdout.text(limit)
    stderr, stderr_truncated = exited.stderr.text(limit)
    return ScriptResult(
        exit_code=exited.exit_code,
        stdout=stdout,
        stderr=stderr,
        stdout_truncated=stdout_truncated,
        stderr_truncated=stderr_truncated,
        duration=exited.duration,
    )


def _message(title: str, result: ScriptResult) -> str:
    """What happened in one line, with the last thing the process had to say about it."""
    last = next((line.strip() for line in reversed(result.stderr.splitlines()) if line.strip()), "")
    said = f": {last[:_LAST_WORDS]}" if last else ""
    return f"{title} {_how_it_ended(result.exit_code)}{said}"


def _how_it_ended(exit_code: int) -> str:
    if exit_code >= 0:
        return f"exited with code {exit_code}"
    try:
        return f"was ended by {signal.Signals(-exit_code).name}"
    except ValueError:  # a real-time signal has no name
        return f"was ended by signal {-exit_code}"

"""oq-script: the executor `script`, which runs commands and script files."""

from __future__ import annotations

from collections.abc import Sequence

from oq import CliCommand, Executor, Settings, hookimpl
from oq_script._version import __version__
from oq_script.executor import ScriptExecutor
from oq_script.payload import ScriptPayload, ScriptResult
from oq_script.settings import ScriptSettings
from oq_script.specs import command, script

__all__ = [
    "ScriptExecutor",
    "ScriptPayload",
    "ScriptResult",
    "ScriptSettings",
    "__version__",
    "command",
    "script",
]


@hookimpl
def oq_executors(settings: Settings) -> Sequence[Executor]:
    """The executor, with the table `[script]`."""
    return [ScriptExecutor(settings.section("script", ScriptSettings))]


@hookimpl
def oq_cli_commands() -> Sequence[CliCommand]:
    """`oq submit script`."""
    return [
        CliCommand(path=("submit", "script"), summary="Run a command or a script file.", load="oq_script.cli:script")
    ]

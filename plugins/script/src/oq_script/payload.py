"""What a script task says, and what it gives back."""

from __future__ import annotations

import shlex
from collections.abc import Mapping

from attrs import field, frozen


@frozen(kw_only=True)
class ScriptPayload:
    """A command or a script file, and what it gets. `oq_script.rules` says what a good one is."""

    command: str | None = None
    """A program and its arguments, split into words as a shell would, but run without one."""
    script: str | None = None
    """A file inside the configured directory; the other way to say what to run."""
    args: tuple[str, ...] = ()
    """Further arguments, taken as they are."""
    env: Mapping[str, str] = field(factory=dict)
    """Variables besides the few that a process gets anyway."""
    cwd: str | None = None
    """The working directory inside the configured one; that one itself when None."""
    stdin: str | None = None
    """Its input, as UTF-8; nothing (`/dev/null`) when None."""
    shell: bool = False
    """Whether `/bin/sh` is to interpret the command; the settings must allow it."""


@frozen(kw_only=True)
class ScriptResult:
    """What became of a process."""

    exit_code: int
    """0 for success; -9 when signal 9 ended it."""
    stdout: str
    """What it wrote, as UTF-8; bytes that are not are replaced by U+FFFD."""
    stderr: str
    stdout_truncated: bool = False
    """Whether the middle of `stdout` was left out, because it was longer than the settings allow."""
    stderr_truncated: bool = False
    duration: float
    """Seconds from its start to its exit."""


def describe(payload: ScriptPayload) -> str:
    """The command line; variables and input stay out, as they may be secret."""
    args = shlex.join(payload.args)
    return " ".join(part for part in (payload.command or payload.script, args) if part)

"""What an administrator decides about scripts: where they lie, what may run, and how much of it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, Final

from attrs import Attribute, Factory, field, frozen
from attrs.validators import and_, ge, le

DEFAULT_INTERPRETERS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        ".bash": ("bash",),
        ".js": ("node",),
        ".pl": ("perl",),
        ".py": ("python3", "-u"),  # unbuffered, or lines would arrive by the block instead of one by one
        ".rb": ("ruby",),
        ".sh": ("sh",),
    }
)
"""What runs a file, by its extension."""

INHERITED: Final = ("PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_*", "TZ", "TMPDIR")
"""What a process needs to find its programs, its user and its language."""

DENIED: Final = (
    # which programs are found
    "PATH",
    # the dynamic linker and the C library
    *("LD_*", "_RLD*", "DYLD_*", "GCONV_PATH", "GLIBC_TUNABLES", "MALLOC_*", "NLSPATH", "LOCPATH"),
    *("LOCALDOMAIN", "RES_OPTIONS", "HOSTALIASES", "TERMINFO", "TERMINFO_DIRS", "TERMCAP", "TERMPATH"),
    # shells
    *("BASH_ENV", "ENV", "IFS", "CDPATH", "SHELLOPTS", "BASHOPTS", "PS4", "GLOBIGNORE", "PROMPT_COMMAND", "ZDOTDIR"),
    *("FPATH", "NULLCMD", "READNULLCMD", "TMPPREFIX"),
    # interpreters
    *("PYTHONHOME", "PYTHONPATH", "PYTHONSTARTUP", "PYTHONINSPECT", "PYTHONUSERBASE", "PYTHONBREAKPOINT"),
    *("PYTHONWARNINGS", "PYTHONPYCACHEPREFIX", "PYTHONPLATLIBDIR", "PYTHONEXECUTABLE"),
    *("NODE_OPTIONS", "NODE_PATH", "RUBYLIB", "RUBYOPT", "GEM_HOME", "GEM_PATH", "BUNDLE_GEMFILE"),
    *("PERLLIB", "PERL5LIB", "PERL5OPT", "PERL5DB", "PERLIO_DEBUG"),
    *("JAVA_TOOL_OPTIONS", "_JAVA_OPTIONS", "JDK_JAVA_OPTIONS", "CLASSPATH", "LUA_INIT*", "LUA_PATH*", "LUA_CPATH*"),
)
"""Names by which a program can be made to load or run what it was not asked to."""

_EXTENSION = re.compile(r"(\.[^./\0]+)?")
_ENV_PATTERN = re.compile(r"[A-Za-z_*?][A-Za-z0-9_*?]*")


def _known_or_default(given: Mapping[str, Iterable[str]]) -> Mapping[str, tuple[str, ...]]:
    return {**DEFAULT_INTERPRETERS, **{extension: tuple(argv) for extension, argv in given.items()}}


def _extensions(_self: object, attribute: Attribute[Any], value: Iterable[str]) -> None:
    for extension in value:
        if not _EXTENSION.fullmatch(extension):
            raise ValueError(f'{attribute.name}: {extension!r} is no extension; write it like ".py"')


def _env_patterns(_self: object, attribute: Attribute[Any], value: Iterable[str]) -> None:
    for pattern in value:
        if not _ENV_PATTERN.fullmatch(pattern):
            raise ValueError(f'{attribute.name}: {pattern!r} is no variable; write it like "LANG" or "LC_*"')


def _exit_codes(_self: object, attribute: Attribute[Any], value: Iterable[int]) -> None:
    for code in value:
        if not (1 <= code <= 255 or -64 <= code <= -1):
            raise ValueError(
                f"{attribute.name}: {code} is no exit code of a failure; use 1 to 255, or -9 for an end by signal 9"
            )


def _not_empty(_self: object, attribute: Attribute[Any], value: str) -> None:
    if not value or "\0" in value:
        raise ValueError(f'{attribute.name} must name a directory; "." is the one that oq was started in')


@frozen(kw_only=True)
class ScriptSettings:
    """The table `[script]`."""

    directory: str = field(default=".", validator=_not_empty)
    """Where scripts and working directories lie; nothing outside can be named. `~` stands for the home directory."""
    allow_commands: bool = True
    """Whether a task may give a command. A command can be any program, so this trusts whoever submits tasks."""
    allow_shell: bool = False
    """Whether a command may be handed to `/bin/sh` to be interpreted (`shell = true`)."""
    interpreters: Mapping[str, tuple[str, ...]] = field(
        factory=dict, converter=_known_or_default, validator=_extensions
    )
    """What runs a file, by its extension, over the defaults. An empty list, or none, runs the file by its `#!` line."""
    extensions: tuple[str, ...] = field(
        default=Factory(lambda settings: tuple(sorted(settings.interpreters)), takes_self=True), validator=_extensions
    )
    """Which files may be run; those that have an interpreter when not given. `""` stands for a name without one."""
    inherit_env: tuple[str, ...] = field(default=INHERITED, validator=_env_patterns)
    """The variables of oq's own environment that a process gets; `*` stands for anything."""
    denied_env: tuple[str, ...] = field(default=DENIED, validator=_env_patterns)
    """The variables that a task must not set; `*` stands for anything."""
    permanent_exit_codes: tuple[int, ...] = field(default=(), validator=_exit_codes)
    """Exit codes after which a retry is no use; -9 means ended by signal 9."""
    max_output: int = field(default=2**20, validator=ge(0))
    """Bytes of each output stream that a result keeps: the beginning and the end."""
    max_failure_output: int = field(default=2**16, validator=ge(0))
    """The same for a failed attempt; less, because the failure is part of what every list of tasks reads."""
    max_streamed: int = field(default=2**24, validator=ge(0))
    """Bytes of each output stream that are passed on while it runs, each line counting for 64 more."""
    max_line: int = field(default=2**14, validator=ge(1))
    """Characters; a longer line is passed on in pieces."""
    kill_grace: float = field(default=5.0, validator=and_(ge(0), le(3600)))
    """Seconds between asking the processes to end (TERM) and ending them (KILL)."""
    linger: float = field(default=1.0, validator=and_(ge(0), le(3600)))
    """Seconds that background processes may go on writing after the main one has ended."""

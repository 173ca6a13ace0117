"""The variables a process gets: a short list of oq's own, and what the task gives."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def inherited(environ: Mapping[str, str], patterns: Iterable[str]) -> dict[str, str]:
    """The variables of `environ` that a pattern names."""
    wanted = tuple(patterns)
    return {name: value for name, value in environ.items() if _matches(name, wanted)}


def objection(name: str, value: str, denied: Iterable[str]) -> str | None:
    """Why a task must not set this variable; None when it may."""
    if not _NAME.fullmatch(name):
        return "is no name of a variable; use letters, digits and _"
    if "\0" in value:
        return "must not contain a NUL character"
    if _matches(name, denied):
        return "must not be set by a task, because it can make a program run other code than it was asked to"
    return None


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)

"""Where each value of the settings comes from: a line of a file, a variable, an argument, or nowhere."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal

from attrs import evolve, field, frozen

from oq.errors import Problem

KeyPath = tuple[str | int, ...]
"""The way to a value: `("ollama", "endpoints", 0, "url")`."""

_STEP = re.compile(r"\[(\d+)\]|\['((?:[^'\\]|\\.)*)'\]|\.?([^.\[\]]+)")


@frozen
class Place:
    """Where one value was given."""

    kind: Literal["file", "variable", "argument"]
    where: str
    """`oq.toml:3`, or the variable's name."""
    key: str | None = None
    """What it is called there, where that is another name."""


@frozen(kw_only=True)
class Places:
    """Where the values of one settings value were given."""

    file: str | None = None
    lines: Mapping[KeyPath, int] = field(factory=dict)
    """The line of every key of the file, counted from 1."""
    others: Mapping[KeyPath, Place] = field(factory=dict)
    """What replaced values of the file, and keys that have another name there."""

    def of(self, path: KeyPath) -> Place | None:
        """Where exactly this value was given; None if nowhere."""
        if path in self.others:
            return self.others[path]
        return self.in_file(path) if path in self.lines else None

    def nearest(self, path: KeyPath) -> tuple[KeyPath, Place | None]:
        """Where this value, or else the smallest thing around it, was given, and the path of that."""
        around = [path[:length] for length in range(len(path), 0, -1)]
        for outer in around:
            if outer in self.others:
                return outer, self.others[outer]
        for outer in around:
            if outer in self.lines:
                return outer, self.in_file(outer)
        return path, None if self.file is None else Place("file", self.file)

    def in_file(self, path: KeyPath) -> Place:
        """The place of a key of the file."""
        line = self.lines.get(path)
        return Place("file", f"{self.file}:{line}" if line else str(self.file))

    def replaced(self, others: Mapping[KeyPath, Place]) -> Places:
        """The same, with other places for some values."""
        return evolve(self, others={**self.others, **others}) if others else self

    def located(self, problem: Problem) -> Problem:
        """The problem, with the place where it is to be mended."""
        path = key_path(problem.path)
        outer, place = self.nearest(path)
        if place is None:
            return problem
        if place.kind == "variable":
            return Problem(place.where, problem.message)
        key = problem.path
        if place.key is not None:
            key = place.key + dotted(path[len(outer) :], after=place.key)
        if not key:
            return Problem(place.where, problem.message)
        return Problem(f"{place.where}: {key}", problem.message)


def key_path(text: str) -> KeyPath:
    """The path that a problem has as a text: `scheduler.limits['ollama']`."""
    return tuple(int(index) if index else key or name for index, key, name in _STEP.findall(text))


def dotted(path: KeyPath, after: str = "") -> str:
    """The text of a path, or of the end of one that begins with `after`."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        else:
            text += f".{step}" if text or after else step
    return text

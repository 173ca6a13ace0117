"""Fills `{{fields}}` into the strings of a value; nothing is evaluated, and a field that is not given is an error."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from datetime import datetime
from typing import Any

from oq.codec import unknown_key
from oq.errors import Problem

ESCAPED = "{{{{"
"""Stands for two literal braces."""

Value = str | int | datetime | None
"""What a field may hold; None is filled in as nothing."""

_PART = re.compile(r"(?P<escaped>\{\{\{\{)|\{\{(?P<field>[^{}]*)\}\}")
_FIELD = re.compile(r"\s*(?P<name>\w*)\s*(?P<colon>:(?P<format>.*))?", re.DOTALL)
_DIRECTIVES = frozenset("aAbBdeDfFGHIjmMpSTuUVwWyYzZ%")
"""What may follow a `%`: the letters whose meaning is the same on every machine."""


def problems(value: object, fields: Mapping[str, type]) -> list[Problem]:
    """What is wrong with the fields in the strings of `value`, each with its path.

    `fields` are those that will be filled in; only those of type datetime take a format.
    """
    return [Problem(path, wrong) for path, text in _strings(value, "") for wrong in _wrong(text, fields)]


def fields_in(value: object) -> set[str]:
    """The names of the fields that the strings of `value` use."""
    found = (part for _, text in _strings(value, "") for part in _PART.finditer(text) if not part["escaped"])
    return {_split(part["field"])[0] for part in found}


def render(value: Any, values: Mapping[str, Value]) -> Any:
    """`value` with every string in it filled in, also in lists and mappings; the keys of mappings stay as they are.

    Raises KeyError for a field that `values` lacks, which `problems` would have told.
    """
    return _map_strings(value, lambda text: _filled(text, values) if "{{" in text else text)


def _strings(value: object, path: str) -> Iterator[tuple[str, str]]:
    """Every string in `value` with its path."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _strings(item, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _strings(item, f"{path}[{index}]")


def _map_strings(value: Any, change: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        return {key: _map_strings(item, change) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)([_map_strings(item, change) for item in value])
    return value


def _split(field: str) -> tuple[str, str | None]:
    """Name and format of a field; a name of "" where it has none that could be one."""
    parts = _FIELD.fullmatch(field)
    return (parts["name"], parts["format"]) if parts else ("", None)


def _wrong(text: str, fields: Mapping[str, type]) -> Iterator[str]:
    for part in _PART.finditer(text):
        if not part["escaped"]:
            yield from _wrong_field(part["field"], fields)
    if "{{" in _PART.sub("\0", text):
        yield f"a field that begins with {{{{ is not closed; write {ESCAPED} for two braces that are meant as such"


def _wrong_field(field: str, fields: Mapping[str, type]) -> Iterator[str]:
    name, form = _split(field)
    if name not in fields:
        meant = unknown_key(name or field.strip(), list(fields))
        yield f"{meant}; write {ESCAPED} for two braces that are meant as such"
    elif form is not None and fields[name] is not datetime:
        yield f"{name!r} is no moment and takes no format; write {{{{{name}}}}}"
    elif form is not None:
        yield from _wrong_format(form, _DIRECTIVES)


def _wrong_format(form: str, known: Collection[str]) -> Iterator[str]:
    used = re.findall(r"%(.?)", form, re.DOTALL)
    if not used:
        yield f"the format {form!r} shows nothing of the moment; write it like %Y-%m-%d"
    for letter in used:
        if letter not in known:
            yield f"%{letter} is not a part of a moment in the format {form!r}; there are %Y %m %d %H %M %S and more"


def _filled(text: str, values: Mapping[str, Value]) -> str:
    def fill(part: re.Match[str]) -> str:
        if part["escaped"]:
            return "{{"
        name, form = _split(part["field"])
        return _shown(values[name], form)

    return _PART.sub(fill, text)


def _shown(value: Value, form: str | None) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.isoformat(timespec="seconds") if form is None else value.strftime(form)
    return str(value)

"""Every value of the settings with where it comes from, as `oq config` shows it: secrets are hidden."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import attrs
from attrs import frozen

from oq.config.places import KeyPath, Places
from oq.config.secrets import HIDDEN, Secret, is_secret, sounds_secret, without_password

DEFAULT = "default"
"""The source of a value that nobody set."""


@frozen(kw_only=True)
class Setting:
    """One value and where it comes from."""

    table: str
    key: str
    """With dots where a table has tables inside: `routing.local_first`."""
    value: Any
    """Made of what JSON knows. What is secret in it is `***`."""
    source: str
    """`default`, a place such as `oq.toml:3`, the name of a variable, or `argument`."""
    secret: bool = False
    """Whether something of the value is hidden."""


def settings_in(table: str, value: Any, places: Places, secrets: Collection[KeyPath]) -> Iterator[Setting]:
    """The settings of one table, which is an instance of its class, or what a file says for a class not known here."""
    for path, inner, hidden in _leaves((table,), value):
        place = places.of(path)
        came_by_reference = any(path[: len(secret)] == secret or secret[: len(path)] == path for secret in secrets)
        shown = _shown(inner, hidden=hidden or (came_by_reference and _is_scalar(inner)))
        yield Setting(
            table=table,
            key=".".join(map(str, path[1:])),
            value=shown,
            source=DEFAULT if place is None else place.where,
            secret=_holds_hidden(shown, inner),
        )


def _leaves(path: KeyPath, value: Any) -> Iterator[tuple[KeyPath, Any, bool]]:
    """Each field of the attrs classes inside: its path, its value, and whether it is marked as secret."""
    if attrs.has(type(value)):
        for attribute in attrs.fields(type(value)):
            inner = getattr(value, attribute.name)
            at = (*path, attribute.name)
            if attrs.has(type(inner)):
                yield from _leaves(at, inner)
            else:
                yield at, inner, is_secret(attribute) or (isinstance(inner, str) and sounds_secret(attribute.name))
    else:
        for key, inner in value.items():
            yield (*path, key), inner, sounds_secret(str(key))


def _shown(value: Any, *, hidden: bool) -> Any:
    """The value in what JSON knows, with `***` for what is hidden."""
    match value:
        case None:
            return None
        case Mapping():
            return {
                str(key): _shown(inner, hidden=hidden or (isinstance(inner, str) and sounds_secret(str(key))))
                for key, inner in value.items()
            }
        case list() | tuple() | set() | frozenset():
            return [_shown(inner, hidden=hidden) for inner in value]
        case _ if attrs.has(type(value)):
            return {path[-1]: _shown(inner, hidden=hidden or secret) for path, inner, secret in _nested(value)}
        case Secret():
            return HIDDEN
        case _ if hidden and value != "":
            return HIDDEN
        case str():
            return without_password(value)
        case float() if not math.isfinite(value):  # which JSON does not know
            return str(value)
        case bool() | int() | float():
            return value
    return str(value)


def _nested(value: Any) -> Iterator[tuple[KeyPath, Any, bool]]:
    for attribute in attrs.fields(type(value)):
        yield (attribute.name,), getattr(value, attribute.name), is_secret(attribute)


def _is_scalar(value: Any) -> bool:
    return isinstance(value, str | int | float)


def _holds_hidden(shown: Any, value: Any) -> bool:
    """Whether something in what is shown is hidden that is not written so itself."""
    match shown:
        case dict():
            return any(_holds_hidden(inner, None) for inner in shown.values())
        case list():
            return any(_holds_hidden(inner, None) for inner in shown)
        case str():
            return HIDDEN in shown and (isinstance(value, Secret) or shown != value)
    return False

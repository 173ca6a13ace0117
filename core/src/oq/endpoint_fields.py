"""Validators for the settings of endpoints: names, and headers and keys that must not be where others can see them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from attrs import Attribute

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_TEXT = re.compile(r"[\t\x20-\x7e]*")
_VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]{0,99}")
"""Small letters are refused, as keys have some: one that was put in the wrong place must not be taken for a name."""


def endpoint_name(_self: object, attribute: Attribute[Any], value: str | None) -> None:
    """A name that can stand in a pool's name; or None."""
    if value is not None and not _NAME.fullmatch(value):
        raise ValueError(f"{attribute.name!r} must be letters, digits, '.', '_' and '-', not {value!r}")


def plain_text(_self: object, attribute: Attribute[Any], value: str | None) -> None:
    """Text that can be sent as a header; or None."""
    if value is not None and not _TEXT.fullmatch(value):
        raise ValueError(f"{attribute.name!r} must be plain ASCII")


def variable_name(_self: object, attribute: Attribute[Any], value: str | None) -> None:
    """The name of an environment variable; or None."""
    if value is not None and not _VARIABLE.fullmatch(value):
        raise ValueError(f"{attribute.name!r} must be the name of an environment variable in capitals, not a key")


def http_headers(_self: object, attribute: Attribute[Any], value: Mapping[str, str]) -> None:
    """Headers and their values, with no key among them."""
    for name, text in value.items():
        _check_header(attribute, name)
        if not _TEXT.fullmatch(text):
            raise ValueError(f"{attribute.name!r} must have plain ASCII values; that of {name!r} is not")
        if name.lower() == "authorization":
            raise ValueError(f"{attribute.name!r} must not have {name!r}; name the key's variable in api_key_env")


def header_variables(_self: object, attribute: Attribute[Any], value: Mapping[str, str]) -> None:
    """Headers, and the environment variables that have their values."""
    for name, variable in value.items():
        _check_header(attribute, name)
        if not _VARIABLE.fullmatch(variable):
            raise ValueError(f"{attribute.name!r} must name environment variables in capitals ({name!r} does not)")


def _check_header(attribute: Attribute[Any], name: str) -> None:
    if not _HEADER.fullmatch(name):
        raise ValueError(f"{attribute.name!r} must have names of HTTP headers, not {name!r}")

"""Makes of the bytes of a body what people and programs can read: a value, a text, or base64."""

from __future__ import annotations

import base64
import codecs
import json
from typing import Any, Literal

import msgspec
from attrs import frozen

Kind = Literal["text", "json", "base64"]

_TEXT_TYPES = ("text/", "application/json", "application/xml", "application/javascript")
_TEXT_SUFFIXES = ("+json", "+xml")
_FORM = "application/x-www-form-urlencoded"
_NO_TEXT = frozenset({"idna", "punycode", "unicode_escape", "raw_unicode_escape", "undefined", "utf-7", "mbcs"})
"""Codecs of Python that no body is in, some of which take very long."""

_DEEPEST = 200
"""Levels; JSON that is nested deeper is kept as text, since a value like that could not be stored."""


@frozen(kw_only=True)
class ContentType:
    """The value of a `Content-Type` header."""

    kind: str
    """Such as `text/html`; empty where there is none."""
    charset: str

    @property
    def is_json(self) -> bool:
        return self.kind == "application/json" or self.kind.endswith("+json")

    @property
    def is_text(self) -> bool:
        """Whether it is for people to read, judging by its name."""
        return self.kind.startswith(_TEXT_TYPES) or self.kind.endswith(_TEXT_SUFFIXES) or self.kind == _FORM


def parse_content_type(value: str) -> ContentType:
    """The type and the charset; UTF-8 where it says none, or one that is not known."""
    kind, *parameters = value.split(";")
    charset = "utf-8"
    for parameter in parameters:
        name, _, text = parameter.partition("=")
        if name.strip().lower() == "charset":
            charset = _known(text.strip().strip("\"'"))
    return ContentType(kind=kind.strip().lower(), charset=charset)


def readable(content: bytes, content_type: ContentType) -> tuple[Any, Kind]:
    """The body and what kind it is of; nothing is lost."""
    text = _text(content, content_type)
    if text is None:
        return base64.b64encode(content).decode(), "base64"
    if content_type.is_json:
        try:
            return _value(text), "json"
        except (ValueError, OverflowError, RecursionError):
            pass
    return text, "text"


def _text(content: bytes, content_type: ContentType) -> str | None:
    """The text that it is; None when it is none."""
    try:
        text = content.decode(content_type.charset)
        text.encode()  # there are charsets that make halves of characters
    except (UnicodeError, LookupError):
        return None
    return None if "\0" in text and not content_type.is_text else text


def _value(text: str) -> Any:
    """The value that the JSON stands for; raises ValueError or the like when it is none, or cannot be stored."""
    value = json.loads(text.removeprefix("\ufeff"), parse_constant=_refuse)
    level, depth = [value], 0
    while level := [part for part in level if isinstance(part, dict | list)]:
        if (depth := depth + 1) > _DEEPEST:
            raise ValueError("it is nested too deeply")
        level = [inner for part in level for inner in (part.values() if isinstance(part, dict) else part)]
    msgspec.msgpack.encode(value)  # refuses numbers that are too long, and halves of characters
    return value


def _refuse(constant: str) -> None:
    raise ValueError(constant)


def _known(charset: str) -> str:
    try:
        name = codecs.lookup(charset).name
    except (LookupError, ValueError):
        return "utf-8"
    return "utf-8" if name in _NO_TEXT or name.replace("_", "-") in _NO_TEXT else name

"""Values that are not to be shown, and `${NAME}`, by which they come from the environment into a file."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from attrs import Attribute

HIDDEN = "***"
"""What is shown in place of a secret."""

_REFERENCE = re.compile(r"\$(?:(\$)(?=\{)|\{([^}]*)(\}?))")
_NAME = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?:(:-)(.*))?", re.DOTALL)

_SOUNDS_SECRET = re.compile(
    r"(^|[_-])(passwords?|passwd|secret|token|api[_-]?key|authorization|cookie|bearer|credentials?)$", re.IGNORECASE
)
_PASSWORD_IN_URL = re.compile(r"(?<=://)([^/@\s]*?):[^/@\s]*(?=@)")


class Secret(str):
    """A text that is used as any other, but does not show in a `repr`, and so neither in tracebacks nor logs."""

    __slots__ = ()

    def __repr__(self) -> str:
        return repr(HIDDEN)


def expanded(text: str, environ: Mapping[str, str]) -> str:
    """The text with each `${NAME}` replaced; a Secret, unless it has none.

    Raises ValueError with a sentence for a variable that is not set, and for what is no variable.
    """
    used = False

    def value_of(found: re.Match[str]) -> str:
        nonlocal used
        escaped, inside, closed = found.groups()
        if escaped:
            return "$"
        name = _NAME.fullmatch(inside)
        if name is None or not closed:
            raise ValueError(
                f"{found[0]} is no variable; write ${{NAME}} or ${{NAME:-default}}, or $${{ to mean it literally"
            )
        used = True
        variable, has_default, default = name.groups()
        value = environ.get(variable) or (default if has_default else "")
        if not value and not has_default:
            raise ValueError(
                f"the environment variable {variable} is not set; set it, or write ${{{variable}:-default}}"
            )
        return value

    plain = _REFERENCE.sub(value_of, text)
    return Secret(plain) if used else plain


def secrets_in(tree: Any) -> Iterator[Secret]:
    """The Secrets in a tree of mappings and lists."""
    match tree:
        case Secret():
            yield tree
        case Mapping():
            for inner in tree.values():
                yield from secrets_in(inner)
        case list() | tuple():
            for inner in tree:
                yield from secrets_in(inner)


def is_secret(attribute: Attribute[Any]) -> bool:
    """Whether a field says that it holds a secret: by its metadata, or by not showing in the class's repr."""
    return bool(attribute.metadata.get("secret")) or attribute.repr is False


def sounds_secret(name: str) -> bool:
    """Whether a key is called like something that holds a secret; for what no class describes."""
    return _SOUNDS_SECRET.search(name) is not None


def without_password(text: str) -> str:
    """The text, without the password of a URL in it."""
    return _PASSWORD_IN_URL.sub(rf"\1:{HIDDEN}", text)


def scrubbed(message: str, secrets: Iterable[Secret]) -> str:
    """The message without the secrets that it might quote; very short ones would be found everywhere."""
    for secret in secrets:
        if len(secret) > 3:
            message = message.replace(str(secret), HIDDEN)
    return message

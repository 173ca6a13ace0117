"""The keys: read from the environment when a request is made, sent, and blotted out wherever a server repeats them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from attrs import field, frozen

from oq_openai.settings import OpenAIEndpoint

HIDDEN = "***"

_SHORTEST = 8
"""Characters; what is shorter (`none`, `EMPTY`) stands in for a key, and is in other texts by chance."""
_LIKE_A_KEY = re.compile(r"\b(?:sk|gsk|xai)[-_][A-Za-z0-9_*-]{8,}|(?<=Bearer )\S+")
"""Keys of others, which a server might confuse with ours, and ours when it repeats only part of them."""
_SENDABLE = re.compile(r"[\x20-\x7e]+")


class MissingKey(Exception):
    """There is no key to be sent, or none that can be."""


@frozen
class Secrets:
    """The headers by which one endpoint knows us, as the environment has them at this moment."""

    headers: Mapping[str, str] = field(repr=False)
    _values: tuple[str, ...] = field(repr=False)

    def redact(self, text: str) -> str:
        """The text without them, and without what looks like a key."""
        for value in self._values:
            text = text.replace(value, HIDDEN)
        return _LIKE_A_KEY.sub(HIDDEN, text)


def secrets_of(endpoint: OpenAIEndpoint, environ: Mapping[str, str]) -> Secrets:
    """What is sent to an endpoint; raises MissingKey, with a sentence, where a variable that it needs is not set."""
    headers = dict(endpoint.headers)
    hidden = list(headers.values())
    if endpoint.organization is not None:
        headers["OpenAI-Organization"] = endpoint.organization
    if endpoint.project is not None:
        headers["OpenAI-Project"] = endpoint.project
    for name, variable in endpoint.headers_env.items():
        headers[name] = _value(variable, environ, endpoint, f"the header {name}")
        hidden.append(headers[name])
    key_in = endpoint.api_key_env
    if key_in is not None and (endpoint.key_required or environ.get(key_in, "").strip()):
        key = _value(key_in, environ, endpoint, "its key")
        headers["Authorization"] = f"Bearer {key}"
        hidden.append(key)
    return Secrets(headers, tuple(_longest_first(hidden)))


def _value(variable: str, environ: Mapping[str, str], endpoint: OpenAIEndpoint, what: str) -> str:
    value = environ.get(variable, "").strip()
    if not value:
        raise MissingKey(
            f"endpoint {endpoint.name!r} needs {what} from the environment variable {variable}, which is not set"
        )
    if not _SENDABLE.fullmatch(value):
        raise MissingKey(
            f"endpoint {endpoint.name!r} needs {what} from the environment variable {variable}, "
            "which has characters that cannot be sent"
        )
    return value


def _longest_first(values: Iterable[str]) -> list[str]:
    return sorted({value for value in values if len(value) >= _SHORTEST}, key=len, reverse=True)

"""What must not be stored or shown: which headers and parameters are secrets, and how they are blotted out."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from urllib.parse import unquote

HIDDEN = "***"

_SECRET_HEADERS = frozenset(
    {"authorization", "proxy-authorization", "authentication-info", "proxy-authentication-info", "cookie", "cookie2"}
    | {"set-cookie", "set-cookie2", "x-api-key", "api-key", "apikey", "x-auth-key", "x-auth", "x-amz-signature"}
)
_SECRET_WORDS = re.compile(
    r"token|secret|passw|passphrase|credential|signature|authoriz|api[-_]?key|access[-_]?key|private[-_]?key|session[-_]?id|jwt",
    re.IGNORECASE,
)
"""Parts of a name that mean a secret, be it a header's or a parameter's."""

_SECRET_PARAMETERS = frozenset({"key", "sig", "auth", "pwd", "pass", "code", "sid", "hmac"})
"""Names of parameters that do, as a whole."""

_HEADERS_WITH_URLS = frozenset({"location", "content-location", "refresh", "link"})

_USERINFO = re.compile(r"(?<=//)[^/?#\s]*@")
_PARAMETER = re.compile(r"(?<=[?&;#])([^=&;#?\s]+)=([^&;#\s>]*)")

_SHORTEST_SECRET = 6
"""Bytes; what is shorter is in every other text by chance."""


def is_secret_header(name: str, more: Collection[str] = ()) -> bool:
    """Whether a header's value is a secret, judging by its name; `more` are further names in lower case."""
    name = name.lower()
    return name in _SECRET_HEADERS or name in more or _SECRET_WORDS.search(name) is not None


def redact_url(url: str) -> str:
    """The URL, or a text with URLs in it, without user and password and without the values of secret parameters."""
    return _PARAMETER.sub(_hidden_parameter, _USERINFO.sub(f"{HIDDEN}@", url))


def redact_headers(headers: Iterable[tuple[str, str]], scrub: Scrubber, more: Collection[str] = ()) -> dict[str, str]:
    """The headers by their names in lower case, those of one name joined by commas, and secrets blotted out."""
    found: dict[str, str] = {}
    for name, value in ((name.lower(), value) for name, value in headers):
        if is_secret_header(name, more):
            found[name] = HIDDEN
            continue
        shown = scrub.text(redact_url(value) if name in _HEADERS_WITH_URLS else value)
        found[name] = f"{found[name]}, {shown}" if name in found else shown
    return found


class Scrubber:
    """Blots out secrets that are known, wherever they stand: a server may send back what it was sent."""

    def __init__(self, secrets: Iterable[bytes] = ()) -> None:
        known = sorted({secret for secret in secrets if len(secret) >= _SHORTEST_SECRET}, key=len, reverse=True)
        self._pattern = re.compile(b"|".join(map(re.escape, known))) if known else None
        self._known = known

    def text(self, text: str) -> str:
        """The text without the secrets."""
        if self._pattern is None:
            return text
        return self._pattern.sub(HIDDEN.encode(), text.encode("utf-8", "surrogateescape")).decode(
            "utf-8", "surrogateescape"
        )

    def stream(self) -> ScrubbedStream:
        """For bytes that come in pieces."""
        return ScrubbedStream(self._pattern, self._known)


class ScrubbedStream:
    """Blots out secrets in bytes that come in pieces, holding back only what may be the beginning of one."""

    def __init__(self, pattern: re.Pattern[bytes] | None, known: Collection[bytes]) -> None:
        self._pattern = pattern
        self._known = known
        self._held = b""

    def feed(self, data: bytes) -> bytes:
        """What can be passed on by now."""
        if self._pattern is None:
            return data
        data = self._pattern.sub(HIDDEN.encode(), self._held + data)
        cut = len(data) - self._beginning(data)
        self._held = data[cut:]
        return data[:cut]

    def end(self) -> bytes:
        """What was held back, and is no secret as it turns out."""
        held, self._held = self._held, b""
        return held

    def _beginning(self, data: bytes) -> int:
        """The most bytes at the end with which a secret begins."""
        longest = 0
        for secret in self._known:
            for size in range(min(len(secret) - 1, len(data)), longest, -1):
                if data.endswith(secret[:size]):
                    longest = size
                    break
        return longest


def _hidden_parameter(found: re.Match[str]) -> str:
    name = found[1]
    plain = unquote(name)
    secret = plain.lower() in _SECRET_PARAMETERS or _SECRET_WORDS.search(plain) is not None
    return f"{name}={HIDDEN}" if secret and found[2] else found[0]

"""What an HTTP task says, and what it gives back."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any, Literal

from attrs import field, frozen

from oq_http.redaction import redact_url

Value = str | int | float | bool
"""What a parameter or a field of a form may be."""

SUCCESS = ("200-299",)
"""The statuses that are expected where a task does not say."""


@frozen(kw_only=True)
class RequestPayload:
    """One request. `oq_http.rules` says what a good one is."""

    method: str = "GET"
    url: str
    headers: Mapping[str, str | tuple[str, ...]] = field(factory=dict)
    """By name; a list where one is to be sent several times."""
    header: Mapping[str, str | tuple[str, ...]] | None = None
    """The same, as GoPherQ calls it."""
    params: Mapping[str, Value | tuple[Value, ...]] = field(factory=dict)
    """Added to the query of the URL."""
    json: Any = None
    """The body, as a value that is sent as JSON. None sends nothing; `body="null"` sends a null."""
    body: str | None = None
    """The body, sent as UTF-8."""
    body_base64: str | None = None
    """The body, for bytes that are no text."""
    form: Mapping[str, Value | tuple[Value, ...]] | None = None
    """The body, as the fields of a form."""
    auth: str | None = None
    """The name of a table `[http.auth.NAME]` in the settings, whose secret is sent."""
    expect: tuple[int | str, ...] = SUCCESS
    """The statuses that mean success: `204`, `"200-299"` or `"2xx"`."""
    redirects: int | None = None
    """How many redirects are followed; what the settings allow when None."""
    connect_timeout: float | None = None
    """Seconds to find the host, to connect and to agree on TLS; as in the settings when None, like the next two."""
    read_timeout: float | None = None
    """Seconds of silence, before the answer or in the middle of it."""
    write_timeout: float | None = None
    """Seconds in which nothing of the request can be sent."""
    stream: bool = False
    """Whether the body is passed on in chunks while it comes."""


@frozen(kw_only=True)
class HttpResult:
    """An answer that was expected."""

    status: int
    headers: Mapping[str, str]
    """By their names in lower case; secrets are replaced by `***`."""
    body: Any = None
    """What `kind` says."""
    kind: Literal["text", "json", "base64"]
    """Whether the body is text, the value that its JSON stands for, or bytes in base64."""
    url: str
    """Where the answer came from, after redirects."""
    redirects: tuple[str, ...] = ()
    """The URLs that led there."""
    duration: float
    """Seconds from the first request to the end of the last answer."""

    @property
    def content(self) -> bytes:
        """The bytes of a body that is text or base64; raises TypeError where it is JSON."""
        if self.kind == "json":
            raise TypeError("the body was JSON, and is in `body` as a value")
        return base64.b64decode(self.body) if self.kind == "base64" else str(self.body).encode()


def describe(payload: RequestPayload) -> str:
    """Method and URL, without the secrets in it."""
    return f"{payload.method.upper()} {redact_url(payload.url)}"

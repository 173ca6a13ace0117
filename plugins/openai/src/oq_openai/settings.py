"""What an administrator decides about OpenAI-compatible servers: where they are, which keys they get, how long to wait.

A key never stands in the settings: they name the environment variable that has it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import SplitResult, urlsplit

from attrs import Attribute, field, frozen
from attrs.validators import and_, ge, gt, le

from oq import (
    InvalidSettings,
    Pace,
    RestPolicy,
    Routing,
    endpoint_name,
    header_variables,
    http_headers,
    plain_text,
    variable_name,
)

DEFAULT_URL: Final = "https://api.openai.com/v1"
DEFAULT_ENDPOINT: Final = "default"
"""What the one endpoint is called that is made of `base_url`."""
URL_VARIABLE: Final = "OPENAI_BASE_URL"
KEY_VARIABLE: Final = "OPENAI_API_KEY"
"""Where the tools of OpenAI look as well."""


def parse_url(text: str) -> SplitResult:
    """The parts of a base URL. Raises ValueError with a sentence that does not repeat what may be a secret."""
    try:
        url = urlsplit(text)
        port = url.port
    except ValueError:
        raise ValueError("it is no URL; write it like http://localhost:8000/v1") from None
    if url.scheme not in ("http", "https") or not url.hostname or port == 0 or re.search(r"[\s\x00-\x1f]", text):
        raise ValueError("write it like http://localhost:8000/v1")
    if "@" in url.netloc:
        raise ValueError("it must not contain a user or password; put the key in an environment variable")
    if url.fragment:
        raise ValueError("it must not contain a #")
    return url


def _url(_self: object, attribute: Attribute[Any], value: str | None) -> None:
    if value is not None:
        try:
            parse_url(value)
        except ValueError as error:
            raise ValueError(f"{attribute.name!r} must be the base URL of an API: {error}") from None


@frozen(kw_only=True)
class OpenAIEndpoint:
    """One table `[[openai.endpoints]]`: a server that answers."""

    name: str = field(validator=endpoint_name)
    """What it is called in `executed_on`, in logs and in the pool `openai:NAME`."""
    url: str = field(validator=_url)
    """The base URL, with its `/v1`. What stands behind a `?` is sent along with every request."""
    api_key_env: str | None = field(default=None, validator=variable_name)
    """The environment variable that has the key; without one, none is sent."""
    key_required: bool = True
    """Whether nothing is sent while that variable is not set."""
    organization: str | None = field(default=None, validator=plain_text)
    """Sent as `OpenAI-Organization`."""
    project: str | None = field(default=None, validator=plain_text)
    """Sent as `OpenAI-Project`."""
    headers: Mapping[str, str] = field(factory=dict, validator=http_headers, repr=False)
    """Sent with every request."""
    headers_env: Mapping[str, str] = field(factory=dict, validator=header_variables)
    """Likewise; each value is the name of the environment variable that has it."""
    priority: int = 0
    """Those with a higher one are taken first."""
    enabled: bool = True
    concurrency: int = field(default=8, validator=ge(1))
    """How many tasks it is given at once."""
    models: tuple[str, ...] = ()
    """Patterns (`*`, `?`, `[…]`) of the models that it serves; all when empty."""
    remote: bool = False
    """Whether it is to be saved for tasks that ask for it and for urgent ones (`local_first`)."""
    stream_options: bool = True
    """Whether the server knows `stream_options`, by which it is asked to count the tokens of a stream."""


@frozen(kw_only=True)
class OpenAISettings:
    """The table `[openai]`."""

    base_url: str | None = field(default=None, validator=_url)
    """Of the one server, where there are no `endpoints`; `OPENAI_BASE_URL` when None, and OpenAI's when that is not
    set."""
    api_key_env: str = field(default=KEY_VARIABLE, validator=variable_name)
    """The environment variable that has its key. Where it is not set, none is sent: local servers need none."""
    organization: str | None = field(default=None, validator=plain_text)
    """Sent as `OpenAI-Organization`."""
    project: str | None = field(default=None, validator=plain_text)
    """Sent as `OpenAI-Project`."""
    headers: Mapping[str, str] = field(factory=dict, validator=http_headers, repr=False)
    """Sent with every request."""
    headers_env: Mapping[str, str] = field(factory=dict, validator=header_variables)
    """Likewise; each value is the name of the environment variable that has it."""
    concurrency: int = field(default=8, validator=ge(1))
    """How many tasks it is given at once."""
    stream_options: bool = True
    """Whether it knows `stream_options`, by which it is asked to count the tokens of a stream."""
    endpoints: tuple[OpenAIEndpoint, ...] = ()
    """The servers; without any there is one, `default`, made of the fields above."""
    routing: Routing = field(factory=Routing)
    """When remote endpoints are used, where there are local ones too."""
    rest: RestPolicy = field(factory=RestPolicy)
    """When an endpoint that fails is left alone, and for how long."""
    health_check_interval: float = field(default=30.0, validator=gt(0))
    """Seconds between two looks at whether an endpoint is there; `inf` looks only before one that rested is tried."""
    connect_timeout: float = field(default=10.0, validator=and_(gt(0), le(3600)))
    """Seconds to get a connection."""
    first_byte_timeout: float = field(default=300.0, validator=gt(0))
    """Seconds from the request to the first piece of the answer."""
    chunk_timeout: float = field(default=60.0, validator=gt(0))
    """Seconds between two pieces; what a server sends to keep the connection alive counts as one."""
    trust_env: bool = True
    """Whether the environment's proxies (`HTTPS_PROXY`, `NO_PROXY`, …) are used; for this machine they never are."""

    def __attrs_post_init__(self) -> None:
        if self.endpoints:
            told = (self.base_url, self.organization, self.project, self.headers, self.headers_env)
            if any(told) or self.api_key_env != KEY_VARIABLE:
                raise ValueError("beside endpoints, url, key and headers belong to each of [[openai.endpoints]]")

    @property
    def pace(self) -> Pace:
        """How long to wait for the pieces of an answer."""
        return Pace(first=self.first_byte_timeout, between=self.chunk_timeout)

    def servers(self, environ: Mapping[str, str]) -> tuple[OpenAIEndpoint, ...]:
        """The endpoints; made of `base_url` or the environment where none are set. Raises InvalidSettings."""
        if self.endpoints:
            return self.endpoints
        try:
            parse_url(url := self.base_url or environ.get(URL_VARIABLE) or DEFAULT_URL)
        except ValueError as error:
            raise InvalidSettings(f"must be the base URL of an API: {error}", URL_VARIABLE) from None
        return (
            OpenAIEndpoint(
                name=DEFAULT_ENDPOINT,
                url=url,
                api_key_env=self.api_key_env,
                key_required=False,
                organization=self.organization,
                project=self.project,
                headers=self.headers,
                headers_env=self.headers_env,
                concurrency=self.concurrency,
                stream_options=self.stream_options,
            ),
        )

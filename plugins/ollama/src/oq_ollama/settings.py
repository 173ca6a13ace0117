"""What an administrator decides about Ollama: which servers there are, how they share the work, how long to wait."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal

from attrs import Attribute, Factory, field, frozen
from attrs.validators import and_, ge, gt, le

from oq import (
    InvalidSettings,
    Pace,
    RestPolicy,
    Routing,
    endpoint_name,
    header_variables,
    http_headers,
    variable_name,
)
from oq_ollama.host import DEFAULT_URL, parse_host

HOST_VARIABLE: Final = "OLLAMA_HOST"
"""Where Ollama's own tools look for their server."""


def _address(_self: object, attribute: Attribute[Any], value: str | None) -> None:
    if value is not None:
        try:
            parse_host(value)
        except ValueError as error:
            raise ValueError(f"{attribute.name!r} must be an address: {error}") from None


@frozen(kw_only=True)
class OllamaEndpoint:
    """One table `[[ollama.endpoints]]`: a server that answers."""

    name: str = field(validator=endpoint_name)
    """What it is called in `executed_on`, in logs and in the pool `ollama:NAME`."""
    kind: Literal["ollama", "openai"] = "ollama"
    """`openai`: the tasks are handed to the executor of that name (package oq-openai)."""
    url: str | None = field(default=None, validator=_address)
    """Of an Ollama server; in any form that `OLLAMA_HOST` may have."""
    endpoint: str = field(default=Factory(lambda self: self.name, takes_self=True), validator=endpoint_name)
    """With the kind `openai`: which `[[openai.endpoints]]` takes the tasks; the one of the same name when not given."""
    priority: int = 0
    """Those with a higher one are taken first."""
    enabled: bool = True
    concurrency: int = field(default=1, validator=ge(1))
    """How many tasks it is given at once: the server's `OLLAMA_NUM_PARALLEL`. With the kind `openai`, the other
    executor's settings say that."""
    models: tuple[str, ...] = ()
    """Patterns (`*`, `?`, `[…]`) of the models that it serves; all when empty."""
    remote: bool = False
    """Whether it is to be saved for tasks that ask for it and for urgent ones (`local_first`)."""
    headers: Mapping[str, str] = field(factory=dict, validator=http_headers, repr=False)
    """Sent with every request."""
    headers_env: Mapping[str, str] = field(factory=dict, validator=header_variables)
    """Likewise; each value is the name of the environment variable that has it."""
    api_key_env: str | None = field(default=None, validator=variable_name)
    """The environment variable with a key, which is sent as `Authorization: Bearer …`."""

    def __attrs_post_init__(self) -> None:
        if self.kind == "ollama" and self.url is None:
            raise ValueError(f'endpoint {self.name!r} needs a url, such as url = "http://localhost:11434"')
        if self.kind == "openai" and (self.url or self.headers or self.headers_env or self.api_key_env):
            raise ValueError(
                f"endpoint {self.name!r} is of the kind openai: url, headers and key belong to [[openai.endpoints]]"
            )

    @property
    def base_url(self) -> str:
        """The URL without a slash at the end."""
        return parse_host(self.url or "")


@frozen(kw_only=True)
class OllamaSettings:
    """The table `[ollama]`."""

    host: str | None = field(default=None, validator=_address)
    """The one server, where there are no `endpoints`; `OLLAMA_HOST` when None, and this machine where that is not
    set either."""
    endpoints: tuple[OllamaEndpoint, ...] = ()
    """The servers. Without any there is one, `local`, made from `host`."""
    routing: Routing = field(factory=Routing)
    """When remote endpoints are used, where there are local ones too."""
    rest: RestPolicy = field(factory=RestPolicy)
    """When an endpoint that fails is left alone, and for how long."""
    health_check_interval: float = field(default=30.0, validator=gt(0))
    """Seconds between two looks at whether an endpoint is there; `inf` looks only before one that rested is tried."""
    connect_timeout: float = field(default=5.0, validator=and_(gt(0), le(3600)))
    """Seconds to get a connection."""
    first_byte_timeout: float = field(default=300.0, validator=gt(0))
    """Seconds from the request to the first piece of the answer; a model that is loaded first takes its time."""
    chunk_timeout: float = field(default=60.0, validator=gt(0))
    """Seconds between two pieces."""
    pull_missing: bool = False
    """Whether a model that a server does not have is pulled there, rather than the task refused."""
    trust_env: bool = False
    """Whether the environment's proxies (`HTTP_PROXY`, …) are used."""

    def __attrs_post_init__(self) -> None:
        if self.host is not None and self.endpoints:
            raise ValueError("host and endpoints exclude each other; give the host as the url of one of the endpoints")

    @property
    def pace(self) -> Pace:
        """How long to wait for the pieces of an answer."""
        return Pace(first=self.first_byte_timeout, between=self.chunk_timeout)

    def servers(self, environ: Mapping[str, str]) -> tuple[OllamaEndpoint, ...]:
        """The endpoints; made from `host` or the environment where none are set. Raises InvalidSettings."""
        if self.endpoints:
            return self.endpoints
        if self.host is not None:
            return (OllamaEndpoint(name="local", url=self.host),)
        try:
            url = parse_host(environ.get(HOST_VARIABLE, "") or DEFAULT_URL)
        except ValueError as error:
            raise InvalidSettings(str(error), HOST_VARIABLE) from None
        return (OllamaEndpoint(name="local", url=url),)

"""What an administrator decides about requests: where they may go, which secrets they carry, what they may take."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from ipaddress import ip_network
from typing import Any

from attrs import Attribute, field, frozen
from attrs.validators import and_, ge, le

LONGEST_TIMEOUT = 86400.0

_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HOST_PATTERN = re.compile(r"[^\s/@\[\]]+")
_seconds = and_(ge(0.001), le(LONGEST_TIMEOUT))


def _networks(_self: object, attribute: Attribute[Any], value: Iterable[str]) -> None:
    for network in value:
        try:
            ip_network(network)
        except ValueError as error:
            raise ValueError(f'{attribute.name}: {error}; write networks like "10.0.0.0/8" or "fd00::/8"') from None


def _hosts(_self: object, attribute: Attribute[Any], value: Iterable[str]) -> None:
    for host in value:
        if not _HOST_PATTERN.fullmatch(host) or host.count(":") == 1:
            raise ValueError(
                f'{attribute.name}: {host!r} is no host; write it like "example.com", "*.example.com" or "10.0.0.1"'
            )


def _header_name(_self: object, attribute: Attribute[Any], value: str | None) -> None:
    if value is not None and not _HEADER_NAME.fullmatch(value):
        raise ValueError(f"{attribute.name}: {value!r} is no name of a header")


def _some(_self: object, attribute: Attribute[Any], value: tuple[str, ...]) -> None:
    if not value:
        raise ValueError(f'{attribute.name} must say where this secret may be sent, such as ["api.example.com"]')


def _proxy_url(_self: object, attribute: Attribute[Any], value: str | None) -> None:
    if value is not None and not re.fullmatch(r"https?://[^\s/?#]+/?", value):
        raise ValueError(f'{attribute.name} must be the URL of an HTTP proxy, such as "http://proxy.local:3128"')


def _printable(_self: object, attribute: Attribute[Any], value: str) -> None:
    if not value.isprintable():
        raise ValueError(f"{attribute.name} must not contain line breaks or other control characters")


@frozen(kw_only=True)
class AuthSettings:
    """A table `[http.auth.NAME]`: a secret that tasks use by its name, and where it may be sent.

    It is `bearer`, or `username` with `password`, or `header` with `value`. In a file, `${NAME}` stands for the
    environment variable of that name; `${NAME:-}` lets it be missing where tasks are only submitted.
    """

    hosts: tuple[str, ...] = field(validator=[_some, _hosts])
    """The hosts that get it: names, addresses, or patterns such as `*.example.com`."""
    bearer: str | None = field(default=None, repr=False)
    """A token, sent as `Authorization: Bearer …`."""
    username: str | None = None
    """Sent with `password` as `Authorization: Basic …`."""
    password: str | None = field(default=None, repr=False)
    header: str | None = field(default=None, validator=_header_name)
    """The name of a header, sent with `value`."""
    value: str | None = field(default=None, repr=False)

    def __attrs_post_init__(self) -> None:
        given = tuple(
            name for name in ("bearer", "username", "password", "header", "value") if getattr(self, name) is not None
        )
        if given not in (("bearer",), ("username", "password"), ("header", "value")):
            raise ValueError("give bearer, or username and password, or header and value")


@frozen(kw_only=True)
class HttpSettings:
    """The table `[http]`."""

    auth: Mapping[str, AuthSettings] = field(factory=dict)
    """Secrets by name."""
    allowed_hosts: tuple[str, ...] = field(default=(), validator=_hosts)
    """Where not empty, the only hosts that requests go to; `*` stands for anything."""
    denied_hosts: tuple[str, ...] = field(default=(), validator=_hosts)
    """Hosts that no request goes to, allowed or not."""
    allowed_networks: tuple[str, ...] = field(default=(), validator=_networks)
    """Where not empty, the only networks that connections are made to."""
    denied_networks: tuple[str, ...] = field(default=(), validator=_networks)
    """Networks that no connection is made to, allowed or not."""
    allow_metadata: bool = False
    """Whether link-local addresses and the metadata services of clouds may be asked; they hand out credentials."""
    allow_secret_headers: bool = False
    """Whether a task may carry headers such as `Authorization`, which are then stored with it."""
    secret_headers: tuple[str, ...] = ()
    """Further names of headers that are never stored or shown."""
    proxy: str | None = field(default=None, validator=_proxy_url, repr=False)
    """The URL of a proxy for all requests. The variables HTTP_PROXY and the like are not read."""
    ca_file: str | None = None
    """A file of certificates to trust besides the usual ones."""
    user_agent: str = field(default="oq-http", validator=_printable)
    connect_timeout: float = field(default=10.0, validator=_seconds)
    """Seconds to find the host, to connect and to agree on TLS."""
    read_timeout: float = field(default=60.0, validator=_seconds)
    """Seconds of silence, before the answer or in the middle of it."""
    write_timeout: float = field(default=60.0, validator=_seconds)
    """Seconds in which nothing of the request can be sent."""
    max_redirects: int = field(default=5, validator=[ge(0), le(100)])
    """How many redirects are followed."""
    max_body: int = field(default=2**23, validator=ge(0))
    """Bytes of an answer's body, unpacked; a longer one is a failure."""
    max_failure_body: int = field(default=2**12, validator=ge(0))
    """Bytes that a failure keeps of the body."""
    keep_connections: int = field(default=20, validator=ge(0))
    """How many idle connections are kept for the next request."""

"""Reads the address of an Ollama server, in all the forms in which people and `OLLAMA_HOST` write it."""

from __future__ import annotations

import re
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import Final

DEFAULT_PORT: Final = 11434
DEFAULT_URL: Final = f"http://127.0.0.1:{DEFAULT_PORT}"

_PORTS: Final = {"http": 80, "https": 443}
"""The port of an address that has a scheme but no port, as Ollama itself has it."""
_EVERYWHERE: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  # told apart, not listened on
"""Addresses to listen on, which a server's own setting may have, and what a client means by them."""
_NAME: Final = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_.])?")
_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*")
_PATH: Final = re.compile(r"[A-Za-z0-9._~!$&'()*+,;=:@/%-]*")


def parse_host(text: str) -> str:
    """The URL of the server, without a slash at the end: `host`, `host:port`, `:port`, `[::1]:port`, `https://host/path`.

    An empty text means the server of this machine. Raises ValueError with a sentence.
    """
    given = text.strip().strip("\"'").strip()
    scheme, separator, rest = given.partition("://")
    if not separator:
        scheme, rest = "http", given
    scheme = scheme.lower()
    if scheme not in _PORTS:
        raise _wrong(text, f"{scheme!r} is no scheme of it" if _SCHEME.fullmatch(scheme) else "the scheme is missing")
    place, _, path = rest.partition("/")
    if "@" in place:  # and do not repeat it
        raise ValueError("an address of a server has no user or password in it; name the key's variable in api_key_env")
    host, port = _split(place, text)
    if not _PATH.fullmatch(path):
        raise _wrong(text, "the path has characters that no URL has")
    number = _number(port, text) if port else (_PORTS[scheme] if separator else DEFAULT_PORT)
    below = path.strip("/")
    return f"{scheme}://{_shown(host, text)}:{number}{f'/{below}' if below else ''}"


def _split(place: str, text: str) -> tuple[str, str]:
    """Host and port; both may be empty."""
    if place.startswith("["):
        host, bracket, rest = place[1:].partition("]")
        if not bracket or not (rest == "" or rest.startswith(":")):
            raise _wrong(text, "the brackets around an IPv6 address are not closed")
        return host, rest[1:]
    if place.count(":") > 1:  # an IPv6 address without brackets, which has no port then
        return place, ""
    host, _, port = place.partition(":")
    return host, port


def _number(port: str, text: str) -> int:
    if not (port.isascii() and port.isdecimal()) or not 1 <= int(port[:9]) <= 65535:
        raise _wrong(text, f"{port!r} is no port; use 1 to 65535")
    return int(port)


def _shown(host: str, text: str) -> str:
    """The host as it stands in a URL."""
    if not host:
        return "127.0.0.1"
    if ":" in host:
        address, percent, zone = host.partition("%")
        try:
            address = str(IPv6Address(address))
        except AddressValueError:
            raise _wrong(text, f"{host!r} is no IPv6 address") from None
        if percent and not _NAME.fullmatch(zone):
            raise _wrong(text, f"{zone!r} is no zone of an IPv6 address")
        return f"[{_EVERYWHERE.get(address, address)}{percent}{zone}]"
    if not _NAME.fullmatch(host):
        raise _wrong(text, f"{host!r} is no name of a host")
    if all(part.isdecimal() for part in host.split(".")):
        try:
            host = str(IPv4Address(host))
        except AddressValueError:
            raise _wrong(text, f"{host!r} is no IPv4 address") from None
    return _EVERYWHERE.get(host, host.lower())


def _wrong(text: str, reason: str) -> ValueError:
    return ValueError(
        f"{text!r} is no address of a server: {reason}; write it like localhost:11434 or https://host/path"
    )

"""Where requests may go: pure rules about the names of hosts, and about the addresses that are then connected to.

Of an address it matters where its packets end up. `::ffff:169.254.169.254` is an IPv6 way to write an IPv4 address, and
networks that translate hide others in theirs; so an address is denied as soon as one of its `faces` is.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

from attrs import frozen

from oq_http.settings import HttpSettings

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


def _networks(names: Iterable[str]) -> tuple[Network, ...]:
    return tuple(ip_network(name) for name in names)


METADATA_NETWORKS: Final = _networks(
    (
        "169.254.0.0/16",  # link-local, and the metadata services of most clouds
        "fe80::/10",  # link-local
        "fd00:ec2::/32",  # Amazon
        "fd20:ce::/32",  # Google
        "fd00:42::42/128",  # Scaleway
        "100.100.100.200/32",  # Alibaba
        "192.0.0.192/32",  # Oracle
        "168.63.129.16/32",  # Azure
    )
)
"""Addresses of the link itself, and those at which clouds hand out the credentials of the machine to whoever asks."""

METADATA_HOSTS: Final = ("metadata", "metadata.google.internal", "metadata.goog", "instance-data", "instance-data.*")
"""Names by which those are known."""

NOBODY: Final = _networks(("224.0.0.0/4", "ff00::/8", "255.255.255.255/32"))
"""Addresses that stand for many machines; no connection can be made to them."""

_LOOPBACKS = (IPv4Address("127.0.0.1"), IPv6Address("::1"))
_THIS_HOST = IPv4Network("0.0.0.0/8")
_COMPATIBLE = IPv6Network("::/96")
_TRANSLATED = IPv6Network("64:ff9b::/96")
_TRANSLATED_LOCALLY = IPv6Network("64:ff9b:1::/48")
_TUNNEL_IDS = (0x0000_5EFE, 0x0200_5EFE)


@frozen(kw_only=True)
class Policy:
    """The rules of one set of settings. An objection is a sentence; None means that there is none."""

    allowed_hosts: tuple[str, ...]
    denied_hosts: tuple[str, ...]
    allowed_networks: tuple[Network, ...]
    denied_networks: tuple[Network, ...]
    metadata: bool
    """Whether link-local addresses and metadata services may be asked."""

    @classmethod
    def of(cls, settings: HttpSettings) -> Policy:
        return cls(
            allowed_hosts=tuple(map(_pattern, settings.allowed_hosts)),
            denied_hosts=tuple(map(_pattern, settings.denied_hosts)),
            allowed_networks=_networks(settings.allowed_networks),
            denied_networks=_networks(settings.denied_networks),
            metadata=settings.allow_metadata,
        )

    def host_objection(self, host: str) -> str | None:
        """What there is against a host, by its name; by its address where it is one."""
        name = plain_host(host)
        if not self.metadata and _matches(name, METADATA_HOSTS):
            return f"{host} is a metadata service of a cloud (allow_metadata in the table [http])"
        if _matches(name, self.denied_hosts):
            return f"{host} is denied by denied_hosts in the table [http]"
        if self.allowed_hosts and not _matches(name, self.allowed_hosts):
            return f"{host} is not among the allowed_hosts in the table [http]"
        try:
            address = ip_address(name)
        except ValueError:
            return None
        return self.address_objection(address)

    def address_objection(self, address: Address) -> str | None:
        """What there is against connecting to an address."""
        every = tuple(faces(address))
        if not self.metadata and _within(every, METADATA_NETWORKS):
            return f"{address} is link-local or a metadata service of a cloud (allow_metadata in the table [http])"
        if _within(every, self.denied_networks):
            return f"{address} is denied by denied_networks in the table [http]"
        if _within(every, NOBODY):
            return f"{address} is no address of a single machine"
        if self.allowed_networks and not _within((_destination(address),), self.allowed_networks):
            return f"{address} is not in the allowed_networks in the table [http]"
        return None


def plain_host(host: str) -> str:
    """The host as rules are written for it: in lower case, without a final dot, addresses in their usual form."""
    name = host.lower().rstrip(".").removeprefix("[").removesuffix("]")
    try:
        return str(ip_address(name))
    except ValueError:
        pass
    try:
        return str(IPv4Address(socket.inet_aton(name)))  # such as 127.1 or 0x7f000001, which systems take as well
    except (OSError, ValueError):
        pass
    return _in_ascii(name)


def host_matches(host: str, patterns: Iterable[str]) -> bool:
    """Whether one of the patterns, as settings give them, fits the host."""
    return _matches(plain_host(host), map(_pattern, patterns))


def faces(address: Address) -> Iterator[Address]:
    """The address, and every other one at which a packet to it may arrive."""
    if isinstance(address, IPv4Address):
        yield address
        if address in _THIS_HOST:
            yield from _LOOPBACKS
        return
    number = int(address)
    address = IPv6Address(number)  # without its zone
    yield address
    if address.is_unspecified:
        yield from _LOOPBACKS
    for inner in _carried(address, number):
        yield from faces(inner)


def _carried(address: IPv6Address, number: int) -> Iterator[IPv4Address]:
    """The IPv4 addresses inside of an IPv6 address."""
    last = IPv4Address(number & 0xFFFF_FFFF)
    if address.ipv4_mapped is not None or address in _TRANSLATED or address in _TRANSLATED_LOCALLY:
        yield last
    if address in _COMPATIBLE and number > 1:
        yield last
    if address in _TRANSLATED_LOCALLY:  # RFC 6052, 2.2: around the octet that is always zero
        yield IPv4Address((number >> 64 & 0xFFFF) << 16 | number >> 40 & 0xFFFF)
    if address.sixtofour is not None:
        yield address.sixtofour
    if address.teredo is not None:
        yield from address.teredo
    if number >> 32 & 0xFFFF_FFFF in _TUNNEL_IDS:
        yield last


def _destination(address: Address) -> Address:
    """The address that allowing must name: an IPv4 address may be written in IPv6, and 0.0.0.0 means this machine."""
    if isinstance(address, IPv6Address):
        address = address.ipv4_mapped or IPv6Address(int(address))
    if address.is_unspecified:
        return _LOOPBACKS[address.version == 6]
    return address


def _within(addresses: Iterable[Address], networks: tuple[Network, ...]) -> bool:
    return any(address in network for address in addresses for network in networks)


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _pattern(written: str) -> str:
    """A pattern of the settings in the form of `plain_host`."""
    return _in_ascii(written.lower().rstrip(".")) if set(written) & set("*?") else plain_host(written)


def _in_ascii(name: str) -> str:
    """A name in any alphabet as it is asked for in the network."""
    if name.isascii():
        return name
    import idna  # which httpx goes by, too; here, as such names are rare

    try:
        return ".".join(label if label.isascii() else idna.encode(label).decode("ascii") for label in name.split("."))
    except idna.IDNAError:
        return name  # it cannot be connected to

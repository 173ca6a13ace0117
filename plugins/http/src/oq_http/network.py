"""Connects to the very addresses that the policy was asked about: a name is resolved once, checked, and not again."""

from __future__ import annotations

import math
import os
import socket
import ssl
from collections.abc import Iterable, Sequence
from ipaddress import ip_address
from typing import Any

import httpcore
import trio

from oq import PermanentError
from oq_http.policy import Address, Policy

_HEAD_START = 0.25
"""Seconds that one address gets before the next one is tried as well."""

_CLOSING = 0.5
"""Seconds for a connection to be closed in good order; the other side may not be listening any more."""

SocketOption = tuple[int, int, int] | tuple[int, int, bytes | bytearray] | tuple[int, int, None, int]


class CheckedNetwork(httpcore.AsyncNetworkBackend):
    """How httpcore gets its connections."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._network = httpcore.TrioBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109  # httpcore's signature
        local_address: str | None = None,
        socket_options: Iterable[SocketOption] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """A connection to an address of this host that nothing speaks against; raises PermanentError without one."""
        try:
            with trio.fail_after(math.inf if timeout is None else timeout):
                addresses = self._allowed(host, await _resolve(host, port))
                return await self._first(addresses, port, local_address, socket_options)
        except trio.TooSlowError:
            raise httpcore.ConnectTimeout(f"no connection to {host}:{port}") from None

    async def sleep(self, seconds: float) -> None:
        await trio.sleep(seconds)

    def _allowed(self, host: str, addresses: Sequence[Address]) -> list[Address]:
        objections = {address: self._policy.address_objection(address) for address in addresses}
        allowed = [address for address in addresses if objections[address] is None]
        if not allowed:
            reasons = "; ".join(objection for objection in objections.values() if objection)
            raise PermanentError(f"requests to {host} are not allowed: {reasons}", type="NotAllowed")
        return allowed

    async def _first(
        self,
        addresses: Sequence[Address],
        port: int,
        local_address: str | None,
        socket_options: Iterable[SocketOption] | None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect to whichever answers first; each gets a head start before the next."""
        streams: list[httpcore.AsyncNetworkStream] = []
        errors: list[Exception] = []

        async def attempt(address: Address, over: trio.Event) -> None:
            try:
                stream = await self._network.connect_tcp(
                    str(address), port, local_address=local_address, socket_options=socket_options
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                errors.append(error)
                over.set()
            else:
                streams.append(stream)
                nursery.cancel_scope.cancel()

        try:
            async with trio.open_nursery() as nursery:
                for address in addresses:
                    over = trio.Event()
                    nursery.start_soon(attempt, address, over)
                    with trio.move_on_after(_HEAD_START):
                        await over.wait()
            if not streams:
                reasons = "; ".join(dict.fromkeys(_reason(error) for error in errors))
                raise httpcore.ConnectError(reasons) from errors[0]
            return _Stream(streams.pop(0))
        finally:
            with trio.CancelScope(shield=True):
                for stream in streams:
                    await stream.aclose()


class _Stream(httpcore.AsyncNetworkStream):
    """A connection whose end takes no time, whatever the other side does."""

    def __init__(self, stream: httpcore.AsyncNetworkStream) -> None:
        self._stream = stream

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109  # httpcore's signature
        return await self._stream.read(max_bytes, timeout)

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109  # likewise
        await self._stream.write(buffer, timeout)

    async def aclose(self) -> None:
        with trio.move_on_after(_CLOSING):
            await self._stream.aclose()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109  # likewise
    ) -> httpcore.AsyncNetworkStream:
        try:
            return _Stream(await self._stream.start_tls(ssl_context, server_hostname, timeout))
        except trio.Cancelled:  # httpcore closes it after errors only
            with trio.CancelScope(shield=True):
                await self.aclose()
            raise

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


async def _resolve(host: str, port: int) -> list[Address]:
    """Every address of the host, best first."""
    try:
        found = await trio.socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise httpcore.ConnectError(f"the name {host} cannot be resolved: {reason}") from error
    return list(dict.fromkeys(ip_address(str(place[0])) for *_, place in found))


def _reason(error: BaseException) -> str:
    """What the system says about a connection that failed."""
    inner: BaseException | None = error
    while inner is not None:
        if isinstance(inner, BaseExceptionGroup):
            inner = inner.exceptions[0]
        elif isinstance(inner, OSError) and inner.errno:
            return os.strerror(inner.errno)
        else:
            inner = inner.__cause__ or inner.__context__
    return str(error)

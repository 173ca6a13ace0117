"""The server's end of an HTTP connection: the requests that come by it, and ways to answer and to break it."""

from __future__ import annotations

import json
import socket
import ssl
import struct
from collections.abc import Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import h11
import trio
from attrs import define, field, frozen

_READ_SIZE = 2**16
_LONGEST_HEAD = 2**20
_RESET = struct.pack("ii", 1, 0)
"""The value of SO_LINGER by which closing a socket resets its connection."""


@define(eq=False)
class Ending:
    """How an exchange ended, filled in when it has."""

    closed: trio.Event = field(factory=trio.Event)
    closed_at: float | None = None
    disconnected: bool = False

    def happened(self, *, disconnected: bool = False) -> None:
        """Now; what is told later changes nothing."""
        if not self.closed.is_set():
            self.closed_at = trio.current_time()
            self.disconnected = disconnected
            self.closed.set()


@frozen(kw_only=True, eq=False)
class HttpRequest:
    """A request as it arrived, and how its exchange ended."""

    method: str
    target: str
    """As it was sent: path and query."""
    path: str
    """Decoded, without the query."""
    query: Mapping[str, tuple[str, ...]]
    """Every value of each parameter."""
    headers: Mapping[str, str]
    """By their names in lower case; the values of one that was given several times are joined by commas."""
    body: bytes
    connection: int
    """Which connection it came by, counted from 1."""
    arrived_at: float
    """The moment when it had arrived whole, by `trio.current_time()`."""
    ending: Ending = field(factory=Ending, repr=False)
    """What the three properties below tell, as soon as it is known."""

    def json(self) -> Any:
        """What the body says."""
        return json.loads(self.body)

    @property
    def closed(self) -> trio.Event:
        """Set when the answer is complete, the client has gone away, or the server has cut the connection."""
        return self.ending.closed

    @property
    def closed_at(self) -> float | None:
        """The moment of that, by `trio.current_time()`; None before it."""
        return self.ending.closed_at

    @property
    def disconnected(self) -> bool:
        """Whether the client went away before it had its answer."""
        return self.ending.disconnected


class Wire:
    """One connection. Whatever sends or receives raises `trio.BrokenResourceError` when the client has gone away."""

    def __init__(self, number: int, stream: trio.SocketStream, tls: ssl.SSLContext | None) -> None:
        self.usable = True
        """Whether another request can come by it."""
        self._number = number
        self._socket = stream.socket
        self._stream: trio.abc.Stream = stream
        if tls is not None:
            self._stream = trio.SSLStream(stream, tls, server_side=True, https_compatible=True)
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=_LONGEST_HEAD)

    async def next_request(self) -> HttpRequest | None:
        """The next request with all of its body; None when there is none any more."""
        try:
            return await self._next_request()
        except h11.RemoteProtocolError as error:
            with suppress(h11.LocalProtocolError):
                await self.send(h11.Response(status_code=400, headers=[("Connection", "close")]))
                await self.send(h11.Data(data=str(error).encode()), h11.EndOfMessage())
            return None

    async def send(self, *events: h11.Event) -> None:
        """Send the events of an answer in one go."""
        await self.send_bytes(b"".join(self._http.send(event) or b"" for event in events))

    async def send_bytes(self, data: bytes) -> None:
        """Send what need not be HTTP."""
        await self._stream.send_all(data)

    async def watch(self) -> None:
        """Return when the client has gone away, or the connection was closed here."""
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            while data := await self._stream.receive_some(_READ_SIZE):
                self._http.receive_data(bytes(data))  # the beginning of its next request
        self.usable = False

    def renew(self) -> None:
        """Get ready for the next request, if this exchange left things so that there can be one."""
        if self._http.our_state is h11.DONE and self._http.their_state is h11.DONE:
            self._http.start_next_cycle()
        else:
            self.usable = False

    async def cut(self) -> None:
        """Reset the connection."""
        self.usable = False
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        await trio.aclose_forcefully(self._stream)

    async def close(self) -> None:
        """Close the connection in good order."""
        self.usable = False
        await self._stream.aclose()

    async def _next_request(self) -> HttpRequest | None:
        head, body = None, bytearray()
        while self.usable:
            event = self._http.next_event()
            if event is h11.NEED_DATA:
                if self._http.they_are_waiting_for_100_continue:
                    await self.send(h11.InformationalResponse(status_code=100, headers=[]))
                if not (data := await self._stream.receive_some(_READ_SIZE)):
                    return None
                self._http.receive_data(bytes(data))
            elif isinstance(event, h11.Request):
                head = event
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage) and head is not None:
                return _request(head, bytes(body), self._number)
            else:
                return None
        return None


def _request(head: h11.Request, body: bytes, connection: int) -> HttpRequest:
    headers: dict[str, str] = {}
    for name, value in ((name.decode(), value.decode("latin-1")) for name, value in head.headers):
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    target = head.target.decode("latin-1")
    url = urlsplit(target)
    query: dict[str, tuple[str, ...]] = {}
    for name, value in parse_qsl(url.query, keep_blank_values=True):
        query[name] = (*query.get(name, ()), value)
    return HttpRequest(
        method=head.method.decode(),
        target=target,
        path=unquote(url.path),
        query=query,
        headers=headers,
        body=body,
        connection=connection,
        arrived_at=trio.current_time(),
    )

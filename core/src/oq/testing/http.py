"""A small HTTP server that fails on purpose, for those who write executors and clients that speak HTTP.

It speaks real HTTP/1.1 over a real socket of this machine. A handler of the test's own answers each request, well or
badly:

    async def handler(request, exchange):
        if request.path == "/slow":
            await exchange.stall()  # until the client has had enough
        await exchange.respond_json(200, {"you": "said", "what": request.json()})

    async with serve_http(handler) as server:
        answer = await client.post(f"{server.url}/echo", json=1)
    assert server.requests[0].json() == 1

Whole answers: `respond`, `respond_json`. In pieces: `start`, `send`, `end`. Faults: `cut` (a reset in the middle),
`close` (an orderly end where more was promised), `stall` (silence), `send_raw` (what is no HTTP). A handler that
returns without having answered closes the connection. One whose client goes away is cancelled at once, and its request
says so. For connections that are refused there is `refused_url`; as a command for other programs, the server runs by
`run_http`.
"""

from __future__ import annotations

import json
import signal
import socket
import ssl
import sys
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial

import h11
import trio

from oq.testing.http_wire import HttpRequest, Wire

__all__ = ["HttpExchange", "HttpHandler", "HttpRequest", "HttpServer", "refused_url", "run_http", "serve_http"]

Headers = Mapping[str, str] | Iterable[tuple[str, str]]
"""Names and values, in any case; pairs where one name comes several times."""

_WITHOUT_BODY = (204, 304)
"""Statuses of answers that have none, nor a length."""


class HttpExchange:
    """The server's side of one request."""

    def __init__(self, request: HttpRequest, wire: Wire) -> None:
        self.request = request
        self._wire = wire

    async def respond(self, status: int, body: bytes | str = b"", headers: Headers = ()) -> None:
        """Answer whole, with its length."""
        data = body.encode() if isinstance(body, str) else body
        length = [] if status in _WITHOUT_BODY else [("Content-Length", str(len(data)))]
        events: list[h11.Event] = [h11.Response(status_code=status, headers=[*_pairs(headers), *length])]
        if length and self.request.method != "HEAD":
            events.append(h11.Data(data=data))
        await self._send(*events, h11.EndOfMessage())

    async def respond_json(self, status: int, value: object, headers: Headers = ()) -> None:
        """Answer whole, with a value as JSON."""
        await self.respond(status, json.dumps(value), [("Content-Type", "application/json"), *_pairs(headers)])

    async def start(self, status: int = 200, headers: Headers = ()) -> None:
        """Begin an answer in pieces: in chunks, unless the headers give a length (which a fault need not keep)."""
        await self._send(h11.Response(status_code=status, headers=_pairs(headers)))

    async def send(self, data: bytes | str) -> None:
        """Send a piece, and return when the system has taken it."""
        await self._send(h11.Data(data=data.encode() if isinstance(data, str) else data))

    async def end(self) -> None:
        """Complete an answer in pieces."""
        await self._send(h11.EndOfMessage())

    async def send_raw(self, data: bytes) -> None:
        """Send these bytes as they are, whatever they break. The connection is closed when the handler returns."""
        await self._unless_gone(self._wire.send_bytes(data))

    async def cut(self) -> None:
        """Reset the connection. What the client has not read by then may be lost to it."""
        self.request.ending.happened()
        await self._wire.cut()

    async def close(self) -> None:
        """Close the connection in good order, in the middle of the answer or before it."""
        self.request.ending.happened()
        await self._wire.close()

    async def stall(self) -> None:
        """Say nothing, until the client goes away and the handler is cancelled by that."""
        await trio.sleep_forever()

    async def _send(self, *events: h11.Event) -> None:
        await self._unless_gone(self._wire.send(*events))
        if isinstance(events[-1], h11.EndOfMessage):
            self.request.ending.happened()

    async def _unless_gone(self, sending: Awaitable[None]) -> None:
        try:
            await sending
        except trio.BrokenResourceError:
            await self.request.closed.wait()  # whoever watches the connection sees it too,
            await trio.lowlevel.checkpoint()  # and has cancelled this handler by now


HttpHandler = Callable[[HttpRequest, HttpExchange], Awaitable[None]]


class HttpServer:
    """A server that runs: where it is, and what it was asked."""

    def __init__(self, url: str, port: int, remember: int | None) -> None:
        self.url = url
        """`http://127.0.0.1:PORT`, without a slash at the end."""
        self.port = port
        self.connections = 0
        """How many were made in all."""
        self.open_connections = 0
        """How many there are now."""
        self._seen: deque[HttpRequest] = deque(maxlen=remember)
        self._count = 0
        self._changed = trio.lowlevel.ParkingLot()

    @property
    def requests(self) -> tuple[HttpRequest, ...]:
        """The requests that have arrived, oldest first."""
        return tuple(self._seen)

    async def wait_requests(self, number: int) -> tuple[HttpRequest, ...]:
        """Return when so many requests have arrived in all, with what `requests` says then."""
        while self._count < number:
            await self._changed.park()
        return self.requests

    async def serve(self, handler: HttpHandler, tls: ssl.SSLContext | None, stream: trio.SocketStream) -> None:
        """Serve one connection to its end."""
        self.connections += 1
        self.open_connections += 1
        wire = Wire(self.connections, stream, tls)
        try:
            with suppress(trio.BrokenResourceError):  # the client left between two requests
                while (request := await wire.next_request()) is not None:
                    await self._answer(handler, request, wire)
                await wire.close()
        finally:
            self.open_connections -= 1
            await trio.aclose_forcefully(stream)

    async def _answer(self, handler: HttpHandler, request: HttpRequest, wire: Wire) -> None:
        """Let the handler answer while the connection is watched."""
        self._seen.append(request)
        self._count += 1
        self._changed.unpark_all()

        async def watch() -> None:
            await wire.watch()
            if not request.closed.is_set():
                request.ending.happened(disconnected=True)
                working.cancel()

        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(watch)
                with trio.CancelScope() as working:
                    await handler(request, HttpExchange(request, wire))
                nursery.cancel_scope.cancel()
        finally:
            request.ending.happened()
        wire.renew()


@asynccontextmanager
async def serve_http(
    handler: HttpHandler,
    port: int = 0,
    *,
    host: str = "127.0.0.1",
    tls: ssl.SSLContext | None = None,
    remember: int | None = None,
) -> AsyncIterator[HttpServer]:
    """Serve for the length of the block, on a free port unless one is given.

    What a handler raises comes out of the block. `remember` is how many of the latest requests are kept, all when None.
    Raises OSError when the port is taken.
    """
    listeners = await trio.open_tcp_listeners(port, host=host)
    port = listeners[0].socket.getsockname()[1]
    place = f"[{host}]" if ":" in host else host
    server = HttpServer(f"{'http' if tls is None else 'https'}://{place}:{port}", port, remember)
    try:
        async with trio.open_nursery() as nursery:
            await nursery.start(trio.serve_listeners, partial(server.serve, handler, tls), listeners)
            yield server
            nursery.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        raise _single(group) from None


@contextmanager
def refused_url() -> Iterator[str]:
    """A URL at which connections are refused for the length of the block."""
    with socket.socket() as bound:  # bound, so that nobody else gets the port, but not listening
        bound.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"


def run_http(handler: HttpHandler, port: int = 0) -> None:
    """Serve until Ctrl-C or SIGTERM, as a command does; the first line on stdout is the URL."""

    async def main() -> None:
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            async with serve_http(handler, port, remember=0) as server:
                sys.stdout.write(f"{server.url}\n")
                sys.stdout.flush()
                await anext(signals)

    trio.run(main)


def _pairs(headers: Headers) -> list[tuple[str, str]]:
    return list(headers.items() if isinstance(headers, Mapping) else headers)


def _single(error: BaseException) -> BaseException:
    """The one error that a group is about; the group where it is about several."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error

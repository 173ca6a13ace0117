"""Sends one request, and gives the answer to be read as far as it may."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager, suppress

import httpcore
from attrs import frozen

from oq_http.body import ContentType, parse_content_type
from oq_http.decoding import unpacker_for
from oq_http.plan import Hop, Plan

BROKEN = (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException)
"""What may happen while an answer is read."""

DRAINED = 2**14
"""Bytes of a body that nobody wants, and that are read so that its connection can be used again."""

_REDIRECTS = frozenset({301, 302, 303, 307, 308})


class TooLong(Exception):  # like Cancelled, it says what happened
    """There is more of a body than there is room for."""


@asynccontextmanager
async def answer_to(hop: Hop, plan: Plan, pool: httpcore.AsyncConnectionPool) -> AsyncIterator[Answer]:
    """Send the request, and give the connection back at the end."""
    url, timeouts = hop.url, plan.timeouts
    headers = [("Host", url.netloc.decode("ascii")), *plan.headers_for(hop)]
    if hop.content is not None or hop.method in ("POST", "PUT", "PATCH"):
        headers.append(("Content-Length", str(len(hop.content or b""))))
    response = await pool.handle_async_request(
        httpcore.Request(
            method=hop.method.encode("ascii"),
            url=httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path),
            headers=[(name.encode("ascii"), value.encode()) for name, value in headers],
            content=hop.content or b"",
            extensions={"timeout": {"connect": timeouts.connect, "read": timeouts.read, "write": timeouts.write}},
        )
    )
    try:
        decoded = tuple((name.decode("ascii", "replace"), _header_text(value)) for name, value in response.headers)
        yield Answer(hop=hop, place=plan.shown(url), response=response, headers=decoded)
    finally:
        await response.aclose()


@frozen(kw_only=True)
class Answer:
    """What a server said, and will go on to say."""

    hop: Hop
    place: str
    """Its URL as it may be shown."""
    response: httpcore.Response
    headers: tuple[tuple[str, str], ...]

    @property
    def status(self) -> int:
        return self.response.status

    @property
    def location(self) -> str | None:
        """Where it sends the request on to, if it does."""
        return self.header("location") if self.status in _REDIRECTS else None

    @property
    def content_type(self) -> ContentType:
        return parse_content_type(self.header("content-type") or "")

    def header(self, name: str) -> str | None:
        """The first header of this name."""
        return next((value for known, value in self.headers if known.lower() == name), None)

    async def pieces(self, limit: int) -> AsyncGenerator[bytes, None]:
        """Its body, unpacked, in pieces that are small whatever they were packed in; raises `TooLong`.

        What is packed counts as well, as much of it may unpack to nothing.
        """
        unpacker = unpacker_for(self.header("content-encoding") or "")
        room, packed_room = limit, 2 * limit + DRAINED
        stream = self.response.aiter_stream()
        try:
            async for data in stream:
                packed_room -= len(data)
                for piece in unpacker.feed(data):
                    yield piece[:room]
                    room -= len(piece)
                    if room < 0:
                        raise TooLong
                if packed_room < 0:
                    raise TooLong
            unpacker.end()
        finally:
            await self._run_out(stream)

    async def _run_out(self, stream: AsyncIterator[bytes]) -> None:
        """Bring httpcore's iterators to their end, by closing what they read from.

        There are several inside of each other. Left half-way, they would be closed by the garbage collector, sometime.
        """
        await self.response.aclose()
        with suppress(*BROKEN):
            async for _ in stream:
                pass


def _header_text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")

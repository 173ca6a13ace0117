"""Unpacks compressed bodies in small pieces, so that whoever counts can stop before a bomb goes off."""

from __future__ import annotations

import zlib
from collections.abc import Generator, Iterator
from typing import Any, Final

PIECE = 2**16
"""Bytes; no piece is longer."""

ACCEPTED: Final = "gzip, deflate"
"""What servers are told."""

_GZIP = 31
_GZIP_BEGINS = 0x1F
_ZLIB = 15
_RAW = -15


class BrokenBody(Exception):  # like Cancelled, it says what happened
    """The body is not packed as it says, or ends too early."""


class Plain:
    """A body that is not packed, or in a way that is not known here."""

    def feed(self, data: bytes) -> Iterator[bytes]:
        yield data

    def end(self) -> None:
        pass


class Packed:
    """A body in gzip or deflate."""

    def __init__(self, window: int | None) -> None:
        """`window` is what zlib calls so; None where the first bytes tell whether there is a header."""
        self._window = window
        self._start = b""
        self._unpacker: Any = None
        self._done = False  # with one stream, after which another may follow

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The pieces that these bytes unpack to; raises BrokenBody."""
        if self._window is None:
            self._start += data
            if len(self._start) < 2:
                return
            data, self._window = self._start, _window_of(self._start)
        try:
            while data:
                if self._unpacker is None:
                    if self._done and not self._begins_again(data):
                        return
                    self._unpacker = zlib.decompressobj(self._window)
                data = yield from self._unpack(data)
        except zlib.error as error:
            raise BrokenBody(f"the body cannot be unpacked: {error}") from None

    def end(self) -> None:
        """Raise BrokenBody if there should be more."""
        if self._unpacker is not None or (self._start and self._window is None):
            raise BrokenBody("the body ends in the middle of what is packed")

    def _begins_again(self, data: bytes) -> bool:
        """Whether another stream follows, as in gzip it may; some servers add zeros, which mean nothing."""
        return self._window == _GZIP and data[0] == _GZIP_BEGINS

    def _unpack(self, data: bytes) -> Generator[bytes, None, bytes]:
        """Unpack one stream, or the part of it that is there; returns what comes after it."""
        while True:
            piece = self._unpacker.decompress(data, PIECE)
            if piece:
                yield piece
            data = self._unpacker.unconsumed_tail
            if self._unpacker.eof:
                rest: bytes = self._unpacker.unused_data
                self._unpacker, self._done = None, True
                return rest
            if not data and len(piece) < PIECE:
                return b""


Unpacker = Plain | Packed


def unpacker_for(encoding: str) -> Unpacker:
    """For the value of a `Content-Encoding` header."""
    match encoding.strip().lower():
        case "gzip" | "x-gzip":
            return Packed(_GZIP)
        case "deflate":
            return Packed(None)
        case _:
            return Plain()


def _window_of(start: bytes) -> int:
    """Servers mean two things by deflate: with a header of two bytes, as it should be, and without."""
    has_header = start[0] & 0x0F == 8 and (start[0] << 8 | start[1]) % 31 == 0
    return _ZLIB if has_header else _RAW

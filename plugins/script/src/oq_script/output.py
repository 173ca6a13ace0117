"""Turns the bytes that a process writes into lines for those who watch, and keeps what fits for those who ask later."""

from __future__ import annotations

import codecs

_CONTINUATION = bytes(range(0x80, 0xC0))
"""The bytes of UTF-8 that do not begin a character."""


class Lines:
    """Cuts a stream of bytes into lines of text, and lines that are too long into pieces. Nothing is lost or added."""

    def __init__(self, limit: int) -> None:
        """`limit` is the most characters of a piece, and about the most that is held."""
        self._limit = limit
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._unfinished = ""

    def feed(self, data: bytes) -> list[str]:
        """The pieces that these bytes complete, each line with its end."""
        return self._cut(self._decoder.decode(data))

    def end(self) -> list[str]:
        """What is left when there is no more."""
        pieces = self._cut(self._decoder.decode(b"", final=True))
        return [*pieces, self._unfinished] if self._unfinished else pieces

    def _cut(self, text: str) -> list[str]:
        *lines, last = (self._unfinished + text).split("\n")
        whole = len(last) // self._limit * self._limit
        self._unfinished = last[whole:]
        pieces = [piece for line in lines for piece in self._pieces(line + "\n")]
        return pieces + self._pieces(last[:whole])

    def _pieces(self, text: str) -> list[str]:
        return [text[start : start + self._limit] for start in range(0, len(text), self._limit)]


class Kept:
    """The beginning and the end of a stream of bytes: how it started, and what it said last."""

    def __init__(self, limit: int) -> None:
        """`limit` is the most bytes that are kept."""
        self._end_size = limit // 2
        self._start_size = limit - self._end_size
        self._start = bytearray()
        self._end = bytearray()
        self._total = 0

    def add(self, data: bytes) -> None:
        """Take the next bytes; the oldest of the end make room."""
        self._total += len(data)
        room = self._start_size - len(self._start)
        self._start += data[:room]
        self._end += data[room:]
        if (excess := len(self._end) - self._end_size) > 0:
            del self._end[:excess]

    def text(self, limit: int) -> tuple[str, bool]:
        """What was kept, in at most `limit` bytes, and whether something is missing.

        Where something is, a line in its place says how much.
        """
        kept = bytes(self._start + self._end)
        if self._total <= min(limit, len(kept)):
            return kept.decode(errors="replace"), False
        limit = min(limit, len(kept))
        start, end = kept[: limit - limit // 2], kept[len(kept) - limit // 2 :]
        note = f"\n… {self._total - limit:,} bytes left out …\n"
        return _without_cut_end(start) + note + _without_cut_start(end), True


def _without_cut_end(data: bytes) -> str:
    return codecs.getincrementaldecoder("utf-8")("replace").decode(data)


def _without_cut_start(data: bytes) -> str:
    return data.lstrip(_CONTINUATION).decode(errors="replace")

"""Ids for tasks: sixteen lower-case letters and digits that sort by the moment at which they were made."""

from __future__ import annotations

import random
from datetime import UTC, datetime

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32: no i, l, o, u
_RANDOM_BITS = 35
_RANDOM_CHARS = 7
_TIME_CHARS = 9
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_PAIRS = [a + b for a in _ALPHABET for b in _ALPHABET]


class IdMaker:
    """Makes ids: 45 bits of milliseconds, then 35 random bits that grow by one within a millisecond.

    New ids sort after old ones, so a store adds them at the end of its index.
    """

    def __init__(self, chance: random.Random | None = None) -> None:
        self._chance = chance or random.SystemRandom()
        self._millisecond = -1
        self._time = ""
        self._tail = 0

    def __call__(self, now: datetime) -> str:
        """The next id; a clock that steps back does not make an id twice."""
        millisecond = max(0, int((now - _EPOCH).total_seconds() * 1000))
        if millisecond > self._millisecond:
            self._millisecond = millisecond
            self._time = _encode(millisecond, _TIME_CHARS)
            self._tail = self._chance.getrandbits(_RANDOM_BITS - 1)
        else:
            self._tail += 1
        return self._time + _encode(self._tail, _RANDOM_CHARS)


def _encode(number: int, length: int) -> str:
    text = ""
    while len(text) < length:
        number, rest = divmod(number, 1024)
        text = _PAIRS[rest] + text
    return text[-length:]

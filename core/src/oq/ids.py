"""Ids for tasks: sixteen lower-case letters and digits that sort by the moment at which they were made."""

from __future__ import annotations

import random
from datetime import UTC, datetime

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32: no i, l, o, u
_PAIRS = [a + b for a in _ALPHABET for b in _ALPHABET]
_TIME_CHARS = 9
_RANDOM_BITS = 35
_UPPER_CHARS = 5
"""What the random bits take beside the last pair."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class IdMaker:
    """Makes ids: 45 bits of milliseconds, then 35 random bits that grow by one within a millisecond.

    New ids sort after old ones, so a store adds them at the end of its index. All of an id but the last pair of
    characters is kept for the next ones.
    """

    def __init__(self, chance: random.Random | None = None) -> None:
        self._chance = chance or random.SystemRandom()
        self._now: datetime | None = None
        self._millisecond = -1
        self._time = ""
        self._upper = 0
        self._pair = 0
        self._stem = ""

    def __call__(self, now: datetime) -> str:
        """The next id; a clock that steps back does not make an id twice."""
        if now != self._now:
            self._now = now
            self._look_at(max(0, int((now - _EPOCH).total_seconds() * 1000)))
        self._pair += 1
        if self._pair == len(_PAIRS):
            self._go_on_from(self._upper + 1, 0)
        return self._stem + _PAIRS[self._pair]

    def _look_at(self, millisecond: int) -> None:
        if millisecond > self._millisecond:
            self._millisecond = millisecond
            self._time = _encode(millisecond, _TIME_CHARS)
            self._go_on_from(*divmod(self._chance.getrandbits(_RANDOM_BITS - 1), len(_PAIRS)))

    def _go_on_from(self, upper: int, pair: int) -> None:
        self._upper, self._pair = upper, pair
        self._stem = self._time + _encode(upper, _UPPER_CHARS)


def _encode(number: int, length: int) -> str:
    text = ""
    while len(text) < length:
        number, rest = divmod(number, 1024)
        text = _PAIRS[rest] + text
    return text[-length:]

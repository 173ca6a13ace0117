"""How fast something goes, by counting it over the last seconds; time is trio's, so that virtual clocks work."""

from __future__ import annotations

from collections import deque

import trio

WINDOW = 10.0
"""Seconds over which is counted."""
STEP = 0.5
"""Seconds that are counted together."""


class RateMeter:
    """Counts what happens and tells how long more of it would take."""

    def __init__(self) -> None:
        self._steps: deque[tuple[float, int]] = deque()
        """Starts of steps and what was counted in them."""

    def count(self, number: int) -> None:
        """`number` more happened now."""
        if not number:
            return
        now = trio.current_time()
        if self._steps and now - self._steps[-1][0] < STEP:
            start, counted = self._steps[-1]
            self._steps[-1] = start, counted + number
        else:
            self._steps.append((now, number))
            self._forget(now)

    def time_for(self, number: int) -> float | None:
        """Seconds that `number` more take at the pace of late; None when nothing has happened of late."""
        now = trio.current_time()
        self._forget(now)
        total = sum(counted for _, counted in self._steps)
        if not total:
            return None
        elapsed = max(now - self._steps[0][0], STEP)
        return number * elapsed / total

    def _forget(self, now: float) -> None:
        while self._steps and now - self._steps[0][0] > WINDOW:
            self._steps.popleft()

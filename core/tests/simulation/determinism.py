"""The one place that touches trio's private names: runs whose choices all follow from a seed, on a clock that jumps."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import trio
from trio.testing import MockClock

_trio_run: Any = trio._core._run


def run_deterministically(seed: int, main: Callable[[], Awaitable[Any]], at_rest: Callable[[], None]) -> Any:
    """`trio.run(main)` where the seed chooses who goes first, and `at_rest` is called before each jump of the clock.

    At that moment everybody waits for something, and no time has passed since they began to. If `at_rest` raises, the
    event loop ends as by a defect of trio.
    """
    with _chosen_by(seed):
        return trio.run(main, clock=_jumping_clock(at_rest))


@contextmanager
def _chosen_by(seed: int) -> Iterator[None]:
    allowed, state = _trio_run._ALLOW_DETERMINISTIC_SCHEDULING, _trio_run._r.getstate()
    _trio_run._ALLOW_DETERMINISTIC_SCHEDULING = True
    _trio_run._r.seed(seed)
    try:
        yield
    finally:
        _trio_run._ALLOW_DETERMINISTIC_SCHEDULING = allowed
        _trio_run._r.setstate(state)


def _jumping_clock(at_rest: Callable[[], None]) -> MockClock:
    clock: Any = MockClock(autojump_threshold=0)
    jump = clock._autojump

    def look_then_jump() -> None:
        at_rest()
        jump()

    clock._autojump = look_then_jump
    return clock

"""Virtual time for tests: a wall clock that goes with trio's `MockClock`, and a queue that lives by it.

With `MockClock(autojump_threshold=0)`, time passes only while everybody waits, and then at once: a test may wait for an
hour and take a millisecond. Threads do not fit in, since time would jump while they work; so the queue made here keeps
its tasks in memory and commits on the trio thread.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from datetime import datetime, timedelta
from typing import Any, TypeVar, TypeVarTuple

import trio
from trio.testing import MockClock

from oq.clock import Clock
from oq.executor import Executor
from oq.opening import open_queue
from oq.plugins import built_in_plugins
from oq.queue import Queue
from oq.store.base import Store
from oq.store.memory import MemoryStore
from oq.testing.builders import START

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class VirtualClock:
    """A wall clock for `open_queue(clock=…)` that says START when a run on a `MockClock` begins, and goes on with it.

    Only `step` sets it apart from trio's time, as people and time servers do with the clock of a machine. To be read
    where trio runs.
    """

    def __init__(self, start: datetime = START) -> None:
        self._start = start
        self._stepped = timedelta(0)

    def __call__(self) -> datetime:
        """The present moment."""
        return self._start + timedelta(seconds=trio.current_time()) + self._stepped

    def step(self, seconds: float) -> None:
        """Set the clock forwards; backwards, where negative. No time passes by that."""
        self._stepped += timedelta(seconds=seconds)


def run_virtually(main: Callable[[*Ts], Awaitable[T]], *args: *Ts) -> T:
    """`trio.run` with a new clock that jumps; for properties, which cannot have the fixture `autojump_clock`."""
    return trio.run(main, *args, clock=MockClock(autojump_threshold=0))


def virtual_queue(
    *executors: Executor, store: Store | None = None, clock: Clock | None = None, **options: Any
) -> AbstractAsyncContextManager[Queue]:
    """`oq.open_queue` as tests want it: in memory, on virtual time, without any plugin that happens to be installed.

    `options` are those of `open_queue`.
    """
    options = {
        "executors": executors,
        "plugins": built_in_plugins(),
        "inline_commits": True,
        "chance": random.Random(0),  # noqa: S311  # the same in every run of a test
        **options,
    }
    return open_queue(store or MemoryStore(), clock=clock or VirtualClock(), **options)

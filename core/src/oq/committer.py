"""The one writer of a store: ops that wait while a flush is under way go into the next one together (group commit).

Ops are either awaited (`apply`) or handed over (`post`). The flush runs inline on the trio thread as long as it is
short, because handing a batch to a thread costs more than committing it, and on a thread of its own when the batch is
large or the disk slow, so that the event loop is not held up. When the disk refuses, the ends of runs are kept and sent
again until they are stored; everything else is refused to whoever asked.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from time import perf_counter
from typing import Any, TypeVar, cast

import outcome
import trio
from msgspec import Struct

from oq.errors import QueueClosed, StoreUnavailable
from oq.store.base import AddMany, AppendChunks, Finish, Op, Purge, Refused, Renew, Reply, Store

log = logging.getLogger(__name__)

MAX_BATCH = 1_000
"""Ops (tasks, for submits) in one flush on the thread, so that none takes more than some milliseconds."""

INLINE_BATCH = 256
"""Ops in one flush on the trio thread; as many take about five milliseconds."""

SMALL_BATCH = 16
"""Up to so many ops, the time of a flush is that of the disk."""

SLOW_FLUSH = 0.003
"""Seconds; from here on, flushing is left to the thread."""

SMOOTHING = 0.1
"""The share of each new flush in the average."""

FIRST_PAUSE = 0.1
LONGEST_PAUSE = 5.0
"""Seconds between tries while the disk refuses."""

R = TypeVar("R", bound=Reply)


BeforeFlush = Callable[[], tuple[Op[Reply], Callable[[Reply], None]] | None]
"""Gives one more op for the batch that is about to be flushed, and who takes its reply: the claim."""

Heard = Callable[[Reply], None]
"""Is told each reply, refusals excepted, before whoever sent the op gets it."""


_URGENT = (Finish, Renew, AppendChunks)


class _Item(Struct, frozen=True):
    """An op and where its reply goes."""

    op: Op[Reply]
    done: Callable[[Reply], None]


class Committer:
    """Batches ops for one store. `run` must be running for anything to happen."""

    def __init__(self, store: Store, *, before_flush: BeforeFlush, heard: Heard, inline: bool | None) -> None:
        """`inline` says where to flush; None leaves it to the size of each batch and the speed of the disk."""
        self._store = store
        self._before_flush = before_flush
        self._heard = heard
        self._inline = inline
        self._flush_seconds = 0.0
        """How long a small flush takes, on average."""
        self._urgent: deque[_Item] = deque()
        """Ends and renewals of runs: they free units and must not be lost."""
        self._others: deque[_Item] = deque()
        self._batch: deque[_Item] = deque()
        """What the present flush has taken and nobody has answered yet."""
        self._wake = trio.Event()
        self._settled = trio.Event()
        self._settled.set()
        self._closing = False
        self._dead = False
        """Whether `run` has ended, so that nobody answers any more."""
        self._thread: _WriterThread | None = None
        self.failing: StoreUnavailable | None = None
        """Why the last flush failed; None once one succeeded."""

    async def apply(self, op: Op[R]) -> R:
        """Apply the op and return its reply; raises what refused it.

        Not cancelled once it is on its way, so that nobody has to guess what became of it.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        if self._closing:
            raise QueueClosed
        task = trio.lowlevel.current_task()

        def done(reply: Reply) -> None:
            trio.lowlevel.reschedule(task, outcome.Value(reply))

        self.post(op, done)
        reply = await trio.lowlevel.wait_task_rescheduled(lambda _: trio.lowlevel.Abort.FAILED)
        if isinstance(reply, Refused):
            raise reply.error
        return cast("R", reply)

    def post(self, op: Op[Reply], done: Callable[[Reply], None]) -> None:
        """Apply the op soon; `done` gets the reply, on the trio thread."""
        if self._dead:
            done(Refused(error=QueueClosed()))
            return
        (self._urgent if isinstance(op, _URGENT) else self._others).append(_Item(op, done))
        self.poke()

    def poke(self) -> None:
        """Flush soon, be it only for the claim that goes along."""
        self._wake.set()

    async def wait_settled(self) -> None:
        """Return when nothing is on its way, nor a flush about to begin."""
        await trio.lowlevel.checkpoint()
        while not self._dead and (self._urgent or self._others or self._wake.is_set() or not self._settled.is_set()):
            await self._settled.wait()

    def close(self) -> None:
        """Take no more ops; `run` returns when those at hand are done."""
        self._closing = True
        self.poke()

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Flush until closed. Shielded: what was accepted is carried out even while everything else is cancelled."""
        try:
            with trio.CancelScope(shield=True):
                task_status.started()
                await self._run()
        finally:
            self._die()
            if self._thread is not None:
                self._thread.stop()

    async def _run(self) -> None:
        pause = FIRST_PAUSE
        while True:
            if not self._urgent and not self._others:
                self._settled.set()
                if self._closing:
                    return
                await self._wake.wait()
            self._wake = trio.Event()
            if self._settled.is_set():
                self._settled = trio.Event()
            await trio.lowlevel.checkpoint()  # whoever is about to add an op does so now
            weight = self._take()
            try:
                replies = await self._flush([item.op for item in self._batch], weight) if self._batch else []
            except StoreUnavailable as error:
                self._refuse(error)
                if self._closing:
                    return
                await self._sit_out(pause)
                pause = min(pause * 2, LONGEST_PAUSE)
                self.poke()
                continue
            if self.failing:
                self.poke()  # for the claim, which was left out
            self.failing, pause = None, FIRST_PAUSE
            self._hand_out(replies)

    def _take(self) -> int:
        """Fill the next batch: ends of runs first, then the rest, then the claim for which they freed units.

        No claim goes along while ends are left for the next batch, or claims would outrun them and results come late.
        While the disk refuses, ends of runs go alone, since they may find room where all together do not. Gives the
        number of ops, tasks for submits.
        """
        weight = 0
        most = INLINE_BATCH if self._inline is None and self._flush_seconds < SLOW_FLUSH else MAX_BATCH
        for items in (self._urgent, self._others):
            while items and weight < most:
                item = items.popleft()
                weight += _weight(item.op)
                self._batch.append(item)
            if self._batch and self.failing:
                return weight
        extra = None if self._urgent else self._before_flush()
        if extra is not None:
            self._batch.append(_Item(*extra))
        return weight

    async def _flush(self, ops: Sequence[Op[Reply]], weight: int) -> list[Reply]:
        inline = self._inline
        if inline is None:
            inline = weight <= INLINE_BATCH and self._flush_seconds < SLOW_FLUSH
        if inline:
            replies, seconds = _timed_apply(self._store, ops)
        else:
            if self._thread is None:
                self._thread = _WriterThread(self._store)
            replies, seconds = await self._thread.apply(ops)
        if weight <= SMALL_BATCH:
            self._flush_seconds += (seconds - self._flush_seconds) * SMOOTHING
        return replies

    def _hand_out(self, replies: Sequence[Reply]) -> None:
        assert len(replies) == len(self._batch), "the store gave another number of replies than it was given ops"
        for reply in replies:
            if not isinstance(reply, Refused):
                self._heard(reply)
            self._batch.popleft().done(reply)

    def _refuse(self, error: StoreUnavailable) -> None:
        """Keep the ends of runs, and the output before them, for another try; and refuse the rest."""
        if self.failing is None:
            log.error("%s; ends of runs are kept and tried again", error)
        self.failing = error
        batch, self._batch = self._batch, deque()
        kept, refused = deque[_Item](), deque[_Item]()
        for item in batch:
            may_wait = isinstance(item.op, Finish | AppendChunks) and not self._closing
            (kept if may_wait else refused).append(item)
        self._urgent.extendleft(reversed(kept))
        refused += self._others  # whose turn comes only when ends of runs can be stored
        self._others.clear()
        for item in refused:
            item.done(Refused(error=error))

    def _die(self) -> None:
        """Answer whoever still waits; only a defect or the end of the event loop leaves any."""
        self._dead = self._closing = True
        self._settled.set()
        for items in (self._batch, self._urgent, self._others):
            while items:
                items.popleft().done(Refused(error=QueueClosed()))

    async def _sit_out(self, pause: float) -> None:
        """Give the disk time; ops that come meanwhile go into the next try. Closing does not wait."""
        with trio.move_on_after(pause):
            while not self._closing:
                await self._wake.wait()
                self._wake = trio.Event()


def _weight(op: Op[Reply]) -> int:
    """How many ops of one task it is like."""
    match op:
        case AddMany(tasks=tasks):
            return len(tasks)
        case Purge(limit=limit):
            return limit
        case _:
            return 1


def _timed_apply(store: Store, ops: Sequence[Op[Reply]]) -> tuple[list[Reply], float]:
    """The replies, and how many seconds they took."""
    start = perf_counter()
    replies = store.apply(ops)
    return replies, perf_counter() - start


class _WriterThread:
    """The thread to which the store's write transactions belong."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._inbox: SimpleQueue[Sequence[Op[Reply]] | None] = SimpleQueue()
        self._token = trio.lowlevel.current_trio_token()
        self._waiting: trio.lowlevel.Task | None = None
        self._thread = threading.Thread(target=self._work, name="oq-committer", daemon=True)
        self._thread.start()

    async def apply(self, ops: Sequence[Op[Reply]]) -> tuple[list[Reply], float]:
        self._waiting = trio.lowlevel.current_task()
        self._inbox.put(ops)
        return cast(
            "tuple[list[Reply], float]", await trio.lowlevel.wait_task_rescheduled(lambda _: trio.lowlevel.Abort.FAILED)
        )

    def stop(self) -> None:
        self._inbox.put(None)
        self._thread.join()

    def _work(self) -> None:
        while (ops := self._inbox.get()) is not None:
            result: outcome.Outcome[tuple[list[Reply], float]] = outcome.capture(_timed_apply, self._store, ops)
            self._token.run_sync_soon(self._done, result)

    def _done(self, result: outcome.Outcome[Any]) -> None:
        task, self._waiting = self._waiting, None
        if task is not None:
            trio.lowlevel.reschedule(task, result)

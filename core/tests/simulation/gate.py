"""One process's way to the store that outlives it: where the disk refuses, where the process dies, and who is told."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import trio
from msgspec.structs import replace
from trouble.writes import DISK_FULL, MAP_FULL, PANIC, FailingWrites

from oq.errors import QueueFull, StoreInUse, StoreUnavailable
from oq.events import Event
from oq.store.base import AddMany, Advance, Op, Refused, Reply, Store
from oq.store.lmdb import LmdbStore
from simulation.trial import Trial

MOST_FLUSHES_AT_ONCE = 1_000
"""Flushes in one moment, from which on it is a loop."""

DELAYS = (0.0, 0.001, 0.02, 0.2)
"""Seconds that a flush on a thread may take, before it happens and before anybody hears of it."""


class Livelock(BaseException):
    """The queue flushes without end while no time passes."""


class Observer(Protocol):
    """Who watches what passes through."""

    def handed(self, gate: Gate, ops: Sequence[Op[Reply]]) -> None:
        """These ops are about to be applied."""

    def applied(self, gate: Gate, ops: Sequence[Op[Reply]], replies: Sequence[Reply]) -> None:
        """These ops were applied."""


class Disk:
    """The store, and how it feels."""

    def __init__(self, trial: Trial, store: Store) -> None:
        self.store = store
        self.refuses_until = 0.0
        self.full_until = 0.0
        self.refused_at = -1e9
        """When it last refused."""
        self.refusals = 0
        self.fulls = 0
        """How often it had no room for a submit."""
        self.owner: Gate | None = None
        """Who holds the run lock."""
        self.hiccup = trial.plan.hiccup
        self._trouble = FailingWrites(store) if isinstance(store, LmdbStore) else None
        self._chance = trial.chance("disk")

    def apply(self, ops: Sequence[Op[Reply]]) -> list[Reply]:
        """Apply, or refuse: all of it, or, in a store that has transactions, one of its writes."""
        try:
            if trio.current_time() < self.refuses_until:
                raise StoreUnavailable(self.store.location, "it is told to refuse")
            if self.hiccup and self._chance.random() < self.hiccup:
                self._refuse_once()
            return self.store.apply(ops)
        except StoreUnavailable:
            self.refused_at = trio.current_time()
            self.refusals += 1
            raise

    def calm_down(self) -> None:
        """Refuse nothing any more."""
        self.hiccup = self.refuses_until = self.full_until = 0.0
        if self._trouble is not None:
            self._trouble.forget()

    def _refuse_once(self) -> None:
        if self._trouble is None:
            raise StoreUnavailable(self.store.location, "it is told to refuse this once")
        self._trouble.plan(self._chance.choice((DISK_FULL, MAP_FULL, PANIC)), self._chance.randrange(12))


class Gate:
    """A `Store` for one process."""

    def __init__(self, disk: Disk, trial: Trial, observer: Observer) -> None:
        self._disk = disk
        self._trial = trial
        self._observer = observer
        self.location = "the simulated store"
        self.exclusive = disk.store.exclusive
        self.dead = False
        self.die_after: int | None = None
        """Flushes after which `die` is called, right after the store has applied one and before anybody hears of it."""
        self.die: Callable[[], None] = lambda: None
        self.in_flight = False
        self.events: list[Event] = []
        """What this process has heard."""
        self._flushes = (0.0, 0)

    def lock_run(self) -> None:
        if self._disk.owner is not None:
            raise StoreInUse(self.location, "another process of the simulation")
        self._disk.store.lock_run()
        self._disk.owner = self

    def unlock_run(self) -> None:
        if self._disk.owner is self:
            self._disk.owner = None
            self._disk.store.unlock_run()

    def apply(self, ops: Sequence[Op[Reply]]) -> list[Reply]:
        """Apply as in one moment."""
        if not self.in_flight:
            self._observer.handed(self, ops)
        replies = self._apply(ops)
        if not self.in_flight:
            self._hear(replies)
        return replies

    async def apply_slowly(self, ops: Sequence[Op[Reply]], chance: random.Random) -> list[Reply]:
        """Apply as on a thread: some time passes before it happens, and before anybody hears of it."""
        self._observer.handed(self, ops)
        self.in_flight = True
        try:
            await trio.sleep(chance.choice(DELAYS))
            replies = self.apply(ops)
            await trio.sleep(chance.choice(DELAYS))
        finally:
            self.in_flight = False
        self._hear(replies)
        return replies

    def _apply(self, ops: Sequence[Op[Reply]]) -> list[Reply]:
        if self.dead:
            raise StoreUnavailable(self.location, "this process is dead")
        self._count()
        if self._trial.plan.small:
            ops = [replace(op, limit=2) if isinstance(op, Advance) else op for op in ops]
        try:
            replies = self._apply_unless_full(ops)
        except StoreUnavailable:
            self._trial.say(f"the store refuses {', '.join(type(op).__name__ for op in ops)}")
            raise
        self._observer.applied(self, ops, replies)
        if self.die_after is not None:
            self.die_after -= 1
            if self.die_after < 0:
                self.die()
                raise StoreUnavailable(self.location, "this process has just died")
        return replies

    def _apply_unless_full(self, ops: Sequence[Op[Reply]]) -> list[Reply]:
        """Apply, but refuse submits while the disk is full."""
        if trio.current_time() >= self._disk.full_until:
            return self._disk.apply(ops)
        self._disk.fulls += any(isinstance(op, AddMany) for op in ops)
        rest = iter(self._disk.apply([op for op in ops if not isinstance(op, AddMany)]))
        full = Refused(error=QueueFull("the simulated disk", 1, 1.0))
        return [full if isinstance(op, AddMany) else next(rest) for op in ops]

    def _hear(self, replies: Sequence[Reply]) -> None:
        self.events += [event for reply in replies for event in reply.events]

    def _count(self) -> None:
        now = trio.current_time()
        before, flushes = self._flushes
        self._flushes = (now, flushes + 1 if before == now else 1)
        if flushes > MOST_FLUSHES_AT_ONCE:
            self._trial.broken(0, f"the queue flushes for ever at {now}")
            raise Livelock

    def __getattr__(self, name: str) -> Any:
        if self.dead:
            raise StoreUnavailable(self.location, "this process is dead")
        return getattr(self._disk.store, name)


class SlowWriter:
    """Stands in for the committer's thread, in virtual time."""

    def __init__(self, chance: random.Random, gate: Gate) -> None:
        self._chance = chance
        self._gate = gate

    async def apply(self, ops: Sequence[Op[Reply]]) -> tuple[list[Reply], float]:
        """The replies, and the seconds that they seem to have taken."""
        return await self._gate.apply_slowly(ops, self._chance), 0.0

    def stop(self) -> None:
        """There is no thread to end."""

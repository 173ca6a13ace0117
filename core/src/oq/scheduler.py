"""Decides what starts next: keeps pools and timers, and adds the claim to each flush in which something could start.

It never polls. A claim goes along when a task may have become ready or a unit came free; timers sleep until the next
moment that the store knows of.
"""

from __future__ import annotations

import logging
import secrets
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import cast

import outcome
import trio
from attrs import define, frozen

from oq.clock import Clock
from oq.committer import Committer
from oq.errors import StoreError
from oq.events import EventKind
from oq.offers import EVERYTHING, Offers
from oq.rate import RateMeter
from oq.registry import Registry
from oq.runner import Runner
from oq.store.base import Advance, Advanced, Claim, Claimed, Op, Refused, Renew, Renewed, Reply, Run, Store
from oq.store.transitions import runs_alone
from oq.task import Phase

log = logging.getLogger(__name__)

LONGEST_SLEEP = 30.0
"""Seconds after which the wall clock is read again, so that a step of it is noticed."""

LEASE = 60.0
"""Seconds that a run is leased for, in stores that several processes run."""

PAUSE_AFTER_FAILURE = 1.0
"""Seconds before timers are tried again when the store refused."""

_ENDS_RUNS = frozenset({EventKind.CANCELLED, EventKind.LOST, EventKind.FAILED})
"""What ends a run from outside; a run that ended by itself is not in progress any more when its event comes."""


@define
class Pool:
    """Units of something that there is a limited number of."""

    capacity: int
    used: int = 0


@frozen(eq=False)
class _Exchange:
    """A run that waits to give one unit back for another."""

    task: trio.lowlevel.Task
    unit: str
    pools: Sequence[str]


class Scheduler:
    """Offers lanes, counts units, and wakes up when something is due."""

    def __init__(
        self,
        store: Store,
        registry: Registry,
        clock: Clock,
        *,
        workers: int,
        executor_limits: Mapping[str, int],
        worker_name: str,
    ) -> None:
        self.offers = Offers(store, registry, workers=workers, executor_limits=executor_limits)
        """What could start here."""
        self._clock = clock
        self._worker = worker_name
        self._pools: dict[str, Pool] = {EVERYTHING: Pool(workers)}
        self._may_start = True
        """Whether some offered lane may have a ready task that units allow to start."""
        self._more = False
        """Whether the last claim left ready tasks behind for want of units."""
        self._freed = False
        """Whether units came free since the last claim was made."""
        self._claiming = False
        self._claim_in_flight = False
        self._alone: Run | None = None
        """The task that runs alone, while it does."""
        self._exchanges: deque[_Exchange] = deque()
        """Runs that wait to exchange a unit until the claim is back."""
        self._leases = not store.exclusive
        self._next_at: datetime | None = None
        self._advance_wanted = True
        self._timer = trio.Event()
        self._claims = 0
        self.starts = RateMeter()
        """How many tasks have started of late."""
        self._committer: Committer
        self._runner: Runner

    def connect(self, committer: Committer, runner: Runner) -> None:
        """Tell who commits and who runs; to be called once, before anything else."""
        self._committer = committer
        self._runner = runner

    # What is running, and whether something could start

    def begin_claiming(self) -> None:
        """Start what is ready, from now on."""
        self._claiming = True
        self.look()

    def stop_claiming(self) -> None:
        """Start nothing more."""
        self._claiming = False

    def look(self) -> None:
        """Something may be ready: claim with the next flush."""
        self._may_start = True
        if self._claiming:
            self._committer.poke()

    def look_around(self) -> None:
        """Lanes, pools or settings may have changed, here or in another process."""
        self.offers.stale = True
        self._advance_wanted = True
        self._timer.set()
        self.look()

    @property
    def workers(self) -> int:
        return self._pools[EVERYTHING].capacity

    @property
    def some_wait(self) -> bool:
        """Whether ready tasks were left behind that may start once their executor has a choice for them again."""
        return self._more and self.offers.some_wait

    @property
    def is_idle(self) -> bool:
        """Whether nothing runs, nothing is about to start, and nothing that is ready could."""
        about_to_start = self._claiming and self._may_start
        return not (self._runner.running or self._claim_in_flight or about_to_start)

    # Called by the committer

    def before_flush(self) -> tuple[Op[Reply], Callable[[Reply], None]] | None:
        """The claim, when something could start."""
        everything = self._pools[EVERYTHING]
        free = everything.capacity - everything.used
        if not (self._claiming and self._may_start and free > 0 and self._alone is None):
            return None
        if self.offers.stale or self.offers.backlog_turned():
            self._make_offers()
        self._may_start = self._freed = False
        self._claims += 1
        self._claim_in_flight = True
        now = self._clock()
        claim = Claim(
            token=f"{self._worker}/{self._claims}",
            worker=self._worker,
            offers=self.offers.made,
            free={name: pool.capacity - pool.used for name, pool in self._pools.items()},
            limit=free,
            idle=everything.used == 0,
            now=now,
            lease_until=now + timedelta(seconds=LEASE) if self._leases else None,
        )
        return claim, self._claimed

    def _claimed(self, reply: Reply) -> None:
        self._claim_in_flight = False
        if isinstance(reply, Refused):
            self._may_start = True  # the committer asks again once the store takes commits
        else:
            self._take(cast("Claimed", reply))
        while self._exchanges:
            asked = self._exchanges.popleft()
            trio.lowlevel.reschedule(asked.task, outcome.Value(self._exchange(asked.unit, asked.pools)))

    def _take(self, claimed: Claimed) -> None:
        """Start what was claimed."""
        if claimed.lanes_version != self.offers.lanes_version:
            self.offers.stale = True
            self._may_start = True
            self._committer.poke()
        elif self.offers.backlog_turned():
            self.look()
        self._more = claimed.more
        self.starts.count(len(claimed.runs))
        if claimed.set_aside or (claimed.more and self._freed):
            self.look()
        for run in claimed.runs:
            for unit in run.units:
                self._pools[unit].used += 1
            if runs_alone(run.state):
                self._alone = run
            if self._claiming:
                self._runner.start(run)
            else:
                self._runner.decline(run)  # claiming was stopped while the claim was on its way

    def heard(self, reply: Reply) -> None:
        """Take note of what became ready, of new timers, and of followers left to tell."""
        looks = not self._claim_in_flight  # it is in the same batch, behind what made a task ready
        may_start = False
        for event in reply.events:
            if looks and event.phase is Phase.READY:
                may_start = True
            if event.wakes_at is not None and (self._next_at is None or event.wakes_at < self._next_at):
                self._next_at = event.wakes_at
                self._timer.set()
            if event.kind in _ENDS_RUNS:
                self._runner.end_over(event.seq, event.epoch)
                if self._more:
                    self.look()  # it may have held others back, while it waited to run alone
        if may_start:
            self.look()
        if reply.unsettled:
            self._advance_wanted = True
            self._timer.set()

    async def exchange(self, unit: str, pools: Sequence[str]) -> str | None:
        """Take a unit of the first of `pools` that has one free, and `unit` back for it; None when there is none.

        Waits for a claim that is on its way, for what is free now has been promised to it.
        """
        if not self._claim_in_flight:
            await trio.lowlevel.checkpoint()
        if not self._claim_in_flight:
            return self._exchange(unit, pools)
        asked = _Exchange(trio.lowlevel.current_task(), unit, pools)
        self._exchanges.append(asked)

        def abort(_: object) -> trio.lowlevel.Abort:
            self._exchanges.remove(asked)
            return trio.lowlevel.Abort.SUCCEEDED

        return cast("str | None", await trio.lowlevel.wait_task_rescheduled(abort))

    def _exchange(self, unit: str, pools: Sequence[str]) -> str | None:
        for name in pools:
            pool = self._pools.get(name)
            if pool is not None and pool.used < pool.capacity:
                pool.used += 1
                self._take_back((unit,))
                return name
        return None

    def release(self, run: Run, units: Sequence[str]) -> None:
        """Take back the units that a run held, which has ended."""
        if self._alone is run:
            self._alone = None
        self._take_back(units)

    def _take_back(self, units: Sequence[str]) -> None:
        for unit in units:
            self._pools[unit].used -= 1
        self._freed = True
        if self._more or self._may_start:
            self.look()

    def _make_offers(self) -> None:
        pools = self.offers.make()
        for name, capacity in pools.items():
            self._pools.setdefault(name, Pool(capacity)).capacity = capacity
        for name in [name for name, pool in self._pools.items() if name not in pools and not pool.used]:
            del self._pools[name]

    # Timers

    async def run(self) -> None:
        """Wake tasks at their moments, until cancelled."""
        while True:
            now = self._clock()
            if self._advance_wanted or (self._next_at is not None and self._next_at <= now):
                self._advance_wanted = False
                await self._advance(now)
                continue
            sleep = LONGEST_SLEEP
            if self._next_at is not None:
                sleep = min(sleep, max(0.0, (self._next_at - now).total_seconds()))
            with trio.move_on_after(sleep):
                await self._timer.wait()
            self._timer = trio.Event()

    async def _advance(self, now: datetime) -> None:
        replied = trio.Event()
        refused = False

        def done(reply: Reply) -> None:
            nonlocal refused
            if isinstance(reply, Advanced):
                self._next_at = reply.next_at
                self._advance_wanted = self._advance_wanted or reply.more
                if reply.lanes_version != self.offers.lanes_version:
                    self.offers.stale = True
                    self.look()
            else:
                self._advance_wanted = refused = True
            replied.set()

        self._may_start = True  # let the claim go along for what becomes ready
        self._committer.post(Advance(now=now), done)
        await replied.wait()
        if refused:
            await trio.sleep(PAUSE_AFTER_FAILURE)

    async def renew(self) -> None:
        """Renew the leases of what runs, until cancelled; only for stores that several processes run."""
        while self._leases:
            await trio.sleep(LEASE / 3)
            runs = tuple((run.seq, run.state.epoch) for run in self._runner.in_progress())
            if not runs:
                continue
            try:
                renewed: Renewed = await self._committer.apply(
                    Renew(runs=runs, until=self._clock() + timedelta(seconds=LEASE))
                )
            except StoreError as error:
                log.warning("leases could not be renewed: %s", error)
                continue
            for seq, epoch in renewed.lost:
                self._runner.end_over(seq, epoch)


def new_worker_name() -> str:
    """A name that no other process has, nor this one after a restart."""
    return secrets.token_hex(8)

"""What should start, worked out from scratch: units of pools, and the best-ranked ready task that finds its units."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from itertools import chain
from typing import TYPE_CHECKING

from attrs import frozen

from oq.store.base import EVERY_QUEUE, Claim, Claimed
from simulation.ledger import Known, Lane, Ledger
from simulation.trial import Trial

if TYPE_CHECKING:
    from simulation.process import Process, Served

UNLIMITED = 2**31


@frozen
class Needs:
    """What a task of a lane needs: a unit of each of some pools, and of one out of these groups."""

    all_of: tuple[str, ...]
    one_of: tuple[tuple[str, ...], ...]

    def met_by(self, free: Mapping[str, int]) -> bool:
        """Whether there are units enough."""
        if any(free.get(pool, 0) < self.all_of.count(pool) for pool in self.all_of):
            return False
        return not self.one_of or self._group(free) is not None

    def allows(self, units: tuple[str, ...], free: Mapping[str, int]) -> bool:
        """Whether `units` are the ones to take: those of the first group with one to spare, the freest pool there."""
        extra = list(units)
        for pool in self.all_of:
            if pool not in extra:
                return False
            extra.remove(pool)
        if not self.one_of:
            return not extra
        group = self._group(free)
        if len(extra) != 1 or group is None or extra[0] not in group:
            return False
        return self._spare(extra[0], free) == max(self._spare(pool, free) for pool in group)

    def _group(self, free: Mapping[str, int]) -> tuple[str, ...] | None:
        return next((group for group in self.one_of if any(self._spare(pool, free) > 0 for pool in group)), None)

    def _spare(self, pool: str, free: Mapping[str, int]) -> int:
        return free.get(pool, 0) - self.all_of.count(pool)


class Starting:
    """Knows queues' pauses and limits, and judges what is claimed and what is left."""

    def __init__(self, trial: Trial, ledger: Ledger) -> None:
        self._trial = trial
        self._ledger = ledger
        self.paused: set[str] = set()
        self.limits: dict[str, int | None] = {}
        self._served: Served
        """The lanes that were served when the claim on its way was made."""

    def free(self, process: Process) -> dict[str, int]:
        """The units that nobody holds."""
        capacity = {"all": self._trial.plan.workers}
        for queue, name, _ in self._ledger.ready:
            limit = self.limits.get(queue)
            capacity[f"queue:{queue}"] = UNLIMITED if limit is None else limit
            capacity[f"executor:{name}"] = self._trial.plan.executor_limits.get(name, UNLIMITED)
        capacity |= process.units
        held = self.held(process)
        return {pool: units - held[pool] for pool, units in capacity.items()}

    def held(self, process: Process) -> Counter[str]:
        """The units that runs hold until their executor is done with them."""
        held: Counter[str] = Counter()
        for run in self._ledger.open_runs.values():
            if run.process is process and run.ended is None:
                held.update(run.units)
        return held

    def check_handed(self, process: Process, claim: Claim) -> None:
        """The claim must know what is free; remember what else held when it was made."""
        self._served = process.served()
        turned_away = any(run.ended == "unregistered" for run in self._ledger.open_runs.values())
        if process.changing_settings or turned_away:
            return  # what is on its way need not be known yet
        free = self.free(process)
        for pool in dict.fromkeys(pool for offer in claim.offers for pool in (*offer.needs, *chain(*offer.choices))):
            self._trial.expect(
                pool not in free or free[pool] == claim.free.get(pool),
                3,
                f"the scheduler takes {claim.free.get(pool)} units of {pool} for free, but {free.get(pool)} are",
            )

    def check_claimed(self, claim: Claim, reply: Claimed) -> None:
        """Each run must be the best that could start when it was taken, and its units the right ones.

        To be called before the ledger hears of it.
        """
        served, free = self._served, Counter(claim.free)
        queues = {lane: list(ranks) for lane, ranks in self._ledger.ready.items()}
        started: list[Known] = []
        for run in reply.runs:
            known = self._ledger.tasks[run.seq]
            best = self._best(served, queues, free)
            if best is not known:
                self._wrong_choice(known, best)
                return
            if best.alone and (started or not claim.idle):
                self._trial.broken(2, f"{best.name}, which may only run alone, started beside others")
            needs = _needs(served, best.lane)
            assert needs is not None
            self._trial.expect(
                needs.allows(run.units, free),
                3,
                f"{best.name} was given the units {run.units}, while these were free: {free}",
            )
            free.subtract(run.units)
            queues[best.lane].remove(best.rank)
            started.append(best)
        self._trial.expect(len(started) <= claim.limit, 3, "more was claimed than asked for")

    def left_behind(self, process: Process) -> Known | None:
        """A task that should have been started, but was not."""
        running = [run for run in self._ledger.open_runs.values() if run.process is process and run.ended is None]
        if any(run.alone for run in running):
            return None
        free = self.free(process)
        if free["all"] <= 0:
            return None
        best = self._best(process.served(), self._ledger.ready, free)
        return None if best is None or (best.alone and running) else best

    def _wrong_choice(self, known: Known, best: Known | None) -> None:
        if best is None:
            self._trial.broken(3, f"{known.name} started, but it is not ready, or its queue is paused, or units lack")
        else:
            self._trial.broken(
                3,
                f"{known.name} (priority {known.priority}, lane {'/'.join(known.lane)}) started before {best.name} "
                f"(priority {best.priority}, lane {'/'.join(best.lane)}), which could have started",
            )

    def _best(
        self, served: Served, queues: Mapping[Lane, list[tuple[int, int]]], free: Mapping[str, int]
    ) -> Known | None:
        """The first task by rank that finds its units."""
        best: tuple[int, int] | None = None
        for lane, ranks in queues.items():
            if ranks and (best is None or ranks[0] < best) and not self._is_paused(lane[0]):
                needs = _needs(served, lane)
                if needs is not None and needs.met_by(free):
                    best = ranks[0]
        return None if best is None else self._ledger.tasks[best[1]]

    def _is_paused(self, queue: str) -> bool:
        return queue in self.paused or EVERY_QUEUE in self.paused


def _needs(served: Served, lane: Lane) -> Needs | None:
    queue, name, own = lane
    wanted = served.wanted(name, own)
    if wanted is None:
        return None
    return Needs(("all", f"queue:{queue}", f"executor:{name}", *wanted.needs), wanted.choices)

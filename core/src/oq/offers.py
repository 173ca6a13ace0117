"""Which lanes are offered to a claim, what tasks in them need, and how many units there are of each pool."""

from __future__ import annotations

import logging
from bisect import bisect_right
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from itertools import groupby

from msgspec.structs import replace

from oq.choose import Offer
from oq.codec import decode_as
from oq.executor import Choices, HasPools, LanePools
from oq.query import QueueSettings
from oq.registry import Registry
from oq.store.base import QUEUES, Store
from oq.task import Phase, Priority

log = logging.getLogger(__name__)

EVERYTHING = "all"
"""The pool that every task takes a unit of: the workers of this process."""

UNLIMITED = 2**31
HIGHEST = 255
"""No priority is above this number."""

Lane = tuple[str, str, str]


class Offers:
    """The offers of this process, made anew when something they are made of has changed."""

    def __init__(self, store: Store, registry: Registry, *, workers: int, executor_limits: Mapping[str, int]) -> None:
        self._store = store
        self._registry = registry
        self._workers = workers
        self._executor_limits = dict(executor_limits)
        self.made: tuple[Offer, ...] = ()
        self.some_wait = False
        """Whether tasks of a lane wait until their executor offers them a choice again, such as when a rest ends."""
        self.stale = True
        """Whether lanes, pools or settings changed since they were made."""
        self.lanes_version = -1
        """Of the lanes that they were made from."""
        self._lanes: frozenset[Lane] = frozenset()
        self._noted: Counter[Lane] = Counter()
        """Lanes that the store does not have yet, and how many submits of tasks in them are under way here."""
        self._queues: dict[str, QueueSettings] = {}
        self._thresholds: dict[str, tuple[int, ...]] = {}
        """By queue, the backlogs from which on tasks have other choices, in order."""
        self._passed: dict[str, int] = {}
        """How many of these the queue had passed when they were made."""

    def note(self, lane: Lane) -> None:
        """A task of this lane is about to be submitted, so that it can start with the commit that stores it."""
        if lane not in self._lanes or lane in self._noted:
            self.stale = self.stale or lane not in self._noted
            self._noted[lane] += 1

    def forget(self, lanes: Collection[Lane]) -> None:
        """The tasks that these were noted for were refused."""
        for lane in lanes:
            if lane in self._noted:
                self._noted[lane] -= 1
                if not self._noted[lane]:
                    del self._noted[lane]
                    self._lanes -= {lane}
                    self.stale = True

    def backlog_turned(self) -> bool:
        """Whether a backlog has passed a threshold, or gone back, since they were made."""
        return bool(self._thresholds) and self._count_passed() != self._passed

    def make(self) -> dict[str, int]:
        """Make them, and give the units by pool."""
        self.stale = False
        self.lanes_version, stored = self._store.lanes()
        for known in self._noted.keys() & stored:
            del self._noted[known]
        self._lanes = stored | self._noted.keys()
        self._queues = {
            name: decode_as(value.data, QueueSettings) for name, value in self._store.values(QUEUES).items()
        }
        own = self._pools_of_executors()
        pools = {EVERYTHING: self._workers} | {pool: units for each in own.values() for pool, units in each.items()}
        wanted = self._wanted(own)
        self._thresholds = _thresholds(wanted)
        self._passed = self._count_passed()
        offers: list[Offer] = []
        for (queue, executor, lane), needed in wanted.items():
            pools[f"queue:{queue}"] = self._queue_limit(queue)
            pools[f"executor:{executor}"] = self._executor_limits.get(executor, UNLIMITED)
            needs = (EVERYTHING, f"queue:{queue}", f"executor:{executor}", *needed.needs)
            for lowest, highest, choices in _bands(needed, self._backlog_of(queue)):
                band = Offer(queue=queue, executor=executor, lane=lane, needs=needs, choices=choices)
                offers.append(replace(band, lowest=lowest, highest=highest))
        self.made = tuple(offers)
        self.some_wait = any(offer.choices and not any(offer.choices) for offer in offers)
        return pools

    def _pools_of_executors(self) -> dict[str, dict[str, int]]:
        """By executor, its pools and their units; those that cannot say are left out. One may offer another's pools."""
        units: dict[str, dict[str, int]] = {}
        for executor in self._registry.executors():
            try:
                own = executor.pools() if isinstance(executor, HasPools) else {}
                units[executor.name] = {pool: int(number) for pool, number in own.items() if not _is_oqs_own(pool)}
            except Exception:  # whatever an executor does when asked for its pools
                log.exception("executor %r cannot say what its pools are, so its tasks wait", executor.name)
        return units

    def _wanted(self, executors: Collection[str]) -> dict[Lane, LanePools]:
        """What tasks need, of each lane whose executor is there and can serve it."""
        wanted: dict[Lane, LanePools] = {}
        for lane in sorted(lane for lane in self._lanes if lane[1] in executors):
            executor = self._registry.get(lane[1])
            try:
                needed = executor.lane_pools(lane[2]) if isinstance(executor, HasPools) else LanePools()
                assert isinstance(needed, LanePools | None), f"expected LanePools or None, got {needed!r}"
            except Exception:  # whatever an executor does when asked what a lane needs
                log.exception("executor %r cannot say what tasks of lane %r need, so they wait", lane[1], lane[2])
                continue
            if needed is not None:
                wanted[lane] = needed
        return wanted

    def _count_passed(self) -> dict[str, int]:
        if not self._thresholds:
            return {}
        ready = Counter[str]()
        for count in self._store.counts():
            if count.phase is Phase.READY:
                ready[count.queue] += count.number
        return {queue: bisect_right(thresholds, ready[queue]) for queue, thresholds in self._thresholds.items()}

    def _backlog_of(self, queue: str) -> int:
        """The greatest threshold that the queue had passed; as good as its backlog."""
        passed = self._passed.get(queue, 0)
        return self._thresholds[queue][passed - 1] if passed else 0

    def _queue_limit(self, queue: str) -> int:
        settings = self._queues.get(queue)
        return UNLIMITED if settings is None or settings.limit is None else settings.limit


def _thresholds(wanted: Mapping[Lane, LanePools]) -> dict[str, tuple[int, ...]]:
    found: dict[str, set[int]] = {}
    for (queue, _, _), needed in wanted.items():
        for rule in needed.urgent:
            if rule.backlog:
                found.setdefault(queue, set()).add(rule.backlog)
    return {queue: tuple(sorted(backlogs)) for queue, backlogs in found.items()}


def _bands(needed: LanePools, backlog: int) -> Iterator[tuple[int, int, Choices]]:
    """The ranges of priorities that have the same choices at such a backlog."""
    if not needed.urgent:
        yield 0, HIGHEST, needed.choices
        return
    lowest = 0
    for choices, band in groupby(Priority, lambda priority: needed.choices_for(priority, backlog)):
        *_, last = band
        highest = HIGHEST if last is max(Priority) else last
        yield lowest, highest, choices
        lowest = highest + 1


def _is_oqs_own(pool: str) -> bool:
    """Whether no executor may say how many units the pool has."""
    return pool == EVERYTHING or pool.startswith(("queue:", "executor:"))
